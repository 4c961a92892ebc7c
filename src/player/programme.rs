//! Programme: joins tracks and ident into one endless stream, a block at a time. No tokio runtime needed.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::gain::{self, Gain};
use super::ident::Ident;
use super::schedule::{Order, Schedule};
use super::track_source::{Opener, TrackSource};
use super::{BLOCK_FRAMES, BLOCK_SAMPLES, NowPlaying, PcmBlock, PlayerConfig, Source};
use crate::audio::resample::Resampler;
use crate::audio::{CHANNELS, SAMPLE_RATE};
use crate::library::{FileVersion, Library, Tags, Track};

/// Frames of the fade between ident and music, 50 ms: long enough not to click. That many are
/// always held back, so that the end of what plays can be faded after the fact.
const FADE_FRAMES: usize = SAMPLE_RATE as usize / 20;

/// Samples that must be pending for a block to leave.
const READY_SAMPLES: usize = BLOCK_SAMPLES + FADE_FRAMES * CHANNELS;

/// The next track is opened this long before the current one ends: a slow disk is not heard.
const OPEN_AHEAD: Duration = Duration::from_secs(10);

/// Tracks opened for one block at most: a folder of damaged files must not hold up the stream.
const OPENS_PER_BLOCK: usize = 8;

/// Shorter tracks are no music, and a library of them would be opened without rest.
const SHORTEST: Duration = Duration::from_millis(100);

/// Called with each track that cannot be played, and why.
pub type Report = Box<dyn Fn(&Path, &str) + Send>;

/// The player's state between two blocks.
pub struct Programme {
    config: PlayerConfig,
    library: watch::Receiver<Arc<Library>>,
    snapshot: Arc<Library>,
    opener: Box<dyn Opener>,
    report: Report,
    schedule: Schedule,
    /// Tracks not tried again until their content changes or the library lets them go.
    failed: HashMap<Arc<Path>, FileVersion>,
    opens_left: usize,
    on_air: OnAir,
    /// Opened ahead, its first samples decoded.
    next: Option<Box<Playing>>,
    ident: Ident,
    resampler: Resampler,
    gain: Gain,
    /// 48 kHz stereo, not delivered yet.
    pending: Vec<f32>,
    /// Frame in `pending`, and what starts there.
    changes: VecDeque<(usize, Arc<NowPlaying>)>,
    fade_in_left: usize,
    scratch: Vec<f32>,
    replaced_samples: u64,
    counted_samples: u64,
    skipped_packets: u64,
}

enum OnAir {
    /// Nothing has been on air yet.
    Nothing,
    Ident,
    Track(Box<Playing>),
}

struct Playing {
    track: Arc<Track>,
    now_playing: Arc<NowPlaying>,
    source: Box<dyn TrackSource>,
    /// Decoded when opened, at one rate each.
    first: VecDeque<(u32, Vec<f32>)>,
    /// Rate of the samples read last.
    rate: u32,
    played: Duration,
    duration: Option<Duration>,
}

impl Programme {
    /// A programme that starts with the first playable track. `seed` decides the shuffled order.
    pub fn new(
        config: PlayerConfig,
        library: watch::Receiver<Arc<Library>>,
        opener: Box<dyn Opener>,
        report: Report,
        seed: u64,
    ) -> Self {
        let snapshot = Arc::clone(&library.borrow());
        Self {
            schedule: Schedule::new(config.order, seed),
            config,
            library,
            snapshot,
            opener,
            report,
            failed: HashMap::new(),
            opens_left: 0,
            on_air: OnAir::Nothing,
            next: None,
            ident: Ident::new(),
            resampler: Resampler::new(),
            gain: Gain::new(1.0),
            pending: Vec::new(),
            changes: VecDeque::new(),
            fade_in_left: 0,
            scratch: Vec::new(),
            replaced_samples: 0,
            counted_samples: 0,
            skipped_packets: 0,
        }
    }

    /// Plays by these settings from the next block on.
    pub fn set_config(&mut self, config: &PlayerConfig) {
        if self.config != *config {
            self.config = config.clone();
            self.schedule.set_order(config.order);
            self.aim_gain();
        }
    }

    /// Samples that were not finite so far; each became 0.
    pub fn replaced_samples(&self) -> u64 {
        self.replaced_samples
    }

    /// Samples replaced and damaged packets skipped since the last call; packets count when their track ends.
    pub fn take_counts(&mut self) -> (u64, u64) {
        let uncounted = self.replaced_samples - self.counted_samples;
        self.counted_samples = self.replaced_samples;
        (uncounted, std::mem::take(&mut self.skipped_packets))
    }

    /// The next 0.32 s. Opens at most a few files; never fails.
    pub fn next_block(&mut self) -> PcmBlock {
        self.opens_left = OPENS_PER_BLOCK;
        self.refresh();
        self.open_ahead();
        while self.pending.len() < READY_SAMPLES {
            self.advance();
        }
        self.deliver()
    }

