//! What is taken of the messages that come, and when their authors are forgotten. Pure.
//!
//! A message is looked at from cheap to dear: form, age, a budget for signatures, the signatures, the date, its author's
//! rate. It is taken whole or it changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::merge::{Node, State, StationPart};
use super::message::{Claim, Refusal};
use super::token_bucket::{Rate, TokenBucket};
use crate::ipfs::ipns::{Name, Record};

/// What may be dated ahead of the reference time, for clocks that differ.
pub const FUTURE_MS: i64 = 60_000;
/// Older words of a node are those of one that would be forgotten by now.
pub const PAST_MS: i64 = 300_000;
/// Messages of one node. A relay sends one a segment at most, the origin three at its start.
const AUTHOR: Rate = Rate { per_second: 1, burst: 8 };
/// Messages whose signatures are verified. Nodes of this program send about four a second, however many they are.
const VERIFIED: Rate = Rate { per_second: 60, burst: 600 };
/// What each known node adds to the time between two messages of one, so that all together send four a second. Each comes
/// from several neighbours: docs/scale.md has what that costs many relays.
const PERIOD_PER_NODE: Duration = Duration::from_millis(250);
/// A node is forgotten after so many of its periods without a word,
const PERIODS: u32 = 3;
/// and not before this time.
const SHORTEST_SILENCE: Duration = Duration::from_secs(30);

/// A moment: of the monotonic clock, and of the wall clock where that is believed.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Milliseconds since some start; never goes back.
    pub mono_ms: u64,
    /// Unix time in milliseconds; `None` while the wall clock is not believed.
    pub unix_ms: Option<i64>,
}

/// What a message brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Who sent it.
    pub peer: Name,
    /// Whether the station part was news.
    pub station: bool,
    /// A record that is better than those before.
    pub record: Option<Record>,
}

/// A known node, and its last word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Who it is.
    pub peer: Name,
    /// Time since its first word.
    pub known_for: Duration,
    /// Time since its last word.
    pub silent_for: Duration,
    /// What it said last.
    pub node: Arc<Node>,
}

/// How long a node has been heard, and how often.
#[derive(Debug, Clone, Copy)]
struct Contact {
    first_ms: u64,
    last_ms: u64,
    bucket: TokenBucket,
}

/// The state, and what it takes to let nothing wrong into it.
#[derive(Debug)]
pub struct Intake {
    station: Name,
    own: Name,
    segment: Duration,
    state: State,
    contacts: BTreeMap<Name, Contact>,
    verified: TokenBucket,
    /// The highest difference between the station's time and ours, of all its words: what its clock reads now, less the
    /// time that its quickest word took.
    station_clock: Option<i64>,
}

impl Intake {
    /// Knows nothing of the nodes of `station` yet; the node itself is `own`.
    pub fn new(station: Name, own: Name, segment: Duration, state: State) -> Self {
        Self {
            station,
            own,
            segment,
            state,
            contacts: BTreeMap::new(),
            verified: TokenBucket::full(VERIFIED, 0),
            station_clock: None,
        }
    }

    /// What is known.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The time against which dates are judged: that of the wall clock, where it is believed, else that of the station's
    /// newest word. `None` where neither is there, as on a board without a clock that has heard nothing yet.
    pub fn reference(&self, now: Moment) -> Option<i64> {
        now.unix_ms.or(self.station_clock.map(|offset| offset.saturating_add(signed(now.mono_ms))))
    }

    /// How long a relay waits from one message to the next.
    pub fn period(&self) -> Duration {
        let nodes = u32::try_from(self.state.len()).unwrap_or(u32::MAX);
        self.segment.max(PERIOD_PER_NODE.saturating_mul(nodes))
    }

    /// Reads a message and takes in what is news.
    ///
    /// # Errors
    /// [`Refusal`]; nothing has changed then, but that an author may have used up what he may send.
    pub fn take(&mut self, bytes: &[u8], now: Moment) -> Result<Taken, Refusal> {
        let claim = Claim::read(&self.station, bytes)?;
        let node = Node::new(&claim.node, claim.node_bytes());
        let news = claim.peer != self.own && self.state.node(&claim.peer).is_none_or(|known| *known < node);
        let part = self.station_news(&claim);
        if !news && part.is_none() {
            return Err(Refusal::Old);
        }
        if !self.verified.take(VERIFIED, now.mono_ms) {
            return Err(Refusal::Busy);
        }
        claim.verify_node()?;
        let record = match &part {
            Some(_) => claim.verify_station(&self.station, now.unix_ms)?,
            None => None,
        };
        self.check_dates(&claim, part.as_ref(), now)?;
        let part = part.filter(|part| part.beats(self.state.station()));
        let record = record.filter(|record| self.state.record().is_none_or(|known| record > known));
        if !news && part.is_none() && record.is_none() {
            return Err(Refusal::Old);
        }
        let mut contact = self.contact(claim.peer, now);
        if !contact.bucket.take(AUTHOR, now.mono_ms) {
            return Err(Refusal::Rate);
        }
        if news {
            self.keep_node(claim.peer, node, contact);
        }
        let station = part.is_some_and(|part| self.keep_station(part, now));
        if let Some(record) = &record {
            self.state.offer_record(record.clone());
        }
        Ok(Taken { peer: claim.peer, station, record })
    }

