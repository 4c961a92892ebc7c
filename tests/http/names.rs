//! Names of others: path_gateway_ipns_test.go, trustless_gateway_ipns_test.go, subdomain_gateway_ipns_test.go and
//! dnslink_gateway_test.go of the conformance suite, on a network and a DNS made here.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use futures::future::{BoxFuture, FutureExt};
use skywave::clock::{ClockTrust, SystemClock};
use skywave::http::{GatewayConfig, HttpConfig, Upstream};
use skywave::ipfs::ipns::Record;
use skywave::ipfs::names::dnslink::{Dns, Texts};
use skywave::ipfs::names::{DnsLinks, Resolver};
use skywave::ipfs::unixfs::RAW;
use skywave::ipfs::{Blocks, Identity, Node};
use skywave::metrics::Metrics;
use tempfile::TempDir;
use tokio::sync::Notify;

use super::client::{Answer, Client, patiently};
use super::loopback::loopback;
use super::name_network::Network;
use super::station::{PLAYLIST, Station, ipns_name};

const TTL: Duration = Duration::from_secs(1_800);
const LINK_TTL: Duration = Duration::from_secs(300);

/// TXT records by name; a name that hangs is told of and never answered, one that fails is refused.
#[derive(Default)]
struct Zone {
    texts: HashMap<String, Vec<String>>,
    hangs: Arc<Notify>,
}

impl Zone {
    fn with(mut self, domain: &str, path: &str) -> Zone {
        self.texts.entry(format!("_dnslink.{domain}.")).or_default().push(format!("dnslink={path}"));
        self
    }
}

impl Dns for Zone {
    fn texts(&self, name: String) -> BoxFuture<'static, Result<Texts, String>> {
        let lines = self.texts.get(&name).cloned().unwrap_or_default();
        let hangs = self.hangs.clone();
        async move {
            if name.starts_with("_dnslink.hangs.") {
                hangs.notify_one();
                std::future::pending::<()>().await;
            }
            if name.starts_with("_dnslink.fails.") {
                Err("refused".into())
            } else {
                Ok(Texts { lines, ttl: LINK_TTL })
            }
        }
        .boxed()
    }
}

/// A station with a network, in which records of others lie.
struct Rig {
    station: Station,
    network: Network,
    _node: Node,
    _folder: TempDir,
}

impl Rig {
    async fn start(gateway: GatewayConfig, zone: Zone) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let node = Node::start(&loopback(), Identity::generate(), folder.path()).await.unwrap();
        let network = Network::new(7);
        _ = network.node();
        let clock = Arc::new(SystemClock::new(ClockTrust::Trusted));
        let (resolver, _) = Resolver::new(Arc::new(network.node()), clock, Metrics::new().names);
        let links = Some(DnsLinks::new(Arc::new(zone)));
        let upstream = Upstream { resolver: Some(resolver), links, network: None };
        let config = HttpConfig { gateway, ..HttpConfig::default() };
        let station = Station::start_on(config, node.blocks().clone(), upstream).await;
        Rig { station, network, _node: node, _folder: folder }
    }

    /// The name of a new key whose record leads to `value`.
    fn name(&self, value: &str) -> String {
        let owner = Identity::generate();
        self.sign(&owner, value);
        owner.name().to_string()
    }

    fn sign(&self, owner: &Identity, value: &str) -> Bytes {
        let end = chrono::Utc::now() + chrono::TimeDelta::hours(1);
        let record = rust_ipns::Record::new(owner.keypair(), value, end, 1, TTL).unwrap();
        let bytes = Bytes::from(record.encode().unwrap());
        self.network.plant(owner.name().routing_key(), bytes.clone());
        bytes
    }

    async fn get(&self, path: &str) -> Answer {
        self.station.get(path).await
    }

    async fn at(&self, host: &str, path: &str) -> Answer {
        self.station.get_with(path, &[("Host", host)]).await
    }
}

fn open() -> GatewayConfig {
    GatewayConfig { fetch: true, fetch_timeout: Duration::from_secs(8), ..GatewayConfig::default() }
}

