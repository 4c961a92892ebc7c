//! Counters of the station in the OpenMetrics text format, served at `/metrics`.
//!
//! Every stage holds a clone and writes to its own fields; `docs/metrics.md` tells owners what each name means.
//! Label values come from the configuration (renditions) or from fixed sets in the code, never from requests
//! or peers, so that the number of series stays bounded.

mod names;
mod pins;
mod relay;
mod sync;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub use names::{NameMetrics, OutcomeLabel, RefusalLabel};
pub use pins::{PinDaysLabel, PinLabel, PinMetrics, PinRequestLabel};
pub use relay::RelayMetrics;
pub use sync::{ReasonLabel, SyncMetrics};

/// Stands before every name.
const PREFIX: &str = "skywave";

/// Content type of [`Metrics::encode`], from the OpenMetrics 1.0 specification, "Overall Structure".
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Counts per rendition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RenditionLabel {
    /// Name of the rendition, as configured.
    pub rendition: String,
}

/// Counts per stage.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StageLabel {
    /// Name of the stage.
    pub stage: &'static str,
}

/// Counts per kind of request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabel {
    /// The route, never the path.
    pub route: &'static str,
    /// Status code of the response.
    pub status: u16,
}

/// Counts per limit of the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LimitLabel {
    /// The limit that was met.
    pub reason: &'static str,
}

/// Counts per event of the network.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EventLabel {
    /// What happened.
    pub event: &'static str,
}

/// Counts per mirror.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MirrorLabel {
    /// Name of the mirror, as configured.
    pub mirror: String,
}

/// Counts per mirror and outcome.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MirrorPushLabel {
    /// Name of the mirror, as configured.
    pub mirror: String,
    /// `ok` or `failed`.
    pub result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabel {
    version: &'static str,
}

/// A gauge of seconds or another fraction.
pub type FloatGauge = Gauge<f64, AtomicU64>;

