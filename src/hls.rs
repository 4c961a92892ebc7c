//! HLS stage: access units to CMAF segments, numbered by the clock and made ahead of air.
//!
//! Takes [`EncodedBlock`]s from the encoder, gives [`Segment`]s to the publisher. A crash loses the segment in
//! work, less than 3.84 s of audio; numbering goes on behind it.

pub mod cmaf;
pub mod id3;
pub mod media_playlist;
pub mod multivariant_playlist;
pub mod segmenter;
pub mod timeline;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;
pub use crate::encoder::{CodecParameters, NowPlaying, RESERVED};
use crate::encoder::{EncodedBlock, Source};
use crate::health::StageHealth;
use crate::metrics::Metrics;
use crate::supervisor::waiting;
pub use segmenter::Segment;
use segmenter::{Grid, Segmenter};
use timeline::{Last, Reading, Slot, Timeline};

/// Segments that are due at once when the station starts, so that a player has three to begin with.
pub const HEAD_START: u64 = 3;

/// `[hls]`: the grid of the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HlsConfig {
    /// Length of a segment: 3.84 s (180 AAC frames) or 1.92 s (90 frames).
    #[serde(with = "humantime_serde")]
    pub segment: Duration,
    /// How far ahead of air library audio is encoded and published, 0 s to 30 min.
    #[serde(with = "humantime_serde")]
    pub lead: Duration,
    /// The lead while only the station ident plays, at most `lead` counts: music that is plugged in is heard that soon.
    #[serde(with = "humantime_serde")]
    pub ident_lead: Duration,
    /// How much a media playlist lists, 12 s to 30 min.
    #[serde(with = "humantime_serde")]
    pub playlist: Duration,
}

impl Default for HlsConfig {
    fn default() -> Self {
        Self {
            segment: Duration::from_millis(3_840),
            lead: Duration::from_secs(60),
            ident_lead: Duration::from_secs(1),
            playlist: Duration::from_secs(60),
        }
    }
}

impl HlsConfig {
    /// Checks what a type cannot say. The error is the key's name and what is wrong with it.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        if Grid::new(self.segment).is_none() {
            return Err(("hls.segment", "must be 3s 840ms or 1s 920ms".into()));
        }
        if self.lead > Duration::from_secs(30 * 60) {
            return Err(("hls.lead", "must be 30m at most".into()));
        }
        if !(Duration::from_secs(12)..=Duration::from_secs(30 * 60)).contains(&self.playlist) {
            return Err(("hls.playlist", "must be within 12s and 30m".into()));
        }
        Ok(())
    }

    /// The grid of the configured segment length.
    ///
    /// # Panics
    /// When the configuration was not validated.
    pub fn grid(&self) -> Grid {
        Grid::new(self.segment).expect("validated segment length")
    }

    /// How far ahead of air the segment behind one that ends with `playing` is made.
    fn lead_behind(&self, playing: Option<&NowPlaying>) -> Duration {
        match playing.map(|playing| playing.source) {
            Some(Source::Ident) => self.ident_lead.min(self.lead),
            Some(Source::Library) | None => self.lead,
        }
    }

    /// Segments that a media playlist lists, three at least.
    pub fn playlist_segments(&self) -> usize {
        (self.playlist.as_millis() / self.segment.as_millis()).max(3) as usize
    }
}

/// Why the HLS stage stopped.
#[derive(Debug, Error)]
pub enum HlsError {
    /// The encoder delivered another number of renditions than the stage was made for.
    #[error("{found} renditions from the encoder, {expected} configured")]
    Renditions {
        /// Renditions in the block.
        found: usize,
        /// Renditions configured.
        expected: usize,
    },
}

/// What a run of the stage leaves to the next.
#[derive(Debug, Clone, Default)]
pub struct Resume {
    /// What was on air, or ready for it.
    pub last: Option<Last>,
    /// What was playing; a track that goes on is not announced again.
    pub now_playing: Option<Arc<NowPlaying>>,
}

/// The stage's ends; survives a restart of the stage.
pub struct Hls {
    /// Grid and lead.
    pub config: HlsConfig,
    /// Delay of the encoders in samples.
    pub encoder_delay: u32,
    /// How many renditions every block holds.
    pub renditions: usize,
    /// Unix time.
    pub clock: SharedClock,
    /// Origin of the monotonic milliseconds.
    pub origin: Instant,
    /// Where a run of the stage begins; moves on with each segment.
    pub resume: Arc<Mutex<Resume>>,
    /// Access units from the encoder.
    pub input: Arc<Mutex<mpsc::Receiver<EncodedBlock>>>,
    /// Segments to the publisher.
    pub output: mpsc::Sender<Segment>,
    /// Where the stage reports.
    pub health: StageHealth,
    /// Where it counts.
    pub metrics: Metrics,
}

impl Hls {
    /// Both clocks, now.
    pub fn reading(clock: &SharedClock, origin: Instant) -> Reading {
        Reading { monotonic_ms: elapsed_ms(origin), unix_ms: clock.unix_millis() }
    }

