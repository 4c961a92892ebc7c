//! A whole station under simulated time, and a listener who judges every tick of it.
//!
//! Time is tokio's paused clock: it stands still while anything computes and jumps to the next timer when all wait.
//! The wall clock runs along and is stepped by the tests.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support modules")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skywave::appliance::Appliance;
use skywave::clock::{SteppedClock, WallClock};
use skywave::config::Config;
use skywave::encoder::Rendition;
use skywave::ipfs::Blocks;
use skywave::publisher::stream_tree::StreamTree;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::checker::media_playlist::{self, MediaPlaylist};
use super::checker::source::MapSource;
use super::checker::{Checker, Expectations, Report};

/// A moment in October 2026, 1 s into segment 466,900,000.
pub const OCTOBER_2026: i64 = 466_900_000 * 3_840 + 1_000;
/// Lag of the coded audio behind its airtime as PROGRAM-DATE-TIME tells it: 2,048 samples, rounded up.
pub const DELAY_MS: i64 = 43;
/// More simulated time between two ticks than this is a stall.
const PATIENCE: Duration = Duration::from_secs(12);

/// A folder that goes with the test; in memory where the system has such a place, since every block is synced.
pub fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir()).unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}

/// One cheap rendition, half a minute of lead, a short window, no network, and no music.
pub fn config(data: &Path) -> Config {
    let mut config = Config::default();
    config.station.data = data.join("data");
    config.encoder.rendition = vec![rendition("lofi", 64_000)];
    config.hls.lead = Duration::from_secs(30);
    config.hls.ident_lead = config.hls.lead;
    config.hls.playlist = Duration::from_secs(30);
    config.ipfs.offline = true;
    config.retention.window = Duration::from_secs(60);
    config.http.listen = ([127, 0, 0, 1], 0).into();
    config
}

/// A rendition without the afterburner.
pub fn rendition(name: &str, bitrate: u32) -> Rendition {
    Rendition { name: name.into(), bitrate, afterburner: false }
}

/// A running station and what it puts on air.
pub struct Station {
    /// The station.
    pub appliance: Appliance,
    tree: watch::Receiver<Option<Arc<StreamTree>>>,
}

impl Station {
    /// Starts a station whose wall clock is `clock`.
    pub async fn start(config: &Config, clock: &Arc<SteppedClock>) -> Self {
        let appliance = Appliance::start(config, clock.clone()).await.unwrap();
        let tree = appliance.tree();
        Self { appliance, tree }
    }

    /// The tree of the next tick. Panics when none comes in time.
    pub async fn tick(&mut self) -> Arc<StreamTree> {
        match timeout(PATIENCE, self.tree.changed()).await {
            Ok(changed) => changed.unwrap(),
            Err(_) => panic!("no tick for {PATIENCE:?}: {:#?}", self.appliance.health().report()),
        }
        self.tree.borrow_and_update().clone().unwrap()
    }

    /// Every file of a tree, fetched anew from the block store.
    pub async fn fetch(&self, tree: &StreamTree) -> MapSource {
        fetch(self.appliance.node().blocks(), tree).await
    }

    /// How often stages were restarted, all together.
    pub fn restarts(&self) -> u64 {
        self.appliance.health().report().stages.iter().map(|stage| stage.restarts).sum()
    }

    /// Seconds that are stored ahead of air.
    pub fn lead(&self) -> f64 {
        self.appliance.health().report().lead_seconds
    }
}

/// Every file of a tree; one that is missing or of another size fails the test.
pub async fn fetch(blocks: &Blocks, tree: &StreamTree) -> MapSource {
    let mut source = MapSource::default();
    for (path, entry) in &tree.entries {
        let bytes = blocks.get(&entry.cid).await.unwrap();
        let bytes = bytes.unwrap_or_else(|| panic!("{path} is in the tree and not in the store"));
        assert_eq!(bytes.len() as u64, entry.size, "{path}");
        source.0.insert(path.clone(), bytes.to_vec());
    }
    source
}

/// One tick, as it was heard.
#[derive(Debug, Clone)]
pub struct Heard {
    /// Newest number listed.
    pub n: u64,
    /// When, by the clock that nobody steps.
    pub at: Instant,
    /// Whether the newest segment is a discontinuity.
    pub discontinuity: bool,
    /// Numbers in the playlist.
    pub listed: usize,
    /// By how much the wall clock at the end of the newest segment's airtime is ahead of what its
    /// PROGRAM-DATE-TIME says.
    pub late_ms: i64,
}

