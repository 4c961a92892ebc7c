//! Starts the stages of a relay: no music, no encoder, no key of the station.

use std::sync::Arc;

use tokio::sync::{Mutex, watch};
use tracing::warn;

use super::publishing::{AirEnds, Names, OnAir, air, content};
use super::sync::SyncEnds;
use super::wiring::{Parts, STALL_AFTER, Wiring};
use crate::http::Content;
use crate::ipfs::ipns::Name;
use crate::ipfs::names::{Newest, Resolver};
use crate::relay::offer::Offer;
use crate::relay::source::Peers;
use crate::relay::{Following, Relay};
use crate::state::StateFile;
use crate::sync::{Follower, Part};

/// What the relay of a station gives to the rest.
pub(super) struct Relayed {
    pub(super) content: Content,
    pub(super) names: Names,
    pub(super) sync: SyncEnds,
    /// Where the origin's node is.
    pub(super) origin: watch::Receiver<Vec<String>>,
}

/// What the relay tells beside the air.
struct Beside {
    origin: watch::Sender<Vec<String>>,
    newest: watch::Sender<Option<u64>>,
    held_until: watch::Sender<Option<u64>>,
}

impl Wiring {
    /// Follows the station `name` from where `following` stands, which is written to `file`.
    pub(super) fn relay(
        &mut self,
        parts: &Parts<'_>,
        name: Name,
        (following, file): (Following, StateFile),
    ) -> Relayed {
        if parts.config.retention.archive {
            warn!("a relay keeps no archive; retention.archive is left aside");
        }
        let (air, around) = air();
        let (origin_sender, origin) = watch::channel(Vec::new());
        let (newest_sender, newest) = watch::channel(None);
        let (held_sender, held_until) = watch::channel(None);
        let retention = self.retention(parts, around.keep_from, around.ticks, None, following.aired());
        let resolver = parts.node.routing().map(|routing| self.resolver(parts, routing));
        let records = self.records(parts, &name, &following, resolver.as_ref());
        let swarm = air.addresses.clone();
        let beside = Beside { origin: origin_sender, newest: newest_sender, held_until: held_sender };
        self.following(parts, name, (following, file), records, air, beside);
        self.stages.push(retention);
        self.addresses(parts, around.addresses);
        let on_air = OnAir {
            blocks: parts.node.blocks().clone(),
            tree: around.tree,
            record: around.record.clone(),
            station: around.station,
        };
        let follower = Follower { newest, held_until, resolver: resolver.clone() };
        Relayed {
            content: content(parts, name.to_string(), on_air, resolver.clone()),
            names: Names { record: around.record, resolver },
            sync: SyncEnds { name, part: Part::Follower(follower), swarm },
            origin,
        }
    }

    /// The station's records as they come, offered to others too; none where there is no network.
    fn records(
        &mut self,
        parts: &Parts<'_>,
        name: &Name,
        following: &Following,
        resolver: Option<&Resolver>,
    ) -> Newest {
        let (Some(resolver), Some(routing)) = (resolver, parts.node.routing()) else {
            return watch::channel(None).1;
        };
        // Nothing older than what was followed before is taken.
        following.record().into_iter().for_each(|record| _ = resolver.offer(name, (**record).clone()));
        let records = resolver.follow(name);
        let metrics = parts.metrics.names.clone();
        let offer = Arc::new(Offer { name: *name, records: records.clone(), routing, metrics });
        self.supervise(parts.health.stage("name", None), "name", move |cancel| {
            let offer = offer.clone();
            async move { offer.run(cancel).await }
        });
        records
    }

    fn following(
        &mut self,
        parts: &Parts<'_>,
        name: Name,
        (following, file): (Following, StateFile),
        records: Newest,
        air: AirEnds,
        beside: Beside,
    ) {
        let report = parts.health.stage("relay", Some(STALL_AFTER));
        parts.health.set_follows(&name.to_string());
        let blocks = parts.node.blocks().clone();
        let network = parts.node.network().cloned();
        let source = Peers { blocks: blocks.clone(), network, station: name };
        let relay = Arc::new(Relay {
            name,
            own_name: parts.config.station.name.clone(),
            source: Arc::new(source),
            blocks,
            records,
            clock: parts.clock.clone(),
            origin: parts.origin,
            following: Arc::new(Mutex::new(following)),
            catalogue_file: file,
            keep_from: air.keep_from,
            addresses: air.addresses,
            origin_addresses: beside.origin,
            tree: air.tree,
            record: air.record,
            station_json: air.station,
            newest: beside.newest,
            held_until: beside.held_until,
            ticks: air.ticks,
            overall: parts.health.clone(),
            health: report.clone(),
            metrics: parts.metrics.clone(),
        });
        self.supervise(report, "relay", move |cancel| {
            let relay = relay.clone();
            async move { relay.run(cancel).await }
        });
    }
}
