//! Content roots with an origin of their own: subdomain_gateway_ipfs_test.go, subdomain_gateway_ipns_test.go and
//! subdomain_gateway_proxy_test.go of the conformance suite, on content made here.

use cid::Cid;
use cid::multibase::Base;
use cid::multihash::Multihash;
use skywave::ipfs::unixfs::RAW;

use super::client::{Answer, Client};
use super::station::{PEER_ID, PLAYLIST, Station, ipns_name};

async fn at(station: &Station, host: &str, path: &str) -> Answer {
    station.get_with(path, &[("Host", host)]).await
}

/// `/hello` and `/ipfs/ipns/bar`, names that a gateway could take for its own.
async fn root(station: &Station) -> Cid {
    let (hello, bar) = (station.put(RAW, b"hello\n").await, station.put(RAW, b"text-file-content").await);
    let inner = station.put_directory(&[("bar", bar)]).await;
    let ipfs = station.put_directory(&[("ipns", inner)]).await;
    station.put_directory(&[("hello", hello), ("ipfs", ipfs)]).await
}

#[tokio::test]
async fn a_root_is_moved_to_its_own_origin_and_served_there() {
    let station = Station::on_air().await;
    let cid = root(&station).await;
    let v0 = Cid::new_v0(*cid.hash()).unwrap();
    let own = format!("{cid}.ipfs.localhost:8080");
    for spelling in [cid.to_string(), v0.to_string(), cid.to_string_of_base(Base::Base36Lower).unwrap()] {
        let moved = at(&station, "localhost:8080", &format!("/ipfs/{spelling}/a%20b?c=d")).await;
        assert_eq!(
            (moved.status, moved.header("location")),
            (301, format!("http://{own}/a%20b?c=d").as_str())
        );
        let bare = at(&station, "localhost:8080", &format!("/ipfs/{spelling}")).await;
        assert_eq!((bare.status, bare.header("location")), (301, format!("http://{own}/").as_str()));
    }
    let hello = at(&station, &own, "/hello").await;
    assert_eq!((hello.status, hello.text().as_str()), (200, "hello\n"));
    assert_eq!(hello.header("x-ipfs-path"), format!("/ipfs/{cid}/hello"));
    assert_eq!(hello.header("access-control-allow-origin"), "*");
    assert_eq!(at(&station, &own.to_uppercase(), "/hello").await.status, 200);
    let page = at(&station, &own, "/").await.text();
    assert!(page.contains("<a href=\"/hello\">hello</a>") && !page.contains("..</a>"), "{page}");
    let below = at(&station, &own, "/ipfs/ipns/").await.text();
    let trail = format!(
        "/ipfs/<a href=\"//localhost:8080/ipfs/{cid}\">{cid}</a>/<a href=\"//localhost:8080/ipfs/{cid}/ipfs\">ipfs</a>"
    );
    for expected in ["<a href=\"/ipfs/ipns/..\">..</a>", "<a href=\"/ipfs/ipns/bar\">bar</a>", trail.as_str()]
    {
        assert!(below.contains(expected), "{expected} in {below}");
    }
    assert_eq!(at(&station, &own, "/ipfs/ipns/bar").await.text(), "text-file-content");
    let slash = at(&station, &own, "/ipfs/ipns").await;
    assert_eq!((slash.status, slash.header("location")), (301, "/ipfs/ipns/"));
    let raw = station.put(RAW, b"just a file").await;
    assert_eq!(at(&station, &format!("{raw}.ipfs.localhost"), "/").await.text(), "just a file");
    assert_eq!(at(&station, &format!("{raw}.ipfs.localhost"), &format!("/ipfs/{raw}")).await.status, 404);
}

#[tokio::test]
async fn the_stations_name_has_an_origin_and_others_are_refused() {
    let station = Station::on_air().await;
    let name = ipns_name();
    let own = format!("{name}.ipns.localhost");
    let as_dag_pb = Cid::new_v1(0x70, *name.parse::<Cid>().unwrap().hash());
    for spelling in [name.clone(), PEER_ID.to_owned()] {
        let moved = at(&station, "localhost", &format!("/ipns/{spelling}/hifi/live.m3u8")).await;
        assert_eq!(moved.status, 301);
        assert_eq!(moved.header("location"), format!("http://{own}/hifi/live.m3u8"));
    }
    let playlist = at(&station, &own, "/hifi/live.m3u8").await;
    assert_eq!((playlist.status, &playlist.body[..]), (200, PLAYLIST));
    assert_eq!(playlist.header("cache-control"), "public, max-age=4");
    assert_eq!(playlist.header("access-control-allow-methods"), "GET, HEAD, OPTIONS");
    let old = format!("{}.ipns.localhost", as_dag_pb.to_string_of_base(Base::Base36Lower).unwrap());
    let moved = at(&station, &old, "/x").await;
    assert_eq!((moved.status, moved.header("location")), (301, format!("http://{own}/x").as_str()));
    for dnslink in ["en-wikipedia--on--ipfs-org", "example.org", "docs.ipfs.tech"] {
        let refused = at(&station, &format!("{dnslink}.ipns.localhost"), "/").await;
        assert_eq!(refused.status, 404, "{dnslink}");
        assert!(refused.text().contains("no DNSLink"), "{}", refused.text());
        assert_eq!(at(&station, "localhost", &format!("/ipns/{dnslink}/")).await.status, 404);
    }
}

