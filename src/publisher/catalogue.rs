//! What the publisher knows across a restart: the window with its blocks, beside the repo that holds them.

use std::collections::HashSet;

use cid::Cid;
use serde::{Deserialize, Serialize};

use super::live_window::{LiveWindow, StoredSegment};
use super::stream_tree::{Entry, cid_text};
use crate::hls::timeline::{Last, Reading, continues};
use crate::hls::{CodecParameters, HEAD_START, HlsConfig};

/// Shape of the file; another one is not read.
const VERSION: u32 = 1;

/// The catalogue, as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Catalogue {
    version: u32,
    /// Boot of the machine that wrote it. The file has no write barrier, so after another boot it may be older than
    /// what was on air.
    boot: String,
    segment_ms: u64,
    /// Root of the tree that was on air last.
    #[serde(default, with = "cid_text::option", skip_serializing_if = "Option::is_none")]
    pub root: Option<Cid>,
    /// What the segments were coded with.
    pub parameters: Vec<CodecParameters>,
    /// `init.mp4` of each rendition.
    pub init: Vec<Entry>,
    /// Measured rates of each rendition.
    pub rates: Vec<Rates>,
    /// The segments.
    pub window: LiveWindow,
}

/// What was written through to the disk before it was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Durable {
    /// The highest media sequence number that may have been used; `None` on a fresh station.
    pub segment: Option<u64>,
    /// Discontinuities that may have been on air.
    pub discontinuities: u64,
}

/// Bit rates of a rendition's segments, container included. They only grow, so that no multivariant playlist ever
/// comes a second time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// Highest of any segment, bits per second.
    pub peak: u64,
    /// Highest mean of any window, bits per second.
    pub average: u64,
}

impl Catalogue {
    /// An empty catalogue.
    pub fn new(
        segment_ms: u64,
        parameters: Vec<CodecParameters>,
        init: Vec<Entry>,
        discontinuities: u64,
    ) -> Self {
        Self {
            version: VERSION,
            boot: boot_id(),
            segment_ms,
            root: None,
            rates: vec![Rates::default(); parameters.len()],
            parameters,
            init,
            window: LiveWindow::new(discontinuities),
        }
    }

    /// Whether a station with these settings can go on with it.
    pub fn fits(&self, segment_ms: u64, parameters: &[CodecParameters]) -> bool {
        self.version == VERSION
            && self.segment_ms == segment_ms
            && self.parameters == parameters
            && self.rates.len() == parameters.len()
            && self.window.all().all(|segment| segment.media.len() == parameters.len())
    }

    /// Drops what is not among the blocks `held`, and the lead where air has overtaken it. Returns where numbering
    /// goes on: behind the newest segment, or above what is `durable` where the file may be older than the air; then
    /// discontinuities are counted on from there too.
    pub fn settle(
        &mut self,
        held: &[Cid],
        config: &HlsConfig,
        now: Reading,
        durable: Durable,
    ) -> Option<Last> {
        // The store lists blocks by their hash alone, under a codec of its choice.
        let held: HashSet<_> = held.iter().map(Cid::hash).collect();
        let before = self.window.newest_stored().map(|segment| segment.n);
        self.window
            .retain_newest(|segment| segment.media.iter().all(|entry| held.contains(entry.cid.hash())));
        let newest = self.window.newest_stored().map(|segment| (segment.n, segment.unix_ms));
        let whole = before == newest.map(|(n, _)| n) && self.boot == boot_id();
        self.boot = boot_id();
        if let Some((n, unix_ms)) = newest.filter(|_| whole) {
            let begin = Reading { monotonic_ms: now.monotonic_ms + unix_ms - now.unix_ms, unix_ms };
            if self.resumes(config, now, begin) {
                return Some(Last { n, begin: Some(begin) });
            }
        }
        self.window.drop_ahead();
        if !whole {
            self.window.raise_discontinuities(durable.discontinuities);
        }
        before.max(durable.segment).map(|n| Last { n, begin: None })
    }

    /// Whether the air can go on behind the newest segment, which begins at `begin`, with no hole before what comes
    /// next: a clock that was set back meanwhile would open one.
    fn resumes(&mut self, config: &HlsConfig, now: Reading, begin: Reading) -> bool {
        let segment_ms = i64::try_from(config.segment.as_millis()).unwrap_or(i64::MAX);
        self.window.lay_out(begin.monotonic_ms, segment_ms);
        let next_ms = self.window.next().map_or(begin.monotonic_ms + segment_ms, |next| next.airtime_ms);
        continues(config.segment, now, HEAD_START, begin) && next_ms <= now.monotonic_ms + segment_ms
    }

    /// Takes a segment's sizes into the measured rates.
    pub fn measure(&mut self, segment: &StoredSegment) {
        for (index, rates) in self.rates.iter_mut().enumerate() {
            let rate = |bytes: u64, samples: u64| (bytes * 8 * 48_000).div_ceil(samples.max(1));
            rates.peak = rates.peak.max(rate(segment.media[index].size, segment.samples));
            let sum = |of: fn(&StoredSegment, usize) -> u64| -> u64 {
                self.window.all().chain([segment]).map(|s| of(s, index)).sum()
            };
            let mean = rate(sum(|s, index| s.media[index].size), sum(|s, _| s.samples));
            rates.average = rates.average.max(mean);
        }
    }

    /// Every block that the catalogue needs.
    pub fn needed(&self) -> HashSet<Cid> {
        let media = self.window.all().flat_map(|segment| &segment.media);
        media.chain(&self.init).map(|entry| entry.cid).collect()
    }
}

/// Identifies this boot of the machine; empty where the kernel does not say.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
