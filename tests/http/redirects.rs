//! `_redirects`: redirects_file_test.go of the conformance suite, on content made here.

use cid::Cid;
use skywave::ipfs::unixfs::RAW;

use super::client::{Answer, Client};
use super::station::{Station, ipns_name};

const IMMUTABLE: &str = "public, max-age=29030400, immutable";

/// A site with these rules, an index.html, a 404.html, and a folder `docs` with an index.html.
async fn site(station: &Station, rules: &[u8]) -> Cid {
    let (index, missing) = (station.put(RAW, b"<p>my index").await, station.put(RAW, b"<p>my 404").await);
    let docs = station.put_directory(&[("index.html", index)]).await;
    let rules = station.put(RAW, rules).await;
    let entries = [("404.html", missing), ("_redirects", rules), ("docs", docs), ("index.html", index)];
    station.put_directory(&entries).await
}

async fn at(station: &Station, root: Cid, path: &str, headers: &[(&str, &str)]) -> Answer {
    let host = format!("{root}.ipfs.localhost");
    station.get_with(path, &[&[("Host", host.as_str())], headers].concat()).await
}

const RULES: &[u8] = b"/one /one.html\n/two /two.html 302\n/home /index.html 200\n/folder /docs/ 200\n\
    /bare /docs 200\n/posts/:year/:title /articles/:year/:title 301\n/splat/* https://example.net/:splat 308\n\
    /query /found?a=static&b=static\n/missing/* /404.html 404\n/gone/* /410.html 410\n/lost /nowhere 200\n\
    /odd /%zz 200\n";

#[tokio::test]
async fn paths_that_are_not_there_are_moved_by_the_first_rule() {
    let station = Station::on_air().await;
    let root = site(&station, RULES).await;
    for (path, status, location) in [
        ("/one", 301, "/one.html"),
        ("/one?x=1", 301, "/one.html?x=1"),
        ("/two", 302, "/two.html"),
        ("/posts/2022/a%20b", 301, "/articles/2022/a%20b"),
        ("/splat/a/b?c", 308, "https://example.net/a/b?c"),
        ("/query?b=2", 301, "/found?a=static&b=2"),
        ("/bare", 301, "/docs/"),
    ] {
        let moved = at(&station, root, path, &[]).await;
        assert_eq!((moved.status, moved.header("location")), (status, location), "{path}");
    }
    // What is there is not moved, whatever the rules say.
    let all = site(&station, b"/* /elsewhere 302").await;
    assert_eq!(at(&station, all, "/index.html", &[]).await.text(), "<p>my index");
    assert_eq!(at(&station, all, "/docs/", &[]).await.status, 200);
    assert_eq!(at(&station, all, "/x", &[]).await.status, 302);
    assert_eq!(at(&station, all, "/index.html/x", &[]).await.status, 302);
    // And a block is had as it is, or not at all.
    assert_eq!(at(&station, all, "/x?format=raw", &[]).await.status, 404);
    assert_eq!(at(&station, all, "/x", &[("Accept", "application/vnd.ipld.car")]).await.status, 404);
}

#[tokio::test]
async fn rewrites_answer_with_other_content_under_the_same_address() {
    let station = Station::on_air().await;
    let root = site(&station, RULES).await;
    for path in ["/home", "/folder"] {
        let answer = at(&station, root, path, &[("Accept", "text/html")]).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "<p>my index"), "{path}");
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(answer.header("x-ipfs-path"), format!("/ipfs/{root}{path}"));
        let tag = answer.header("etag").to_owned();
        assert_eq!(at(&station, root, path, &[("If-None-Match", &tag)]).await.status, 304, "{path}");
    }
    assert_eq!(at(&station, root, "/lost", &[]).await.status, 404);
}

#[tokio::test]
async fn pages_of_the_site_stand_in_for_errors_and_are_always_whole() {
    let station = Station::on_air().await;
    let root = site(&station, RULES).await;
    let page = at(&station, root, "/missing/page", &[]).await;
    assert_eq!((page.status, page.text().as_str()), (404, "<p>my 404"));
    assert_eq!(page.header("cache-control"), IMMUTABLE);
    let tag = page.header("etag").to_owned();
    assert!(tag.len() > 10, "{tag}");
    for headers in [[("If-None-Match", tag.as_str())], [("Range", "bytes=0-2")]] {
        let page = at(&station, root, "/missing/page?download=true", &headers).await;
        assert_eq!((page.status, page.text().as_str()), (404, "<p>my 404"), "{headers:?}");
        assert_eq!(page.header("content-disposition"), "");
    }
    let mut client = Client::connect(station.address).await;
    let host = format!("{root}.ipfs.localhost");
    let head = client.request("HEAD", "/missing/page", &[("Host", &host)]).await;
    assert_eq!((head.status, head.body.len()), (404, 0));
    let gone = at(&station, root, "/gone/x", &[]).await;
    assert_eq!((gone.status, gone.header("cache-control")), (410, "no-store"), "its page is not there");
}

#[tokio::test]
async fn rules_that_cannot_be_read_are_an_error_only_where_they_are_needed() {
    let station = Station::on_air().await;
    let large = [b"# ".to_vec(), vec![b'x'; 64 * 1024]].concat();
    for (rules, words) in [
        (&b"/not-found /index.html 301!"[..], "line 1"),
        (&b"\xff"[..], "UTF-8"),
        (&large[..], "redirects file size cannot exceed 65536 bytes"),
    ] {
        let root = site(&station, rules).await;
        let answer = at(&station, root, "/not-found", &[]).await;
        assert_eq!(answer.status, 500, "{words}");
        assert!(answer.text().starts_with("could not parse _redirects: "), "{}", answer.text());
        assert!(answer.text().contains(words), "{}", answer.text());
        assert_eq!(at(&station, root, "/index.html", &[]).await.status, 200);
    }
    let root = site(&station, RULES).await;
    assert_eq!(at(&station, root, "/odd", &[]).await.status, 500);
    let (gone, folder) = (station.gone(b"rules"), station.put_directory(&[]).await);
    for rules in [gone, folder] {
        let root = station.put_directory(&[("_redirects", rules)]).await;
        assert_eq!(at(&station, root, "/x", &[]).await.status, 500);
    }
    // Of several blocks, as of one.
    let (first, second) = (vec![b'#'; 40 * 1024], b"\n/x /y 302".as_slice());
    let rules = station.put_file(&[&first, second]).await;
    let root = station.put_directory(&[("_redirects", rules)]).await;
    assert_eq!(at(&station, root, "/x", &[]).await.status, 302);
    let rules = station.put_file(&[&first, &first]).await;
    let root = station.put_directory(&[("_redirects", rules)]).await;
    assert!(at(&station, root, "/x", &[]).await.text().contains("cannot exceed"));
}

#[tokio::test]
async fn rules_count_only_where_a_site_has_an_origin_of_its_own() {
    let station = Station::on_air().await;
    let root = site(&station, RULES).await;
    let shared = station.get(&format!("/ipfs/{root}/one")).await;
    assert_eq!((shared.status, shared.header("location")), (404, ""));
    let below = station.put_directory(&[("site", root)]).await;
    assert_eq!(
        at(&station, below, "/site/one", &[]).await.status,
        404,
        "rules of a folder are none of the root"
    );
    // The station's own name has an origin and no rules.
    let host = format!("{}.ipns.localhost", ipns_name());
    assert_eq!(station.get_with("/one", &[("Host", &host)]).await.status, 404);
}
