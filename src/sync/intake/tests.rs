use super::*;
use crate::ipfs::ipns::{self, RecordError};
use crate::ipfs::{Block, Identity};
use crate::sync::message::{
    self, NodeFacts, Signed, StationFacts, encode, node_payload, station_payload, write,
};

const SEGMENT: Duration = Duration::from_millis(3_840);
const NOW: i64 = 1_795_377_600_000;

/// A station and what its nodes say.
struct Rig {
    station: Identity,
    intake: Intake,
}

/// What a test makes a node say.
#[derive(Clone, Copy)]
struct Word {
    seq: u64,
    time_ms: i64,
    /// Sequence number and time of the station part, and the sequence number of the record.
    station: Option<(u64, i64, u64)>,
}

fn word(seq: u64, time_ms: i64) -> Word {
    Word { seq, time_ms, station: None }
}

impl Word {
    fn with_station(self, seq: u64, time_ms: i64, record: u64) -> Self {
        Self { station: Some((seq, time_ms, record)), ..self }
    }
}

impl Rig {
    fn new() -> Self {
        Self::with_capacity(100)
    }

    fn with_capacity(capacity: usize) -> Self {
        let (station, own) = (Identity::generate(), Identity::generate());
        let state = State::with_capacity(capacity);
        let intake = Intake::new(station.name(), own.name(), SEGMENT, state);
        Self { station, intake }
    }

    fn facts(&self, word: Word) -> NodeFacts {
        NodeFacts {
            name: self.station.ipns_name(),
            seq: word.seq,
            time_ms: word.time_ms,
            role: "relay".into(),
            software: "test".into(),
            newest: None,
            held_until: None,
            http: Vec::new(),
            swarm: Vec::new(),
            listeners: 0,
        }
    }

    fn station_part(&self, seq: u64, time_ms: i64) -> Signed {
        let facts = StationFacts {
            name: self.station.ipns_name(),
            seq,
            time_ms,
            newest: None,
            ahead: None,
            index: Vec::new(),
            now_playing: None,
            relays_known: 0,
        };
        let facts = encode(&facts);
        let signature = self.station.sign(&station_payload(&facts)).unwrap().into();
        Signed { facts, signature }
    }

    fn record(&self, sequence: u64) -> Bytes {
        let (root, hour) = (Block::raw("root").cid, Duration::from_secs(3_600));
        ipns::sign(&self.station, root, sequence, NOW, hour, Duration::ZERO).unwrap().bytes
    }

    fn says(&self, author: &Identity, word: Word) -> Bytes {
        let facts = encode(&self.facts(word));
        let signature = author.sign(&node_payload(&facts)).unwrap().into();
        let part =
            word.station.map(|(seq, time, record)| (self.station_part(seq, time), self.record(record)));
        let part = part.as_ref().map(|(part, record)| (part, &record[..]));
        write(&Signed { facts, signature }, &author.public_key(), part)
    }

    fn take(&mut self, author: &Identity, word: Word, now: Moment) -> Result<Taken, Refusal> {
        let bytes = self.says(author, word);
        self.intake.take(&bytes, now)
    }

    /// Has a message refused, and sees that nothing has changed by it.
    fn refuses(&mut self, bytes: &[u8], now: Moment, why: Refusal) {
        let before = (self.intake.state.clone(), self.intake.reference(now), self.intake.contacts.len());
        assert_eq!(self.intake.take(bytes, now), Err(why));
        let after = (self.intake.state.clone(), self.intake.reference(now), self.intake.contacts.len());
        assert!(before == after, "{why:?} changed something");
    }
}

/// So many seconds after the start, with a clock that is believed.
fn at(seconds: u64) -> Moment {
    Moment { mono_ms: seconds * 1_000, unix_ms: Some(NOW + seconds as i64 * 1_000) }
}

/// The same without a clock.
fn clockless(seconds: u64) -> Moment {
    Moment { unix_ms: None, ..at(seconds) }
}

#[test]
fn what_is_new_is_taken_and_old_or_replayed_words_change_nothing() {
    let (mut rig, author) = (Rig::new(), Identity::generate());
    let first = rig.says(&author, word(5, NOW).with_station(5, NOW, 5));
    let taken = rig.intake.take(&first, at(0)).unwrap();
    assert_eq!((taken.peer, taken.station), (author.name(), true));
    assert_eq!(taken.record.unwrap().sequence, 5);
    rig.refuses(&first, at(1), Refusal::Old);
    let older = rig.says(&author, word(4, NOW).with_station(4, NOW, 4));
    rig.refuses(&older, at(1), Refusal::Old);
    let earlier = rig.says(&author, word(9, NOW - 1));
    rig.refuses(&earlier, at(1), Refusal::Old);
    // Another node, whose station part is old, is news itself.
    let taken = rig.take(&Identity::generate(), word(1, NOW).with_station(4, NOW, 4), at(1)).unwrap();
    assert_eq!((taken.station, taken.record), (false, None));
    assert_eq!(rig.intake.state.station().unwrap().facts.seq, 5);
    assert_eq!(rig.intake.state.record().unwrap().sequence, 5);
    // An old word of a node with a new one of its station brings the latter, once.
    let both = rig.says(&author, word(4, NOW).with_station(6, NOW, 6));
    let taken = rig.intake.take(&both, at(1)).unwrap();
    assert_eq!((taken.station, taken.record.unwrap().sequence), (true, 6));
    rig.refuses(&both, at(1), Refusal::Old);
}

