//! The player page: its files are in the binary, so that a board without internet serves it whole.

use std::io::Read;
use std::sync::LazyLock;

use cid::Cid;
use flate2::read::GzDecoder;
use multihash_codetable::{Code, MultihashDigest};

/// Multicodec of a raw block.
const RAW: u64 = 0x55;

const HTML: &str = "text/html; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Sent with the page: its own files only, nothing inline. `blob:` is how Media Source Extensions hand audio to the
/// player. Audio may come from any relay, as the page checks it against the station's signature.
pub(super) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self'; media-src 'self' blob:; connect-src 'self' http: https:; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'self'";

/// One file of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asset {
    /// Path of the request, `/` for the page itself.
    pub path: &'static str,
    /// Value of Content-Type.
    pub content_type: &'static str,
    /// The file by gzip (RFC 1952), as build.rs packed it.
    pub packed: &'static [u8],
    /// CID of the unpacked file as a raw block: its entity tag, as for everything on this server.
    pub cid: String,
}

impl Asset {
    fn new(path: &'static str, content_type: &'static str, packed: &'static [u8]) -> Self {
        let cid = Cid::new_v1(RAW, Code::Sha2_256.digest(&unpack(packed)));
        Self { path, content_type, packed, cid: cid.to_string() }
    }

    /// The file itself.
    pub(super) fn unpacked(&self) -> Vec<u8> {
        unpack(self.packed)
    }

    /// Entity tag of the packed file, without quotes.
    pub(super) fn packed_tag(&self) -> String {
        format!("{}.gz", self.cid)
    }
}

fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut whole).expect("build.rs packed it");
    whole
}

/// What build.rs packed.
macro_rules! packed {
    ($file:expr) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/page/", $file))
    };
}

/// A module: of the page's own, or of npm.
macro_rules! script {
    ($name:literal) => {
        Asset::new(concat!("/assets/", $name, ".js"), JAVASCRIPT, packed!(concat!($name, ".js")))
    };
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    vec![
        Asset::new("/", HTML, packed!("index.html")),
        Asset::new("/assets/style.css", CSS, packed!("style.css")),
        Asset::new("/assets/icon.svg", SVG, packed!("icon.svg")),
        script!("app"),
        script!("chain"),
        script!("cid"),
        script!("dag_cbor"),
        script!("dag_pb"),
        script!("feed"),
        script!("feed_loader"),
        script!("hashing"),
        script!("hls_engine"),
        script!("id3"),
        script!("ipns_record"),
        script!("meter"),
        script!("native_engine"),
        script!("noble_hashing"),
        script!("player"),
        script!("protobuf"),
        script!("provenance"),
        script!("scene"),
        script!("segment_index"),
        script!("sources"),
        script!("station"),
        script!("transfer"),
        #[cfg(has_npm_packages)]
        script!("hls"),
        #[cfg(has_npm_packages)]
        script!("noble/ed25519"),
        #[cfg(has_npm_packages)]
        script!("noble/sha2"),
        #[cfg(has_npm_packages)]
        script!("noble/_md"),
        #[cfg(has_npm_packages)]
        script!("noble/_u64"),
        #[cfg(has_npm_packages)]
        script!("noble/utils"),
    ]
});