/// Every metric of the station. Clones write to the same series.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// Segments closed by the encoder, per rendition.
    pub segments_encoded: Family<RenditionLabel, Counter>,
    /// Bytes of those segments, per rendition.
    pub segment_bytes: Family<RenditionLabel, Counter>,
    /// Seconds that one tick of the publisher took.
    pub tick_seconds: Histogram,
    /// Seconds that one block took to be stored.
    pub block_put_seconds: Histogram,
    /// Blocks held.
    pub blocks: Gauge,
    /// Bytes of the blocks held.
    pub block_bytes: Gauge,
    /// Blocks that left the retention window.
    pub blocks_removed: Counter,
    /// Segments written to the archive.
    pub archive_segments: Counter,
    /// Segments that the archive could not take.
    pub archive_segments_lost: Counter,
    /// Bytes of the archive's files.
    pub archive_bytes: Gauge,
    /// Sequence number of the newest IPNS record.
    pub ipns_sequence: Gauge,
    /// IPNS records on their way.
    pub names: NameMetrics,
    /// What a relay does.
    pub relay: RelayMetrics,
    /// State messages of the station's nodes.
    pub sync: SyncMetrics,
    /// Clients that play from this node.
    pub listeners: Gauge,
    /// Media sequence of the newest segment on air.
    pub newest_segment: Gauge,
    /// How far the encoder is ahead of the air clock.
    pub lead_seconds: FloatGauge,
    /// 1 on air, 0 off.
    pub on_air: Gauge,
    /// Steps of the wall clock that were noticed.
    pub clock_jumps: Counter,
    /// Discontinuities written into the playlists.
    pub discontinuities: Counter,
    /// Tracks started.
    pub tracks_started: Counter,
    /// Damaged packets left out.
    pub packets_skipped: Counter,
    /// Samples that were not finite and were replaced.
    pub samples_replaced: Counter,
    /// Playable tracks.
    pub library_tracks: Gauge,
    /// Files that cannot be played.
    pub library_unplayable: Gauge,
    /// Restarts after a failure, per stage.
    pub stage_restarts: Family<StageLabel, Counter>,
    /// Responses, per route and status.
    pub http_requests: Family<RequestLabel, Counter>,
    /// Bytes of response bodies handed to connections.
    pub http_response_bytes: Counter,
    /// Open connections.
    pub http_connections: Gauge,
    /// Connections beyond the limit.
    pub http_connections_refused: Counter,
    /// What the network did and refused, per event.
    pub network_events: Family<EventLabel, Counter>,
    /// Peers with an open connection.
    pub network_peers: Gauge,
    /// Answers refused or cut short by a limit of the gateway, per limit.
    pub gateway_refusals: Family<LimitLabel, Counter>,
    /// Bytes of blocks that came from the network for a client.
    pub gateway_fetched_bytes: Counter,
    /// CARs and TARs being sent.
    pub gateway_archives: Gauge,
    /// Ticks that were offered to a mirror, per mirror and result.
    pub mirror_pushes: Family<MirrorPushLabel, Counter>,
    /// Bytes of CARs handed to connections, per mirror.
    pub mirror_bytes: Family<MirrorLabel, Counter>,
    /// Ticks that went with a later one, per mirror.
    pub mirror_ticks_merged: Family<MirrorLabel, Counter>,
    /// Ticks that a mirror does not have yet.
    pub mirror_lag_ticks: Family<MirrorLabel, Gauge>,
    /// Pinning services.
    pub pins: PinMetrics,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    /// All series at zero.
    pub fn new() -> Metrics {
        let mut metrics = Metrics {
            registry: Arc::default(),
            segments_encoded: Family::default(),
            segment_bytes: Family::default(),
            tick_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 15)),
            block_put_seconds: Histogram::new(exponential_buckets(0.000_05, 2.0, 15)),
            blocks: Gauge::default(),
            block_bytes: Gauge::default(),
            blocks_removed: Counter::default(),
            archive_segments: Counter::default(),
            archive_segments_lost: Counter::default(),
            archive_bytes: Gauge::default(),
            ipns_sequence: Gauge::default(),
            names: NameMetrics::default(),
            relay: RelayMetrics::default(),
            sync: SyncMetrics::default(),
            listeners: Gauge::default(),
            newest_segment: Gauge::default(),
            lead_seconds: FloatGauge::default(),
            on_air: Gauge::default(),
            clock_jumps: Counter::default(),
            discontinuities: Counter::default(),
            tracks_started: Counter::default(),
            packets_skipped: Counter::default(),
            samples_replaced: Counter::default(),
            library_tracks: Gauge::default(),
            library_unplayable: Gauge::default(),
            stage_restarts: Family::default(),
            http_requests: Family::default(),
            http_response_bytes: Counter::default(),
            http_connections: Gauge::default(),
            http_connections_refused: Counter::default(),
            network_events: Family::default(),
            network_peers: Gauge::default(),
            gateway_refusals: Family::default(),
            gateway_fetched_bytes: Counter::default(),
            gateway_archives: Gauge::default(),
            mirror_pushes: Family::default(),
            mirror_bytes: Family::default(),
            mirror_ticks_merged: Family::default(),
            mirror_lag_ticks: Family::default(),
            pins: PinMetrics::default(),
        };
        let mut registry = Registry::with_prefix(PREFIX);
        metrics.register_audio(&mut registry);
        metrics.register_ipfs(&mut registry);
        metrics.names.register(&mut registry);
        metrics.relay.register(&mut registry);
        metrics.sync.register(&mut registry);
        metrics.register_station(&mut registry);
        metrics.register_http(&mut registry);
        metrics.register_network(&mut registry);
        metrics.register_mirrors(&mut registry);
        metrics.pins.register(&mut registry);
        metrics.registry = Arc::new(registry);
        metrics
    }

    /// The OpenMetrics text, `# EOF` included. A labelled family without a series yet is left out.
    pub fn encode(&self) -> String {
        let mut page = String::with_capacity(8 * 1024);
        text::encode(&mut page, &self.registry).expect("writing to a String never fails");
        page
    }

    fn register_audio(&self, registry: &mut Registry) {
        let segments = self.segments_encoded.clone();
        registry.register("segments_encoded", "Segments closed by the encoder", segments);
        let bytes = self.segment_bytes.clone();
        registry.register("segment_bytes", "Bytes of the segments closed by the encoder", bytes);
        registry.register("tracks_started", "Tracks started", self.tracks_started.clone());
        let packets = self.packets_skipped.clone();
        registry.register("packets_skipped", "Damaged packets left out", packets);
        let samples = self.samples_replaced.clone();
        registry.register("samples_replaced", "Samples that were not finite and were replaced", samples);
        registry.register("library_tracks", "Playable tracks", self.library_tracks.clone());
        let unplayable = self.library_unplayable.clone();
        registry.register("library_unplayable", "Files that cannot be played", unplayable);
    }

    fn register_ipfs(&self, registry: &mut Registry) {
        let tick = self.tick_seconds.clone();
        registry.register("tick_seconds", "Duration of one tick of the publisher", tick);
        let put = self.block_put_seconds.clone();
        registry.register("block_put_seconds", "Time to store one block", put);
        registry.register("blocks", "Blocks held", self.blocks.clone());
        registry.register("block_bytes", "Bytes of the blocks held", self.block_bytes.clone());
        let removed = self.blocks_removed.clone();
        registry.register("blocks_removed", "Blocks that left the retention window", removed);
        let archived = self.archive_segments.clone();
        registry.register("archive_segments", "Segments written to the archive", archived);
        let lost = self.archive_segments_lost.clone();
        registry.register("archive_segments_lost", "Segments that the archive could not take", lost);
        registry.register("archive_bytes", "Bytes of the archive", self.archive_bytes.clone());
        let sequence = self.ipns_sequence.clone();
        registry.register("ipns_sequence", "Sequence number of the newest IPNS record", sequence);
    }

    fn register_station(&self, registry: &mut Registry) {
        let newest = self.newest_segment.clone();
        registry.register("newest_segment", "Media sequence of the newest segment on air", newest);
        let lead = self.lead_seconds.clone();
        registry.register("lead_seconds", "How far the encoder is ahead of the air clock", lead);
        registry.register("on_air", "1 on air, 0 off air", self.on_air.clone());
        let jumps = self.clock_jumps.clone();
        registry.register("clock_jumps", "Steps of the wall clock that were noticed", jumps);
        let discontinuities = self.discontinuities.clone();
        registry.register("discontinuities", "Discontinuities in the playlists", discontinuities);
        let restarts = self.stage_restarts.clone();
        registry.register("stage_restarts", "Restarts after a failure", restarts);
        let build = Info::new(BuildLabel { version: env!("CARGO_PKG_VERSION") });
        registry.register("build", "Version of the program", build);
    }

    fn register_http(&self, registry: &mut Registry) {
        let requests = self.http_requests.clone();
        registry.register("http_requests", "Responses by route and status", requests);
        let bytes = self.http_response_bytes.clone();
        registry.register("http_response_bytes", "Bytes of response bodies", bytes);
        registry.register("listeners", "Clients that play from this node", self.listeners.clone());
        registry.register("http_connections", "Open connections", self.http_connections.clone());
        let refused = self.http_connections_refused.clone();
        registry.register("http_connections_refused", "Connections beyond the limit", refused);
        let refusals = self.gateway_refusals.clone();
        registry.register("gateway_refusals", "Answers refused or cut short by a limit", refusals);
        let fetched = self.gateway_fetched_bytes.clone();
        registry.register("gateway_fetched_bytes", "Bytes of blocks fetched for clients", fetched);
        registry.register("gateway_archives", "CARs and TARs being sent", self.gateway_archives.clone());
    }

    fn register_network(&self, registry: &mut Registry) {
        let events = self.network_events.clone();
        registry.register("network_events", "What the network did and refused", events);
        registry.register("network_peers", "Peers with an open connection", self.network_peers.clone());
    }

    /// Takes over counts of the network, each since the start.
    pub fn set_network(&self, events: impl IntoIterator<Item = (&'static str, u64)>, peers: usize) {
        for (event, count) in events {
            let counter = self.network_events.get_or_create(&EventLabel { event });
            counter.inner().store(count, std::sync::atomic::Ordering::Relaxed);
        }
        self.network_peers.set(i64::try_from(peers).unwrap_or(i64::MAX));
    }

    fn register_mirrors(&self, registry: &mut Registry) {
        let pushes = self.mirror_pushes.clone();
        registry.register("mirror_pushes", "Ticks offered to a mirror by result", pushes);
        registry.register("mirror_bytes", "Bytes of CARs handed to connections", self.mirror_bytes.clone());
        let merged = self.mirror_ticks_merged.clone();
        registry.register("mirror_ticks_merged", "Ticks that went with a later one", merged);
        let lag = self.mirror_lag_ticks.clone();
        registry.register("mirror_lag_ticks", "Ticks that a mirror does not have yet", lag);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Gives every family a series. A field that is missing here does not compile.
    fn touch_all(metrics: &Metrics) {
        let Metrics {
            registry: _,
            segments_encoded,
            segment_bytes,
            tick_seconds: _,
            block_put_seconds: _,
            blocks: _,
            block_bytes: _,
            blocks_removed: _,
            archive_segments: _,
            archive_segments_lost: _,
            archive_bytes: _,
            ipns_sequence: _,
            names,
            relay,
            sync,
            listeners: _,
            newest_segment: _,
            lead_seconds: _,
            on_air: _,
            clock_jumps: _,
            discontinuities: _,
            tracks_started: _,
            packets_skipped: _,
            samples_replaced: _,
            library_tracks: _,
            library_unplayable: _,
            stage_restarts,
            http_requests,
            http_response_bytes: _,
            http_connections: _,
            http_connections_refused: _,
            network_events,
            network_peers: _,
            gateway_refusals,
            gateway_fetched_bytes: _,
            gateway_archives: _,
            mirror_pushes,
            mirror_bytes,
            mirror_ticks_merged,
            mirror_lag_ticks,
            pins,
        } = metrics;
        let hifi = RenditionLabel { rendition: "hifi".to_owned() };
        segments_encoded.get_or_create(&hifi).inc();
        segment_bytes.get_or_create(&hifi).inc_by(92_000);
        stage_restarts.get_or_create(&StageLabel { stage: "player" }).inc();
        http_requests.get_or_create(&RequestLabel { route: "live", status: 200 }).inc();
        for family in [&names.gossip_sent, &names.dht_puts, &names.resolves] {
            NameMetrics::count(family, "sent");
        }
        names.refuse("dht", "forged");
        for family in [&relay.trees, &relay.fetches, &relay.reveals] {
            NameMetrics::count(family, "held");
        }
        sync.sent("sent");
        sync.refuse("forged");
        network_events.get_or_create(&EventLabel { event: "dials" }).inc();
        gateway_refusals.get_or_create(&LimitLabel { reason: "fetch_bytes" }).inc();
        mirror_pushes.get_or_create(&MirrorPushLabel { mirror: "nas".to_owned(), result: "ok" }).inc();
        let nas = MirrorLabel { mirror: "nas".to_owned() };
        mirror_bytes.get_or_create(&nas).inc();
        mirror_ticks_merged.get_or_create(&nas).inc();
        mirror_lag_ticks.get_or_create(&nas).set(1);
        pins.count("cluster", "add", "ok");
        pins.newest_segment.get_or_create(&PinLabel { pin: "cluster".to_owned() }).set(1);
        pins.set_days("cluster", 1, 2);
    }

    /// `name type labels` of every metric on the page; the name as it is queried.
    fn on_the_page(page: &str) -> BTreeSet<String> {
        page.lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .map(|line| {
                let (family, kind) = line.split_once(' ').unwrap();
                let name = match kind {
                    "counter" => format!("{family}_total"),
                    "info" => format!("{family}_info"),
                    _ => family.to_owned(),
                };
                format!("{name} {kind} {}", labels(page, &name))
            })
            .collect()
    }

    fn labels(page: &str, name: &str) -> String {
        let start = format!("{name}{{");
        let Some(series) = page.lines().find_map(|line| line.strip_prefix(&start)) else {
            return String::new();
        };
        let (labels, _) = series.split_once('}').unwrap();
        let names: Vec<_> = labels.split(',').map(|label| label.split_once('=').unwrap().0).collect();
        names.join(", ")
    }

    /// The same from the table of the documentation: `| name | type | labels | meaning |`.
    fn documented() -> BTreeSet<String> {
        include_str!("../docs/metrics.md")
            .lines()
            .filter(|line| line.starts_with("| `skywave_"))
            .map(|line| {
                let cells: Vec<_> = line.split('|').map(|cell| cell.trim().replace('`', "")).collect();
                assert!(cells[4].len() > 10, "no meaning: {line}");
                format!("{} {} {}", cells[1], cells[2], cells[3])
            })
            .collect()
    }

    #[test]
    fn the_documentation_and_the_page_name_the_same_metrics() {
        let metrics = Metrics::new();
        touch_all(&metrics);
        let page = metrics.encode();
        assert_eq!(on_the_page(&page), documented());
    }

    #[test]
    fn clones_write_to_the_same_series() {
        let metrics = Metrics::new();
        let clone = metrics.clone();
        clone.tracks_started.inc_by(3);
        clone.lead_seconds.set(57.6);
        let page = metrics.encode();
        assert!(page.contains("skywave_tracks_started_total 3\n"), "{page}");
        assert!(page.contains("skywave_lead_seconds 57.6\n"), "{page}");
        assert!(page.ends_with("# EOF\n"));
    }

    #[test]
    fn the_build_is_named() {
        let line = format!("skywave_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
        assert!(Metrics::new().encode().contains(&line));
    }

    #[test]
    fn an_untouched_station_shows_every_plain_metric_at_zero() {
        let page = Metrics::new().encode();
        for name in ["on_air", "blocks", "http_connections", "clock_jumps_total", "tick_seconds_count"] {
            assert!(page.contains(&format!("skywave_{name} 0\n")), "{name} in {page}");
        }
    }
}
