//! Pages that the gateway writes itself (pure): the entries of a directory, and the preview of a block of data.

use std::fmt::Write;

use cid::Cid;

use crate::http::request_path;
use crate::ipfs::unixfs::Entries;

/// Bounds the page of a directory.
pub(super) const MAX_ENTRIES: usize = 5_000;

/// Bounds the text of a preview.
const MAX_PREVIEW: usize = 64 * 1024;

/// Part of the pages' tags. To be raised with every change of the pages.
pub(super) const VERSION: u32 = 2;

/// Where the page stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// The content path: `/ipfs/<cid>/a/b`, decoded.
    pub(super) segments: &'a [&'a str],
    /// What stands before a content path in a link: nothing, or `//<domain>` where this page has an origin of its own.
    pub(super) gateway: &'a str,
    /// The host that stands for the first two segments, where there is one: below it nothing else is served.
    pub(super) host: Option<&'a str>,
    /// The path of the page in the address bar, ending with a slash.
    pub(super) path: &'a str,
}

impl Place<'_> {
    /// `/ipfs/<cid>/a/b` with a link for each root and directory.
    fn trail(&self) -> String {
        let mut trail = String::from("/");
        let mut path = String::new();
        for (depth, segment) in self.segments.iter().enumerate() {
            let _ = write!(path, "/{}", request_path::encode(segment));
            let text = escape(segment);
            let _ = match (depth, self.host) {
                (0, _) => write!(trail, "{text}"),
                (1, Some(host)) => {
                    path.clear();
                    write!(trail, "/<a href=\"//{host}/\">{text}</a>")
                }
                (_, Some(host)) => write!(trail, "/<a href=\"//{host}{path}\">{text}</a>"),
                (_, None) => write!(trail, "/<a href=\"{}{path}\">{text}</a>", self.gateway),
            };
        }
        trail
    }

    fn title(&self) -> String {
        escape(&format!("/{}", self.segments.join("/")))
    }
}

fn head(title: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n"
    )
}

/// Links to the entries of a directory: by path, and by CID as a file of that name.
pub(super) fn page(place: &Place<'_>, entries: &Entries) -> String {
    let mut page = head(&place.title());
    let _ = writeln!(page, "<h1>Index of {}</h1>\n<table>", place.trail());
    let path = place.path;
    if place.segments.len() > 2 {
        let _ = writeln!(page, "<tr><td><a href=\"{path}..\">..</a>");
    }
    for link in &entries.links {
        let (encoded, text, cid) = (request_path::encode(&link.name), escape(&link.name), link.cid);
        let by_cid = match place.host {
            Some(_) => cid.to_string(),
            None => format!(
                "<a class=\"ipfs-hash\" translate=\"no\" href=\"{}/ipfs/{cid}?filename={encoded}\">{cid}</a>",
                place.gateway
            ),
        };
        let size = link.size;
        let _ = writeln!(page, "<tr><td><a href=\"{path}{encoded}\">{text}</a><td>{by_cid}<td>{size} bytes");
    }
    page.push_str("</table>\n");
    if entries.more {
        page.push_str("<p>and more\n");
    }
    page.push_str("</html>\n");
    page
}

/// A block of data, as text, with a link to its bytes. `text` may be cut.
pub(super) fn preview(place: &Place<'_>, cid: &Cid, format: &str, text: &str) -> String {
    let mut page = head(&place.title());
    let mut end = text.len().min(MAX_PREVIEW);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let _ = write!(
        page,
        "<h1>{}</h1>\n<p>{cid}, <a href=\"?format={format}\">{format}</a>\n<pre>{}</pre>\n",
        place.trail(),
        escape(&text[..end])
    );
    if end < text.len() {
        page.push_str("<p>and more\n");
    }
    page.push_str("</html>\n");
    page
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipfs::unixfs::Link;

    fn of(names: &[&str], place: &Place<'_>) -> String {
        let link = |name: &&str| Link { name: (*name).to_owned(), cid: Cid::default(), size: 7 };
        page(place, &Entries { links: names.iter().map(link).collect(), more: true })
    }

    #[test]
    fn names_are_links_and_never_markup() {
        let place = Place {
            segments: &["ipfs", "x", "\"a b\""],
            gateway: "",
            host: None,
            path: "/ipfs/x/%22a%20b%22/",
        };
        let page = of(&["<script>", "a b:c?#%"], &place);
        assert!(page.contains("<a href=\"/ipfs/x/%22a%20b%22/%3Cscript%3E\">&lt;script&gt;</a>"), "{page}");
        assert!(page.contains("/a%20b%3Ac%3F%23%25\""), "{page}");
        assert!(page.contains("<title>/ipfs/x/&quot;a b&quot;</title>"), "{page}");
        assert!(page.contains("/ipfs/<a href=\"/ipfs/x\">x</a>/<a href=\"/ipfs/x/%22a%20b%22\">"), "{page}");
        assert!(page.contains("<a href=\"/ipfs/x/%22a%20b%22/..\">..</a>"), "{page}");
        assert!(page.contains("7 bytes") && page.contains("and more") && !page.contains("<script"));
    }

    #[test]
    fn a_root_has_no_way_up_and_an_origin_of_its_own_links_to_its_domain() {
        let place = Place { segments: &["ipfs", "x"], gateway: "//localhost:80", host: None, path: "/" };
        let page = of(&["a"], &place);
        assert!(!page.contains("..</a>"), "{page}");
        assert!(page.contains("<a href=\"/a\">a</a>"), "{page}");
        assert!(page.contains("/ipfs/<a href=\"//localhost:80/ipfs/x\">x</a>"), "{page}");
    }

    #[test]
    fn a_host_of_a_dnslink_links_to_itself_alone() {
        let segments = &["ipns", "a.example", "b", "c"];
        let page = of(&["d"], &Place { segments, gateway: "", host: Some("a.example:80"), path: "/b/c/" });
        let trail = "/ipns/<a href=\"//a.example:80/\">a.example</a>/<a href=\"//a.example:80/b\">b</a>\
            /<a href=\"//a.example:80/b/c\">c</a>";
        assert!(page.contains(trail) && page.contains("<a href=\"/b/c/d\">d</a>"), "{page}");
        assert!(!page.contains("/ipfs/"), "{page}");
    }

    #[test]
    fn a_preview_is_text_and_bounded() {
        let place = Place { segments: &["ipfs", "x"], gateway: "", host: None, path: "/ipfs/x/" };
        let page = preview(&place, &Cid::default(), "dag-json", "</pre><script>");
        assert!(page.contains("&lt;/pre&gt;&lt;script&gt;") && page.contains("?format=dag-json"), "{page}");
        let page = preview(&place, &Cid::default(), "dag-json", &"ü".repeat(MAX_PREVIEW));
        assert!(page.len() < MAX_PREVIEW + 2_000 && page.contains("and more"));
    }
}
