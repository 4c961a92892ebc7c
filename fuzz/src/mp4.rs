//! MP4 files of others: where the music begins and ends.

use std::io::Cursor;

use super::mp4::audible_span;

pub(crate) fn run(file: &[u8]) {
    for track in [1, 2] {
        if let Some(span) = audible_span(&mut Cursor::new(file), track) {
            assert!(span.timescale > 0);
        }
    }
}
