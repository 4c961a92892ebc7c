//! The cases of the public gateway conformance suite (github.com/ipfs/gateway-conformance) that apply to a station, on
//! content made here. Each test names the file of the suite that it follows.

use cid::Cid;
use skywave::ipfs::ipns::SignedRecord;
use skywave::ipfs::unixfs::RAW;

use super::client::Client;
use super::station::{Station, ipns_name};

const IMMUTABLE: &str = "public, max-age=29030400, immutable";
const PAGE: &str = "public, max-age=604800, stale-while-revalidate=2678400";
const TEXT: &[u8] = b"goodbye application/vnd.ipld.raw";

/// `/ą/ę/file-źł.txt`, `/page/index.html`, `/link` and `/t.json` under one root.
struct Site {
    station: Station,
    root: Cid,
    deep: Cid,
    page: Cid,
    index: Cid,
    file: Cid,
}

async fn site() -> Site {
    let station = Station::on_air().await;
    let file = station.put(RAW, TEXT).await;
    let index = station.put(RAW, b"<h1>hello</h1>").await;
    let json = station.put(RAW, br#"{"test": "i am a plain json file"}"#).await;
    let link = station.put_symlink("foo").await;
    let deep = station.put_directory(&[("file-źł.txt", file)]).await;
    let upper = station.put_directory(&[("ę", deep)]).await;
    let page = station.put_directory(&[("index.html", index)]).await;
    let root = [("link", link), ("page", page), ("t.json", json), ("ą", upper)];
    let root = station.put_directory(&root).await;
    Site { station, root, deep, page, index, file }
}

type Fields<'a> = &'a [(&'a str, &'a str)];

/// Path and headers of a request; status and some headers of its answer.
type Case<'a> = (&'a str, Fields<'a>, u16, Fields<'a>);

