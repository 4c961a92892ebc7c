//! What is known of the station's other nodes.

use std::time::SystemTime;

use serde::Serialize;
use tokio::time::Instant;

use super::{Health, rfc3339};

#[derive(Debug, Clone, Copy)]
pub(super) struct SyncState {
    role: &'static str,
    nodes: usize,
    relays: usize,
    station: Option<Instant>,
}

/// The other nodes in a [`super::Report`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SyncReport {
    /// The part of this node: `origin` or `relay`.
    pub role: &'static str,
    /// Other nodes of the station that are heard.
    pub nodes: usize,
    /// How many of them are relays.
    pub relays: usize,
    /// When the station's newest word came, RFC 3339 in UTC; of the origin itself, always `null`.
    pub station_heard_at: Option<String>,
}

impl SyncState {
    pub(super) fn report(&self, now: Instant, wall: SystemTime) -> SyncReport {
        SyncReport {
            role: self.role,
            nodes: self.nodes,
            relays: self.relays,
            station_heard_at: self.station.map(|at| rfc3339(at, now, wall)),
        }
    }
}

impl Health {
    /// What is known of the station's other nodes, on a node with this role.
    pub fn set_sync(&self, role: &'static str, nodes: usize, relays: usize, station: Option<Instant>) {
        self.lock().sync = Some(SyncState { role, nodes, relays, station });
    }

    /// How many other relays of the station are heard.
    pub fn relays(&self) -> usize {
        self.lock().sync.map_or(0, |sync| sync.relays)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_tells_of_other_nodes_where_there_is_a_network() {
        let health = Health::new();
        assert!(serde_json::to_value(health.report()).unwrap().get("sync").is_none());
        health.set_sync("relay", 3, 2, Some(Instant::now()));
        let json = serde_json::to_value(health.report()).unwrap();
        assert_eq!((&json["sync"]["role"], &json["sync"]["nodes"]), (&"relay".into(), &3.into()));
        assert_eq!((json["sync"]["relays"].as_u64(), health.relays()), (Some(2), 2));
        assert!(json["sync"]["station_heard_at"].as_str().unwrap().ends_with('Z'));
    }
}