    /// Ends the track in the next block, faded, and goes on with the next one. `false` where no track plays that began
    /// at least `ahead` ago.
    pub fn skip(&mut self, ahead: Duration) -> bool {
        let OnAir::Track(playing) = &self.on_air else { return false };
        if playing.played < ahead {
            return false;
        }
        self.skipped_packets += playing.source.skipped_packets();
        self.opens_left = OPENS_PER_BLOCK;
        self.refresh();
        self.resampler.flush(&mut self.pending);
        self.fade_out();
        self.fade_in_left = FADE_FRAMES;
        match self.next.take().or_else(|| self.open_next()) {
            Some(next) => self.put_on_air(next),
            None => self.play_ident(),
        }
        true
    }

    /// Takes in a new snapshot: levels, vanished and changed files.
    fn refresh(&mut self) {
        if !self.library.has_changed().unwrap_or(false) {
            return;
        }
        self.snapshot = Arc::clone(&self.library.borrow_and_update());
        if !self.failed.is_empty() {
            let tracks = self.snapshot.tracks.iter();
            let listed: HashMap<_, _> = tracks.map(|track| (&*track.path, track.version)).collect();
            self.failed.retain(|path, version| listed.get(&**path) == Some(version));
        }
        if let Some(next) = &self.next
            && !self.snapshot.tracks.iter().any(|track| is_same_file(track, &next.track))
        {
            self.next = None;
        }
        self.aim_gain();
    }

    fn aim_gain(&mut self) {
        if let OnAir::Track(playing) = &self.on_air
            && let Some(wanted) = self.wanted_gain(&playing.track)
        {
            self.gain.aim(wanted);
        }
    }

    /// By the newest snapshot; `None` for a track that is not in it.
    fn wanted_gain(&self, track: &Track) -> Option<f32> {
        let tracks = &self.snapshot.tracks;
        let at = tracks.iter().position(|listed| is_same_file(listed, track))?;
        Some(gain::wanted(tracks, at, self.config.order == Order::Ordered, &self.config))
    }

    fn open_ahead(&mut self) {
        let is_due = match &self.on_air {
            OnAir::Track(playing) => playing.left().is_none_or(|left| left <= OPEN_AHEAD),
            OnAir::Ident | OnAir::Nothing => true,
        };
        if is_due && self.next.is_none() {
            self.next = self.open_next();
        }
    }

    /// Tries tracks in schedule order until one plays, none is left, or it has been enough for one block.
    fn open_next(&mut self) -> Option<Box<Playing>> {
        while self.opens_left > 0 {
            let (tracks, failed) = (&self.snapshot.tracks, &self.failed);
            let paths: Vec<&Path> = tracks.iter().map(|track| &*track.path).collect();
            let at = self.schedule.next(&paths, |at| !failed.contains_key(&tracks[at].path))?;
            let track = Arc::clone(&tracks[at]);
            self.opens_left -= 1;
            match self.open(&track) {
                Ok(playing) => return Some(Box::new(playing)),
                Err(reason) => self.give_up(&track, &reason),
            }
        }
        None
    }

    fn give_up(&mut self, track: &Track, reason: &str) {
        self.failed.insert(Arc::clone(&track.path), track.version);
        (self.report)(&track.path, reason);
    }

    /// Opens a track and decodes its beginning: what is put on air is known to play.
    fn open(&mut self, track: &Arc<Track>) -> Result<Playing, String> {
        let mut source = self.opener.open(track)?;
        let (mut first, mut length) = (VecDeque::new(), Duration::ZERO);
        while length < SHORTEST {
            let mut samples = Vec::new();
            if source.decode(&mut samples)? == 0 {
                return Err(format!("no more than {} ms of audio", length.as_millis()));
            }
            length += duration_of(samples.len(), source.sample_rate());
            first.push_back((source.sample_rate(), samples));
        }
        let tags = match &track.tags {
            tags if *tags == Tags::default() => self.opener.tags(track),
            tags => tags.clone(),
        };
        // The header may claim anything; what the scan measured is true.
        let duration = track.loudness.and(track.duration).or(source.duration());
        let now_playing = Arc::new(now_playing(track, tags, duration));
        let track = Arc::clone(track);
        Ok(Playing { track, now_playing, source, first, rate: SAMPLE_RATE, played: Duration::ZERO, duration })
    }

    /// Adds some samples to `pending`, or puts on air what comes next.
    fn advance(&mut self) {
        let OnAir::Track(playing) = &mut self.on_air else {
            return match self.next.take() {
                Some(next) => self.leave_ident(next),
                None => self.play_ident(),
            };
        };
        self.scratch.clear();
        match playing.read(&mut self.scratch) {
            Ok(true) => {
                self.replaced_samples += self.gain.apply(&mut self.scratch, playing.rate);
                let start = self.pending.len();
                self.resampler.push(playing.rate, &self.scratch, &mut self.pending);
                self.fade_in(start);
            }
            Ok(false) => {
                self.skipped_packets += playing.source.skipped_packets();
                self.end_track();
            }
            Err(reason) => {
                self.skipped_packets += playing.source.skipped_packets();
                let track = Arc::clone(&playing.track);
                self.give_up(&track, &reason);
                self.end_track();
            }
        }
    }

