//! Files of the music folder. The first byte says which.

use crate::audio::decode::input as mp4;
use crate::library::input as playlist;

pub fn run(input: &[u8]) {
    match input.split_first() {
        Some((0, file)) => mp4::run(file),
        Some((_, file)) => playlist::run(file),
        None => {}
    }
}