/// `hello`, and `a/hello` with the same.
async fn site(station: &Station) -> Cid {
    let hello = station.put(RAW, b"hello\n").await;
    let inner = station.put_directory(&[("hello", hello)]).await;
    station.put_directory(&[("a", inner), ("hello", hello)]).await
}

fn only_if_cached<'a>() -> [(&'a str, &'a str); 1] {
    [("Cache-Control", "only-if-cached")]
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_others_are_resolved_only_where_the_owner_lets_it() {
    let closed =
        Rig::start(GatewayConfig::default(), Zone::default().with("a.example", "/ipfs/bafkqaaa")).await;
    let root = site(&closed.station).await;
    let name = closed.name(&format!("/ipfs/{root}"));
    for path in
        [format!("/ipns/{name}/hello"), format!("/ipns/{name}?format=ipns-record"), "/ipns/a.example".into()]
    {
        let refused = closed.get(&path).await;
        assert_eq!(refused.status, 404, "{path}");
        assert!(
            refused.text().contains(&ipns_name()) && refused.text().contains("no DNSLink"),
            "{}",
            refused.text()
        );
    }
    assert_eq!(closed.network.searches(), 0);

    let rig = Rig::start(open(), Zone::default()).await;
    let root = site(&rig.station).await;
    let name = rig.name(&format!("/ipfs/{root}"));
    let path = format!("/ipns/{name}/hello");
    let unknown = rig.station.get_with(&path, &only_if_cached()).await;
    assert_eq!((unknown.status, rig.network.searches()), (412, 0));
    let answer = rig.get(&path).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello\n"));
    assert_eq!(answer.header("x-ipfs-path"), path);
    assert!(answer.header("x-ipfs-roots").starts_with(&format!("{root},")));
    let seconds: u64 =
        answer.header("cache-control").strip_prefix("public, max-age=").unwrap().parse().unwrap();
    assert!((1_790..=1_800).contains(&seconds), "{seconds}");
    let tag = answer.header("etag").to_owned();
    assert_eq!(rig.station.get_with(&path, &[("If-None-Match", &tag)]).await.status, 304);
    assert_eq!(rig.station.get_with(&path, &only_if_cached()).await.status, 200);
    assert_eq!(rig.network.searches(), 1, "within its TTL a record is asked for once");
    let own = rig.at(&format!("{name}.ipns.localhost"), "/hello").await;
    assert_eq!((own.status, own.text().as_str()), (200, "hello\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_may_lead_below_a_root_and_through_other_names_to_our_own_but_not_in_circles() {
    let zone = Zone::default()
        .with("a.example", "/ipns/b.example/a")
        .with("ours.example", &format!("/ipns/{}/hifi", ipns_name()))
        .with("circle.example", "/ipns/circle.example");
    let rig = Rig::start(open(), zone.with("b.example", "/ipns/to-be-replaced.example")).await;
    let root = site(&rig.station).await;
    let below = rig.name(&format!("/ipfs/{root}/a"));
    let through = rig.name(&format!("/ipns/{below}"));
    for name in [&below, &through] {
        assert_eq!(rig.get(&format!("/ipns/{name}/hello")).await.text(), "hello\n");
        assert_eq!(rig.get(&format!("/ipns/{name}/a/hello")).await.status, 404);
    }
    assert_eq!(rig.get("/ipns/ours.example/live.m3u8").await.status, 503, "not on air");
    rig.station.go_on_air().await;
    let playlist = rig.get("/ipns/ours.example/live.m3u8").await;
    assert_eq!((playlist.status, &playlist.body[..]), (200, PLAYLIST));
    assert_eq!(playlist.header("cache-control"), "public, max-age=4", "the shortest of the chain");
    assert_eq!(rig.get("/ipns/a.example/hello").await.status, 404, "a name without a DNSLink at the end");
    assert_eq!(rig.get("/ipns/circle.example/").await.status, 400);
    let circle = Identity::generate();
    rig.sign(&circle, &format!("/ipns/{}", circle.name()));
    assert_eq!(rig.get(&format!("/ipns/{}", circle.name())).await.status, 400);
    let odd = rig.name(&format!("/ipfs/{root}/../a"));
    assert_eq!(rig.get(&format!("/ipns/{odd}")).await.status, 502);
    let gone = rig.name(&format!("/ipfs/{root}/nowhere"));
    assert_eq!(rig.get(&format!("/ipns/{gone}")).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_others_are_sent_as_they_were_signed() {
    let rig = Rig::start(open(), Zone::default().with("a.example", "/ipfs/bafkqaaa")).await;
    let owner = Identity::generate();
    let signed = rig.sign(&owner, "/ipfs/bafkqabtimvwgy3yk");
    let name = owner.name().to_string();
    let accept = [("Accept", "application/vnd.ipfs.ipns-record")];
    let (by_query, by_header) = (format!("/ipns/{name}?format=ipns-record"), format!("/ipns/{name}"));
    let mut tags = Vec::new();
    for answer in [rig.get(&by_query).await, rig.station.get_with(&by_header, &accept).await] {
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), "application/vnd.ipfs.ipns-record");
        assert_eq!(answer.header("cache-control"), "public, max-age=1800");
        assert_eq!(
            answer.header("content-disposition"),
            format!("attachment; filename=\"{name}.ipns-record\"")
        );
        Record::verify(&owner.name(), &answer.body.clone().into()).unwrap();
        assert_eq!(answer.body, signed);
        tags.push(answer.header("etag").to_owned());
    }
    assert_eq!(tags[0], tags[1]);
    assert_eq!(rig.station.get_with(&by_query, &[("If-None-Match", &tags[0])]).await.status, 304);
    assert_eq!(rig.get(&format!("/ipns/{name}/a?format=ipns-record")).await.status, 400);
    assert_eq!(rig.get("/ipns/a.example?format=ipns-record").await.status, 400);
    // A record is had also where nobody has what it leads to.
    let nowhere = rig.name("/ipns/nobody.example/x");
    assert_eq!(rig.get(&format!("/ipns/{nowhere}?format=ipns-record")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_resolved_is_told_apart() {
    let zone = Zone::default().with("two.example", "/ipfs/bafkqaaa").with("two.example", "/ipfs/bafkqaaa");
    let rig = Rig::start(open(), zone).await;
    let (stranger, forger) = (Identity::generate(), Identity::generate());
    let forged = rig.sign(&forger, "/ipfs/bafkqaaa");
    rig.network.plant(stranger.name().routing_key(), forged);
    let cases = [
        (format!("/ipns/{}", Identity::generate().name()), 502),
        (format!("/ipns/{}", stranger.name()), 502),
        ("/ipns/two.example".into(), 502),
        ("/ipns/fails.example".into(), 502),
        ("/ipns/none.example".into(), 404),
        ("/ipns/localhost".into(), 404),
        ("/ipns/a..b".into(), 404),
        ("/ipns/10.0.0.1".into(), 404),
    ];
    for (path, status) in cases {
        let answer = rig.get(&path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert_eq!(answer.header("retry-after"), if status == 502 { "30" } else { "" }, "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn time_and_number_of_those_who_wait_for_a_name_are_bounded() {
    let brief = GatewayConfig { fetch_timeout: Duration::from_millis(200), ..open() };
    let rig = Rig::start(brief, Zone::default()).await;
    let late = rig.get("/ipns/hangs.example/").await;
    assert_eq!((late.status, late.header("retry-after")), (504, "30"));
    let metrics = rig.get("/metrics").await.text();
    assert!(metrics.contains("skywave_gateway_refusals_total{reason=\"fetch_timeout\"} 1"), "{metrics}");

    let one = GatewayConfig { fetch_concurrent: NonZeroUsize::MIN, ..open() };
    let zone = Zone::default().with("a.example", "/ipfs/bafkqabtimvwgy3yk");
    let hangs = zone.hangs.clone();
    let rig = Rig::start(one, zone).await;
    assert_eq!(rig.get("/ipns/a.example").await.status, 200);
    let mut waiting = Client::connect(rig.station.address).await;
    waiting.send("GET /ipns/hangs.example HTTP/1.1\r\nHost: station\r\n\r\n").await;
    patiently(hangs.notified()).await;
    assert_eq!(rig.get("/ipns/none.example").await.status, 503);
    assert_eq!(rig.get("/ipns/a.example").await.status, 200, "what is known takes no place");
    drop(waiting);
    patiently(async { while rig.get("/ipns/none.example").await.status != 404 {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dnslink_has_a_path_and_a_label_of_its_own() {
    let zone = Zone::default().with("en.wikipedia-on-ipfs.example", "/ipfs/bafkqabtimvwgy3yk");
    let rig = Rig::start(open(), zone).await;
    let inlined = "en-wikipedia--on--ipfs-example.ipns.localhost:80";
    let path = "/ipns/en.wikipedia-on-ipfs.example";
    let moved = rig.at("localhost:80", &format!("{path}/wiki/?a=b")).await;
    assert_eq!(
        (moved.status, moved.header("location")),
        (301, format!("http://{inlined}/wiki/?a=b").as_str())
    );
    let forwarded = [("Host", "localhost:80"), ("X-Forwarded-Proto", "https")];
    let moved = rig.station.get_with(path, &forwarded).await;
    assert_eq!(moved.header("location"), format!("https://{inlined}/"));
    for host in [
        inlined,
        "en.wikipedia-on-ipfs.example.ipns.localhost",
        "EN.Wikipedia-on-ipfs.example.ipns.localhost",
    ] {
        let answer = rig.at(host, "/").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello\n"), "{host}");
        assert_eq!(answer.header("x-ipfs-path"), format!("{path}/"));
        assert_eq!(answer.header("cache-control"), "public, max-age=300");
    }
    assert_eq!(rig.get(path).await.text(), "hello\n");
    let long = format!("/ipns/{}.example/", "a".repeat(60));
    assert_eq!(rig.at("localhost", &long).await.status, 400);
}

#[tokio::test]
async fn a_host_that_the_owner_lists_stands_for_its_dnslink_without_any_fetching() {
    let hosts = ["radio.example.org", "site.example.org", "theirs.example.org"].map(str::to_owned);
    let gateway = GatewayConfig { dnslink_hosts: hosts.into(), ..GatewayConfig::default() };
    let blocks = Blocks::in_memory();
    let config = HttpConfig { gateway, ..HttpConfig::default() };
    // The CID of the site, which is the same in every station.
    let root = site(&Station::start_with(HttpConfig::default(), blocks.clone()).await).await;
    let zone = Zone::default()
        .with("radio.example.org", &format!("/ipns/{}", ipns_name()))
        .with("site.example.org", &format!("/ipfs/{root}/a"))
        .with("theirs.example.org", &format!("/ipns/{}", Identity::generate().name()))
        .with("other.example.org", "/ipfs/bafkqaaa");
    let links = Some(DnsLinks::new(Arc::new(zone)));
    let station = Station::start_on(config, blocks, Upstream { links, ..Upstream::default() }).await;
    station.go_on_air().await;
    let at = async |host: &str, path: &str| station.get_with(path, &[("Host", host)]).await;
    let playlist = at("Radio.example.org:8080", "/hifi/live.m3u8").await;
    assert_eq!((playlist.status, &playlist.body[..]), (200, PLAYLIST));
    assert_eq!(playlist.header("x-ipfs-path"), "/ipns/radio.example.org/hifi/live.m3u8");
    assert_eq!(at("site.example.org", "/hello").await.text(), "hello\n");
    let page = at("site.example.org", "/").await.text();
    assert!(page.contains("<a href=\"/hello\">hello</a>") && !page.contains("..</a>"), "{page}");
    assert!(page.contains("/ipns/<a href=\"//site.example.org/\">site.example.org</a>"), "{page}");
    // Nothing but its content is there.
    for path in ["/metrics", "/live/stream.m3u8", &format!("/ipfs/{root}")] {
        assert_eq!(at("site.example.org", path).await.status, 404, "{path}");
    }
    assert_eq!(station.get("/ipns/site.example.org/hello").await.text(), "hello\n");
    assert_eq!(at("site-example-org.ipns.localhost", "/hello").await.text(), "hello\n");
    assert_eq!(at("theirs.example.org", "/").await.status, 404, "another key is not resolved");
    assert_eq!(station.get("/ipns/other.example.org/").await.status, 404);
    let only = at("other.example.org", "/metrics").await;
    assert_eq!(only.status, 200, "a host that is not listed is the station's");
}