    /// The station part, where it, or the record with it, is another one than that which is known.
    fn station_news(&self, claim: &Claim<'_>) -> Option<StationPart> {
        let (signed, record) = claim.station_bytes()?;
        let same_part = self.state.station().is_some_and(|known| known.signed == signed);
        let same_record = self.state.record().is_some_and(|known| known.bytes == record);
        (!same_part || !same_record).then_some(())?;
        Some(StationPart { facts: claim.station.clone()?, signed })
    }

    /// The station's own word counts for its time where no clock is believed: nobody else can sign it.
    fn check_dates(&self, claim: &Claim<'_>, part: Option<&StationPart>, now: Moment) -> Result<(), Refusal> {
        let said = part.map(|part| part.facts.time_ms);
        if let (Some(unix), Some(said)) = (now.unix_ms, said) {
            is_not_ahead(said, unix)?;
        }
        let Some(reference) = self.reference(now) else { return Ok(()) };
        let reference = now.unix_ms.unwrap_or(reference.max(said.unwrap_or(reference)));
        is_not_ahead(claim.node.time_ms, reference)?;
        if claim.node.time_ms < reference.saturating_sub(PAST_MS) { Err(Refusal::Old) } else { Ok(()) }
    }

    /// What is known of an author who speaks now; of a stranger, nothing yet.
    fn contact(&self, peer: Name, now: Moment) -> Contact {
        let new = || (now.mono_ms, TokenBucket::full(AUTHOR, now.mono_ms));
        let known = self.contacts.get(&peer).map(|contact| (contact.first_ms, contact.bucket));
        let (first_ms, bucket) = known.unwrap_or_else(new);
        Contact { first_ms, last_ms: now.mono_ms, bucket }
    }

    fn keep_node(&mut self, peer: Name, node: Node, contact: Contact) {
        self.state.offer_node(peer, node);
        self.contacts.insert(peer, contact);
        if self.contacts.len() > self.state.len() {
            let state = &self.state;
            self.contacts.retain(|peer, _| state.node(peer).is_some());
        }
    }

    fn keep_station(&mut self, part: StationPart, now: Moment) -> bool {
        let offset = part.facts.time_ms.saturating_sub(signed(now.mono_ms));
        let news = self.state.offer_station(part);
        if news {
            self.station_clock = Some(self.station_clock.map_or(offset, |known| known.max(offset)));
        }
        news
    }

    /// Takes in what the station itself says, on its own node.
    pub fn speak_for_station(&mut self, part: StationPart, record: Record) {
        self.state.offer_station(part);
        self.state.offer_record(record);
    }

    /// The station part to pass on, with its record; none where that is worth nothing any more.
    pub fn station_to_pass_on(&self, now: Moment) -> Option<(StationPart, Bytes)> {
        let (part, record) = (self.state.station()?, self.state.record()?);
        let valid = self.reference(now).is_none_or(|unix| record.check_time(unix).is_ok());
        valid.then(|| (part.clone(), record.bytes.clone()))
    }

    /// Forgets the nodes that have said nothing for three of their periods, 30 s at least; `true` when there were any.
    pub fn forget_stale(&mut self, now: Moment) -> bool {
        // Periods are jittered by a quarter.
        let silence = self.period() * PERIODS * 5 / 4;
        let silence = silence.max(SHORTEST_SILENCE).as_millis();
        let before = self.contacts.len();
        self.contacts.retain(|_, contact| u128::from(now.mono_ms.saturating_sub(contact.last_ms)) < silence);
        let contacts = &self.contacts;
        self.state.retain_nodes(|peer| contacts.contains_key(peer));
        self.contacts.len() < before
    }

    /// The known nodes, and for how long they have been heard.
    pub fn heard(&self, now: Moment) -> Vec<Heard> {
        let since = |ms| Duration::from_millis(now.mono_ms.saturating_sub(ms));
        let heard = |(peer, node): (&Name, &Arc<Node>)| {
            let contact = self.contacts.get(peer)?;
            let (known_for, silent_for) = (since(contact.first_ms), since(contact.last_ms));
            Some(Heard { peer: *peer, known_for, silent_for, node: node.clone() })
        };
        self.state.shared_nodes().filter_map(heard).collect()
    }
}

fn is_not_ahead(time_ms: i64, reference: i64) -> Result<(), Refusal> {
    if time_ms > reference.saturating_add(FUTURE_MS) { Err(Refusal::Future) } else { Ok(()) }
}

fn signed(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
