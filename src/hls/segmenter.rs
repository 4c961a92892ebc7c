//! Gathers access units to segments on the frame grid. Pure.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::cmaf::{self, Event};
use super::id3;
use super::timeline::Slot;
use crate::encoder::aac::FRAME_SAMPLES;
use crate::encoder::{BLOCK_FRAMES, EncodedBlock, NowPlaying, SAMPLE_RATE};

/// The frame grid: how many access units make a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// AAC frames per segment: 180 or 90.
    pub frames: usize,
}

impl Grid {
    /// The grid of a segment length; `None` for any but 3.84 s and 1.92 s, the lengths that AAC frames of
    /// 1,024 samples at 48 kHz and whole blocks fill exactly.
    pub fn new(segment: Duration) -> Option<Self> {
        match segment.as_millis() {
            3_840 => Some(Self { frames: 180 }),
            1_920 => Some(Self { frames: 90 }),
            _ => None,
        }
    }

    /// Samples per channel in a segment.
    pub fn samples(self) -> u64 {
        (self.frames * FRAME_SAMPLES) as u64
    }

    /// `EXT-X-TARGETDURATION`: the segment length, rounded to seconds (RFC 8216, 4.3.3.1).
    pub fn target_duration(self) -> u64 {
        (self.samples() + u64::from(SAMPLE_RATE) / 2) / u64::from(SAMPLE_RATE)
    }

    fn blocks(self) -> usize {
        self.frames * FRAME_SAMPLES / BLOCK_FRAMES
    }
}

/// One segment of the programme, in every rendition.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Number and airtime.
    pub slot: Slot,
    /// Length in samples per channel.
    pub samples: u64,
    /// `EXT-X-PROGRAM-DATE-TIME` in Unix milliseconds: airtime less the encoder's delay.
    pub program_date_time_ms: i64,
    /// CMAF segment of each rendition, in configured order.
    pub media: Vec<Bytes>,
    /// What plays at its end.
    pub now_playing: Option<Arc<NowPlaying>>,
}

/// Holds the units of the segment in work.
pub struct Segmenter {
    grid: Grid,
    delay: u64,
    blocks: Vec<EncodedBlock>,
    playing: Option<Arc<NowPlaying>>,
    broken: bool,
}

impl Segmenter {
    /// A segmenter on `grid` for encoders that lag by `encoder_delay` samples; `playing` goes on.
    pub fn new(grid: Grid, encoder_delay: u32, playing: Option<Arc<NowPlaying>>) -> Self {
        Self { grid, delay: u64::from(encoder_delay), blocks: Vec::new(), playing, broken: false }
    }

    /// Adds a block. Fresh encoders never continue a segment that others began: what was gathered is dropped
    /// and the segment that follows is a discontinuity.
    pub fn push(&mut self, block: EncodedBlock) {
        if block.first_of_encoder && self.playing.is_some() {
            self.blocks.clear();
            self.broken = true;
        }
        if self.playing.is_none() {
            self.playing = block.changes.first().map(|(_, playing)| playing.clone());
        }
        self.blocks.push(block);
    }

    /// Whether the gathered blocks make a segment.
    pub fn is_full(&self) -> bool {
        self.blocks.len() >= self.grid.blocks()
    }

    /// Makes the segment of `slot` out of what was gathered.
    ///
    /// # Panics
    /// When the segment is not full.
    pub fn close(&mut self, mut slot: Slot) -> Segment {
        assert!(self.is_full(), "a segment is closed when it is full");
        slot.discontinuity |= std::mem::take(&mut self.broken);
        let blocks: Vec<_> = self.blocks.drain(..).collect();
        let decode_time = slot.n * self.grid.samples();
        let events = self.events(&blocks, decode_time);
        let renditions = blocks.first().map_or(0, |block| block.units.len());
        let media = (0..renditions)
            .map(|r| {
                let units: Vec<_> = blocks.iter().flat_map(|block| block.units[r].iter().cloned()).collect();
                // Fragment numbers wrap after 2^32; they need only grow within a player's memory.
                cmaf::media_segment(slot.n as u32, decode_time, &units, &events)
            })
            .collect();
        let delay_ms = (self.delay * 1_000).div_ceil(u64::from(SAMPLE_RATE)) as i64;
        Segment {
            slot,
            samples: self.grid.samples(),
            program_date_time_ms: slot.unix_ms - delay_ms,
            media,
            now_playing: self.playing.clone(),
        }
    }

