//! What another parser, quick-m3u8, makes of a playlist that ours has passed.

use super::rules::{self, Violation, ensure};
use quick_m3u8::config::ParsingOptionsBuilder;
use quick_m3u8::{HlsLine, Reader};

/// Every line must be known to it, and it must count as many URIs as there are lines without a `#`.
pub fn agrees(text: &str) -> Result<(), Violation> {
    let options = ParsingOptionsBuilder::new().with_parsing_for_all_tags().build();
    let mut reader = Reader::from_str(text, options);
    let mut uris = 0;
    loop {
        let line = reader.read_line().map_err(|error| {
            Violation::new(rules::SECOND_OPINION, format!("{error:?}"), "a line it can read")
        })?;
        match line {
            None => break,
            Some(HlsLine::Uri(_)) => uris += 1,
            Some(HlsLine::UnknownTag(tag)) => {
                return Err(Violation::new(rules::SECOND_OPINION, format!("{tag:?}"), "a tag it knows"));
            }
            Some(_) => {}
        }
    }
    let wanted = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
    ensure(uris == wanted, rules::SECOND_OPINION, format!("{uris} URIs"), wanted)
}
