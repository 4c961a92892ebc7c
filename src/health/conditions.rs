//! What is known of the station's surroundings: its network, its clock, an update, its own end.

use serde::Serialize;

use super::Health;
use crate::clock::Unsynchronised;
use crate::network::NetworkState;

/// Whether the wall clock is believed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockState {
    /// Not looked at yet.
    #[default]
    Unknown,
    /// It reads a date before this program was written.
    Past,
    /// A time service runs and has not heard from a server.
    Waiting,
    /// It can be believed.
    Synchronised,
}

impl From<Result<(), Unsynchronised>> for ClockState {
    fn from(verdict: Result<(), Unsynchronised>) -> Self {
        match verdict {
            Ok(()) => Self::Synchronised,
            Err(Unsynchronised::Past) => Self::Past,
            Err(Unsynchronised::Waiting) => Self::Waiting,
        }
    }
}

/// The surroundings in a [`Report`](super::Report).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Conditions {
    /// Whether the machine has a network.
    pub network: NetworkState,
    /// Whether its clock is believed.
    pub clock: ClockState,
    /// Whether the system is being updated.
    pub updating: bool,
    /// Whether the station is ending, as asked.
    pub stopping: bool,
}

impl Health {
    /// This node relays the station of that name: it has no music of its own.
    pub fn set_follows(&self, name: &str) {
        self.lock().follows = Some(name.to_owned());
    }

    /// Whether the machine has a network.
    pub fn set_network(&self, network: NetworkState) {
        self.lock().conditions.network = network;
    }

    /// Whether the wall clock is believed.
    pub fn set_clock(&self, clock: ClockState) {
        self.lock().conditions.clock = clock;
    }

    /// Whether the system is being updated.
    pub fn set_updating(&self, updating: bool) {
        self.lock().conditions.updating = updating;
    }

    /// The station ends, as asked: that it goes off air now is no fault.
    pub fn set_stopping(&self) {
        self.lock().conditions.stopping = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_tells_the_surroundings_beside_the_rest() {
        let health = Health::new();
        let json = serde_json::to_value(health.report()).unwrap();
        assert_eq!((&json["network"], &json["clock"]), (&"unknown".into(), &"unknown".into()));
        assert_eq!((&json["updating"], &json["stopping"]), (&false.into(), &false.into()));
        health.set_network(NetworkState::Up);
        health.set_clock(Err(Unsynchronised::Waiting).into());
        health.set_updating(true);
        health.set_stopping();
        let json = serde_json::to_value(health.report()).unwrap();
        assert_eq!((&json["network"], &json["clock"]), (&"up".into(), &"waiting".into()));
        assert_eq!((&json["updating"], &json["stopping"]), (&true.into(), &true.into()));
        assert_eq!(ClockState::from(Ok(())), ClockState::Synchronised);
        assert_eq!(ClockState::from(Err(Unsynchronised::Past)), ClockState::Past);
    }
}
