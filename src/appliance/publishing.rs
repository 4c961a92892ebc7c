//! Starts the publisher and what stands around it: retention, archive, name.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Mutex, mpsc, watch};

use super::restore::Restored;
use super::sync::SyncEnds;
use super::wiring::{Parts, STALL_AFTER, Stage, Wiring};
use crate::archive::lending::Lending;
use crate::archive::{Archive, ArchiveSettings, Kept, Rendition, Store};
use crate::config::Config;
use crate::hls::{CodecParameters, Segment};
use crate::http::{Content, Upstream};
use crate::ipfs::Blocks;
use crate::ipfs::ipns::SignedRecord;
use crate::ipfs::names::dnslink::SystemDns;
use crate::ipfs::names::{DnsLinks, NamePublisher, Resolver, Routing};
use crate::publisher::catalogue::Catalogue;
use crate::publisher::live_window::StoredSegment;
use crate::publisher::stream_tree::{Entry, StreamTree};
use crate::publisher::{self, Published, Publisher, PublisherSettings, Station, Tick, codecs};
use crate::retention::Retention;
use crate::sync::{self, Part};

/// Ticks that wait for retention.
const TICKS: usize = 256;
/// Segments that wait for the archive: four minutes.
const ARCHIVED: usize = 64;

/// How retention and the publisher reach the archive.
type ArchiveEnds = (mpsc::Sender<StoredSegment>, watch::Receiver<Option<Entry>>);

/// The archive's stages and what it holds, where there is one.
type Archived = Option<(Vec<Stage>, Arc<Store>)>;

/// The station's name and those of others.
pub(super) struct Names {
    pub(super) record: watch::Receiver<Option<SignedRecord>>,
    pub(super) resolver: Option<Resolver>,
}

/// The ends of whatever has the station on air, publisher or relay.
pub(super) struct AirEnds {
    pub(super) tree: watch::Sender<Option<Arc<StreamTree>>>,
    pub(super) record: watch::Sender<Option<SignedRecord>>,
    pub(super) station: watch::Sender<Bytes>,
    pub(super) ticks: mpsc::Sender<Tick>,
    pub(super) keep_from: watch::Receiver<u64>,
    pub(super) addresses: watch::Receiver<Vec<String>>,
}

/// The ends of those around it.
pub(super) struct AroundEnds {
    pub(super) tree: watch::Receiver<Option<Arc<StreamTree>>>,
    pub(super) record: watch::Receiver<Option<SignedRecord>>,
    pub(super) station: watch::Receiver<Bytes>,
    pub(super) ticks: mpsc::Receiver<Tick>,
    pub(super) keep_from: watch::Sender<u64>,
    pub(super) addresses: watch::Sender<Vec<String>>,
}

/// The channels between them.
pub(super) fn air() -> (AirEnds, AroundEnds) {
    let (tree, tree_out) = watch::channel(None);
    let (record, record_out) = watch::channel(None);
    let (station, station_out) = watch::channel(Bytes::new());
    let (ticks, ticks_out) = mpsc::channel(TICKS);
    let (keep_in, keep_from) = watch::channel(0);
    let (addresses_in, addresses) = watch::channel(Vec::new());
    let around = AroundEnds {
        tree: tree_out,
        record: record_out,
        station: station_out,
        ticks: ticks_out,
        keep_from: keep_in,
        addresses: addresses_in,
    };
    (AirEnds { tree, record, station, ticks, keep_from, addresses }, around)
}