    /// The next track follows sample after sample; the ident where there is none.
    fn end_track(&mut self) {
        match self.next.take().or_else(|| self.open_next()) {
            Some(next) => self.put_on_air(next),
            None => {
                self.resampler.flush(&mut self.pending);
                self.fade_out();
                self.play_ident();
            }
        }
    }

    fn leave_ident(&mut self, next: Box<Playing>) {
        if matches!(self.on_air, OnAir::Ident) {
            self.fade_out();
            self.fade_in_left = FADE_FRAMES;
        }
        self.put_on_air(next);
    }

    fn play_ident(&mut self) {
        if !matches!(self.on_air, OnAir::Ident) {
            self.on_air = OnAir::Ident;
            self.fade_in_left = FADE_FRAMES;
            self.announce(Arc::new(NowPlaying {
                title: "Station ident".to_owned(),
                artist: String::new(),
                album: String::new(),
                duration: None,
                source: Source::Ident,
            }));
        }
        let start = self.pending.len().min(READY_SAMPLES);
        self.ident.render((READY_SAMPLES - start) / CHANNELS, &mut self.pending);
        self.fade_in(start);
    }

    fn put_on_air(&mut self, next: Box<Playing>) {
        let alone = || gain::wanted(std::slice::from_ref(&next.track), 0, false, &self.config);
        let wanted = self.wanted_gain(&next.track).unwrap_or_else(alone);
        match &self.on_air {
            // A gain that is still on its way must not step at a gapless join.
            OnAir::Track(ended) if gain::is_same_album(&ended.track, &next.track) => self.gain.aim(wanted),
            _ => self.gain.set(wanted),
        }
        self.announce(Arc::clone(&next.now_playing));
        self.on_air = OnAir::Track(next);
    }

    fn announce(&mut self, now_playing: Arc<NowPlaying>) {
        self.changes.push_back((self.pending.len() / CHANNELS, now_playing));
    }

    /// Fades what was added to `pending` from `start` on, as far as a fade is under way.
    fn fade_in(&mut self, start: usize) {
        for frame in self.pending[start..].chunks_exact_mut(CHANNELS) {
            if self.fade_in_left == 0 {
                return;
            }
            let factor = 1.0 - self.fade_in_left as f32 / FADE_FRAMES as f32;
            frame.iter_mut().for_each(|sample| *sample *= factor);
            self.fade_in_left -= 1;
        }
    }

    /// Fades the end of `pending` to silence.
    fn fade_out(&mut self) {
        let start = self.pending.len().saturating_sub(FADE_FRAMES * CHANNELS);
        let tail = self.pending[start..].chunks_exact_mut(CHANNELS);
        for (left, frame) in tail.rev().enumerate() {
            let factor = left as f32 / FADE_FRAMES as f32;
            frame.iter_mut().for_each(|sample| *sample *= factor);
        }
    }

    fn deliver(&mut self) -> PcmBlock {
        let mut samples: Box<[f32]> = self.pending.drain(..BLOCK_SAMPLES).collect();
        for sample in &mut samples {
            // The resampler overshoots at full scale.
            *sample = if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 };
        }
        let inside = self.changes.iter().take_while(|(at, _)| *at < BLOCK_FRAMES).count();
        let changes = self.changes.drain(..inside).collect();
        self.changes.iter_mut().for_each(|(at, _)| *at -= BLOCK_FRAMES);
        PcmBlock { samples, changes }
    }
}

impl Playing {
    /// Replaces `samples` by the next ones; `false` at the end.
    fn read(&mut self, samples: &mut Vec<f32>) -> Result<bool, String> {
        if let Some((rate, first)) = self.first.pop_front() {
            self.rate = rate;
            *samples = first;
        } else if self.source.decode(samples)? == 0 {
            return Ok(false);
        } else {
            self.rate = self.source.sample_rate();
        }
        self.played += duration_of(samples.len(), self.rate);
        Ok(true)
    }

    fn left(&self) -> Option<Duration> {
        Some(self.duration?.saturating_sub(self.played))
    }
}

fn is_same_file(a: &Track, b: &Track) -> bool {
    a.path == b.path && a.version == b.version
}

fn duration_of(samples: usize, sample_rate: u32) -> Duration {
    Duration::from_secs_f64((samples / CHANNELS) as f64 / f64::from(sample_rate.max(1)))
}

fn now_playing(track: &Track, tags: Tags, duration: Option<Duration>) -> NowPlaying {
    let Tags { title, artist, album } = tags;
    let name = || track.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let title = if title.is_empty() { name() } else { title };
    NowPlaying { title, artist, album, duration, source: Source::Library }
}
