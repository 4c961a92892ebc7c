//! Joins the stages by their channels and starts them, in flow order.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error_span};

use super::restore::Restored;
use super::sync::SyncEnds;
use crate::clock::SharedClock;
use crate::config::Config;
use crate::encoder::Encoder;
use crate::health::{Health, LibraryHealth, StageHealth};
use crate::hls::{Hls, Resume, Segment};
use crate::http::{self, Bound, Content};
use crate::ipfs::{Node, Peers};
use crate::library::{Library, LibraryActor, LibraryHandle};
use crate::metrics::Metrics;
use crate::player::{PcmBlock, PlayerActor, PlayerHandle};
use crate::publisher::stream_tree::StreamTree;
use crate::supervisor::Supervisor;
use crate::sync::SyncHandle;

/// Blocks and segments that wait between two stages.
const CHANNEL: usize = 2;
/// How often the metrics take over the counts of the network.
const COUNTS_EVERY: Duration = Duration::from_secs(2);
/// A stage that says nothing for this long hangs.
pub(super) const STALL_AFTER: Duration = Duration::from_secs(20);

/// What every stage is made from.
pub(super) struct Parts<'a> {
    pub(super) config: &'a Config,
    pub(super) clock: SharedClock,
    pub(super) origin: Instant,
    pub(super) node: Arc<Node>,
    pub(super) health: Health,
    pub(super) metrics: Metrics,
}

/// A running stage and how to stop it.
pub(super) struct Stage {
    pub(super) name: &'static str,
    pub(super) cancel: CancellationToken,
    pub(super) task: JoinHandle<()>,
}

/// What is known of a node once its outside runs.
pub(super) struct Outside {
    pub(super) address: SocketAddr,
    pub(super) ipns_name: String,
    pub(super) tree: watch::Receiver<Option<Arc<StreamTree>>>,
    pub(super) sync: Option<SyncHandle>,
}

/// Collects the stages as they start.
pub(super) struct Wiring {
    supervisor: Supervisor,
    pub(super) stages: Vec<Stage>,
}

impl Wiring {
    pub(super) fn new(parts: &Parts<'_>) -> Self {
        let supervisor = Supervisor { health: parts.health.clone(), metrics: parts.metrics.clone() };
        Self { supervisor, stages: Vec::new() }
    }

    /// The stages in the order in which they stop: flow order.
    pub(super) fn into_stages(self) -> Vec<Stage> {
        self.stages
    }