    /// What plays at the segment's begin, and each change inside it at the moment it is heard.
    fn events(&mut self, blocks: &[EncodedBlock], decode_time: u64) -> Vec<Event> {
        let event = |at: u64, playing: &NowPlaying| Event {
            presentation_time: decode_time + at.min(self.grid.samples() - 1),
            message: id3::tag(playing),
        };
        let mut events: Vec<_> = self.playing.iter().map(|playing| event(0, playing)).collect();
        for (index, block) in blocks.iter().enumerate() {
            for (offset, playing) in &block.changes {
                if self.playing.as_ref() == Some(playing) {
                    continue;
                }
                events.push(event((index * BLOCK_FRAMES + offset) as u64 + self.delay, playing));
                self.playing = Some(playing.clone());
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::player::Source;
    use proptest::prelude::*;

    fn block(mark: u8, first_of_encoder: bool, title: Option<&str>) -> EncodedBlock {
        let playing = |title: &str| NowPlaying {
            title: title.into(),
            artist: String::new(),
            album: String::new(),
            duration: None,
            source: Source::Library,
        };
        EncodedBlock {
            units: vec![vec![Bytes::from(vec![mark; 20]); 15]; 2],
            changes: title.map(|title| (100, Arc::new(playing(title)))).into_iter().collect(),
            first_of_encoder,
        }
    }

    fn slot(n: u64) -> Slot {
        Slot { n, airtime_ms: 0, unix_ms: n as i64 * 3_840, discontinuity: false }
    }

    fn segmenter() -> Segmenter {
        Segmenter::new(Grid::new(Duration::from_millis(3_840)).unwrap(), 2048, None)
    }

    #[test]
    fn twelve_blocks_make_a_segment_whose_date_accounts_for_the_encoder() {
        let mut segmenter = segmenter();
        for k in 0..12 {
            assert!(!segmenter.is_full());
            segmenter.push(block(k, k == 0, (k == 0).then_some("one")));
        }
        assert!(segmenter.is_full());
        let segment = segmenter.close(slot(1_000));
        assert_eq!(segment.samples, 184_320);
        assert_eq!(segment.program_date_time_ms, 3_840_000 - 43);
        assert!(!segment.slot.discontinuity);
        assert_eq!(segment.media.len(), 2);
    }

    #[test]
    fn fresh_encoders_in_mid_segment_drop_the_part_and_mark_a_discontinuity() {
        let mut segmenter = segmenter();
        (0..5).for_each(|k| segmenter.push(block(k, k == 0, Some("one"))));
        (0..12).for_each(|k| segmenter.push(block(100 + k, k == 0, None)));
        let segment = segmenter.close(slot(7));
        assert!(segment.slot.discontinuity);
        assert!(!segment.media[0].windows(20).any(|w| w == [3; 20]), "nothing of the old encoders is left");
    }

    #[test]
    fn a_run_that_begins_inside_a_track_still_names_it() {
        let mut before = segmenter();
        (0..12).for_each(|k| before.push(block(k, k == 0, (k == 0).then_some("one"))));
        let playing = before.close(slot(0)).now_playing;
        let mut segmenter = Segmenter::new(Grid::new(Duration::from_millis(3_840)).unwrap(), 2048, playing);
        (0..12).for_each(|k| segmenter.push(block(k, false, None)));
        let segment = segmenter.close(slot(1));
        assert!(segment.media[0].windows(4).any(|w| w == b"TIT2"));
        assert_eq!(segment.now_playing.unwrap().title, "one");
    }

    #[test]
    fn every_segment_names_what_plays_and_a_change_stands_where_it_is_heard() {
        let mut segmenter = segmenter();
        (0..12).for_each(|k| segmenter.push(block(k, k == 0, (k == 0).then_some("one"))));
        segmenter.close(slot(0));
        (0..12).for_each(|k| segmenter.push(block(k, false, (k == 11).then_some("two"))));
        let segment = segmenter.close(slot(1));
        let found: Vec<_> = segment.media[0].windows(4).filter(|w| *w == b"TIT2").collect();
        assert_eq!(found.len(), 2);
        assert_eq!(segment.now_playing.unwrap().title, "two");
    }

    proptest! {
        #[test]
        fn whatever_restarts_happen_segments_are_whole_and_from_one_set_of_encoders(
            restarts in prop::collection::vec(prop::bool::weighted(0.05), 1..200),
        ) {
            let mut segmenter = segmenter();
            let (mut generation, mut n) = (0_u8, 0);
            for restart in restarts {
                generation += u8::from(restart);
                segmenter.push(block(generation, restart, Some("x")));
                if segmenter.is_full() {
                    let segment = segmenter.close(slot(n));
                    n += 1;
                    let mdat = segment.media[0].windows(4).rposition(|w| w == b"mdat").unwrap();
                    let payload = &segment.media[0][mdat + 4..];
                    prop_assert_eq!(payload.len(), 180 * 20);
                    prop_assert!(payload.iter().all(|byte| *byte == payload[0]));
                }
            }
        }
    }
}
