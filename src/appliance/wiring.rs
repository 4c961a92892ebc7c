//! Joins the stages by their channels and starts them, in flow order.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error_span};

use super::restore::Restored;
use crate::archive::lending::Lending;
use crate::archive::{Archive, ArchiveSettings, Kept, Rendition, Store};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::encoder::Encoder;
use crate::health::{Health, LibraryHealth, StageHealth};
use crate::hls::{CodecParameters, Hls, Resume, Segment};
use crate::http::{self, Bound, Content, Upstream};
use crate::ipfs::ipns::SignedRecord;
use crate::ipfs::names::dnslink::SystemDns;
use crate::ipfs::names::{DnsLinks, NamePublisher, Resolver};
use crate::ipfs::{Node, Peers};
use crate::library::{Library, LibraryActor, LibraryHandle};
use crate::metrics::Metrics;
use crate::player::{PcmBlock, PlayerActor, PlayerHandle};
use crate::publisher::catalogue::Catalogue;
use crate::publisher::live_window::StoredSegment;
use crate::publisher::stream_tree::Entry;
use crate::publisher::{Published, Publisher, PublisherSettings, Station, codecs};
use crate::retention::Retention;
use crate::supervisor::Supervisor;

/// Blocks and segments that wait between two stages.
const CHANNEL: usize = 2;
/// Ticks that wait for retention.
const TICKS: usize = 256;
/// Segments that wait for the archive: four minutes.
const ARCHIVED: usize = 64;
/// How often the metrics take over the counts of the network.
const COUNTS_EVERY: Duration = Duration::from_secs(2);
/// A stage that says nothing for this long hangs.
const STALL_AFTER: Duration = Duration::from_secs(20);

/// How retention and the publisher reach the archive.
type ArchiveEnds = (mpsc::Sender<StoredSegment>, watch::Receiver<Option<Entry>>);

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

/// The station's name and those of others.
pub(super) struct Names {
    pub(super) record: watch::Receiver<Option<SignedRecord>>,
    pub(super) resolver: Option<Resolver>,
}

/// Collects the stages as they start.
pub(super) struct Wiring {
    supervisor: Supervisor,
    stages: Vec<Stage>,
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

    pub(super) fn publisher_and_retention(
        &mut self,
        parts: &Parts<'_>,
        restored: Restored,
        segments: mpsc::Receiver<Segment>,
    ) -> (Content, Names) {
        let (config, identity) = (parts.config, parts.node.identity().clone());
        let ipns_name = identity.ipns_name();
        let (tree_sender, tree) = watch::channel(None);
        let (station_sender, station) = watch::channel(Bytes::new());
        let (address_sender, addresses) = watch::channel(Vec::new());
        let (keep_sender, keep_from) = watch::channel(0);
        let (record_sender, record) = watch::channel(None);
        let (seen_sender, highest_seen) = watch::channel(0);
        let (tick_sender, ticks) = mpsc::channel(TICKS);
        let (archive, archived) = match config.retention.archive {
            true => Some(self.archive(parts, &restored.catalogue)).unzip(),
            false => (None, None),
        };
        let (to_archive, archive_link) = archive.unzip();
        let archive_link = archive_link.unwrap_or_else(|| watch::channel(None).1);
        let aired = restored.catalogue.window.aired().map(|s| (s.n, s.bytes())).collect();
        let retention = self.retention(parts, keep_sender, ticks, to_archive, aired);
        let station_name = Station::new(config.station.name.clone(), ipns_name.clone());
        let published = Published::new(restored.catalogue, restored.numbers, station_name);
        let report = parts.health.stage("publisher", Some(STALL_AFTER));
        let publisher = Arc::new(Publisher {
            settings: publisher_settings(config),
            blocks: parts.node.blocks().clone(),
            identity,
            clock: parts.clock.clone(),
            origin: parts.origin,
            published: Arc::new(Mutex::new(published)),
            catalogue_file: restored.catalogue_file,
            input: Arc::new(Mutex::new(segments)),
            keep_from,
            archive: archive_link,
            addresses,
            tree: tree_sender,
            record: record_sender,
            highest_seen,
            station_json: station_sender,
            ticks: tick_sender,
            overall: parts.health.clone(),
            health: report.clone(),
            metrics: parts.metrics.clone(),
        });
        self.supervise(report, "publisher", move |cancel| {
            let publisher = publisher.clone();
            async move { publisher.run(cancel).await }
        });
        self.stages.push(retention);
        let resolver = self.names(parts, record.clone(), seen_sender);
        let store = archived.as_ref().map(|(_, store)| store.clone());
        self.stages.extend(archived.into_iter().flat_map(|(stages, _)| stages));
        let node = parts.node.clone();
        self.spawn("addresses", |cancel| async move { node.follow_addresses(address_sender, cancel).await });
        let blocks = parts.node.blocks();
        let content = Content {
            blocks: store.map_or_else(|| blocks.clone(), |store| blocks.with_source(store)),
            tree,
            record: record.clone(),
            station,
            ipns_name,
            ipns_ttl: config.ipfs.record_ttl,
            upstream: Upstream {
                resolver: resolver.clone(),
                links: Some(DnsLinks::new(Arc::new(SystemDns))),
                network: parts.node.network().cloned(),
            },
            health: parts.health.clone(),
            metrics: parts.metrics.clone(),
        };
        (content, Names { record, resolver })
    }

