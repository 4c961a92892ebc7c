//! What this node wants of others: whom it has asked, and whom it asks next. Pure but for the channel to who waits.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use libp2p::PeerId;
use tokio::sync::watch;

use super::message::Entry;

/// Blocks that are asked for at a time.
pub(super) const MAX_WANTED: usize = 1024;
/// Peers that are asked for one block.
const MAX_ASKED: usize = 64;
/// How long a peer that has the block may take to send it, before the next one is asked too.
const BLOCK_WITHIN: Duration = Duration::from_secs(5);
/// Peers that are asked at first for a block that can wait, and for how long: more than a few mean more words than blocks.
const FEW: usize = 4;
const FEW_FOR: Duration = Duration::from_secs(1);
/// How often those who did not answer are told again.
const TELL_AGAIN: Duration = Duration::from_secs(20);

/// What to tell a peer.
pub(super) type Told = (PeerId, Entry);

struct Want {
    found: watch::Sender<Option<Bytes>>,
    told: Vec<PeerId>,
    told_at: Duration,
    /// Who was asked for the block itself, and when.
    asked: Option<(PeerId, Duration)>,
    /// Others that have it.
    others: VecDeque<PeerId>,
    calm: Option<Calm>,
}

/// A block that can wait: few are asked for it at first.
#[derive(Debug, Clone, Copy)]
struct Calm {
    /// Who is not asked yet, and until when; from then on it is asked whoever else is.
    spared: (PeerId, Duration),
    /// Until when few of the others are.
    few_until: Duration,
}

/// The blocks that are wanted. Times are since the start of whatever clock the caller has.
#[derive(Default)]
pub(super) struct Wanted(HashMap<Cid, Want>);

fn have(cid: Cid) -> Entry {
    // Who has it says so as soon as that is true; that it is not is no news.
    Entry { cid, block: false, dont_have: false, cancel: false }
}

fn block(cid: Cid) -> Entry {
    Entry { block: true, dont_have: true, ..have(cid) }
}

fn cancel(cid: Cid) -> Entry {
    Entry { cid, block: true, dont_have: false, cancel: true }
}

impl Want {
    /// Asks for the block itself.
    fn ask(&mut self, cid: Cid, peer: PeerId, now: Duration) -> Told {
        self.asked = Some((peer, now));
        (peer, block(cid))
    }

    /// Asks peers that were not told yet. The only peer there is gets no question whether it has the block.
    fn tell(&mut self, cid: Cid, peers: &[PeerId], now: Duration) -> Vec<Told> {
        let calm = self.calm;
        let is_spared = |peer: &PeerId| calm.is_some_and(|calm| calm.spared.0 == *peer);
        let spares = calm.is_some_and(|calm| now < calm.spared.1);
        let most = if calm.is_some_and(|calm| now < calm.few_until) { FEW } else { MAX_ASKED };
        let asked: Vec<_> = peers.iter().filter(|peer| !spares || !is_spared(peer)).copied().collect();
        let room = most.saturating_sub(self.told.iter().filter(|peer| !is_spared(peer)).count());
        let untold = asked.iter().filter(|peer| !self.told.contains(peer)).copied();
        let (mut new, others): (Vec<_>, Vec<_>) = untold.partition(is_spared);
        new.extend(others.into_iter().take(room));
        self.told.extend(&new);
        match (self.asked, new.as_slice()) {
            (None, [only]) if asked.len() == 1 => vec![self.ask(cid, *only, now)],
            _ => new.into_iter().map(|peer| (peer, have(cid))).collect(),
        }
    }

    fn next(&mut self, cid: Cid, now: Duration) -> Option<Told> {
        self.asked = None;
        let peer = self.others.pop_front()?;
        Some(self.ask(cid, peer, now))
    }
}

impl Wanted {
    /// Wants a block of all `peers`, or, where one is `spared` until some time, calmly: a few of the others are asked for it at
    /// first, in their order; unless somebody else here wants it of all. `None` where too many are wanted already.
    pub(super) fn begin(
        &mut self,
        cid: Cid,
        peers: &[PeerId],
        spared: Option<(PeerId, Duration)>,
        now: Duration,
    ) -> Option<(watch::Receiver<Option<Bytes>>, Vec<Told>)> {
        if self.0.len() >= MAX_WANTED && !self.0.contains_key(&cid) {
            return None;
        }
        let want = self.0.entry(cid).or_insert_with(|| Want {
            found: watch::channel(None).0,
            told: Vec::new(),
            told_at: now,
            asked: None,
            others: VecDeque::new(),
            calm: spared.map(|spared| Calm { spared, few_until: now + FEW_FOR }),
        });
        want.calm = want.calm.filter(|_| spared.is_some());
        Some((want.found.subscribe(), want.tell(cid, peers, now)))
    }

