//! `Content-Disposition` (pure): RFC 6266, with names beyond ASCII by RFC 8187.

use std::fmt::Write;

use crate::http::request_path;

/// Bounds the header.
const MAX_NAME: usize = 255;

/// `inline` or `attachment` with a file name; the plain name has an underscore for what it cannot hold.
pub(super) fn header(kind: &str, name: &str) -> String {
    let name: String = name.chars().take(MAX_NAME).collect();
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii() && !c.is_ascii_control() && !matches!(c, '"' | '\\') { c } else { '_' })
        .collect();
    let mut header = format!("{kind}; filename=\"{plain}\"");
    if plain != name {
        let _ = write!(header, "; filename*=UTF-8''{}", request_path::encode(&name));
    }
    header
}

#[cfg(test)]
mod tests {
    use super::header;

    #[test]
    fn names_of_all_letters_are_given_twice() {
        assert_eq!(header("inline", "a b.txt"), "inline; filename=\"a b.txt\"");
        assert_eq!(
            header("attachment", "testтест.pdf"),
            "attachment; filename=\"test____.pdf\"; filename*=UTF-8''test%D1%82%D0%B5%D1%81%D1%82.pdf"
        );
    }

    #[test]
    fn a_name_cannot_end_the_header_or_its_quotes() {
        let odd = header("inline", "a\"; x=\"\\\r\nSet-Cookie: y");
        assert!(
            odd.starts_with("inline; filename=\"a_; x=____Set-Cookie: y\"; filename*=UTF-8''a%22"),
            "{odd}"
        );
        assert!(header("inline", &"é".repeat(10_000)).len() < 3_000);
    }
}
