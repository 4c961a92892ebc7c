//! What the lights say: a health report in three words, one for each light. Pure.

use std::fmt::{self, Display, Formatter};

use super::pattern::Pattern;
use crate::health::{ClockState, Report, StageState, Status};
use crate::network::NetworkState;

/// A station that is not on air for this long after its start, in seconds, has a fault.
const START_LIMIT: u64 = 60;

/// The light for power: the program and the machine as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// Starting; not on air yet.
    Booting,
    /// All well.
    Well,
    /// Something is wrong; the number of blinks tells where.
    Fault(Fault),
    /// The system is being updated: leave the power on.
    Updating,
    /// Ending, as asked.
    ShuttingDown,
}

/// The light for the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Nothing is known.
    Unknown,
    /// No link, or no address.
    WaitingForNetwork,
    /// A network, and a clock that no time server has set.
    WaitingForClock,
    /// Network and time.
    Ready,
}

/// The light for the air.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Air {
    /// Nobody hears anything.
    Off,
    /// On air.
    On,
    /// On air, and something is wrong: the light for power tells what.
    Degraded,
    /// On air without music: the station ident plays.
    NoMusic,
}

/// Where a fault is; the number is what the light for power blinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Fault {
    /// Music: folders, a disk that hangs, the player.
    Music = 2,
    /// Encoding: the processor cannot keep up, or memory is short.
    Encoder = 3,
    /// Storing and publishing segments.
    Publisher = 4,
    /// The web server.
    Http = 5,
    /// IPFS: peers, names, mirrors.
    Ipfs = 6,
    /// The archive's disk.
    Archive = 7,
    /// The lights and the button themselves.
    Leds = 8,
    /// Anything else: `/health` tells.
    Other = 9,
}

/// Each stage with the fault that its failure is.
const FAULTS: [(&str, Fault); 18] = [
    ("library", Fault::Music),
    ("player", Fault::Music),
    ("encoder", Fault::Encoder),
    ("hls", Fault::Encoder),
    ("publisher", Fault::Publisher),
    ("relay", Fault::Publisher),
    ("retention", Fault::Publisher),
    ("http", Fault::Http),
    ("name", Fault::Ipfs),
    ("resolver", Fault::Ipfs),
    ("peers", Fault::Ipfs),
    ("mirror", Fault::Ipfs),
    ("pins", Fault::Ipfs),
    ("sync", Fault::Ipfs),
    ("archive", Fault::Archive),
    ("lending", Fault::Archive),
    ("leds", Fault::Leds),
    ("button", Fault::Leds),
];

/// What the three lights say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoardState {
    /// The light for power.
    pub power: Power,
    /// The light for the network.
    pub network: Network,
    /// The light for the air.
    pub air: Air,
}

impl BoardState {
    /// Reads it from a report.
    pub fn of(report: &Report) -> Self {
        let conditions = report.conditions;
        if conditions.stopping {
            return Self { power: Power::ShuttingDown, network: Network::Unknown, air: Air::Off };
        }
        let network = match (conditions.network, conditions.clock) {
            (NetworkState::Unknown, _) => Network::Unknown,
            (NetworkState::Down, _) => Network::WaitingForNetwork,
            (NetworkState::Up, ClockState::Synchronised) => Network::Ready,
            (NetworkState::Up, _) => Network::WaitingForClock,
        };
        Self { power: power(report), network, air: air(report) }
    }

    /// The patterns of the lights for power, network and air.
    pub fn patterns(&self) -> [Pattern; 3] {
        let power = match self.power {
            Power::Booting => Pattern::Slow,
            Power::Well => Pattern::Solid,
            Power::Fault(fault) => Pattern::Code(fault as u8),
            Power::Updating => Pattern::Fast,
            Power::ShuttingDown => Pattern::Heartbeat,
        };
        let network = match self.network {
            Network::Unknown => Pattern::Off,
            Network::WaitingForNetwork => Pattern::Slow,
            Network::WaitingForClock => Pattern::Heartbeat,
            Network::Ready => Pattern::Solid,
        };
        let air = match self.air {
            Air::Off => Pattern::Off,
            Air::On => Pattern::Solid,
            Air::Degraded => Pattern::Slow,
            Air::NoMusic => Pattern::Heartbeat,
        };
        [power, network, air]
    }
}

fn power(report: &Report) -> Power {
    match report.status {
        _ if report.conditions.updating => Power::Updating,
        Status::OnAir => Power::Well,
        Status::Starting if unwell(report).is_none() && report.uptime_seconds <= START_LIMIT => {
            Power::Booting
        }
        Status::Starting | Status::Degraded | Status::OffAir => {
            Power::Fault(unwell(report).unwrap_or(Fault::Other))
        }
    }
}

fn air(report: &Report) -> Air {
    match report.status {
        Status::Starting | Status::OffAir => Air::Off,
        Status::OnAir | Status::Degraded if report.plays_ident() => Air::NoMusic,
        Status::OnAir => Air::On,
        Status::Degraded => Air::Degraded,
    }
}

/// The fault nearest to the source of the flow: what comes after it may only lack its supply.
fn unwell(report: &Report) -> Option<Fault> {
    let unwell =
        report.stages.iter().filter(|stage| matches!(stage.state, StageState::Failed | StageState::Stalled));
    let fault =
        |name: &str| FAULTS.iter().find(|(stage, _)| *stage == name).map_or(Fault::Other, |(_, f)| *f);
    unwell.map(|stage| fault(stage.name)).min()
}

impl Display for BoardState {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self.power {
            Power::Booting => "booting",
            Power::Well => "well",
            Power::Fault(_) => "fault",
            Power::Updating => "updating",
            Power::ShuttingDown => return f.write_str("shutting down"),
        })?;
        if let Power::Fault(fault) = self.power {
            write!(f, " {} ({fault})", fault as u8)?;
        }
        f.write_str(match self.network {
            Network::Unknown => "",
            Network::WaitingForNetwork => ", waiting for the network",
            Network::WaitingForClock => ", waiting for the clock",
            Network::Ready => ", network ready",
        })?;
        f.write_str(match self.air {
            Air::Off => ", not on air",
            Air::On => ", on air",
            Air::Degraded => ", on air but degraded",
            Air::NoMusic => ", on air without music",
        })
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Music => "music",
            Self::Encoder => "encoder",
            Self::Publisher => "publisher",
            Self::Http => "web server",
            Self::Ipfs => "IPFS",
            Self::Archive => "archive",
            Self::Leds => "LEDs or button",
            Self::Other => "see /health",
        })
    }
}

#[cfg(test)]
mod tests;
