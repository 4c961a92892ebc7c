//! What a client can't do to the others, and how the server ends.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use skywave::http::{HttpConfig, SHUTDOWN_LIMIT};

use super::client::{Client, patiently};
use super::station::{PLAYLIST, Station};

const BRIEF: Duration = Duration::from_millis(300);
const MEBIBYTE: usize = 1024 * 1024;

/// A file far larger than what the sockets between server and client hold.
async fn large_file(station: &Station) -> String {
    let leaf = vec![7; MEBIBYTE];
    format!("/ipfs/{}", station.put_file(&[&leaf[..]; 32]).await)
}

/// Asks for the file and reads no more than the head.
async fn slow_reader(station: &Station, path: &str) -> Client {
    let mut client = Client::connect(station.address).await;
    client.send(format!("GET {path} HTTP/1.1\r\nHost: station\r\n\r\n")).await;
    assert_eq!(client.answer(false).await.status, 200);
    client
}

async fn wait_for_connections(station: &Station, expected: &str) {
    let line = format!("skywave_http_connections {expected}\n");
    let mut client = Client::connect(station.address).await;
    patiently(async { while !client.request("GET", "/metrics", &[]).await.text().contains(&line) {} }).await;
}

#[tokio::test]
async fn slow_readers_hold_up_nobody_and_are_closed_in_time() {
    let config = HttpConfig { write_timeout: BRIEF, ..HttpConfig::default() };
    let station = Station::on_air_with(config).await;
    let path = large_file(&station).await;
    let mut slow = Vec::new();
    for _ in 0..8 {
        slow.push(slow_reader(&station, &path).await);
    }
    assert_eq!(station.get("/live/hifi/live.m3u8").await.body, PLAYLIST);
    wait_for_connections(&station, "1").await;
}