/// Judges a stream from tick to tick, also across restarts, with the strict checker and with what only simulated
/// time can tell.
pub struct Listener {
    checker: Checker,
    rendition: String,
    segment_ms: i64,
    /// Which segments were discontinuities.
    cuts: BTreeMap<u64, bool>,
    /// The first playlist's discontinuities that had left it already.
    base: Option<u64>,
    /// Every tick.
    pub heard: Vec<Heard>,
}

impl Listener {
    /// A listener of a station on a 3.84 s or 1.92 s grid. `true_dates` also holds every PROGRAM-DATE-TIME to
    /// n x duration, which only a clock that is never set back allows.
    pub fn new(config: &Config, true_dates: bool) -> Self {
        let names: Vec<_> = config.encoder.rendition.iter().map(|r| r.name.as_str()).collect();
        let segment_ms = config.hls.segment.as_millis() as i64;
        let expectations = Expectations {
            segment_samples: segment_ms as u64 * 48,
            fixed_media_sequence: true,
            pdt_tolerance_ms: if true_dates { 100 } else { u64::MAX },
            ..Expectations::new(&names)
        };
        let rendition = names[0].to_owned();
        let checker = Checker::new(expectations);
        Self { checker, rendition, segment_ms, cuts: BTreeMap::new(), base: None, heard: Vec::new() }
    }

    /// Hears `ticks` ticks of a station.
    pub async fn listen(&mut self, station: &mut Station, clock: &SteppedClock, ticks: usize) {
        for _ in 0..ticks {
            let tree = station.tick().await;
            let mut source = station.fetch(&tree).await;
            self.hear(&mut source, tree.newest, clock.unix_millis());
        }
    }

    /// Judges one tick.
    pub fn hear(&mut self, source: &mut MapSource, newest: u64, wall_ms: i64) {
        let progress = self.checker.poll(source).unwrap_or_else(|violation| panic!("{violation}"));
        assert_eq!(progress.newest, newest);
        let text = source.0[&format!("{}/live.m3u8", self.rendition)].clone();
        let text = String::from_utf8(text).unwrap();
        let playlist = media_playlist::parse(&text, &self.rendition).unwrap();
        self.count_discontinuities(&playlist);
        let last = playlist.entries.last().unwrap();
        if let Some(before) = self.heard.last() {
            assert!(last.n >= before.n, "number {} after {}", last.n, before.n);
        }
        self.heard.push(Heard {
            n: last.n,
            at: Instant::now(),
            discontinuity: last.discontinuity,
            listed: playlist.entries.len(),
            late_ms: wall_ms - (last.date_micros / 1_000 + DELAY_MS + self.segment_ms),
        });
    }

    /// EXT-X-DISCONTINUITY-SEQUENCE is exactly the number of discontinuities that have left the playlist.
    fn count_discontinuities(&mut self, playlist: &MediaPlaylist) {
        for entry in &playlist.entries {
            let known = self.cuts.insert(entry.n, entry.discontinuity);
            assert!(known.is_none_or(|known| known == entry.discontinuity), "segment {}", entry.n);
        }
        let left = self.cuts.range(..playlist.media_sequence).filter(|(_, cut)| **cut).count() as u64;
        let base = *self.base.get_or_insert(playlist.discontinuity_sequence);
        assert_eq!(playlist.discontinuity_sequence, base + left, "{:?}", self.cuts);
    }

    /// The newest number heard.
    pub fn newest(&self) -> u64 {
        self.heard.last().map_or(0, |heard| heard.n)
    }

    /// Discontinuities heard so far.
    pub fn discontinuities(&self) -> usize {
        self.cuts.values().filter(|cut| **cut).count()
    }

    /// Holds the ticks from index `from` on to one segment each, at even intervals.
    pub fn assert_steady_from(&self, from: usize) {
        for pair in self.heard[from..].windows(2) {
            let gap = (pair[1].at - pair[0].at).as_millis() as i64;
            assert!((gap - self.segment_ms).abs() <= 20, "{gap} ms between {:?} and {:?}", pair[0], pair[1]);
        }
    }

    /// The checker's summary.
    pub fn finish(self) -> Report {
        self.checker.finish().unwrap_or_else(|violation| panic!("{violation}"))
    }
}