    /// Somebody waits no longer.
    pub(super) fn left(&mut self, cid: &Cid) -> Vec<Told> {
        let alone = self.0.get(cid).is_some_and(|want| want.found.receiver_count() == 0);
        let gone = alone.then(|| self.0.remove(cid)).flatten();
        gone.into_iter().flat_map(|want| want.told).map(|peer| (peer, cancel(*cid))).collect()
    }

    /// A peer has it.
    pub(super) fn has(&mut self, peer: PeerId, cid: Cid, now: Duration) -> Option<Told> {
        let want = self.0.get_mut(&cid)?;
        if want.asked.is_none() {
            return Some(want.ask(cid, peer, now));
        }
        if want.others.len() < MAX_ASKED && !want.others.contains(&peer) {
            want.others.push_back(peer);
        }
        None
    }

    /// A peer does not have it.
    pub(super) fn has_not(&mut self, peer: PeerId, cid: Cid, now: Duration) -> Option<Told> {
        let want = self.0.get_mut(&cid)?;
        want.others.retain(|other| *other != peer);
        let asked = want.asked.is_some_and(|(asked, _)| asked == peer);
        asked.then(|| want.next(cid, now)).flatten()
    }

    /// The block came; whom to tell that it is no longer wanted. `None` where nobody wanted it.
    pub(super) fn arrived(
        &mut self,
        from: PeerId,
        cid: &Cid,
        data: impl FnOnce() -> Bytes,
    ) -> Option<Vec<Told>> {
        let want = self.0.remove(cid)?;
        want.found.send_replace(Some(data()));
        Some(want.told.into_iter().filter(|peer| *peer != from).map(|peer| (peer, cancel(*cid))).collect())
    }