#[tokio::test]
async fn a_reader_that_takes_its_time_within_the_limit_gets_everything() {
    let config = HttpConfig { write_timeout: Duration::from_secs(5), ..HttpConfig::default() };
    let station = Station::on_air_with(config).await;
    let path = large_file(&station).await;
    let mut client = Client::connect(station.address).await;
    let answer = client.request("GET", &path, &[]).await;
    assert_eq!(answer.body.len(), 32 * MEBIBYTE);
    assert!(answer.body.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn connections_that_say_nothing_or_half_a_head_are_closed_in_time() {
    let config = HttpConfig { header_timeout: BRIEF, ..HttpConfig::default() };
    let station = Station::on_air_with(config).await;
    let mut silent = Client::connect(station.address).await;
    let mut half = Client::connect(station.address).await;
    half.send("GET /live/stream.m3u8 HTTP/1.1\r\nHost: st").await;
    let mut idle = Client::connect(station.address).await;
    assert_eq!(idle.request("GET", "/healthz", &[]).await.status, 200);
    assert!(silent.is_closed().await);
    assert!(idle.is_closed().await);
    // Either a 408 or nothing at all, and then the end.
    while !half.is_closed().await {
        assert_eq!(half.answer(true).await.status, 408);
    }
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_and_later_let_in() {
    let max_connections = NonZeroUsize::new(2).unwrap();
    let station = Station::on_air_with(HttpConfig { max_connections, ..HttpConfig::default() }).await;
    let mut first = Client::connect(station.address).await;
    let mut second = Client::connect(station.address).await;
    assert_eq!(first.request("GET", "/healthz", &[]).await.status, 200);
    assert_eq!(second.request("GET", "/healthz", &[]).await.status, 200);
    let mut third = Client::connect(station.address).await;
    let refused = third.request("GET", "/healthz", &[]).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    assert!(third.is_closed().await);
    assert_eq!(second.request("GET", "/healthz", &[]).await.status, 200);
    drop(first);
    patiently(async { while station.get("/healthz").await.status != 200 {} }).await;
}

#[tokio::test]
async fn a_flood_of_connections_is_bounded_and_passes() {
    let max_connections = NonZeroUsize::new(4).unwrap();
    let station = Station::on_air_with(HttpConfig { max_connections, ..HttpConfig::default() }).await;
    let mut flood = Vec::new();
    for _ in 0..200 {
        flood.push(Client::connect(station.address).await);
    }
    let mut statuses = Vec::new();
    for client in &mut flood {
        statuses.push(client.status_of("/healthz").await);
    }
    let count = |status| statuses.iter().filter(|found| **found == status).count();
    assert_eq!(count(Some(200)), 4, "{statuses:?}");
    // At most 64 are told; on a slow machine some have run out of time by then.
    assert!(count(Some(503)) <= 64, "{statuses:?}");
    assert_eq!(count(Some(200)) + count(Some(503)) + count(None), 200, "{statuses:?}");
    drop(flood);
    patiently(async { while station.get("/healthz").await.status != 200 {} }).await;
}

#[tokio::test]
async fn heads_that_are_too_large_or_no_http_are_refused() {
    let station = Station::on_air().await;
    let mut large = Client::connect(station.address).await;
    let cookie = "c".repeat(8 * 1024);
    let answer = large.request("GET", "/", &[("A", &cookie), ("B", &cookie), ("C", &cookie)]).await;
    assert_eq!(answer.status, 431);
    let mut many = Client::connect(station.address).await;
    assert_eq!(many.request("GET", "/", &[("A", "b"); 100]).await.status, 431);
    let mut other = Client::connect(station.address).await;
    other.send("\x16\x03\x01\x02 this is no HTTP\r\n\r\n").await;
    assert_eq!(other.answer(true).await.status, 400);
}

#[tokio::test]
async fn fields_as_long_as_a_head_may_be_are_read_at_no_cost_to_others() {
    let station = Station::on_air().await;
    let path = format!("/ipfs/{}/hifi/466900000.m4s", station.root());
    let many = |piece: &str| piece.repeat(10_000 / piece.len());
    let cases = [
        ("Range", format!("bytes=0-0{}", many(",1-1")), 206),
        ("Range", format!("bytes=900-{}", many(",900-")), 416),
        ("Range", format!("bytes={}", many(",")), 200),
        ("If-None-Match", format!("\"x\"{}", many(",\"x\"")), 200),
        ("If-None-Match", many("W/"), 200),
        ("Accept", format!("*/*;q=0.1{}", many(",a/b;q=0")), 200),
        ("Accept", format!("a/b{}", many(";q=")), 200),
        ("Accept", many(","), 200),
        ("Accept", many("application/vnd.ipld.car;order=x,"), 406),
        ("Cache-Control", many("no-cache,"), 200),
        ("X-Forwarded-Host", many("a."), 200),
        ("X-Forwarded-Host", format!("{}.ipfs.localhost", many("a")), 400),
        ("X-Forwarded-Proto", many("https"), 200),
    ];
    let mut client = Client::connect(station.address).await;
    for (name, value, status) in cases {
        let before = Instant::now();
        let answer = client.request("GET", &path, &[(name, &value)]).await;
        assert_eq!(answer.status, status, "{name}: {}", &value[..40]);
        assert!(before.elapsed() < Duration::from_secs(1), "{name}: {:?}", before.elapsed());
    }
}

#[tokio::test]
async fn odd_paths_and_queries_of_the_gateway_are_answered_in_words() {
    let station = Station::on_air().await;
    let root = station.root();
    let deep = format!("/ipfs/{root}{}", "/a".repeat(30));
    let cases = [
        (deep, 404),
        (format!("/ipfs/{root}{}", "/a".repeat(31)), 400),
        (format!("/ipfs/{root}/a%00b"), 400),
        (format!("/ipfs/{root}/%E0%80%80"), 400),
        (format!("/ipfs/{root}/..%2f..%2fmetrics"), 400),
        (format!("/ipfs/{root}?format=%"), 301),
        (format!("/ipfs/{root}/stream.m3u8?filename=%ff&format=&download"), 200),
        (format!("/ipfs/{root}/stream.m3u8?{}", "&=".repeat(1000)), 200),
        (format!("/ipfs/{root}?format=car&entity-bytes={}", "9".repeat(500)), 400),
        (format!("/ipfs/{root}?format=car&entity-bytes=-9223372036854775808:9223372036854775807"), 200),
        (format!("/ipfs/{root}?format=car&dag-scope=%00"), 400),
        ("/ipfs/?uri=ipfs://%0d%0aSet-Cookie:x".to_owned(), 301),
        ("/ipfs/ipfs/x".to_owned(), 400),
        ("/ipns/%20".to_owned(), 404),
    ];
    for (path, status) in cases {
        let answer = station.get(&path).await;
        assert_eq!(answer.status, status, "{path}: {}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.header("set-cookie"), "");
    }
}

#[tokio::test]
async fn requests_may_follow_each_other_without_waiting() {
    let station = Station::on_air().await;
    let mut client = Client::connect(station.address).await;
    client.send("GET /live/hifi/live.m3u8 HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3)).await;
    for _ in 0..3 {
        assert_eq!(client.answer(true).await.body, PLAYLIST);
    }
}

#[tokio::test]
async fn shutdown_closes_idle_connections_at_once() {
    let station = Station::on_air().await;
    let mut idle = Client::connect(station.address).await;
    assert_eq!(idle.request("GET", "/healthz", &[]).await.status, 200);
    let before = Instant::now();
    station.stop.cancel();
    assert!(idle.is_closed().await);
    patiently(station.served).await.unwrap().unwrap();
    assert!(before.elapsed() < SHUTDOWN_LIMIT / 2, "{:?}", before.elapsed());
}

#[tokio::test]
async fn shutdown_ends_in_time_with_readers_that_never_read() {
    let station = Station::on_air().await;
    let path = large_file(&station).await;
    let _slow = slow_reader(&station, &path).await;
    let _silent = Client::connect(station.address).await;
    let before = Instant::now();
    station.stop.cancel();
    patiently(station.served).await.unwrap().unwrap();
    assert!(before.elapsed() >= SHUTDOWN_LIMIT, "the open answer had no chance: {:?}", before.elapsed());
    assert!(before.elapsed() < SHUTDOWN_LIMIT * 2, "{:?}", before.elapsed());
}

#[tokio::test]
async fn an_answer_on_its_way_is_finished_before_the_end() {
    let station = Station::on_air().await;
    let path = large_file(&station).await;
    let mut client = Client::connect(station.address).await;
    client.send(format!("GET {path} HTTP/1.1\r\nHost: station\r\n\r\n")).await;
    assert_eq!(client.answer(false).await.status, 200);
    station.stop.cancel();
    let mut received = 0;
    while received < 32 * MEBIBYTE {
        received += client.some().await;
    }
    assert_eq!(received, 32 * MEBIBYTE);
    patiently(station.served).await.unwrap().unwrap();
}
