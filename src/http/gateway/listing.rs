//! The page of a directory (pure).

use std::fmt::Write;

use crate::http::request_path;

/// Bounds the page; a directory may hold as many entries as fit into a block.
const MAX_ENTRIES: usize = 5_000;

/// Part of the page's tag. To be raised with every change of the page.
pub(super) const VERSION: u32 = 1;

/// Links to `entries` (name and bytes) of the directory at `path`, a path of the address bar ending with a slash.
pub(super) fn page<'a>(path: &str, entries: impl ExactSizeIterator<Item = (&'a str, u64)>) -> String {
    let title = escape(path);
    let more = entries.len().saturating_sub(MAX_ENTRIES);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<h1>{title}</h1>\n<ul>\n"
    );
    for (name, size) in entries.take(MAX_ENTRIES) {
        // "./" keeps a name with a colon from being a scheme.
        let (link, text) = (request_path::encode(name), escape(name));
        let _ = writeln!(page, "<li><a href=\"./{link}\">{text}</a> {size} bytes");
    }
    page.push_str("</ul>\n");
    if more > 0 {
        let _ = writeln!(page, "<p>and {more} more");
    }
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

    #[test]
    fn names_are_links_and_never_markup() {
        let entries = [("<script>", 5), ("a b:c?#%", 7)];
        let page = page("/ipfs/x/\"/", entries.into_iter());
        assert!(page.contains("<a href=\"./%3Cscript%3E\">&lt;script&gt;</a> 5 bytes"), "{page}");
        assert!(page.contains("href=\"./a%20b%3Ac%3F%23%25\""), "{page}");
        assert!(page.contains("<title>/ipfs/x/&quot;/</title>"), "{page}");
        assert!(!page.contains("<script"));
    }

    #[test]
    fn a_huge_directory_gives_a_bounded_page() {
        let page = page("/", (0..MAX_ENTRIES + 7).map(|_| ("n", 1)).collect::<Vec<_>>().into_iter());
        assert_eq!(page.matches("<li>").count(), MAX_ENTRIES);
        assert!(page.contains("and 7 more"));
    }
}
