//! Which peers are not there any more, though their connections are open. Pure.
//!
//! Where a line is cut, TCP says nothing: it sends again after pauses that double, so that a connection which has survived
//! a cut of four minutes may stay silent for as many after it. So a peer of which nothing comes is asked, and let go where it
//! does not answer; whoever wants it dials it anew.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::PeerId;

/// A peer of which nothing came for so long is asked: whoever follows a station hears of it every 3.84 s.
const SILENT: Duration = Duration::from_secs(5);
/// How long the answer may take. Media that come count as one.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// How long a connection may take to close. One whose line is dead may hang in it, and keeps nobody out for longer.
const CLOSE_WITHIN: Duration = Duration::from_secs(3);

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// The peer is to be asked whether it is there.
    Ask(PeerId),
    /// It is not there: its connections are to be closed.
    LetGo(PeerId),
}

/// Who was asked, and whose connections are being closed, since when.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    asked: HashMap<PeerId, Instant>,
    closing: HashMap<PeerId, Instant>,
}

impl Liveness {
    /// What is due for the connected `peers`, of whom something came last at the times given.
    pub(crate) fn look(&mut self, now: Instant, peers: &[(PeerId, Instant)]) -> Vec<Due> {
        let silent: HashMap<_, _> = peers
            .iter()
            .filter(|(_, heard)| now.saturating_duration_since(*heard) >= SILENT)
            .copied()
            .collect();
        self.asked.retain(|peer, _| silent.contains_key(peer));
        self.closing.retain(|_, since| now.saturating_duration_since(*since) < 2 * CLOSE_WITHIN);
        silent.into_keys().filter_map(|peer| self.step(peer, now)).collect()
    }

    fn step(&mut self, peer: PeerId, now: Instant) -> Option<Due> {
        match self.asked.get(&peer) {
            None => {
                self.asked.insert(peer, now);
                Some(Due::Ask(peer))
            }
            Some(at) if now.saturating_duration_since(*at) < ANSWER_WITHIN => None,
            Some(_) if self.closing.contains_key(&peer) => None,
            Some(_) => {
                self.closing.insert(peer, now);
                Some(Due::LetGo(peer))
            }
        }
    }

    /// Whether the open connection of a peer that comes anew is to be closed for that.
    pub(crate) fn is_over(&mut self, peer: &PeerId, heard: Instant, now: Instant) -> bool {
        let silent = now.saturating_duration_since(heard) >= SILENT;
        silent && now.saturating_duration_since(*self.closing.entry(*peer).or_insert(now)) < CLOSE_WITHIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_is_silent_is_asked_once_and_let_go_where_no_answer_comes() {
        let (mut liveness, [a, b], start) =
            (Liveness::default(), [PeerId::random(), PeerId::random()], Instant::now());
        let at = |seconds| start + seconds * SECOND;
        assert_eq!(liveness.look(at(4), &[(a, start), (b, start)]), []);
        assert_eq!(liveness.look(at(5), &[(a, start), (b, at(3))]), [Due::Ask(a)]);
        assert_eq!(liveness.look(at(8), &[(a, start), (b, at(8))]), []);
        assert_eq!(liveness.look(at(9), &[(a, start), (b, at(8))]), [Due::LetGo(a)]);
        assert_eq!(liveness.look(at(10), &[(a, start)]), [], "once");
        assert_eq!(liveness.look(at(15), &[(a, start)]), [Due::LetGo(a)], "it hangs");
    }

    #[test]
    fn an_answer_and_anything_else_that_comes_keeps_a_peer() {
        let (mut liveness, a, start) = (Liveness::default(), PeerId::random(), Instant::now());
        let at = |seconds| start + seconds * SECOND;
        assert_eq!(liveness.look(at(5), &[(a, start)]), [Due::Ask(a)]);
        assert_eq!(liveness.look(at(9), &[(a, at(8))]), []);
        assert_eq!(liveness.look(at(13), &[(a, at(8))]), [Due::Ask(a)], "silent again, asked again");
        assert_eq!(liveness.look(at(16), &[(a, at(8))]), []);
    }

    #[test]
    fn who_comes_anew_ends_its_silent_connection_and_is_not_kept_out_for_long() {
        let (mut liveness, a, start) = (Liveness::default(), PeerId::random(), Instant::now());
        let at = |seconds| start + seconds * SECOND;
        assert!(!liveness.is_over(&a, start, at(4)), "both at once, as when both dial");
        assert!(liveness.is_over(&a, start, at(5)) && liveness.is_over(&a, start, at(7)));
        assert!(!liveness.is_over(&a, start, at(8)), "the old one hangs");
    }
}