/// The file behind a request's path (no query), or `None`, which is a 404.
pub(super) fn asset(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str) -> String {
        let asset = asset(path).expect("the page has this file");
        String::from_utf8(asset.unpacked()).expect("the page's files are UTF-8")
    }

    /// Every quoted string that follows `marker` in `source`.
    fn quoted_after<'a>(source: &'a str, marker: &str) -> Vec<&'a str> {
        source
            .split(marker)
            .skip(1)
            .filter_map(|rest| {
                let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
                rest[1..].split(quote).next()
            })
            .collect()
    }

    #[test]
    fn every_file_the_page_asks_for_is_in_the_binary() {
        let page = text("/");
        let asked: Vec<_> = [quoted_after(&page, "href="), quoted_after(&page, "src=")]
            .concat()
            .into_iter()
            .filter(|path| path.starts_with("/assets/"))
            .collect();
        assert!(asked.contains(&"/assets/app.js"), "asked for: {asked:?}");
        for path in asked {
            assert!(asset(path).is_some(), "{path} is not in the binary");
        }
    }

    #[test]
    fn every_module_a_script_imports_is_in_the_binary() {
        let scripts =
            ASSETS.iter().filter(|asset| asset.path.ends_with(".js") && asset.path != "/assets/hls.js");
        let mut imports = 0;
        for script in scripts {
            let (folder, _) = script.path.rsplit_once('/').expect("a path from the root");
            let text = text(script.path);
            let modules = quoted_after(&text, " from ").into_iter();
            // What a package's comments import by its own name is an example.
            for module in modules.filter(|module| !(folder.ends_with("/noble") && module.starts_with('@'))) {
                let path = module.replacen('.', folder, 1);
                let missing = path.starts_with("/assets/noble/") && !cfg!(has_npm_packages);
                assert!(asset(&path).is_some() || missing, "{} imports {module}", script.path);
                imports += 1;
            }
        }
        assert!(imports > 20, "found {imports} imports only");
    }

    #[test]
    fn the_page_obeys_its_content_security_policy() {
        let page = text("/");
        for forbidden in ["<style", " style=", " onclick=", "javascript:", "http://", "https://"] {
            assert!(!page.contains(forbidden), "the page contains {forbidden}");
        }
        for script in page.split("<script").skip(1) {
            let body = script.split_once('>').and_then(|(_, rest)| rest.split("</script>").next());
            assert_eq!(body, Some(""), "an inline script");
        }
        assert!(!CONTENT_SECURITY_POLICY.contains("unsafe"));
        assert!(!CONTENT_SECURITY_POLICY.contains("  "));
    }

    #[test]
    fn what_comes_from_npm_is_served_exactly_when_it_was_built_in() {
        let packages =
            [("hls", 100_000), ("noble/ed25519", 20_000), ("noble/sha2", 10_000), ("noble/utils", 10_000)];
        for (name, at_least) in packages {
            let served = asset(&format!("/assets/{name}.js"));
            assert_eq!(served.is_some(), cfg!(has_npm_packages), "{name}");
            let bytes = served.map_or(at_least, |asset| asset.unpacked().len());
            assert!(bytes >= at_least, "{bytes} bytes are no {name}");
        }
    }

    #[test]
    fn a_tag_is_the_cid_of_the_file_and_another_where_it_is_packed() {
        let icon = asset("/assets/icon.svg").expect("the icon is in the binary");
        let cid: Cid = icon.cid.parse().expect("a CID");
        assert_eq!(cid.codec(), RAW);
        assert_eq!(*cid.hash(), Code::Sha2_256.digest(include_bytes!("../../web/icon.svg")));
        let mut tags: Vec<_> =
            ASSETS.iter().flat_map(|asset| [asset.cid.clone(), asset.packed_tag()]).collect();
        tags.sort();
        tags.dedup();
        assert_eq!(tags.len(), 2 * ASSETS.len());
    }

    #[test]
    fn the_page_is_packed_to_less_than_half() {
        let bytes = |size: fn(&Asset) -> usize| ASSETS.iter().map(size).sum::<usize>();
        let (packed, whole) = (bytes(|asset| asset.packed.len()), bytes(|asset| asset.unpacked().len()));
        assert!(packed * 2 < whole, "{packed} of {whole} bytes");
    }

    #[test]
    fn an_unknown_path_is_no_asset() {
        for path in ["", "/index.html", "/assets/", "/assets/../Cargo.toml", "/assets/app.js/"] {
            assert!(asset(path).is_none(), "{path:?} was served");
        }
    }
}
