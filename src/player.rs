//! Player stage: one endless stream of 48 kHz stereo PCM.
//!
//! In: library snapshots. Out: [`PcmBlock`]s on a bounded channel, as fast as they are taken. A track
//! that cannot be played is skipped and reported to the library; with nothing to play the generated
//! station ident is on air. A crash loses the place in the current track and in the round.

pub mod ident;
pub mod programme;
pub mod schedule;
pub mod track_source;

mod gain;

use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::audio::CHANNELS;
use crate::health::StageHealth;
use crate::library::LibraryHandle;
use crate::metrics::Metrics;
use crate::supervisor::{in_span, waiting};
use programme::Programme;
use schedule::Order;
use track_source::{FileOpener, Opener};

/// Frames (samples per channel) in one [`PcmBlock`]: 15 AAC frames of 1024 = one HLS part, 0.32 s.
pub const BLOCK_FRAMES: usize = 15 * 1024;

/// Samples in one [`PcmBlock`]: frames times channels.
pub const BLOCK_SAMPLES: usize = BLOCK_FRAMES * CHANNELS;

/// How long the first block waits for the library's first walk, so that a station does not begin
/// with a moment of ident. A disk that spins up for longer begins with the ident.
const FIRST_WALK: Duration = Duration::from_secs(2);

/// A fixed slice of the programme.
#[derive(Debug, Clone)]
pub struct PcmBlock {
    /// `BLOCK_SAMPLES` interleaved samples (left, right), finite and within -1.0..=1.0.
    pub samples: Box<[f32]>,
    /// What starts inside this block: frame offset within the block, and what plays from there on.
    pub changes: Vec<(usize, Arc<NowPlaying>)>,
}

/// What the listener hears.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NowPlaying {
    /// Title tag, or the file name without its extension.
    pub title: String,
    /// Artist tag; empty where there is none.
    pub artist: String,
    /// Album tag; empty where there is none.
    pub album: String,
    /// Length of the track, where known.
    #[serde(skip)]
    pub duration: Option<Duration>,
    /// Where it comes from.
    pub source: Source,
}

/// The rungs of the fallback chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A track of the library.
    Library,
    /// The generated station ident: nothing playable is known.
    Ident,
}

/// The `[player]` section of station.toml.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlayerConfig {
    /// The order tracks play in.
    pub order: Order,
    /// Loudness every track is brought to, in LUFS (EBU R 128): -40 to -5.
    pub loudness_target: f64,
    /// True peak that no track is turned up beyond, in dBTP (ITU-R BS.1770): -20 to 0.
    pub true_peak_ceiling: f64,
}

impl Default for PlayerConfig {
    fn default() -> Self {
        Self { order: Order::default(), loudness_target: -18.0, true_peak_ceiling: -1.0 }
    }
}

impl PlayerConfig {
    /// Refuses levels that nobody means.
    ///
    /// # Errors
    /// [`PlayerError::OutOfRange`] with the first such key.
    pub fn validate(&self) -> Result<(), PlayerError> {
        within("loudness_target", self.loudness_target, -40.0, -5.0)?;
        within("true_peak_ceiling", self.true_peak_ceiling, -20.0, 0.0)
    }
}

fn within(key: &'static str, value: f64, least: f64, most: f64) -> Result<(), PlayerError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(PlayerError::OutOfRange { key, value, least, most })
}

/// What can go wrong in the player stage; bad music is not among it.
#[derive(Debug, thiserror::Error)]
pub enum PlayerError {
    /// The configuration asks for a level outside the sensible range.
    #[error("{key} = {value} is outside {least} to {most}")]
    OutOfRange {
        /// Key in the `[player]` section.
        key: &'static str,
        /// As configured.
        value: f64,
        /// Lower bound.
        least: f64,
        /// Upper bound.
        most: f64,
    },
    /// Producing a block panicked: restart the stage.
    #[error("producing a block failed")]
    Produce(#[source] tokio::task::JoinError),
    /// Nobody takes blocks any more: restart together with the encoder.
    #[error("the encoder is gone")]
    EncoderGone,
}

/// Changes the player's settings from other stages.
#[derive(Debug, Clone)]
pub struct PlayerHandle {
    config: Arc<watch::Sender<PlayerConfig>>,
}

impl PlayerHandle {
    /// Takes effect with the next block; levels glide.
    pub fn set_config(&self, config: PlayerConfig) {
        self.config.send_replace(config);
    }
}

/// Makes the opener of each new programme.
type MakeOpener = Box<dyn Fn() -> Box<dyn Opener> + Send + Sync>;

/// Does the player's work. It may be run again after a failure and goes on with the programme,
/// unless that was what failed.
pub struct PlayerActor {
    config: watch::Receiver<PlayerConfig>,
    library: LibraryHandle,
    seed: u64,
    make_opener: MakeOpener,
    programme: Option<Programme>,
    has_waited: bool,
    reports: Option<(StageHealth, Metrics)>,
    /// Held by the thread that produces; alive without a programme of ours, that thread hangs in a file.
    producing: Weak<()>,
    /// The programme was made while such a thread hung, and knows no music.
    without_music: bool,
}

impl PlayerActor {
    /// A player of `library`. `seed` decides the shuffled order.
    pub fn new(config: PlayerConfig, library: LibraryHandle, seed: u64) -> (PlayerHandle, Self) {
        Self::with_opener(config, library, seed, Box::new(|| Box::new(FileOpener)))
    }

