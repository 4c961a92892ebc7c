//! CARs: trustless_gateway_car_test.go of the conformance suite, on content made here, and what a client can't do.

use cid::Cid;
use skywave::ipfs::car::Reader;
use skywave::ipfs::unixfs::RAW;

use super::client::{Answer, CUT, Client, patiently};
use super::station::Station;

/// The blocks of a CAR in order; every one of them matches its CID.
fn blocks(answer: &Answer) -> Vec<Cid> {
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let mut reader = Reader::new();
    reader.push(&answer.body);
    let mut cids = Vec::new();
    while let Some(block) = reader.next_block().unwrap() {
        cids.push(block.cid);
    }
    reader.finish().unwrap();
    cids
}

/// A directory of a file of four parts, twice, a small one, and a directory below.
struct Dag {
    station: Station,
    root: Cid,
    sub: Cid,
    file: Cid,
    parts: Vec<Cid>,
    small: Cid,
}

async fn dag() -> Dag {
    let station = Station::on_air().await;
    let texts: [&[u8]; 4] = [&[b'a'; 256], &[b'b'; 256], &[b'c'; 256], b"dd"];
    let file = station.put_file(&texts).await;
    let parts = texts.iter().map(|text| station.gone(text)).collect();
    let small = station.put(RAW, b"small").await;
    let sub = station.put_directory(&[("copy", file), ("file", file), ("small", small)]).await;
    let root = station.put_directory(&[("sub", sub)]).await;
    Dag { station, root, sub, file, parts, small }
}

async fn car(dag: &Dag, path: &str, query: &str) -> Vec<Cid> {
    blocks(&dag.station.get(&format!("/ipfs/{}{path}?format=car&{query}", dag.root)).await)
}