async fn check(station: &Station, cases: &[Case<'_>]) {
    for (path, headers, status, expected) in cases {
        let answer = station.get_with(path, headers).await;
        assert_eq!(answer.status, *status, "{path} {headers:?}: {}", String::from_utf8_lossy(&answer.body));
        for (name, value) in *expected {
            assert_eq!(answer.header(name), *value, "{path} {headers:?}: {name}");
        }
    }
}

/// path_gateway_unixfs_test.go: TestUnixFSDirectoryListing.
#[tokio::test]
async fn directory_listings() {
    let Site { station, root, deep, file, .. } = site().await;
    let top = station.get(&format!("/ipfs/{root}/")).await.text();
    assert!(top.contains("Index of") && !top.contains("..</a>"), "{top}");
    let moved = format!("/ipfs/{root}/%C4%85/%C4%99/");
    let path = format!("/ipfs/{root}/%C4%85/%C4%99");
    check(&station, &[(&path, &[], 301, &[("location", &moved)])]).await;
    let below = station.get(&moved).await;
    let (tag, page) = (below.header("etag").to_owned(), below.text());
    assert!(tag.starts_with("\"DirIndex-") && tag.ends_with(&format!("_CID-{deep}\"")), "{tag}");
    for expected in [
        format!(
            "/ipfs/<a href=\"/ipfs/{root}\">{root}</a>/<a href=\"/ipfs/{root}/%C4%85\">ą</a>/<a href=\"/ipfs/{root}/%C4%85/%C4%99\">ę</a>"
        ),
        format!("<a href=\"/ipfs/{root}/%C4%85/%C4%99/..\">..</a>"),
        format!("<a href=\"/ipfs/{root}/%C4%85/%C4%99/file-%C5%BA%C5%82.txt\">file-źł.txt</a>"),
        format!("href=\"/ipfs/{file}?filename=file-%C5%BA%C5%82.txt\">"),
    ] {
        assert!(page.contains(&expected), "{expected} in {page}");
    }
    check(&station, &[(&format!("/ipfs/{root}/i-do-not-exist"), &[], 404, &[])]).await;
}

/// path_gateway_unixfs_test.go: TestGatewayCache.
#[tokio::test]
async fn caching() {
    let Site { station, root, page, index, .. } = site().await;
    let (listing, home) = (format!("/ipfs/{root}/"), format!("/ipfs/{root}/page/"));
    let file = format!("/ipfs/{root}/page/index.html");
    let roots = |cids: &[Cid]| cids.iter().map(Cid::to_string).collect::<Vec<_>>().join(",");
    let home_tag = format!("\"{page}\"");
    let file_tag = format!("\"{index}\"");
    let listing_tag = station.get(&listing).await.header("etag").to_owned();
    let missing = "/ipfs/QmYzfKSE55XCjD1MW128RfciAf2DViABhEiXfgVFMabSjN";
    let only = [("Cache-Control", "only-if-cached")];
    let weak_listing = format!("W/{listing_tag}");
    let third = format!("\"fakeEtag1\", \"fakeEtag2\", {file_tag}");
    let weak = format!("W/{file_tag}");
    let raw = format!("{home}?format=raw");
    check(
        &station,
        &[
            (&listing, &[], 200, &[("cache-control", PAGE), ("x-ipfs-path", &listing)]),
            (
                &home,
                &[],
                200,
                &[("cache-control", IMMUTABLE), ("etag", &home_tag), ("x-ipfs-roots", &roots(&[root, page]))],
            ),
            (
                &file,
                &[],
                200,
                &[
                    ("etag", &file_tag),
                    ("x-ipfs-roots", &roots(&[root, page, index])),
                    ("x-ipfs-path", &file),
                ],
            ),
            (&raw, &only, 200, &[("cache-control", IMMUTABLE)]),
            (missing, &only, 412, &[]),
            (missing, &[], 404, &[]),
            (&file, &[("If-None-Match", &file_tag)], 304, &[]),
            (&home, &[("If-None-Match", &home_tag)], 304, &[]),
            (&file, &[("If-None-Match", &third)], 304, &[]),
            (&file, &[("If-None-Match", &weak)], 304, &[]),
            (&file, &[("If-None-Match", "*")], 304, &[]),
            (&listing, &[("If-None-Match", &listing_tag)], 304, &[("etag", &listing_tag)]),
            (&listing, &[("If-None-Match", &weak_listing)], 304, &[]),
        ],
    )
    .await;
    let mut client = Client::connect(station.address).await;
    assert_eq!(client.request("HEAD", missing, &only).await.status, 412);
    assert_eq!(client.request("HEAD", &raw, &only).await.status, 200);
}

/// path_gateway_unixfs_test.go: TestGatewaySymlink, TestGatewayUnixFSFileRanges and TestPathGatewayMiscellaneous.
#[tokio::test]
async fn symlinks_ranges_and_odd_names() {
    let Site { station, root, file, .. } = site().await;
    assert_eq!(station.get(&format!("/ipfs/{root}/link")).await.text(), "foo");
    let path = format!("/ipfs/{file}");
    let several = station.get_with(&path, &[("Range", "bytes=6-16,0-4")]).await;
    assert_eq!((several.status, &several.body[..]), (206, &TEXT[6..17]));
    assert_eq!(several.header("content-range"), format!("bytes 6-16/{}", TEXT.len()));
    // Blocks outside of the range may be missing.
    let (a, b, c) = (station.put(RAW, b"aaaa").await, station.gone(b"bbbb"), station.put(RAW, b"cccc").await);
    let holey = station.put_file_of(&[(a, 4), (b, 4), (c, 4)]).await;
    let path = format!("/ipfs/{holey}");
    check(
        &station,
        &[
            (&path, &[("Range", "bytes=1-2")], 206, &[("content-range", "bytes 1-2/12")]),
            (&path, &[("Range", "bytes=9-10")], 206, &[("content-range", "bytes 9-10/12")]),
            (&path, &[("Range", "bytes=5-6")], 404, &[]),
        ],
    )
    .await;
    let name = "Portugal%2C+España=Peninsula Ibérica.txt";
    let odd = station.put_directory(&[(name, file)]).await;
    let answer =
        station.get(&format!("/ipfs/{odd}/Portugal%252C+Espa%C3%B1a=Peninsula%20Ib%C3%A9rica.txt")).await;
    assert_eq!(answer.body, TEXT);
}

/// path_gateway_raw_test.go and trustless_gateway_raw_test.go.
#[tokio::test]
async fn raw_blocks() {
    let Site { station, root, file, .. } = site().await;
    let accept = [("Accept", "application/vnd.ipld.raw")];
    let path = format!("/ipfs/{root}/%C4%85/%C4%99/file-%C5%BA%C5%82.txt");
    let located = format!("{path}?format=raw");
    let disposition = format!("attachment; filename=\"{file}.bin\"");
    let expected = [
        ("content-type", "application/vnd.ipld.raw"),
        ("x-content-type-options", "nosniff"),
        ("cache-control", IMMUTABLE),
        ("x-ipfs-path", path.as_str()),
        ("content-disposition", disposition.as_str()),
        ("etag", &format!("\"{file}.raw\"")),
    ];
    check(&station, &[(&path, &accept, 200, &expected), (&located, &[], 200, &expected)]).await;
    check(&station, &[(&path, &accept, 200, &[("content-location", &located)])]).await;
    check(&station, &[(&located, &[], 200, &[("content-location", "")])]).await;
    let named = format!("{path}?filename=foobar.bin");
    let disposition = "attachment; filename=\"foobar.bin\"";
    check(&station, &[(&named, &accept, 200, &[("content-disposition", disposition)])]).await;
    let range = [accept[0], ("Range", "bytes=6-16")];
    check(&station, &[(&path, &range, 206, &[("content-range", &format!("bytes 6-16/{}", TEXT.len()))])])
        .await;
    // The probe of trustless gateways.
    let probe = station.get("/ipfs/bafkqaaa?format=raw").await;
    assert_eq!((probe.status, probe.body.len()), (200, 0));
}

/// path_gateway_cors_test.go.
#[tokio::test]
async fn pages_of_other_origins_may_read() {
    let station = Station::on_air().await;
    let path = "/ipfs/bafkqabtimvwgy3yk";
    let mut client = Client::connect(station.address).await;
    for method in ["GET", "OPTIONS"] {
        let answer = client.request(method, path, &[]).await;
        assert!([200, 204].contains(&answer.status), "{method}");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        let has = |name: &str, words: &[&str]| {
            let listed: Vec<_> = answer.header(name).split(", ").collect();
            assert!(words.iter().all(|word| listed.contains(word)), "{method} {name}: {listed:?}");
        };
        has("access-control-allow-methods", &["GET", "HEAD", "OPTIONS"]);
        has("access-control-allow-headers", &["Content-Type", "Range", "User-Agent", "X-Requested-With"]);
        let exposed = ["Content-Range", "Content-Length", "X-Ipfs-Path", "X-Ipfs-Roots", "X-Stream-Output"];
        has("access-control-expose-headers", &exposed);
    }
}

/// path_gateway_dag_test.go.
#[tokio::test]
async fn blocks_of_other_codecs() {
    const DAG_JSON: u64 = 0x0129;
    const DAG_CBOR: u64 = 0x71;
    let Site { station, root, file, .. } = site().await;
    let end = station.put(DAG_JSON, br#"{"hello":"this is not a link"}"#).await;
    let json = station.put(DAG_JSON, format!(r#"{{"foo":{{"link":{{"/":"{end}"}}}}}}"#).as_bytes()).await;
    let cbor = station.put(DAG_CBOR, b"\xa1\x61a\x01").await;
    let (plain_json, plain_cbor) = (station.put(0x0200, b"{}").await, station.put(0x51, b"\xa0").await);
    let dag = |format: &str| format!("application/vnd.ipld.dag-{format}");
    let of = |cid: Cid, query: &str| format!("/ipfs/{cid}{query}");
    let name = |cid: Cid, kind: &str, extension: &str| format!("{kind}; filename=\"{cid}.{extension}\"");
    let browser = [("Accept", "text/html,*/*;q=0.8")];
    check(
        &station,
        &[
            (
                &of(root, "/t.json"),
                &[("Accept", "application/json")],
                200,
                &[("content-type", "application/json")],
            ),
            (&of(file, ""), &[("Accept", "application/json")], 406, &[]),
            (&of(file, ""), &[("Accept", "application/json, */*;q=0.1")], 200, &[]),
            (&of(file, "?format=dag-json"), &[], 406, &[]),
            (&of(file, ""), &[("Accept", &dag("cbor"))], 406, &[]),
            (&of(json, "?format=dag-cbor"), &[], 406, &[]),
            (&of(cbor, "?format=dag-json"), &[], 406, &[]),
            (&of(plain_json, "?format=dag-json"), &[], 406, &[]),
            (
                &of(plain_json, ""),
                &[],
                200,
                &[
                    ("content-type", "application/json"),
                    ("content-disposition", &name(plain_json, "inline", "json")),
                ],
            ),
            (
                &of(plain_cbor, ""),
                &[],
                200,
                &[
                    ("content-type", "application/cbor"),
                    ("content-disposition", &name(plain_cbor, "attachment", "cbor")),
                ],
            ),
            (
                &of(json, ""),
                &[],
                200,
                &[
                    ("content-type", &dag("json")),
                    ("etag", &format!("\"{json}.dag-json\"")),
                    ("content-disposition", &name(json, "inline", "json")),
                ],
            ),
            (&of(cbor, "?format=cbor"), &[], 200, &[("content-type", "application/cbor")]),
            (
                &of(cbor, "?filename=x.cbor&download=true"),
                &[("Accept", &dag("cbor"))],
                200,
                &[("content-type", &dag("cbor")), ("content-disposition", "attachment; filename=\"x.cbor\"")],
            ),
            (&of(json, "/foo"), &[], 501, &[]),
            (&of(json, "/foo/i-do-not-exist"), &[], 404, &[]),
            (&of(json, "/foo/link"), &[], 200, &[("etag", &format!("\"{end}.dag-json\""))]),
            (
                &of(json, "/"),
                &browser,
                200,
                &[
                    ("content-type", "text/html; charset=utf-8"),
                    ("content-disposition", ""),
                    ("cache-control", PAGE),
                ],
            ),
            (&of(cbor, "/"), &browser, 200, &[("content-type", "text/html; charset=utf-8")]),
        ],
    )
    .await;
    let page = station.get_with(&of(cbor, "/"), &browser).await;
    assert!(page.header("etag").contains("DagIndex-") && page.text().contains("</html>"));
    let unknown = station.put(0x72, b"a key").await;
    assert_eq!(station.get(&of(unknown, "")).await.status, 400);
    assert_eq!(station.get(&of(unknown, "?format=raw")).await.status, 200);
}

/// path_gateway_tar_test.go, read by the tar of this machine.
#[tokio::test]
async fn trees_as_tar() {
    let Site { station, root, file, .. } = site().await;
    let long = "n".repeat(150);
    let large = station.put_file(&[&[7; 300_000], &[8; 1]]).await;
    let tree = [(long.as_str(), large), ("empty", station.put(RAW, b"").await), ("site", root)];
    let tree = station.put_directory(&tree).await;
    let answer = station.get(&format!("/ipfs/{tree}?format=tar")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/x-tar"));
    assert!(answer.header("etag").starts_with(&format!("W/\"{tree}.x-tar")), "{}", answer.header("etag"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.tar"), &answer.body).unwrap();
    let unpack = ["-xf", "a.tar"];
    let unpacked =
        std::process::Command::new("tar").args(unpack).current_dir(folder.path()).status().unwrap();
    assert!(unpacked.success());
    let below = folder.path().join(tree.to_string());
    assert_eq!(std::fs::read(below.join("site/ą/ę/file-źł.txt")).unwrap(), TEXT);
    assert_eq!(std::fs::read(below.join(&long)).unwrap().len(), 300_001);
    assert_eq!(std::fs::read(below.join("empty")).unwrap(), b"");
    assert_eq!(std::fs::read_link(below.join("site/link")).unwrap().to_str(), Some("foo"));
    let one = station.get_with(&format!("/ipfs/{file}"), &[("Accept", "application/x-tar")]).await;
    assert_eq!((one.status, one.body.len()), (200, 4 * 512));
    assert_eq!(one.header("content-disposition"), format!("attachment; filename=\"{file}.tar\""));
    let outside = station.put_directory(&[("../../escape", file)]).await;
    let (missing, data) = (station.gone(b"gone"), station.put(0x0129, b"{}").await);
    let (holey, mixed) =
        (station.put_directory(&[("a", missing)]).await, station.put_directory(&[("a", data)]).await);
    for (cid, status) in [(outside, 406), (data, 406), (mixed, 406), (holey, 404)] {
        assert_eq!(station.get(&format!("/ipfs/{cid}?format=tar")).await.status, status, "{cid}");
    }
}

/// trustless_gateway_ipns_test.go.
#[tokio::test]
async fn signed_records() {
    let station = Station::on_air().await;
    let name = ipns_name();
    let path = format!("/ipns/{name}?format=ipns-record");
    assert_eq!(station.get(&path).await.status, 503);
    let bytes = bytes::Bytes::from_static(b"signed");
    station.record.send_replace(Some(SignedRecord { sequence: 7, root: station.root(), bytes }));
    let accept = [("Accept", "application/vnd.ipfs.ipns-record")];
    let bare = format!("/ipns/{name}");
    let disposition = format!("attachment; filename=\"{name}.ipns-record\"");
    let expected = [
        ("content-type", "application/vnd.ipfs.ipns-record"),
        ("cache-control", "public, max-age=4"),
        ("content-disposition", disposition.as_str()),
        ("x-ipfs-path", bare.as_str()),
    ];
    check(&station, &[(&path, &[], 200, &expected), (&bare, &accept, 200, &expected)]).await;
    assert_eq!(station.get(&path).await.body, b"signed");
    let named = format!("{path}&filename=test%D1%82%D0%B5%D1%81%D1%82.ipns-record");
    let disposition = "attachment; filename=\"test____.ipns-record\"; filename*=UTF-8''test%D1%82%D0%B5%D1%81%D1%82.ipns-record";
    let tag = station.get(&path).await.header("etag").to_owned();
    let root = station.root();
    check(
        &station,
        &[
            (&named, &[], 200, &[("content-disposition", disposition)]),
            (&path, &[("If-None-Match", &tag)], 304, &[]),
            (&format!("/ipns/{name}/stream.m3u8?format=ipns-record"), &[], 400, &[]),
            (&format!("/ipfs/{root}?format=ipns-record"), &[], 400, &[]),
        ],
    )
    .await;
}

/// What the specifications ask for and the suite does not test.
#[tokio::test]
async fn formats_file_names_and_service_workers() {
    let Site { station, root, file, .. } = site().await;
    let of = |query: &str| format!("/ipfs/{file}{query}");
    let script = [("Service-Worker", "script")];
    check(
        &station,
        &[
            (&of("?format=dag-json"), &[], 406, &[]),
            (&of("?format=zip"), &[], 400, &[]),
            (&of("?format=car&dag-scope=some"), &[], 400, &[]),
            (&of("?format=car&entity-bytes=x"), &[], 400, &[]),
            (&of("?format=car&car-version=2"), &[], 400, &[]),
            (&of(""), &[("Accept", "application/vnd.ipld.car;version=2")], 406, &[]),
            (
                &of("?filename=a%22b.mp4"),
                &[],
                200,
                &[
                    ("content-type", "audio/mp4"),
                    ("content-disposition", "inline; filename=\"a_b.mp4\"; filename*=UTF-8''a%22b.mp4"),
                ],
            ),
            (
                &of("?download=true"),
                &[],
                200,
                &[
                    ("content-type", "text/plain; charset=utf-8"),
                    ("content-disposition", &format!("attachment; filename=\"{file}\"")),
                ],
            ),
            (&format!("/ipfs/{root}"), &script, 400, &[]),
            (&format!("/ipfs/{root}/page/index.html"), &script, 200, &[]),
            (&of(""), &[], 200, &[("vary", "Accept"), ("last-modified", "")]),
        ],
    )
    .await;
}