    /// Asks who has come since, and the next one where a peer has gone or takes too long.
    pub(super) fn look(&mut self, peers: &[PeerId], now: Duration) -> Vec<Told> {
        let mut told = Vec::new();
        for (cid, want) in &mut self.0 {
            want.told.retain(|peer| peers.contains(peer));
            want.others.retain(|peer| peers.contains(peer));
            if now.saturating_sub(want.told_at) >= TELL_AGAIN {
                want.told_at = now;
                want.told.clear();
            }
            let gone = |peer: &PeerId| !peers.contains(peer);
            if want.asked.is_some_and(|(peer, at)| gone(&peer) || now.saturating_sub(at) >= BLOCK_WITHIN) {
                told.extend(want.next(*cid, now));
            }
            told.extend(want.tell(*cid, peers, now));
        }
        told
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use multihash_codetable::{Code, MultihashDigest};

    const START: Duration = Duration::ZERO;

    fn cid() -> Cid {
        Cid::new_v1(0x55, Code::Sha2_256.digest(b"block"))
    }

    fn peers<const N: usize>() -> [PeerId; N] {
        std::array::from_fn(|_| PeerId::random())
    }

    #[test]
    fn the_only_peer_is_asked_for_the_block_at_once() {
        let (mut wanted, [a]) = (Wanted::default(), peers());
        let (waits, told) = wanted.begin(cid(), &[a], None, START).unwrap();
        assert_eq!(told, [(a, block(cid()))]);
        assert_eq!(wanted.arrived(a, &cid(), || Bytes::from_static(b"block")), Some(Vec::new()));
        assert_eq!(waits.borrow().as_deref(), Some(b"block".as_slice()));
        assert!(wanted.is_empty() && wanted.arrived(a, &cid(), Bytes::new).is_none());
    }

    #[test]
    fn of_many_the_first_that_has_it_sends_it_and_the_others_are_told_that_it_came() {
        let (mut wanted, [a, b, c]) = (Wanted::default(), peers());
        let (_waits, told) = wanted.begin(cid(), &[a, b, c], None, START).unwrap();
        assert_eq!(told, [(a, have(cid())), (b, have(cid())), (c, have(cid()))]);
        assert_eq!(wanted.has_not(a, cid(), START), None);
        assert_eq!(wanted.has(b, cid(), START), Some((b, block(cid()))));
        assert_eq!(wanted.has(c, cid(), START), None);
        assert_eq!(wanted.arrived(b, &cid(), Bytes::new), Some(vec![(a, cancel(cid())), (c, cancel(cid()))]));
    }

    #[test]
    fn a_peer_that_has_it_and_does_not_send_it_is_followed_by_the_next() {
        let (mut wanted, [a, b, c]) = (Wanted::default(), peers());
        let (_waits, _) = wanted.begin(cid(), &[a, b, c], None, START).unwrap();
        wanted.has(a, cid(), START);
        wanted.has(b, cid(), START);
        wanted.has(c, cid(), START);
        assert_eq!(wanted.look(&[a, b, c], BLOCK_WITHIN / 2), []);
        assert_eq!(wanted.look(&[a, b, c], BLOCK_WITHIN), [(b, block(cid()))]);
        assert_eq!(wanted.look(&[a, c], BLOCK_WITHIN), [(c, block(cid()))]);
        assert_eq!(wanted.has_not(c, cid(), BLOCK_WITHIN), None);
    }

    #[test]
    fn who_comes_later_is_asked_too_and_nobody_once_nobody_waits() {
        let (mut wanted, [a, b]) = (Wanted::default(), peers());
        let (waits, told) = wanted.begin(cid(), &[], None, START).unwrap();
        assert!(told.is_empty());
        assert_eq!(wanted.look(&[a], START), [(a, block(cid()))]);
        assert_eq!(wanted.look(&[a, b], START), [(b, have(cid()))]);
        assert!(wanted.left(&cid()).is_empty(), "one still waits");
        drop(waits);
        assert_eq!(wanted.left(&cid()), [(a, cancel(cid())), (b, cancel(cid()))]);
        assert!(wanted.is_empty());
    }

    #[test]
    fn a_peer_that_is_spared_is_asked_when_the_others_did_not_have_it_in_time() {
        let (mut wanted, [a, b, station]) = (Wanted::default(), peers());
        let (peers, until) = ([a, b, station], Duration::from_secs(2));
        let (_waits, told) = wanted.begin(cid(), &peers, Some((station, until)), START).unwrap();
        assert_eq!(told, [(a, have(cid())), (b, have(cid()))]);
        assert_eq!(wanted.look(&peers, until / 2), []);
        assert_eq!(wanted.look(&peers, until), [(station, have(cid()))]);
        assert_eq!(wanted.has(station, cid(), until), Some((station, block(cid()))));
    }

    #[test]
    fn of_many_peers_a_few_are_asked_at_first_for_a_block_that_can_wait_and_the_spared_one_beside_them() {
        let (mut wanted, peers) = (Wanted::default(), peers::<13>());
        let (station, until) = (peers[12], FEW_FOR / 2);
        let asked = |told: &[Told]| told.iter().map(|(peer, _)| *peer).collect::<Vec<_>>();
        let (_waits, told) = wanted.begin(cid(), &peers, Some((station, until)), START).unwrap();
        assert_eq!(asked(&told), peers[..FEW]);
        assert_eq!(asked(&wanted.look(&peers, until)), [station]);
        // One of the few has gone.
        assert_eq!(asked(&wanted.look(&peers[1..], until)), [peers[FEW]]);
        assert_eq!(asked(&wanted.look(&peers[1..], FEW_FOR)), peers[FEW + 1..12]);
        let (_waits, told) = wanted.begin(cid(), &peers, None, START).unwrap();
        assert_eq!(asked(&told), [peers[0]], "who was gone is back");
    }

    #[test]
    fn nobody_is_spared_a_block_that_somebody_else_here_wants_of_all() {
        let (mut wanted, [a, station]) = (Wanted::default(), peers());
        let (peers, until) = ([a, station], Duration::from_secs(2));
        let (_waits, told) = wanted.begin(cid(), &peers, Some((station, until)), START).unwrap();
        assert_eq!(told, [(a, block(cid()))], "the only one that may be asked");
        let (_also, told) = wanted.begin(cid(), &peers, None, START).unwrap();
        assert_eq!(told, [(station, have(cid()))]);
    }
}