/// TestTrustlessCarPathing and the three TestTrustlessCarDagScope.
#[tokio::test]
async fn the_way_comes_first_and_then_the_scope() {
    let dag = dag().await;
    let Dag { root, sub, file, small, ref parts, .. } = dag;
    let whole_file = [&[root, sub, file], &parts[..]].concat();
    assert_eq!(car(&dag, "/sub/small", "").await, [root, sub, small]);
    assert_eq!(car(&dag, "/sub/file", "").await, whole_file);
    assert_eq!(car(&dag, "/sub/file", "dag-scope=entity").await, whole_file);
    assert_eq!(car(&dag, "/sub/file", "dag-scope=block").await, [root, sub, file]);
    assert_eq!(car(&dag, "/sub", "dag-scope=entity").await, [root, sub]);
    assert_eq!(car(&dag, "/sub", "dag-scope=all").await, [&whole_file[..], &[small]].concat());
    let missing = dag.station.get(&format!("/ipfs/{root}/sub/none?format=car")).await;
    assert_eq!(missing.status, 404);
    let document = format!(r#"{{"a":{{"/":"{small}"}}}}"#);
    let document = dag.station.put(0x0129, document.as_bytes()).await;
    let all = |query: &str| format!("/ipfs/{document}{query}");
    assert_eq!(blocks(&dag.station.get(&all("?format=car")).await), [document, small]);
    assert_eq!(blocks(&dag.station.get(&all("?format=car&dag-scope=entity")).await), [document]);
    assert_eq!(blocks(&dag.station.get(&all("/a?format=car")).await), [document, small]);
}

/// TestTrustlessCarDagScopeEntity and TestTrustlessCarPathing, over a directory made by kubo.
#[tokio::test]
async fn sharded_directories_give_the_shards_that_it_takes() {
    let station = Station::on_air().await;
    let root = station.import(include_bytes!("../fixtures/unixfs/sharded-8.car")).await;
    let all = blocks(&station.get(&format!("/ipfs/{root}?format=car")).await);
    let entity = blocks(&station.get(&format!("/ipfs/{root}?format=car&dag-scope=entity")).await);
    assert!(entity.len() > 10 && entity.iter().all(|cid| cid.codec() == 0x70 && all.contains(cid)));
    assert_eq!(all.iter().filter(|cid| cid.codec() == RAW).count(), 61);
    assert_eq!(all.len(), entity.len() + 61);
    let one = blocks(&station.get(&format!("/ipfs/{root}/file-7.txt?format=car")).await);
    assert_eq!((one[0], one.last()), (root, Some(&station.gone(b"entry 7"))));
    assert!(one.len() > 2 && one.len() < 8 && one[..one.len() - 1].iter().all(|cid| entity.contains(cid)));
    assert_eq!(station.get(&format!("/ipfs/{root}/file-7.txt")).await.text(), "entry 7");
    let page = station.get(&format!("/ipfs/{root}/")).await;
    assert_eq!((page.status, page.text().matches("file-").count()), (200, 60 * 3));
}

/// TestTrustlessCarEntityBytes.
#[tokio::test]
async fn entity_bytes_give_the_blocks_of_these_bytes() {
    let dag = dag().await;
    let Dag { root, sub, file, ref parts, .. } = dag;
    let cases = [
        ("0:*", 0..4),
        ("512:*", 2..4),
        ("512:767", 2..3),
        ("256:-200", 1..3),
        ("-2:*", 3..4),
        ("-9999:*", 0..4),
        ("-9999:-3", 0..3),
        ("0:0", 0..1),
        ("500:-700", 0..0),
    ];
    for (bytes, range) in cases {
        let expected = [&[root, sub, file], &parts[range]].concat();
        assert_eq!(car(&dag, "/sub/file", &format!("entity-bytes={bytes}")).await, expected, "{bytes}");
    }
    assert_eq!(car(&dag, "/sub", "entity-bytes=0:*").await, [root, sub]);
    for outside in ["770:*", "9999:10000", "-9999:-1000"] {
        let path = format!("/ipfs/{file}?format=car&entity-bytes={outside}");
        assert_eq!(dag.station.get(&path).await.status, 400, "{outside}");
    }
    let holey = [(parts[0], 256), (dag.station.gone(b"nowhere"), 5), (parts[2], 256)];
    let holey = dag.station.put_file_of(&holey).await;
    for (bytes, part) in [("0:255", parts[0]), ("261:*", parts[2])] {
        let path = format!("/ipfs/{holey}?format=car&dag-scope=entity&entity-bytes={bytes}");
        assert_eq!(blocks(&dag.station.get(&path).await), [holey, part]);
    }
}

/// TestTrustlessCarOrderAndDuplicates and TestTrustlessCarFormatPrecedence.
#[tokio::test]
async fn order_and_duplicates_are_as_asked_for_and_said() {
    let dag = dag().await;
    let Dag { ref station, sub, file, small, ref parts, .. } = dag;
    let path = format!("/ipfs/{sub}");
    let once = [&[sub, file], &parts[..], &[small]].concat();
    let twice = [&[sub, file], &parts[..], &[file], &parts[..], &[small]].concat();
    let cases = [
        ("", "application/vnd.ipld.car; version=1; order=dfs; dups=y", "y"),
        ("", "application/vnd.ipld.car; version=1; order=dfs; dups=n", "n"),
        ("", "application/vnd.ipld.car; order=unk", "n"),
        ("?format=car", "application/vnd.ipld.car; dups=y", "y"),
        ("?format=car&car-dups=y", "application/vnd.ipld.car; dups=n", "y"),
        ("?format=car&car-order=dfs", "application/vnd.ipld.car; order=unk", "n"),
        ("?format=car", "application/vnd.ipld.raw", "n"),
    ];
    for (query, accept, duplicates) in cases {
        let answer = station.get_with(&format!("{path}{query}"), &[("Accept", accept)]).await;
        let kind = format!("application/vnd.ipld.car; version=1; order=dfs; dups={duplicates}");
        assert_eq!(answer.header("content-type"), kind, "{query} {accept}");
        assert_eq!(
            blocks(&answer),
            if duplicates == "y" { &twice[..] } else { &once[..] },
            "{query} {accept}"
        );
    }
    let raw =
        station.get_with(&format!("{path}?format=raw"), &[("Accept", "application/vnd.ipld.car")]).await;
    assert_eq!(raw.header("content-type"), "application/vnd.ipld.raw");
    let identity = "bafkqaf3imvwgy3zaneqgc3janfxgy2lomvscay3jmqfa";
    assert_eq!(blocks(&station.get(&format!("/ipfs/{identity}?format=car&car-dups=y")).await), []);
    assert_eq!(blocks(&station.get("/ipfs/bafkqaaa?format=car").await), []);
}

/// The headers that every test of trustless_gateway_car_test.go asks for, and the caching of CARs.
#[tokio::test]
async fn a_car_is_a_download_with_a_weak_tag() {
    let dag = dag().await;
    let (station, root) = (&dag.station, dag.root);
    let path = format!("/ipfs/{root}?format=car");
    let answer = station.get(&path).await;
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("accept-ranges"), "none");
    assert_eq!(answer.header("content-disposition"), format!("attachment; filename=\"{root}.car\""));
    assert_eq!(answer.header("content-length"), "");
    assert_eq!(answer.header("cache-control"), "public, max-age=29030400, immutable");
    let tag = answer.header("etag").to_owned();
    assert!(tag.starts_with(&format!("W/\"{root}.car.all.")), "{tag}");
    assert_eq!(station.get_with(&path, &[("If-None-Match", &tag)]).await.status, 304);
    let block = format!("{path}&dag-scope=block");
    assert_eq!(station.get_with(&block, &[("If-None-Match", &tag)]).await.status, 200);
    let by_header = [("Accept", "application/vnd.ipld.car; dups=y")];
    let located = station.get_with(&format!("/ipfs/{root}"), &by_header).await;
    let expected = format!("/ipfs/{root}?format=car&car-version=1&car-order=dfs&car-dups=y");
    assert_eq!(located.header("content-location"), expected);
    assert_eq!(located.body, station.get(&expected).await.body);
    let mut client = Client::connect(station.address).await;
    let head = client.request("HEAD", &path, &[]).await;
    assert_eq!((head.status, head.header("etag")), (200, tag.as_str()));
    assert_eq!(client.request("GET", &path, &[]).await.body, answer.body);
}

