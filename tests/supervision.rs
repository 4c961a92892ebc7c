//! One stage fails, panics or hangs: it is restarted while the others go on, and the stream stays conformant.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

/// Helpers shared by the test binaries.
mod support {
    pub(crate) mod checker;
    pub(crate) mod http_client;
    pub(crate) mod media;
    pub(crate) mod simulation;
}

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use skywave::clock::SteppedClock;
use skywave::encoder::{EncodedBlock, Encoder};
use skywave::health::{Health, Report, StageState};
use skywave::hls::{Hls, HlsConfig, Segment};
use skywave::library::{Library, LibraryActor, LibraryConfig, Tags, Track};
use skywave::metrics::Metrics;
use skywave::player::track_source::{Opener, TrackSource};
use skywave::player::{BLOCK_SAMPLES, NowPlaying, PcmBlock, PlayerActor, PlayerConfig, Source};
use skywave::supervisor::Supervisor;
use support::media;
use support::simulation::{Listener, OCTOBER_2026, Station, config, rendition, scratch};
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

fn stage<'a>(report: &'a Report, name: &str) -> &'a skywave::health::StageReport {
    report.stages.iter().find(|stage| stage.name == name).unwrap()
}

/// Encoder and hls under their supervisor, with a player made by hand before them.
struct Line {
    health: Health,
    metrics: Metrics,
    stop: CancellationToken,
}

impl Line {
    fn new() -> Self {
        Self { health: Health::new(), metrics: Metrics::new(), stop: CancellationToken::new() }
    }

    fn supervise<S, R, E>(&self, name: &'static str, stage: S)
    where
        S: Fn(CancellationToken) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: std::error::Error + Send + 'static,
    {
        let supervisor = Supervisor { health: self.health.clone(), metrics: self.metrics.clone() };
        let report = self.health.stage(name, Some(Duration::from_secs(20)));
        let cancel = self.stop.clone();
        tokio::spawn(async move { supervisor.keep_running(name, report, cancel, stage).await });
    }

    /// An encoder that panics at its work whenever `fault` says so.
    fn encoder(&self, pcm: mpsc::Receiver<PcmBlock>, fault: Arc<Notify>) -> mpsc::Receiver<EncodedBlock> {
        let (output, coded) = mpsc::channel(2);
        let encoder = Arc::new(Encoder {
            renditions: vec![rendition("lofi", 64_000)],
            input: Arc::new(Mutex::new(pcm)),
            output,
            health: self.health.stage("encoder", None),
        });
        self.supervise("encoder", move |cancel| {
            let (encoder, fault) = (encoder.clone(), fault.clone());
            async move {
                tokio::select! {
                    ended = encoder.run(cancel) => ended,
                    () = fault.notified() => panic!("codec gone mad"),
                }
            }
        });
        coded
    }

    fn hls(&self, coded: mpsc::Receiver<EncodedBlock>) -> mpsc::Receiver<Segment> {
        let (output, segments) = mpsc::channel(2);
        let hls = Arc::new(Hls {
            config: HlsConfig { lead: Duration::from_secs(12), ..HlsConfig::default() },
            encoder_delay: 2_048,
            renditions: 1,
            clock: SteppedClock::starting_at(OCTOBER_2026),
            origin: Instant::now(),
            resume: Arc::default(),
            input: Arc::new(Mutex::new(coded)),
            output,
            health: self.health.stage("hls", None),
            metrics: self.metrics.clone(),
        });
        self.supervise("hls", move |cancel| {
            let hls = hls.clone();
            async move { hls.run(cancel).await }
        });
        segments
    }
}

/// A block of silence; the first one says what plays.
fn block(index: usize) -> PcmBlock {
    PcmBlock { samples: vec![0.0; BLOCK_SAMPLES].into(), changes: changes(index) }
}

fn changes(index: usize) -> Vec<(usize, Arc<NowPlaying>)> {
    let silence = || NowPlaying {
        title: "Silence".into(),
        artist: String::new(),
        album: String::new(),
        duration: None,
        source: Source::Ident,
    };
    if index == 0 { vec![(0, Arc::new(silence()))] } else { Vec::new() }
}

async fn next<T>(from: &mut mpsc::Receiver<T>) -> T {
    timeout(Duration::from_secs(60), from.recv())
        .await
        .expect("the line goes on")
        .expect("the stage is there")
}

#[tokio::test(start_paused = true)]
async fn an_hls_stage_that_fails_goes_on_above_its_numbers_with_a_discontinuity() {
    let line = Line::new();
    let (blocks, coded) = mpsc::channel(2);
    let mut segments = line.hls(coded);
    let unit = |renditions: usize, index: usize| EncodedBlock {
        units: vec![vec![bytes::Bytes::from_static(&[0x21, 0x10, 0x05]); 15]; renditions],
        changes: changes(index),
        first_of_encoder: index == 0,
    };
    tokio::spawn(async move {
        for index in 0_usize.. {
            // A block of another shape, in the middle of the fifth segment.
            let block = unit(if index == 53 { 2 } else { 1 }, index);
            if blocks.send(block).await.is_err() {
                return;
            }
        }
    });
    let mut before = None::<Segment>;
    for index in 0..12 {
        let segment = next(&mut segments).await;
        if let Some(before) = before {
            assert_eq!(segment.slot.n, before.slot.n + 1);
            assert_eq!(segment.slot.airtime_ms, before.slot.airtime_ms + 3_840, "no hole in the air");
        }
        assert_eq!(segment.slot.discontinuity, index == 4, "segment {index}");
        before = Some(segment);
    }
    let report = line.health.report();
    assert_eq!(stage(&report, "hls").restarts, 1);
    let error = stage(&report, "hls").last_error.as_ref().unwrap();
    assert!(error.message.contains("2 renditions"), "{}", error.message);
    line.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn an_encoder_that_panics_is_primed_anew_and_the_segment_after_it_is_a_discontinuity() {
    let line = Line::new();
    let (pcm, input) = mpsc::channel(2);
    let fault = Arc::new(Notify::new());
    let coded = line.encoder(input, fault.clone());
    let mut segments = line.hls(coded);
    tokio::spawn(async move {
        for index in 0_usize.. {
            if index == 30 {
                fault.notify_one();
            }
            if pcm.send(block(index)).await.is_err() {
                return;
            }
        }
    });
    let (mut cuts, mut numbers) = (Vec::new(), Vec::new());
    for index in 0..10 {
        let segment = next(&mut segments).await;
        assert_eq!(segment.samples, 184_320);
        numbers.push(segment.slot.n);
        cuts.extend(segment.slot.discontinuity.then_some(index));
    }
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    // 12 blocks make a segment, and a few stand in the channels.
    assert!(matches!(cuts[..], [1 | 2]), "{cuts:?}");
    let report = line.health.report();
    assert_eq!((stage(&report, "encoder").restarts, stage(&report, "hls").restarts), (1, 0));
    assert!(stage(&report, "encoder").last_error.as_ref().unwrap().message.contains("codec gone mad"));
    line.stop.cancel();
}

/// Opens a tone; the decoders of three tracks do their worst.
struct Trouble {
    opened: Arc<AtomicUsize>,
}

struct Tone {
    left: usize,
    panics: bool,
}

impl Opener for Trouble {
    fn open(&mut self, _track: &Track) -> Result<Box<dyn TrackSource>, String> {
        let opened = self.opened.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Tone { left: 48_000, panics: [2, 4, 9].contains(&opened) }))
    }