impl Wiring {
    pub(super) fn publisher_and_retention(
        &mut self,
        parts: &Parts<'_>,
        restored: Restored,
        segments: mpsc::Receiver<Segment>,
    ) -> (Content, Names, SyncEnds) {
        let identity = parts.node.identity();
        let (air, around) = air();
        let (relays_sender, relays) = watch::channel(Vec::new());
        let (announced_sender, announced) = watch::channel(None);
        let (seen_sender, highest_seen) = watch::channel(0);
        let (archive, archived): (_, Archived) = match parts.config.retention.archive {
            true => Some(self.archive(parts, &restored.catalogue)).unzip(),
            false => (None, None),
        };
        let (to_archive, archive_link) = archive.unzip();
        let archive_link = archive_link.unwrap_or_else(|| watch::channel(None).1);
        let aired = restored.catalogue.window.aired().map(|s| (s.n, s.bytes())).collect();
        let retention = self.retention(parts, around.keep_from, around.ticks, to_archive, aired);
        let origin = sync::Origin { announced, record: around.record.clone(), relays: relays_sender };
        let swarm = air.addresses.clone();
        let ends = SyncEnds { name: identity.name(), part: Part::Origin(origin), swarm };
        let beside = Beside { archive: archive_link, relays, announced: announced_sender, highest_seen };
        self.publisher(parts, restored, segments, air, beside);
        self.stages.push(retention);
        let resolver = self.names(parts, around.record.clone(), seen_sender);
        let store = archived.as_ref().map(|(_, store)| store.clone());
        self.stages.extend(archived.into_iter().flat_map(|(stages, _)| stages));
        self.addresses(parts, around.addresses);
        let blocks = parts.node.blocks();
        let on_air = OnAir {
            blocks: store.map_or_else(|| blocks.clone(), |store| blocks.with_source(store)),
            tree: around.tree,
            record: around.record.clone(),
            station: around.station,
        };
        let content = content(parts, identity.ipns_name(), on_air, resolver.clone());
        (content, Names { record: around.record, resolver }, ends)
    }

    fn publisher(
        &mut self,
        parts: &Parts<'_>,
        restored: Restored,
        segments: mpsc::Receiver<Segment>,
        air: AirEnds,
        beside: Beside,
    ) {
        let (config, identity) = (parts.config, parts.node.identity().clone());
        let station = Station::new(config.station.name.clone(), identity.ipns_name());
        let published = Published::new(restored.catalogue, restored.numbers, station);
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
            keep_from: air.keep_from,
            archive: beside.archive,
            relays: beside.relays,
            addresses: air.addresses,
            tree: air.tree,
            record: air.record,
            announced: beside.announced,
            highest_seen: beside.highest_seen,
            station_json: air.station,
            ticks: air.ticks,
            overall: parts.health.clone(),
            health: report.clone(),
            metrics: parts.metrics.clone(),
        });
        self.supervise(report, "publisher", move |cancel| {
            let publisher = publisher.clone();
            async move { publisher.run(cancel).await }
        });
    }

    /// Tells the addresses of the node as they become known.
    pub(super) fn addresses(&mut self, parts: &Parts<'_>, addresses: watch::Sender<Vec<String>>) {
        let node = parts.node.clone();
        self.spawn("addresses", |cancel| async move { node.follow_addresses(addresses, cancel).await });
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
        Some(self.resolver(parts, routing))
    }

    /// Resolves foreign names, and follows those that are followed.
    pub(super) fn resolver(&mut self, parts: &Parts<'_>, routing: Arc<dyn Routing>) -> Resolver {
        let (clock, metrics) = (parts.clock.clone(), parts.metrics.names.clone());
        let (resolver, topics) = Resolver::new(routing, clock, metrics);
        let (topics, shared) = (Arc::new(Mutex::new(topics)), resolver.clone());
        self.supervise(parts.health.stage("resolver", None), "resolver", move |cancel| {
            let (topics, resolver) = (topics.clone(), shared.clone());
            async move { resolver.run(&mut *topics.lock().await, cancel).await }
        });
        resolver
    }

    /// Retention runs before the publisher does, and stops after it.
    pub(super) fn retention(
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
}

/// What the publisher is told and tells beside the air.
struct Beside {
    archive: watch::Receiver<Option<Entry>>,
    relays: watch::Receiver<Vec<publisher::Relay>>,
    announced: watch::Sender<Option<publisher::Announced>>,
    highest_seen: watch::Receiver<u64>,
}

/// What is on air, for the web server.
pub(super) struct OnAir {
    pub(super) blocks: Blocks,
    pub(super) tree: watch::Receiver<Option<Arc<StreamTree>>>,
    pub(super) record: watch::Receiver<Option<SignedRecord>>,
    pub(super) station: watch::Receiver<Bytes>,
}

/// What the web server answers from.
pub(super) fn content(
    parts: &Parts<'_>,
    ipns_name: String,
    on_air: OnAir,
    resolver: Option<Resolver>,
) -> Content {
    Content {
        blocks: on_air.blocks,
        tree: on_air.tree,
        record: on_air.record,
        station: on_air.station,
        ipns_name,
        ipns_ttl: parts.config.ipfs.record_ttl,
        upstream: Upstream {
            resolver,
            links: Some(DnsLinks::new(Arc::new(SystemDns))),
            network: parts.node.network().cloned(),
        },
        health: parts.health.clone(),
        metrics: parts.metrics.clone(),
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