    /// Brings records to the network and resolves foreign names; where there is no network, nothing.
    fn names(
        &mut self,
        parts: &Parts<'_>,
        record: watch::Receiver<Option<SignedRecord>>,
        highest_seen: watch::Sender<u64>,
    ) -> Option<Resolver> {
        let routing = parts.node.routing()?;
        let (clock, metrics) = (parts.clock.clone(), parts.metrics.names.clone());
        let publisher = Arc::new(NamePublisher {
            name: parts.node.identity().name(),
            dht_every: parts.config.ipfs.dht_every,
            provide: parts.config.ipfs.provide,
            routing: routing.clone(),
            clock: clock.clone(),
            record,
            highest_seen,
            overall: parts.health.clone(),
            metrics: metrics.clone(),
        });
        self.supervise(parts.health.stage("name", None), "name", move |cancel| {
            let publisher = publisher.clone();
            async move { publisher.run(cancel).await }
        });
        let (resolver, topics) = Resolver::new(routing, clock, metrics);
        let (topics, shared) = (Arc::new(Mutex::new(topics)), resolver.clone());
        self.supervise(parts.health.stage("resolver", None), "resolver", move |cancel| {
            let (topics, resolver) = (topics.clone(), shared.clone());
            async move { resolver.run(&mut *topics.lock().await, cancel).await }
        });
        Some(resolver)
    }

    /// Retention runs before the publisher does, and stops after it.
    fn retention(
        &mut self,
        parts: &Parts<'_>,
        keep_from: watch::Sender<u64>,
        ticks: mpsc::Receiver<crate::publisher::Tick>,
        archive: Option<mpsc::Sender<StoredSegment>>,
        aired: Vec<(u64, u64)>,
    ) -> Stage {
        let mut window = parts.config.retention.window(parts.config.hls.segment);
        for (n, bytes) in aired {
            keep_from.send_replace(window.push(n, bytes));
        }
        let report = parts.health.stage("retention", Some(STALL_AFTER));
        let retention = Arc::new(Retention {
            window: Mutex::new(window),
            remover: Arc::new(parts.node.blocks().clone()),
            input: Arc::new(Mutex::new(ticks)),
            keep_from,
            archive,
            leaving: Mutex::new(VecDeque::new()),
            health: report.clone(),
            metrics: parts.metrics.clone(),
        });
        self.supervise(report, "retention", move |cancel| {
            let retention = retention.clone();
            async move { retention.run(cancel).await }
        });
        self.stages.pop().expect("the stage that was started just now")
    }

    /// The archive and what lends it to peers; both stop after retention.
    fn archive(
        &mut self,
        parts: &Parts<'_>,
        catalogue: &Catalogue,
    ) -> (ArchiveEnds, (Vec<Stage>, Arc<Store>)) {
        let (sender, input) = mpsc::channel(ARCHIVED);
        let (link_sender, link) = watch::channel(None);
        let store = Arc::<Store>::default();
        let rendition = |(p, init): (&CodecParameters, &Entry)| Rendition {
            name: p.rendition.clone(),
            codecs: codecs(&p.audio_specific_config),
            init: *init,
        };
        let report = parts.health.stage("archive", None);
        let archive = Arc::new(Archive {
            settings: ArchiveSettings {
                folder: parts.config.archive(),
                max_bytes: parts.config.retention.archive_megabytes.saturating_mul(1_000_000),
            },
            renditions: catalogue.parameters.iter().zip(&catalogue.init).map(rendition).collect(),
            blocks: parts.node.blocks().clone(),
            store: store.clone(),
            input: Arc::new(Mutex::new(input)),
            kept: Mutex::new(Kept::new(catalogue.window.aired().cloned().collect())),
            link: link_sender,
            health: report.clone(),
            metrics: parts.metrics.clone(),
        });
        self.supervise(report, "archive", move |cancel| {
            let archive = archive.clone();
            async move { archive.run(cancel).await }
        });
        let report = parts.health.stage("lending", None);
        let lending = Arc::new(Lending {
            wants: parts.node.clone(),
            blocks: parts.node.blocks().clone(),
            store: store.clone(),
            lent: Mutex::default(),
            health: report.clone(),
        });
        self.supervise(report, "lending", move |cancel| {
            let lending = lending.clone();
            async move { lending.run(cancel).await }
        });
        let stages = self.stages.split_off(self.stages.len() - 2);
        ((sender, link), (stages, store))
    }

    pub(super) fn http(&mut self, parts: &Parts<'_>, bound: Bound, content: Content) {
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
    pub(super) fn peers(&mut self, parts: &Parts<'_>, peers: Option<Peers>) {
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

fn publisher_settings(config: &Config) -> PublisherSettings {
    PublisherSettings {
        segment: config.hls.segment,
        target_duration: config.hls.grid().target_duration(),
        playlist_segments: config.hls.playlist_segments(),
        record_validity: config.ipfs.record_validity,
        record_ttl: config.ipfs.record_ttl,
    }
}