#[tokio::test]
async fn a_car_with_a_missing_block_never_looks_complete() {
    let station = Station::on_air().await;
    let (held, missing) = (station.put(RAW, b"held").await, station.gone(b"missing"));
    let root = station.put_directory(&[("a", held), ("b", missing)]).await;
    let answer = station.get(&format!("/ipfs/{root}?format=car")).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.ends_with(CUT));
    assert_eq!(station.get(&format!("/ipfs/{missing}?format=car")).await.status, 404);
}

async fn metric(station: &Station, line: &str) {
    let line = format!("{line}\n");
    let mut client = Client::connect(station.address).await;
    patiently(async { while !client.request("GET", "/metrics", &[]).await.text().contains(&line) {} }).await;
}

#[tokio::test]
async fn a_car_that_is_given_up_frees_its_place_and_too_many_are_refused() {
    let station = Station::on_air().await;
    let leaf = vec![7; 1024 * 1024];
    let file = station.put_file(&[&leaf[..]; 64]).await;
    let path = format!("/ipfs/{file}?format=car&car-dups=y");
    let mut slow = Vec::new();
    for _ in 0..16 {
        let mut client = Client::connect(station.address).await;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: station\r\n\r\n")).await;
        assert!(client.some().await > 0);
        slow.push(client);
    }
    metric(&station, "skywave_gateway_archives 16").await;
    let refused = station.get(&path).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    metric(&station, "skywave_gateway_refusals_total{reason=\"archive_concurrent\"} 1").await;
    assert_eq!(station.get("/live/hifi/live.m3u8").await.status, 200);
    drop(slow);
    metric(&station, "skywave_gateway_archives 0").await;
    assert!(station.get(&format!("/ipfs/{file}?format=car")).await.body.len() > leaf.len());
}

/// Each level links twice to the next: in all two to the power of forty blocks.
#[tokio::test]
async fn a_dag_that_unfolds_without_end_is_sent_once_or_as_long_as_somebody_reads() {
    let station = Station::on_air().await;
    let mut top = station.put(RAW, b"leaf").await;
    for _ in 0..40 {
        top = station.put_directory(&[("a", top), ("b", top)]).await;
    }
    assert_eq!(blocks(&station.get(&format!("/ipfs/{top}?format=car")).await).len(), 41);
    let mut client = Client::connect(station.address).await;
    let path = format!("/ipfs/{top}?format=car&car-dups=y");
    client.send(format!("GET {path} HTTP/1.1\r\nHost: station\r\n\r\n")).await;
    let mut received = 0;
    while received < 1024 * 1024 {
        received += client.some().await;
    }
    drop(client);
    metric(&station, "skywave_gateway_archives 0").await;
}

#[tokio::test]
async fn a_dag_of_too_many_blocks_ends_early_with_a_metric() {
    let station = Station::on_air().await;
    // No block is here: links wait, and these are too many for a walk.
    let gone = station.gone(b"gone");
    let names: Vec<_> = (0..20_000).map(|n| format!("{n:05}")).collect();
    let links: Vec<_> = names.iter().map(|name| (name.as_str(), gone)).collect();
    let wide = station.put_directory(&links).await;
    let mut top = wide;
    for level in 0..4 {
        let mut above = links.clone();
        let name = format!("!{level}");
        above.insert(0, (name.as_str(), top));
        top = station.put_directory(&above).await;
    }
    let answer = station.get(&format!("/ipfs/{top}?format=car")).await;
    assert!(answer.status == 200 && answer.body.ends_with(CUT));
    metric(&station, "skywave_gateway_refusals_total{reason=\"archive_size\"} 1").await;
}