#[test]
fn a_newer_record_beside_a_known_word_is_taken_and_a_known_word_beside_an_older_record_is_kept() {
    let (mut rig, author) = (Rig::new(), Identity::generate());
    rig.take(&author, word(1, NOW).with_station(5, NOW, 5), at(0)).unwrap();
    let taken = rig.take(&author, word(2, NOW).with_station(5, NOW, 6), at(0)).unwrap();
    assert_eq!((taken.station, taken.record.unwrap().sequence), (false, 6));
    let taken = rig.take(&author, word(3, NOW).with_station(6, NOW, 4), at(0)).unwrap();
    assert_eq!((taken.station, taken.record), (true, None));
    let (part, record) = rig.intake.station_to_pass_on(at(0)).unwrap();
    assert_eq!((part.facts.seq, record), (6, rig.record(6)));
    assert!(rig.intake.station_to_pass_on(at(3_599)).is_some());
    assert!(rig.intake.station_to_pass_on(at(3_600)).is_none(), "an expired record is passed on to nobody");
}

#[test]
fn forged_words_change_nothing_whoever_forges_them() {
    let (mut rig, author, other) = (Rig::new(), Identity::generate(), Identity::generate());
    rig.take(&author, word(1, NOW).with_station(1, NOW, 1), at(0)).unwrap();
    let facts = encode(&rig.facts(word(9, NOW)));
    let signature = other.sign(&node_payload(&facts)).unwrap().into();
    let in_anothers_name = write(&Signed { facts, signature }, &author.public_key(), None);
    rig.refuses(&in_anothers_name, at(1), Refusal::Forged);
    let (station, real) = (Rig::new(), rig.station.clone());
    let mut part = station.station_part(9, NOW);
    part.facts = rig.station_part(9, NOW).facts;
    let facts = encode(&rig.facts(word(9, NOW)));
    let signature: Box<[u8]> = author.sign(&node_payload(&facts)).unwrap().into();
    let node = Signed { facts, signature };
    let record = rig.record(9);
    rig.refuses(&write(&node, &author.public_key(), Some((&part, &record))), at(1), Refusal::Forged);
    let good = rig.station_part(9, NOW);
    let foreign = Rig { station: other, intake: station.intake }.record(9);
    let lie = write(&node, &author.public_key(), Some((&good, &foreign)));
    assert!(matches!(
        rig.intake.take(&lie, at(1)),
        Err(Refusal::Record(RecordError::OtherKey | RecordError::Forged))
    ));
    assert_eq!(rig.intake.state.record().unwrap().sequence, 1);
    assert_eq!(real.name(), rig.station.name());
    assert!(rig.intake.take(&write(&node, &author.public_key(), Some((&good, &record))), at(1)).is_ok());
}

#[test]
fn words_from_the_future_or_a_forgotten_past_change_nothing() {
    let (mut rig, author) = (Rig::new(), Identity::generate());
    for (word, why) in [
        (word(1, NOW + FUTURE_MS + 1), Refusal::Future),
        (word(1, NOW).with_station(1, NOW + FUTURE_MS + 1, 1), Refusal::Future),
        (word(1, i64::MAX), Refusal::Future),
        (word(1, NOW - PAST_MS - 1), Refusal::Old),
        (word(1, i64::MIN), Refusal::Old),
    ] {
        let bytes = rig.says(&author, word);
        rig.refuses(&bytes, at(0), why);
    }
    assert!(rig.take(&author, word(1, NOW + FUTURE_MS), at(0)).is_ok());
    assert!(rig.take(&Identity::generate(), word(1, NOW - PAST_MS), at(0)).is_ok());
    // However old the station's word is: relays pass it on while the origin is away.
    let old = word(1, NOW).with_station(1, NOW - 3_600_000, 1);
    assert!(rig.take(&Identity::generate(), old, at(0)).unwrap().station);
}

#[test]
fn without_a_clock_the_station_tells_the_time_and_nobody_else() {
    let (mut rig, relay, other) = (Rig::new(), Identity::generate(), Identity::generate());
    assert_eq!(rig.intake.reference(clockless(0)), None);
    // Nothing to judge by: the first word is believed, and is no time.
    rig.take(&relay, word(1, NOW), clockless(0)).unwrap();
    assert_eq!(rig.intake.reference(clockless(1)), None);
    let hour_ago = NOW - 3_600_000;
    rig.take(&other, word(2, hour_ago).with_station(1, hour_ago, 1), clockless(2)).unwrap();
    assert_eq!(rig.intake.reference(clockless(12)), Some(hour_ago + 10_000), "it runs on");
    let now = rig.says(&other, word(3, NOW));
    rig.refuses(&now, clockless(3), Refusal::Future);
    // The origin is back: its word is a newer time.
    let origin = rig.station.clone();
    rig.take(&origin, word(1, NOW).with_station(2, NOW, 2), clockless(4)).unwrap();
    assert_eq!(rig.intake.reference(clockless(4)), Some(NOW));
    assert!(rig.take(&other, word(3, NOW), clockless(4)).is_ok());
    // A believed clock wins.
    assert_eq!(rig.intake.reference(at(4)), Some(NOW + 4_000));
}