    /// Makes segments until the encoder ends or `cancel` fires.
    ///
    /// # Errors
    /// [`HlsError::Renditions`] on blocks of another shape.
    pub async fn run(&self, cancel: CancellationToken) -> Result<(), HlsError> {
        let mut input = self.input.lock().await;
        let mut resume = self.resume.lock().await;
        let start = Self::reading(&self.clock, self.origin);
        let mut timeline = Timeline::start(self.config.segment, start, HEAD_START, resume.last);
        let mut segmenter =
            Segmenter::new(self.config.grid(), self.encoder_delay, resume.now_playing.clone());
        loop {
            let lead = self.config.lead_behind(resume.now_playing.as_deref());
            let begin = timeline.peek().airtime_ms - elapsed_lead(lead);
            let segment = tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                segment = waiting(
                    &self.health,
                    self.next_segment(&mut input, &mut segmenter, &mut timeline, begin),
                ) => segment?,
            };
            let Some(segment) = segment else { return Ok(()) };
            let Slot { n, airtime_ms, unix_ms, .. } = segment.slot;
            resume.last = Some(Last { n, begin: Some(Reading { monotonic_ms: airtime_ms, unix_ms }) });
            resume.now_playing.clone_from(&segment.now_playing);
            if segment.slot.discontinuity {
                self.metrics.discontinuities.inc();
            }
            let sent = tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                sent = waiting(&self.health, self.output.send(segment)) => sent,
            };
            if sent.is_err() {
                return Ok(());
            }
            self.health.progress();
        }
    }

    /// Waits until `begin` (the lead before airtime), then fills one segment. `None` when the encoder ended.
    async fn next_segment(
        &self,
        input: &mut mpsc::Receiver<EncodedBlock>,
        segmenter: &mut Segmenter,
        timeline: &mut Timeline,
        begin: i64,
    ) -> Result<Option<Segment>, HlsError> {
        let wait = u64::try_from(begin).unwrap_or(0);
        tokio::time::sleep_until(self.origin + Duration::from_millis(wait)).await;
        while !segmenter.is_full() {
            let Some(block) = input.recv().await else { return Ok(None) };
            if block.units.len() != self.renditions {
                return Err(HlsError::Renditions { found: block.units.len(), expected: self.renditions });
            }
            segmenter.push(block);
        }
        let expected = timeline.peek();
        let slot = timeline.take(Self::reading(&self.clock, self.origin));
        if slot.discontinuity && !expected.discontinuity {
            self.metrics.clock_jumps.inc();
            tracing::warn!(n = slot.n, skipped = slot.n - expected.n, "the clock was stepped");
        }
        Ok(Some(segmenter.close(slot)))
    }
}

fn elapsed_ms(origin: Instant) -> i64 {
    i64::try_from(origin.elapsed().as_millis()).unwrap_or(i64::MAX)
}

fn elapsed_lead(lead: Duration) -> i64 {
    i64::try_from(lead.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SteppedClock;
    use crate::health::Health;

    fn block(first: bool, source: Source) -> EncodedBlock {
        let playing = NowPlaying {
            title: format!("{source:?}"),
            artist: String::new(),
            album: String::new(),
            duration: None,
            source,
        };
        EncodedBlock {
            units: vec![vec![bytes::Bytes::from_static(&[7; 20]); 15]],
            changes: vec![(0, Arc::new(playing))],
            first_of_encoder: first,
        }
    }

    /// Milliseconds from when each of `count` segments was made to its airtime; the encoder is never late, and plays the
    /// ident for the first `ident` blocks.
    async fn leads(config: HlsConfig, ident: usize, count: usize) -> Vec<i64> {
        let ((blocks, input), (output, mut segments)) = (mpsc::channel(2), mpsc::channel(1));
        let origin = Instant::now();
        let hls = Hls {
            config,
            encoder_delay: 2_048,
            renditions: 1,
            clock: SteppedClock::starting_at(1_791_000_000_000),
            origin,
            resume: Arc::default(),
            input: Arc::new(Mutex::new(input)),
            output,
            health: Health::new().stage("hls", None),
            metrics: Metrics::new(),
        };
        tokio::spawn(async move { hls.run(CancellationToken::new()).await });
        tokio::spawn(async move {
            for k in 0.. {
                let source = if k < ident { Source::Ident } else { Source::Library };
                if blocks.send(block(k == 0, source)).await.is_err() {
                    return;
                }
            }
        });
        let mut leads = Vec::new();
        while leads.len() < count {
            let segment: Segment = segments.recv().await.unwrap();
            leads.push(segment.slot.airtime_ms - elapsed_ms(origin));
        }
        leads
    }

    #[tokio::test(start_paused = true)]
    async fn the_ident_is_made_shortly_before_its_airtime_and_music_after_it_fills_the_lead_at_once() {
        let config = HlsConfig::default();
        // Ten segments of ident, then music.
        let leads = leads(config, 120, 40).await;
        assert!(leads[4..11].iter().all(|lead| (999..=1_001).contains(lead)), "{leads:?}");
        assert!(leads[11] > 4_000, "the second segment of music is made at once: {leads:?}");
        assert!(leads[30..].iter().all(|lead| (59_999..=60_001).contains(lead)), "{leads:?}");
    }
}