    /// The same with another way to open tracks.
    pub fn with_opener(
        config: PlayerConfig,
        library: LibraryHandle,
        seed: u64,
        make_opener: MakeOpener,
    ) -> (PlayerHandle, Self) {
        let (settings, config) = watch::channel(config);
        let handle = PlayerHandle { config: Arc::new(settings) };
        (
            handle,
            Self {
                config,
                library,
                seed,
                make_opener,
                programme: None,
                has_waited: false,
                reports: None,
                producing: Weak::new(),
                without_music: false,
            },
        )
    }

    /// Tells of progress and counts what is played.
    pub fn report_to(&mut self, health: StageHealth, metrics: Metrics) {
        self.reports = Some((health, metrics));
    }

    /// Fills `blocks` until cancelled.
    ///
    /// # Errors
    /// [`PlayerError::Produce`] after a panic, [`PlayerError::EncoderGone`] when `blocks` is closed.
    pub async fn run(
        &mut self,
        blocks: &mpsc::Sender<PcmBlock>,
        cancel: CancellationToken,
    ) -> Result<(), PlayerError> {
        let result = tokio::select! {
            biased;
            () = cancel.cancelled() => Ok(()),
            result = self.run_inner(blocks) => result,
        };
        match &result {
            Ok(()) => tracing::debug!("player stopped"),
            Err(error) => tracing::error!(error = error as &dyn std::error::Error, "player failed"),
        }
        result
    }

    async fn run_inner(&mut self, blocks: &mpsc::Sender<PcmBlock>) -> Result<(), PlayerError> {
        self.wait_for_first_walk().await;
        loop {
            let permit = match &self.reports {
                Some((health, _)) => waiting(health, blocks.reserve()).await,
                None => blocks.reserve().await,
            };
            let permit = permit.map_err(|_| PlayerError::EncoderGone)?;
            if self.without_music && self.producing.strong_count() == 0 {
                self.programme = None;
            }
            let mut programme = self.programme.take().unwrap_or_else(|| self.new_programme());
            let alive = Arc::new(());
            // The programme of a thread that hangs reads no files, and is not the one to wait for.
            if self.producing.strong_count() == 0 {
                self.producing = Arc::downgrade(&alive);
            }
            programme.set_config(&self.config.borrow());
            let produce = tokio::task::spawn_blocking(in_span(move || {
                let block = programme.next_block();
                drop(alive);
                (block, programme)
            }));
            let (block, mut programme) = produce.await.map_err(PlayerError::Produce)?;
            self.count(&block, &mut programme);
            self.programme = Some(programme);
            permit.send(block);
        }
    }

    fn count(&self, block: &PcmBlock, programme: &mut Programme) {
        let Some((health, metrics)) = &self.reports else { return };
        health.progress();
        let tracks = block.changes.iter().filter(|(_, playing)| playing.source == Source::Library).count();
        metrics.tracks_started.inc_by(tracks as u64);
        let (replaced, skipped) = programme.take_counts();
        metrics.samples_replaced.inc_by(replaced);
        metrics.packets_skipped.inc_by(skipped);
    }

    async fn wait_for_first_walk(&mut self) {
        if !std::mem::replace(&mut self.has_waited, true) {
            let mut library = self.library.snapshot();
            let known = library.wait_for(|library| !library.tracks.is_empty() || !library.scanning);
            // Late or never: the ident is on air meanwhile.
            let _late = tokio::time::timeout(FIRST_WALK, known).await;
        }
    }

    /// Another seed each time: a track that brought the last programme down is not the first again.
    fn new_programme(&mut self) -> Programme {
        let config = self.config.borrow().clone();
        let library = self.library.clone();
        let report = Box::new(move |path: &std::path::Path, reason: &str| {
            library.report_unplayable(path, reason);
        });
        self.seed = self.seed.wrapping_add(1);
        // A dead mount would take one thread after the other: the ident until the one that hangs comes back.
        self.without_music = self.producing.strong_count() > 0;
        let snapshot =
            if self.without_music { watch::channel(Arc::default()).1 } else { self.library.snapshot() };
        Programme::new(config, snapshot, (self.make_opener)(), report, self.seed)
    }
}
