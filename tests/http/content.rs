//! What is answered: statuses, headers, bodies.

use std::io::Read;

use cid::Cid;
use cid::multibase::Base;
use multihash_codetable::{Code, MultihashDigest};
use skywave::ipfs::unixfs::{DAG_PB, RAW};

use super::client::Client;
use super::station::{NEWEST, PEER_ID, PLAYLIST, SEGMENT, STATION_JSON, Station, ipns_name};

const SEGMENT_PATH: &str = "/live/hifi/466900000.m4s";
const IMMUTABLE: &str = "public, max-age=29030400, immutable";

fn raw_cid(bytes: &[u8]) -> Cid {
    Cid::new_v1(RAW, Code::Sha2_256.digest(bytes))
}

#[tokio::test]
async fn the_live_stream_is_typed_tagged_and_cached_by_what_it_is() {
    let station = Station::on_air().await;
    let cases = [
        ("/live/stream.m3u8", "application/vnd.apple.mpegurl", "public, max-age=1"),
        ("/live/hifi/live.m3u8", "application/vnd.apple.mpegurl", "public, max-age=1"),
        ("/live/station.json", "application/json", "public, max-age=1"),
        ("/live/hifi/init.mp4", "audio/mp4", "public, max-age=60"),
        (SEGMENT_PATH, "audio/mp4", IMMUTABLE),
    ];
    for (path, content_type, cache_control) in cases {
        let answer = station.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), content_type, "{path}");
        assert_eq!(answer.header("cache-control"), cache_control, "{path}");
        assert_eq!(answer.header("etag"), format!("\"{}\"", raw_cid(&answer.body)), "{path}");
        assert_eq!(answer.header("accept-ranges"), "bytes", "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), "*", "{path}");
        assert!(answer.header("access-control-expose-headers").contains("X-Ipfs-Path"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
    }
    assert_eq!(station.get("/live/hifi/live.m3u8").await.body, PLAYLIST);
    assert_eq!(station.get(SEGMENT_PATH).await.body, SEGMENT);
}

#[tokio::test]
async fn the_newest_tree_is_served_as_soon_as_it_is_there() {
    let station = Station::on_air().await;
    let mut client = Client::connect(station.address).await;
    assert_eq!(client.request("GET", "/live/hifi/live.m3u8", &[]).await.body, PLAYLIST);
    let newer = station.put(RAW, b"#EXTM3U newer").await;
    station.tree.send_modify(|tree| {
        let mut next = tree.as_deref().unwrap().clone();
        next.entries.get_mut("hifi/live.m3u8").unwrap().cid = newer;
        *tree = Some(std::sync::Arc::new(next));
    });
    assert_eq!(client.request("GET", "/live/hifi/live.m3u8", &[]).await.body, b"#EXTM3U newer");
}

#[tokio::test]
async fn what_is_not_in_the_window_is_a_404_that_says_why() {
    let station = Station::on_air().await;
    let old = station.get("/live/hifi/466000000.m4s").await;
    assert_eq!(old.status, 404);
    assert!(old.text().contains("left the retention window"), "{}", old.text());
    assert_eq!(old.header("cache-control"), "no-store");
    assert_eq!(old.header("access-control-allow-origin"), "*");
    let early = station.get(&format!("/live/hifi/{}.m4s", NEWEST + 1)).await;
    assert_eq!(early.status, 404);
    assert!(early.text().contains("not on air yet"), "{}", early.text());
    for path in ["/live", "/live/", "/live/hifi", "/live/hifi/", "/live/hifi/live.m3u8/", "/live/x.m3u8"] {
        assert_eq!(station.get(path).await.status, 404, "{path}");
    }
    assert_eq!(station.get("/nothing").await.status, 404);
}

#[tokio::test]
async fn before_the_first_segment_everything_live_is_unavailable() {
    let station = Station::start(Default::default()).await;
    let ipns = format!("/ipns/{}/stream.m3u8", ipns_name());
    for path in ["/live/stream.m3u8", ipns.as_str(), "/station.json", "/readyz"] {
        let answer = station.get(path).await;
        assert_eq!(answer.status, 503, "{path}");
        assert_eq!(answer.header("retry-after"), "1", "{path}");
    }
    assert_eq!(station.get("/healthz").await.status, 200);
    assert_eq!(station.get("/").await.status, 200);
    station.go_on_air().await;
    for path in ["/live/stream.m3u8", ipns.as_str(), "/station.json", "/readyz"] {
        assert_eq!(station.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn ranges_are_served_as_the_standard_says() {
    let station = Station::on_air().await;
    let len = SEGMENT.len();
    let station = &station;
    let range = async |value| station.get_with(SEGMENT_PATH, &[("Range", value)]).await;
    let part = range("bytes=2-5").await;
    assert_eq!((part.status, &part.body[..]), (206, &SEGMENT[2..6]));
    assert_eq!(part.header("content-range"), format!("bytes 2-5/{len}"));
    assert_eq!(part.header("content-length"), "4");
    assert!(!part.header("etag").is_empty());
    let suffix = range("bytes=-4").await;
    assert_eq!((suffix.status, &suffix.body[..]), (206, &SEGMENT[len - 4..]));
    let outside = range("bytes=999-").await;
    assert_eq!(outside.status, 416);
    assert_eq!(outside.header("content-range"), format!("bytes */{len}"));
    for whole in ["bytes=0-1,3-4", "bytes=9-3", "lines=1-2"] {
        let answer = range(whole).await;
        assert_eq!((answer.status, &answer.body[..]), (200, SEGMENT), "{whole}");
    }
}

#[tokio::test]
async fn conditions_are_answered_as_the_standard_says() {
    let station = Station::on_air().await;
    let etag = format!("\"{}\"", raw_cid(SEGMENT));
    let weak = format!("\"other\", W/{etag}");
    for value in [etag.as_str(), weak.as_str(), "*"] {
        let answer = station.get_with(SEGMENT_PATH, &[("If-None-Match", value)]).await;
        assert_eq!(answer.status, 304, "{value}");
        assert_eq!(answer.header("etag"), etag);
        assert_eq!(answer.header("cache-control"), IMMUTABLE);
        assert_eq!(answer.header("content-length"), "");
    }
    let changed = station.get_with(SEGMENT_PATH, &[("If-None-Match", "\"other\"")]).await;
    assert_eq!(changed.status, 200);
    let same = [("Range", "bytes=0-0"), ("If-Range", etag.as_str())];
    assert_eq!(station.get_with(SEGMENT_PATH, &same).await.status, 206);
    let other = [("Range", "bytes=0-0"), ("If-Range", "\"other\"")];
    assert_eq!(station.get_with(SEGMENT_PATH, &other).await.status, 200);
    assert_eq!(station.get_with(SEGMENT_PATH, &[("If-Match", "\"other\"")]).await.status, 412);
    let json = station.get("/station.json").await;
    let again = station.get_with("/station.json", &[("If-None-Match", json.header("etag"))]).await;
    assert_eq!((json.status, again.status), (200, 304));
    assert_eq!(json.body, STATION_JSON);
}

#[tokio::test]
async fn a_304_leaves_the_connection_usable() {
    let station = Station::on_air().await;
    let mut client = Client::connect(station.address).await;
    for _ in 0..3 {
        let answer = client.request("GET", SEGMENT_PATH, &[("If-None-Match", "*")]).await;
        assert_eq!(answer.status, 304);
        assert_eq!(client.request("GET", SEGMENT_PATH, &[]).await.body, SEGMENT);
    }
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let station = Station::on_air().await;
    let (root, name) = (station.root(), ipns_name());
    let paths = [
        "/".to_owned(),
        "/live/stream.m3u8".to_owned(),
        SEGMENT_PATH.to_owned(),
        format!("/ipfs/{root}/"),
        format!("/ipfs/{root}/hifi/live.m3u8"),
        format!("/ipns/{name}/hifi/live.m3u8"),
        "/station.json".to_owned(),
        "/healthz".to_owned(),
        "/readyz".to_owned(),
        "/live/missing".to_owned(),
        "/live//".to_owned(),
    ];
    let mut client = Client::connect(station.address).await;
    for path in paths {
        let mut get = client.request("GET", &path, &[]).await;
        let mut head = client.request("HEAD", &path, &[]).await;
        assert_eq!(get.status, head.status, "{path}");
        assert_eq!(get.header("content-length"), get.body.len().to_string(), "{path}");
        get.headers.remove("date");
        head.headers.remove("date");
        assert_eq!(get.headers, head.headers, "{path}");
    }
    for path in ["/health", "/metrics"] {
        let head = client.request("HEAD", path, &[]).await;
        assert_eq!(head.status, 200);
        assert_ne!(head.header("content-length"), "0", "{path}");
    }
    let ranged = client.request("HEAD", SEGMENT_PATH, &[("Range", "bytes=0-1")]).await;
    assert_eq!((ranged.status, ranged.header("content-length")), (200, SEGMENT.len().to_string().as_str()));
}

#[tokio::test]
async fn anything_but_get_and_head_is_refused_everywhere() {
    let station = Station::on_air().await;
    let ipfs = format!("/ipfs/{}", station.root());
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
        for path in
            ["/", "/live/stream.m3u8", ipfs.as_str(), "/station.json", "/health", "/metrics", "/x", "/a//b"]
        {
            let mut client = Client::connect(station.address).await;
            let answer = client.request(method, path, &[("Content-Length", "0")]).await;
            let expected = match (path == ipfs, method) {
                (true, "OPTIONS") => (204, "GET, HEAD, OPTIONS"),
                (true, _) => (405, "GET, HEAD, OPTIONS"),
                (false, _) => (405, "GET, HEAD"),
            };
            assert_eq!((answer.status, answer.header("allow")), expected, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn odd_paths_are_bad_requests() {
    let station = Station::on_air().await;
    let root = station.root();
    let long = format!("/live/{}", "a".repeat(4000));
    let deep = "/a".repeat(100);
    let paths = [
        "//live/stream.m3u8".to_owned(),
        "/live//stream.m3u8".to_owned(),
        "/live/../live/stream.m3u8".to_owned(),
        "/live/%2e%2e/live/stream.m3u8".to_owned(),
        "/live/hifi%2Flive.m3u8".to_owned(),
        "/live/stream.m3u8%00".to_owned(),
        "/live/%".to_owned(),
        "/live/%ff".to_owned(),
        format!("/ipfs/{root}/./stream.m3u8"),
        "/ipfs".to_owned(),
        "/ipfs/".to_owned(),
        "/ipfs/not-a-cid".to_owned(),
        format!("/ipfs/{}", "z".repeat(1000)),
        "/ipns".to_owned(),
        long,
        deep,
    ];
    for path in paths {
        let answer = station.get(&path).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
        assert!(answer.text().ends_with(".\n"), "{path}: {}", answer.text());
    }
    let encoded = station.get("/live/hifi/%6cive.m3u8?x=1#y").await;
    assert_eq!((encoded.status, &encoded.body[..]), (200, PLAYLIST));
    assert_eq!(station.get("http://elsewhere/live/hifi/live.m3u8").await.body, PLAYLIST);
}

#[tokio::test]
async fn content_is_served_by_any_spelling_of_its_cid() {
    let station = Station::on_air().await;
    let cid = raw_cid(SEGMENT);
    for base in [Base::Base32Lower, Base::Base58Btc, Base::Base36Lower, Base::Base32Upper, Base::Base16Lower]
    {
        let answer = station.get(&format!("/ipfs/{}", cid.to_string_of_base(base).unwrap())).await;
        assert_eq!((answer.status, &answer.body[..]), (200, SEGMENT), "{base:?}");
        assert_eq!(answer.header("etag"), format!("\"{cid}\""));
    }
    // CIDv0 of a directory.
    let directory = station.put_directory(&[("a.txt", cid)]).await;
    let v0 = Cid::new_v0(*directory.hash()).unwrap();
    let answer = station.get(&format!("/ipfs/{v0}/a.txt")).await;
    assert_eq!((answer.status, &answer.body[..]), (200, SEGMENT));
}

#[tokio::test]
async fn ipfs_paths_tell_where_they_led_and_never_expire() {
    let station = Station::on_air().await;
    let root = station.root();
    let path = format!("/ipfs/{root}/hifi/466900000.m4s");
    let answer = station.get(&path).await;
    assert_eq!((answer.status, &answer.body[..]), (200, SEGMENT));
    assert_eq!(answer.header("x-ipfs-path"), path);
    let roots: Vec<_> = answer.header("x-ipfs-roots").split(',').collect();
    assert_eq!(roots.len(), 3);
    assert_eq!((roots[0], roots[2]), (root.to_string().as_str(), raw_cid(SEGMENT).to_string().as_str()));
    assert_eq!(answer.header("cache-control"), IMMUTABLE);
    assert_eq!(answer.header("content-type"), "audio/mp4");
    let again = station.get_with(&path, &[("If-None-Match", answer.header("etag"))]).await;
    assert_eq!((again.status, again.header("x-ipfs-path")), (304, path.as_str()));
    assert_eq!(station.get(&format!("/ipfs/{root}/hifi/none")).await.status, 404);
    assert_eq!(station.get(&format!("/ipfs/{root}/stream.m3u8/x")).await.status, 404);
    assert_eq!(station.get(&format!("{path}/")).await.status, 404);
}

#[tokio::test]
async fn blocks_that_are_not_held_are_never_fetched() {
    let station = Station::on_air().await;
    let missing = raw_cid(b"somewhere else");
    let directory = station.put_directory(&[("gone", missing)]).await;
    for path in [format!("/ipfs/{missing}"), format!("/ipfs/{directory}/gone")] {
        let answer = station.get(&path).await;
        assert_eq!(answer.status, 404);
        assert!(answer.text().contains("only what this station holds"), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_directory_is_a_page_of_links_below_its_slash() {
    let station = Station::on_air().await;
    let root = station.root();
    let bare = station.get(&format!("/ipfs/{root}?a=b")).await;
    assert_eq!((bare.status, bare.header("location")), (301, format!("/ipfs/{root}/?a=b").as_str()));
    let page = station.get(&format!("/ipfs/{root}/")).await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let link = format!("<a href=\"/ipfs/{root}/stream.m3u8\">stream.m3u8</a>");
    assert!(page.text().contains(&link), "{}", page.text());
    assert_ne!(page.header("etag"), format!("\"{root}\""));
    let index = station.put(RAW, b"<h1>mine").await;
    let site = station.put_directory(&[("index.html", index)]).await;
    let home = station.get(&format!("/ipfs/{site}/")).await;
    assert_eq!((home.status, home.text().as_str()), (200, "<h1>mine"));
    assert_eq!(home.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(home.header("etag"), format!("\"{site}\""));
}

#[tokio::test]
async fn raw_blocks_are_served_and_other_formats_refused_by_name() {
    let station = Station::on_air().await;
    let root = station.root();
    let block = station.blocks.get(&root).await.unwrap().unwrap();
    let by_query = station.get(&format!("/ipfs/{root}?format=raw")).await;
    let by_header =
        station.get_with(&format!("/ipfs/{root}"), &[("Accept", "application/vnd.ipld.raw")]).await;
    for answer in [by_query, by_header] {
        assert_eq!((answer.status, &answer.body[..]), (200, &block[..]));
        assert_eq!(answer.header("content-type"), "application/vnd.ipld.raw");
        assert_eq!(answer.header("etag"), format!("\"{root}.raw\""));
        assert!(answer.header("content-disposition").starts_with("attachment"));
    }
    let below = station.get(&format!("/ipfs/{root}/hifi/init.mp4?format=raw")).await;
    assert_eq!(below.text(), "init");
    let cbor = station.get(&format!("/ipfs/{root}?format=dag-cbor")).await;
    assert_eq!(cbor.status, 406);
    assert!(cbor.text().contains("dag-cbor"), "{}", cbor.text());
}

#[tokio::test]
async fn the_stations_own_name_is_resolved_in_every_spelling_and_no_other() {
    let station = Station::on_air().await;
    let k51 = ipns_name();
    let cid: Cid = k51.parse().unwrap();
    let path = format!("/ipns/{k51}/hifi/live.m3u8");
    let answer = station.get(&path).await;
    assert_eq!((answer.status, &answer.body[..]), (200, PLAYLIST));
    assert_eq!(answer.header("cache-control"), "public, max-age=4");
    assert_eq!(answer.header("x-ipfs-path"), path);
    assert!(answer.header("x-ipfs-roots").starts_with(&station.root().to_string()));
    for name in [PEER_ID.to_owned(), cid.to_string()] {
        let answer = station.get(&format!("/ipns/{name}/hifi/live.m3u8?a=b")).await;
        assert_eq!(
            (answer.status, answer.header("location")),
            (302, format!("{path}?a=b").as_str()),
            "{name}"
        );
    }
    let listing = station.get(&format!("/ipns/{k51}/")).await;
    assert_eq!((listing.status, listing.header("cache-control")), (200, "public, max-age=4"));
    let foreign = "k2k4r8jl0yz8qjgqbmc2cdu5hkqek5rj6flgnlkyywynci20j0iuyfuj";
    for name in ["example.org", foreign] {
        let answer = station.get(&format!("/ipns/{name}/stream.m3u8")).await;
        assert_eq!(answer.status, 404);
        assert!(answer.text().contains(&k51), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_file_of_many_blocks_is_one_body_in_whole_and_in_part() {
    let station = Station::on_air().await;
    let cid = station.put_file(&[b"first part,", b"second part,", b"third"]).await;
    let whole = b"first part,second part,third";
    let path = format!("/ipfs/{cid}");
    let answer = station.get(&path).await;
    assert_eq!((answer.status, &answer.body[..]), (200, &whole[..]));
    let across = station.get_with(&path, &[("Range", "bytes=6-25")]).await;
    assert_eq!((across.status, &across.body[..]), (206, &whole[6..26]));
    assert_eq!(across.header("content-range"), format!("bytes 6-25/{}", whole.len()));
}

#[tokio::test]
async fn a_file_with_a_missing_block_never_looks_complete() {
    let station = Station::on_air().await;
    let held = vec![7; 1024 * 1024];
    let size = held.len() as u64;
    let (held, missing) = (station.put(RAW, &held).await, raw_cid(b"gone"));
    let first_missing = station.put_file_of(&[(missing, 4), (held, size)]).await;
    assert_eq!(station.get(&format!("/ipfs/{first_missing}")).await.status, 404);
    let last_missing = station.put_file_of(&[(held, size), (missing, 4)]).await;
    let answer = station.get(&format!("/ipfs/{last_missing}")).await;
    assert_eq!((answer.status, answer.header("content-length")), (200, (size + 4).to_string().as_str()));
    assert!(answer.body.len() as u64 <= size, "{}", answer.body.len());
}

#[tokio::test]
async fn broken_blocks_are_errors_in_words() {
    let station = Station::on_air().await;
    let garbage = station.put(DAG_PB, b"\xff\xff\xff").await;
    assert_eq!(station.get(&format!("/ipfs/{garbage}")).await.status, 404);
    let shard = ipld_dagpb::PbNode { links: Vec::new(), data: Some(vec![0x08, 5].into()) };
    let shard = station.put(DAG_PB, &shard.into_bytes()).await;
    let answer = station.get(&format!("/ipfs/{shard}/")).await;
    assert_eq!(answer.status, 404);
    assert!(answer.text().contains("murmur3"), "{}", answer.text());
}

#[tokio::test]
async fn health_and_metrics_are_told_to_the_owner_and_not_to_foreign_pages() {
    let station = Station::on_air().await;
    station.health.stage("player", None).progress();
    let health = station.get("/health").await;
    assert_eq!((health.status, health.header("content-type")), (200, "application/json"));
    let report: serde_json::Value = serde_json::from_slice(&health.body).unwrap();
    assert_eq!((&report["status"], &report["newest"]), (&"on_air".into(), &NEWEST.into()));
    station.get(SEGMENT_PATH).await;
    let metrics = station.get("/metrics").await;
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text; version=1.0.0"));
    let page = metrics.text();
    for line in [
        "skywave_http_requests_total{route=\"live\",status=\"200\"} 1",
        "skywave_http_requests_total{route=\"health\",status=\"200\"} 1",
        "skywave_http_connections 1",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} in {page}");
    }
    let sent = page.lines().find_map(|line| line.strip_prefix("skywave_http_response_bytes_total ")).unwrap();
    assert_eq!(sent.parse::<usize>().unwrap(), SEGMENT.len() + health.body.len());
    for answer in [health, metrics] {
        assert_eq!(answer.header("access-control-allow-origin"), "");
        assert_eq!(answer.header("cache-control"), "no-store");
    }
}

#[tokio::test]
async fn the_page_may_load_only_what_its_policy_allows() {
    let station = Station::on_air().await;
    let page = station.get("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(!page.header("content-security-policy").is_empty());
    assert_eq!(page.header("cache-control"), "no-cache");
    let again = station.get_with("/", &[("If-None-Match", page.header("etag"))]).await;
    assert_eq!(again.status, 304);
    assert_eq!(station.get("/assets/none.js").await.status, 404);
}

#[tokio::test]
async fn the_page_is_sent_packed_to_whoever_takes_it_so() {
    let station = Station::on_air().await;
    for path in ["/", "/assets/app.js", "/assets/style.css"] {
        let whole = station.get(path).await;
        let packed = station.get_with(path, &[("Accept-Encoding", "gzip, deflate, br")]).await;
        assert_eq!((whole.header("content-encoding"), packed.header("content-encoding")), ("", "gzip"));
        assert_eq!(whole.header("content-type"), packed.header("content-type"));
        assert_eq!((whole.header("vary"), packed.header("vary")), ("Accept-Encoding", "Accept-Encoding"));
        assert_eq!(packed.header("content-length"), packed.body.len().to_string());
        assert!(packed.body.len() * 2 < whole.body.len(), "{path}: {} bytes", packed.body.len());
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed.body[..]).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, whole.body);
        // One is not the other, and each is known again.
        assert_ne!(whole.header("etag"), packed.header("etag"));
        let known = [("Accept-Encoding", "gzip"), ("If-None-Match", packed.header("etag"))];
        let again = station.get_with(path, &known).await;
        assert_eq!((again.status, again.header("content-encoding")), (304, ""));
        assert_eq!(station.get_with(path, &known[1..]).await.status, 200);
    }
}
