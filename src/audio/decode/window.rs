//! Which decoded frames of a stream are heard: priming before and padding after are not.

use std::fs::File;
use std::ops::Range;

use symphonia::core::formats::Track;

use super::codec::Codec;
use super::mp4;

/// Frames past the stated end of an MP3 after which the statement is taken to be about its first
/// part only (files joined end to end). Padding is never longer: LAME adds less than three frames.
const LIE: u64 = 3 * 1_152;

/// A range of frames, and how far decoding has come. Frames lost to damage count, so the end stays
/// where it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    start: u64,
    end: Option<u64>,
    /// Whether frames far beyond the end are heard after all.
    end_may_lie: bool,
    position: u64,
}

impl Window {
    /// What the file says about the track. Containers that symphonia trims exactly (Vorbis) and
    /// those without priming are heard whole.
    pub(super) fn of(track: &Track, codec: &Codec, file: Option<&File>) -> Window {
        let rate = codec.rate();
        let span = file.and_then(|mut file| mp4::audible_span(&mut file, track.id));
        if let Some(span) = span {
            let frames = |ticks: u64| {
                let scaled = u128::from(ticks) * u128::from(rate) + u128::from(span.timescale / 2);
                u64::try_from(scaled / u128::from(span.timescale)).unwrap_or(u64::MAX)
            };
            return Window::new(frames(span.start), span.length.map(frames));
        }
        if let Some(head) = codec.opus_head() {
            return Window::new(u64::from(head.pre_skip), None);
        }
        if codec.is_mpeg_audio() {
            let Some(delay) = track.delay else {
                return Window::new(0, None);
            };
            let length = track.num_frames.filter(|frames| *frames > 0);
            return Window { end_may_lie: true, ..Window::new(u64::from(delay), length) };
        }
        Window::new(0, None)
    }

    fn new(start: u64, length: Option<u64>) -> Window {
        let end = length.map(|length| start.saturating_add(length));
        Window { start, end, end_may_lie: false, position: 0 }
    }

    /// Frames cut off at the start.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Frames that are heard, when the file says so.
    pub(super) fn length(&self) -> Option<u64> {
        Some(self.end?.saturating_sub(self.start))
    }

    /// Takes note of `frames` more decoded frames; returns which of them are heard.
    pub(super) fn admit(&mut self, frames: usize) -> Range<usize> {
        let from = self.position;
        let to = from.saturating_add(frames as u64);
        self.position = to;
        let end = match self.end {
            Some(end) if self.end_may_lie && from > end.saturating_add(LIE) => to,
            Some(end) => end,
            None => to,
        };
        let first = self.start.clamp(from, to) - from;
        let last = end.clamp(from, to) - from;
        first as usize..last.max(first) as usize
    }

    /// Takes note of frames that were lost.
    pub(super) fn pass_over(&mut self, frames: u64) {
        self.position = self.position.saturating_add(frames);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priming_and_padding_are_cut_across_blocks() {
        let mut window = Window::new(1_105, Some(2_000));
        assert_eq!(window.admit(1_000), 1_000..1_000);
        assert_eq!(window.admit(1_000), 105..1_000);
        assert_eq!(window.admit(1_000), 0..1_000);
        assert_eq!(window.admit(1_000), 0..105);
        assert!(window.admit(1_000).is_empty());
    }

    #[test]
    fn lost_frames_do_not_move_the_end() {
        let mut window = Window::new(0, Some(1_500));
        window.pass_over(1_000);
        assert_eq!(window.admit(1_000), 0..500);
    }

    #[test]
    fn a_stated_length_of_the_first_part_only_does_not_silence_the_rest() {
        let mut window = Window { end_may_lie: true, ..Window::new(0, Some(1_000)) };
        assert_eq!(window.admit(1_152), 0..1_000);
        for _ in 0..3 {
            assert!(window.admit(1_152).is_empty());
        }
        assert_eq!(window.admit(1_152), 0..1_152);
    }
}