    fn tags(&mut self, _track: &Track) -> Tags {
        Tags::default()
    }
}

impl TrackSource for Tone {
    fn sample_rate(&self) -> u32 {
        48_000
    }

    fn duration(&self) -> Option<Duration> {
        None
    }

    fn decode(&mut self, samples: &mut Vec<f32>) -> Result<usize, String> {
        assert!(!self.panics || self.left > 24_000, "a decoder that panics outside its guard");
        let frames = self.left.min(4_800);
        samples.extend(std::iter::repeat_n(0.25, frames * 2));
        self.left -= frames;
        Ok(frames)
    }
}

#[tokio::test(start_paused = true)]
async fn a_player_that_panics_again_and_again_goes_on_while_its_neighbours_never_notice() {
    let folder = scratch();
    let music = folder.path().join("music");
    std::fs::create_dir(&music).unwrap();
    for name in ["a.wav", "b.wav", "c.wav"] {
        let tone = media::sines(48_000, 0, 4_800, &[(440.0, 0.2)]);
        std::fs::write(music.join(name), media::wav(48_000, 1, None, media::Depth::S16, &tone)).unwrap();
    }
    let line = Line::new();
    let library = LibraryConfig { music: vec![music], settle: Duration::ZERO };
    let (library, mut actor) = LibraryActor::new(library, folder.path());
    let stop = line.stop.clone();
    tokio::spawn(async move { actor.run(stop).await });
    let mut known = library.snapshot();
    let scanned = known.wait_for(|library: &Arc<Library>| library.tracks.len() == 3);
    drop(timeout(Duration::from_secs(60), scanned).await.expect("three tracks").unwrap());
    let opened = Arc::new(AtomicUsize::new(0));
    let counter = opened.clone();
    let opener = Box::new(move || Box::new(Trouble { opened: counter.clone() }) as Box<dyn Opener>);
    let (_handle, mut actor) = PlayerActor::with_opener(PlayerConfig::default(), library, 1, opener);
    actor.report_to(line.health.stage("player", None), line.metrics.clone());
    let actor = Arc::new(Mutex::new(actor));
    let (output, input) = mpsc::channel(2);
    line.supervise("player", move |cancel| {
        let (actor, output) = (actor.clone(), output.clone());
        async move { actor.lock().await.run(&output, cancel).await }
    });
    let mut segments = line.hls(line.encoder(input, Arc::new(Notify::new())));
    let mut newest = 0;
    for _ in 0..25 {
        let segment = next(&mut segments).await;
        assert!(segment.slot.n > newest && !segment.slot.discontinuity, "no encoder was primed anew");
        newest = segment.slot.n;
    }
    let report = line.health.report();
    assert_eq!(stage(&report, "player").restarts, 3, "{report:?}");
    assert!(
        stage(&report, "player").last_error.as_ref().unwrap().message.contains("producing a block failed")
    );
    assert_eq!((stage(&report, "encoder").restarts, stage(&report, "hls").restarts), (0, 0));
    line.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_hangs_is_replaced_and_its_channels_are_free_for_the_next_run() {
    let line = Line::new();
    let (sender, receiver) = mpsc::channel::<u64>(2);
    let (receiver, runs) = (Arc::new(Mutex::new(receiver)), Arc::new(AtomicUsize::new(0)));
    let (heard_sender, mut heard) = mpsc::channel(64);
    let counter = runs.clone();
    line.supervise("hangs", move |cancel| {
        let (receiver, heard, run) =
            (receiver.clone(), heard_sender.clone(), counter.fetch_add(1, Ordering::SeqCst));
        async move {
            let mut receiver = receiver.lock().await;
            if run == 0 {
                receiver.recv().await;
                std::future::pending::<()>().await;
            }
            while let Some(number) =
                tokio::select! { () = cancel.cancelled() => None, n = receiver.recv() => n }
            {
                heard.send(number).await.unwrap();
            }
            Ok::<(), std::io::Error>(())
        }
    });
    for number in 0..5 {
        timeout(Duration::from_secs(60), sender.send(number))
            .await
            .expect("taken by the second run")
            .unwrap();
    }
    for number in 1..5 {
        assert_eq!(next(&mut heard).await, number);
    }
    let report = line.health.report();
    assert_eq!(stage(&report, "hangs").restarts, 1);
    assert_eq!(stage(&report, "hangs").last_error.as_ref().unwrap().message, "no progress");
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    line.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_station_that_is_stopped_while_busy_ends_in_time_and_has_kept_everything() {
    let folder = scratch();
    let music = folder.path().join("music");
    std::fs::create_dir(&music).unwrap();
    media::broken_corpus(&music, 5);
    let mut config = config(folder.path());
    config.hls.lead = Duration::from_secs(600);
    config.library.music = vec![music];
    config.library.settle = Duration::ZERO;
    let clock = SteppedClock::starting_at(OCTOBER_2026);
    let mut listener = Listener::new(&config, true);
    let mut newest_stored = 0;
    for ticks in [1, 4] {
        // Scanning, and encoding ten minutes ahead as fast as it can.
        let mut station = Station::start(&config, &clock).await;
        listener.listen(&mut station, &clock, ticks).await;
        let (health, began) = (station.appliance.health().clone(), std::time::Instant::now());
        let simulated = Instant::now();
        station.appliance.stop().await;
        assert!(simulated.elapsed() < Duration::from_secs(3), "{:?}", simulated.elapsed());
        assert!(began.elapsed() < Duration::from_secs(10), "{:?} of real time", began.elapsed());
        let report = health.report();
        assert!(report.stages.iter().all(|stage| stage.state == StageState::Stopped), "{report:#?}");
        assert!(!report.on_air);
        let text = std::fs::read_to_string(config.repo().join("window.json")).unwrap();
        let catalogue: skywave::publisher::catalogue::Catalogue = serde_json::from_str(&text).unwrap();
        let stored = catalogue.window.newest_stored().unwrap().n;
        assert!(stored > newest_stored, "{stored} after {newest_stored}");
        newest_stored = stored;
        let numbers: serde_json::Value =
            serde_json::from_slice(&std::fs::read(config.station.data.join("numbers.json")).unwrap())
                .unwrap();
        assert_eq!(numbers["segment"], stored, "the next run begins right behind");
    }
}

#[tokio::test(start_paused = true)]
async fn a_card_that_takes_no_writes_does_not_take_the_station_off_air() {
    let folder = scratch();
    let config = config(folder.path());
    let clock = SteppedClock::starting_at(OCTOBER_2026);
    let mut listener = Listener::new(&config, true);
    let mut station = Station::start(&config, &clock).await;
    listener.listen(&mut station, &clock, 2).await;
    // A folder in the place of each temporary file.
    std::fs::create_dir(config.station.data.join("numbers.json.new")).unwrap();
    std::fs::create_dir(config.repo().join("window.json.new")).unwrap();
    // Longer than the numbers that are reserved.
    listener.listen(&mut station, &clock, 40).await;
    assert_eq!(station.restarts(), 0);
    assert!(station.appliance.health().ready());
    station.appliance.stop().await;
}
