//! Stub for the branch: replaced at merge.
#![allow(missing_docs, unreachable_pub)]

pub struct Asset {
    pub path: &'static str,
    pub content_type: &'static str,
    pub body: &'static [u8],
    pub etag: &'static str,
}

pub const CONTENT_SECURITY_POLICY: &str = "default-src 'self'";

static PAGE: Asset =
    Asset { path: "/", content_type: "text/html; charset=utf-8", body: b"<!doctype html>", etag: "page1" };
static SCRIPT: Asset =
    Asset { path: "/assets/app.js", content_type: "text/javascript", body: b"play()", etag: "app1" };

pub fn asset(path: &str) -> Option<&'static Asset> {
    [&PAGE, &SCRIPT].into_iter().find(|asset| asset.path == path)
}