#[tokio::test]
async fn what_fits_into_no_host_name_is_a_bad_request() {
    let station = Station::on_air().await;
    let long = Cid::new_v1(RAW, Multihash::wrap(0x13, &[7; 64]).unwrap());
    for (host, path) in
        [("localhost", format!("/ipfs/{long}/")), (&format!("{long}.ipfs.localhost"), "/".to_owned())]
    {
        let answer = at(&station, host, &path).await;
        assert_eq!(answer.status, 400);
        assert!(
            answer.text().contains("CID incompatible with DNS label length limit of 63"),
            "{}",
            answer.text()
        );
    }
    let invalid = at(&station, "localhost", "/ipfs/QmInvalidCID").await;
    assert_eq!(invalid.status, 400);
    assert!(invalid.text().contains("invalid path \"/ipfs/QmInvalidCID\""), "{}", invalid.text());
    for host in ["nothing.ipfs.localhost", ".ipfs.localhost", "a.b.ipfs.localhost"] {
        assert_eq!(at(&station, host, "/").await.status, 400, "{host}");
    }
}

#[tokio::test]
async fn proxies_may_name_host_and_scheme() {
    let station = Station::on_air().await;
    let cid = root(&station).await;
    let path = format!("/ipfs/{cid}/hello");
    let own = format!("{cid}.ipfs.localhost");
    let cases: [(&[(&str, &str)], &str); 4] = [
        (&[("Host", "localhost"), ("X-Forwarded-Proto", "https")], "https"),
        (&[("Host", "localhost"), ("X-Forwarded-Proto", "http")], "http"),
        (&[("Host", "fake.example"), ("X-Forwarded-Host", "localhost")], "http"),
        (&[("Host", "localhost"), ("X-Forwarded-Proto", "javascript")], "http"),
    ];
    for (headers, scheme) in cases {
        let moved = station.get_with(&path, headers).await;
        let location = format!("{scheme}://{own}/hello");
        assert_eq!((moved.status, moved.header("location")), (301, location.as_str()), "{headers:?}");
    }
    assert_eq!(at(&station, "fake.example", &path).await.text(), "hello\n");
    assert_eq!(at(&station, "127.0.0.1", &path).await.text(), "hello\n");
    // A client that takes the station for a proxy.
    let mut client = Client::connect(station.address).await;
    let answer = client.request("GET", &format!("http://{own}/hello"), &[("Host", "elsewhere")]).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello\n"));
}

#[tokio::test]
async fn native_addresses_are_routed() {
    let station = Station::on_air().await;
    let wiki = "ipfs%3A%2F%2FQmXoypizjW3WknFiJnKLwHCnL72vedxjQkDDP1mXWo6uco%2Fwiki%2FA%20b%3Fc";
    let moved = at(&station, "localhost", &format!("/ipfs/?uri={wiki}")).await;
    assert_eq!(moved.status, 301);
    assert_eq!(moved.header("location"), "/ipfs/QmXoypizjW3WknFiJnKLwHCnL72vedxjQkDDP1mXWo6uco/wiki/A%20b?c");
    for bad in ["http%3A%2F%2Fx", "", "javascript%3Aalert(1)"] {
        assert_eq!(at(&station, "localhost", &format!("/ipfs/?uri={bad}")).await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn the_station_is_where_it_was_on_every_host_of_its_own() {
    let station = Station::on_air().await;
    for host in ["localhost:8080", "127.0.0.1", "station.local", "x.localhost", "", "["] {
        for path in ["/", "/live/stream.m3u8", "/station.json", "/healthz", "/metrics"] {
            assert_eq!(at(&station, host, path).await.status, 200, "{host} {path}");
        }
    }
    // Below a content root there is no station: its pages belong to another origin.
    let own = format!("{}.ipfs.localhost", root(&station).await);
    for path in ["/metrics", "/health", "/live/stream.m3u8", "/station.json"] {
        assert_eq!(at(&station, &own, path).await.status, 404, "{path}");
    }
}