#[test]
fn one_author_cannot_speak_for_long_above_its_rate() {
    let (mut rig, author) = (Rig::new(), Identity::generate());
    let spoken = (1..=20).map(|n| rig.take(&author, word(n, NOW + n as i64), at(0)));
    let taken: Vec<_> = spoken.map(|result| result.map(|_| ())).collect();
    assert_eq!(taken.iter().filter(|result| result.is_ok()).count(), 8);
    assert!(taken[8..].iter().all(|result| *result == Err(Refusal::Rate)), "{taken:?}");
    let bytes = rig.says(&author, word(30, NOW + 30));
    rig.refuses(&bytes, at(0), Refusal::Rate);
    assert!(rig.take(&Identity::generate(), word(1, NOW), at(0)).is_ok(), "others may");
    assert!(rig.take(&author, word(30, NOW + 30), at(1)).is_ok());
    assert_eq!(rig.take(&author, word(31, NOW + 31), at(1)), Err(Refusal::Rate));
}

#[test]
fn a_crowd_of_authors_costs_no_more_signatures_than_the_budget() {
    let mut rig = Rig::new();
    rig.intake.verified = TokenBucket::full(Rate { burst: 3, ..VERIFIED }, 0);
    let taken = (0..10).map(|_| rig.take(&Identity::generate(), word(1, NOW), at(0)));
    let refused = taken.filter(|result| *result == Err(Refusal::Busy)).count();
    assert_eq!(refused, 7);
    assert!(rig.take(&Identity::generate(), word(1, NOW), at(1)).is_ok());
}

#[test]
fn a_claimed_crowd_is_bounded_with_all_that_is_kept_of_it() {
    let mut rig = Rig::with_capacity(10);
    for n in 0..30 {
        rig.take(&Identity::generate(), word(1, NOW + n), at(0)).unwrap();
    }
    assert_eq!((rig.intake.state.len(), rig.intake.contacts.len()), (10, 10));
    assert!(rig.intake.state.nodes().all(|(_, node)| node.time_ms >= NOW + 20), "those who spoke last");
}

#[test]
fn a_node_that_says_nothing_for_three_periods_is_forgotten_and_welcome_again() {
    let (mut rig, one, other) = (Rig::new(), Identity::generate(), Identity::generate());
    rig.take(&one, word(1, NOW), at(0)).unwrap();
    rig.take(&other, word(1, NOW), at(10)).unwrap();
    assert!(!rig.intake.forget_stale(at(29)));
    assert!(rig.intake.forget_stale(at(30)));
    assert!(rig.intake.state.node(&one.name()).is_none() && rig.intake.state.node(&other.name()).is_some());
    rig.take(&other, word(2, NOW + 1), at(39)).unwrap();
    assert!(!rig.intake.forget_stale(at(60)));
    let heard = &rig.intake.heard(at(60))[0];
    assert_eq!((heard.known_for.as_secs(), heard.silent_for.as_secs()), (50, 21));
    rig.take(&one, word(2, NOW + 60_000), at(60)).unwrap();
    assert_eq!(rig.intake.state.len(), 2);
    assert!(rig.intake.forget_stale(at(600)));
    assert!(rig.intake.state.is_empty() && rig.intake.contacts.is_empty());
}

#[test]
fn the_more_nodes_there_are_the_longer_each_waits() {
    let mut rig = Rig::with_capacity(10_000);
    assert_eq!(rig.intake.period(), SEGMENT);
    for n in 0..1_000_u64 {
        let peer = Name::from(cid::multihash::Multihash::wrap(0, &n.to_be_bytes()).unwrap());
        let contact = rig.intake.contact(peer, at(0));
        rig.intake.keep_node(peer, Node { time_ms: NOW, seq: 1, bytes: [].into() }, contact);
    }
    assert_eq!(rig.intake.period(), Duration::from_secs(250));
    assert!(!rig.intake.forget_stale(at(937)), "three periods, jittered by a quarter");
    assert!(rig.intake.forget_stale(at(938)));
}

#[test]
fn our_own_words_are_no_news() {
    let mut rig = Rig::new();
    let own = Identity::generate();
    rig.intake.own = own.name();
    let bytes = rig.says(&own, word(1, NOW));
    rig.refuses(&bytes, at(0), Refusal::Old);
    // What a run before said of the station is: the origin goes above it.
    let taken = rig.take(&own, word(1, NOW).with_station(77, NOW, 1), at(0)).unwrap();
    assert!(taken.station);
    assert_eq!(rig.intake.state.station().unwrap().facts.seq, 77);
    assert!(rig.intake.state.is_empty());
    assert!(message::MAX_BYTES > bytes.len());
}