    /// Starts a stage that is restarted whenever it fails.
    pub(super) fn supervise<S, R, E>(&mut self, report: StageHealth, name: &'static str, stage: S)
    where
        S: Fn(CancellationToken) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: std::error::Error + Send + 'static,
    {
        let supervisor = self.supervisor.clone();
        self.spawn(name, |cancel| async move { supervisor.keep_running(name, report, cancel, stage).await });
    }

    pub(super) fn spawn<R>(&mut self, name: &'static str, task: impl FnOnce(CancellationToken) -> R)
    where
        R: Future<Output = ()> + Send + 'static,
    {
        let cancel = CancellationToken::new();
        // At the level of errors, so that a quiet log names the stage as well.
        let task = tokio::spawn(task(cancel.clone()).instrument(error_span!("stage", stage = name)));
        self.stages.push(Stage { name, cancel, task });
    }

    pub(super) fn library_and_player(
        &mut self,
        parts: &Parts<'_>,
    ) -> (LibraryHandle, PlayerHandle, mpsc::Receiver<PcmBlock>) {
        let config = parts.config;
        let (library, actor) = LibraryActor::new(config.library.clone(), &config.station.data);
        let actor = Arc::new(Mutex::new(actor));
        self.supervise(parts.health.stage("library", None), "library", move |cancel| {
            let actor = actor.clone();
            async move { actor.lock().await.run(cancel).await }
        });
        let (output, pcm) = mpsc::channel(CHANNEL);
        let report = parts.health.stage("player", Some(STALL_AFTER));
        let (player, mut actor) = PlayerActor::new(config.player.clone(), library.clone(), fastrand::u64(..));
        actor.report_to(report.clone(), parts.metrics.clone());
        let actor = Arc::new(Mutex::new(actor));
        self.supervise(report, "player", move |cancel| {
            let (actor, output) = (actor.clone(), output.clone());
            async move { actor.lock().await.run(&output, cancel).await }
        });
        (library, player, pcm)
    }

    pub(super) fn encoder_and_hls(
        &mut self,
        parts: &Parts<'_>,
        restored: &Restored,
        pcm: mpsc::Receiver<PcmBlock>,
    ) -> mpsc::Receiver<Segment> {
        let (output, coded) = mpsc::channel(CHANNEL);
        let report = parts.health.stage("encoder", Some(STALL_AFTER));
        let encoder = Arc::new(Encoder {
            renditions: parts.config.encoder.rendition.clone(),
            input: Arc::new(Mutex::new(pcm)),
            output,
            health: report.clone(),
        });
        self.supervise(report, "encoder", move |cancel| {
            let encoder = encoder.clone();
            async move { encoder.run(cancel).await }
        });
        let (output, segments) = mpsc::channel(CHANNEL);
        let report = parts.health.stage("hls", Some(STALL_AFTER));
        let hls = Arc::new(Hls {
            config: parts.config.hls.clone(),
            encoder_delay: restored.encoder_delay,
            renditions: parts.config.encoder.rendition.len(),
            clock: parts.clock.clone(),
            origin: parts.origin,
            resume: Arc::new(Mutex::new(Resume { last: restored.last, now_playing: None })),
            input: Arc::new(Mutex::new(coded)),
            output,
            health: report.clone(),
            metrics: parts.metrics.clone(),
        });
        self.supervise(report, "hls", move |cancel| {
            let hls = hls.clone();
            async move { hls.run(cancel).await }
        });
        segments
    }

    /// What the outside sees of a node: mirrors, the web server, other nodes of the station, peers.
    pub(super) fn outside(
        &mut self,
        parts: &Parts<'_>,
        bound: Bound,
        content: Content,
        ends: SyncEnds,
        peers: Option<Peers>,
    ) -> Outside {
        self.mirrors(parts, &content);
        self.pins(parts, &content);
        let (address, ipns_name, tree) = (bound.address(), content.ipns_name.clone(), content.tree.clone());
        self.http(parts, bound, content);
        let sync = self.sync(parts, address, ends);
        self.peers(parts, peers);
        Outside { address, ipns_name, tree, sync }
    }

    fn http(&mut self, parts: &Parts<'_>, bound: Bound, content: Content) {
        let config = http::HttpConfig { listen: bound.address(), ..parts.config.http.clone() };
        let first = Arc::new(Mutex::new(Some(bound)));
        self.supervise(parts.health.stage("http", None), "http", move |cancel| {
            let (first, config, content) = (first.clone(), config.clone(), content.clone());
            async move {
                let bound = match first.lock().await.take() {
                    Some(bound) => bound,
                    None => http::bind(&config).await?,
                };
                bound.run(content, cancel).await
            }
        });
    }

    /// Keeps the node connected; none when offline.
    fn peers(&mut self, parts: &Parts<'_>, peers: Option<Peers>) {
        let (Some(peers), Some(network)) = (peers, parts.node.network().cloned()) else { return };
        let metrics = parts.metrics.clone();
        self.spawn("network counts", |cancel| async move {
            let mut every = tokio::time::interval(COUNTS_EVERY);
            loop {
                tokio::select! {
                    () = cancel.cancelled() => return,
                    _ = every.tick() => {
                        metrics.set_network(network.counts().each(), network.connected_ids().len());
                    }
                }
            }
        });
        let peers = Arc::new(Mutex::new(peers));
        self.supervise(parts.health.stage("peers", None), "peers", move |cancel| {
            let peers = peers.clone();
            async move { peers.lock().await.run(cancel).await }
        });
    }

    /// Carries the library's counts to health and metrics.
    pub(super) fn follow_library(&mut self, parts: &Parts<'_>, mut library: watch::Receiver<Arc<Library>>) {
        let (health, metrics) = (parts.health.clone(), parts.metrics.clone());
        self.spawn("library counts", |cancel| async move {
            loop {
                let now = library.borrow_and_update().clone();
                metrics.library_tracks.set(i64::try_from(now.tracks.len()).unwrap_or(i64::MAX));
                metrics.library_unplayable.set(i64::try_from(now.unplayable.len()).unwrap_or(i64::MAX));
                health.set_library(counts(&now));
                tokio::select! {
                    () = cancel.cancelled() => return,
                    changed = library.changed() => if changed.is_err() { return },
                }
            }
        });
    }
}

fn counts(library: &Library) -> LibraryHealth {
    let unplayable = library.unplayable.iter().map(|u| (u.path.display().to_string(), u.reason.clone()));
    LibraryHealth {
        tracks: library.tracks.len(),
        found: library.found,
        scanned: library.scanned,
        scanning: library.scanning,
        unplayable: unplayable.collect(),
    }
}
