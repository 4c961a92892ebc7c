//! From a record to the tree that it names.

use std::sync::Arc;
use std::time::Duration;

use cid::Cid;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument;

use super::following::Following;
use super::signed_tree::{self, ReadError, SignedTree};
use super::source::Reader;
use super::{Heard, Relay, RelayError, Work, turn};
use crate::ipfs::ipns::Record;
use crate::metrics::NameMetrics;

/// How long one block of a tree may take before the newest tree is tried instead.
const TREE_PATIENCE: Duration = Duration::from_secs(6);
/// For how long the tree of a tick is taken from other relays alone at most.
const TREE_SPREAD: Duration = Duration::from_millis(1_500);
/// Segments without a record after which all is taken wherever it is, where no more than so many are held ahead of air: the
/// station was out of reach, and little is left. A relay that hears it late and has much takes its turn: in a crowd on a
/// slow line all are late, and the station would have to serve all of them.
const HASTY_SEGMENTS: [u32; 2] = [2, 4];
/// Pause after a tree that could not be read.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// A tree that was read, or why not.
pub(super) struct Read {
    heard: Heard,
    tree: Result<SignedTree, ReadError>,
}

impl Relay {
    pub(super) fn hear(&self, following: &mut Following, work: &mut Work, record: Option<Arc<Record>>) {
        let Some(record) = record else { return };
        let known = following.record().is_some_and(|known| *known >= record);
        if !known {
            let at = Instant::now();
            let silent = following.heard_at.replace(at).map(|before| at - before);
            let [most_silent, least_lead] = HASTY_SEGMENTS.map(|segments| segments * following.segment());
            let hasty = silent.is_none_or(|silent| silent >= most_silent)
                && following.lead(self.millis_at(at)) < least_lead;
            let relays = if hasty { 1 } else { self.crowd() };
            let spared = at + turn::spare(relays, TREE_SPREAD, fastrand::f64());
            work.heard = Some(Heard { record, at, relays, spared });
            work.read_again_at = None;
        }
    }

    /// Reads the tree of the newest record, one at a time; one that takes too long is left for a newer one.
    pub(super) fn begin_reading(&self, following: &Following, work: &mut Work) {
        let Some(heard) = work.heard.clone() else { return };
        let same = work.read.as_ref() == Some(&heard.record);
        let paused = work.read_again_at.is_some();
        if same && (paused || !work.reading.is_empty()) || !same && !work.may_leave_reading() {
            return;
        }
        let again = same;
        let source = Reader { source: self.source.clone(), patience: TREE_PATIENCE, spared: heard.spared };
        let known = following.tree.as_ref().map(SignedTree::known_groups).unwrap_or_default();
        work.read = Some(heard.record.clone());
        work.read_since = Some(Instant::now());
        work.reading = JoinSet::new();
        let reading = async move {
            let reading = signed_tree::read(&source, heard.record.clone(), &known);
            let read = match root_to_find(&heard.record).filter(|_| again) {
                // Nobody who is connected had it: those are looked for who say that they do.
                Some(root) => {
                    let find = source.source.find(root);
                    tokio::pin!(reading);
                    tokio::select! {
                        read = &mut reading => read,
                        () = find => reading.await,
                    }
                }
                None => reading.await,
            };
            Read { heard, tree: read }
        };
        work.reading.spawn(reading.in_current_span());
    }

    /// Takes in what the station has signed. A tree that is refused changes nothing.
    pub(super) async fn take_in(
        &self,
        following: &mut Following,
        work: &mut Work,
        read: Read,
    ) -> Result<(), RelayError> {
        let Read { heard, tree } = read;
        let tree = match tree {
            Ok(tree) => tree,
            Err(error) => {
                self.refuse(work, &heard, &error);
                return Ok(());
            }
        };
        NameMetrics::count(&self.metrics.relay.trees, "read");
        if work.heard.as_ref().is_some_and(|newest| newest.record == heard.record) {
            work.heard = None;
        }
        let newest = tree.signed.newest;
        let advanced = following.tree.as_ref().is_none_or(|before| before.signed.newest < newest);
        let gone = following.window.take_in(&tree.signed);
        following.forget(&gone);
        following.backlog.unlinked.extend(gone);
        following.learn();
        if advanced {
            following.airtimes.arrived(newest, self.millis_at(heard.at));
        }
        let now_ms = self.millis_at(Instant::now());
        let known = following.tree.as_ref().map(|before| before.signed.newest);
        following.note_announced(known, heard.at, now_ms, heard.relays, fastrand::f64);
        following.read_at.get_or_insert_with(Instant::now);
        self.adopt(following, &tree).await?;
        following.tree = Some(tree);
        following.changed = true;
        Ok(())
    }

    /// How many relays of the station there are, this one among them.
    pub(super) fn crowd(&self) -> usize {
        match self.source.peers() {
            // Nobody but the station.
            0 | 1 => 1,
            peers => peers.max(self.overall.relays() + 1),
        }
    }

    fn refuse(&self, work: &mut Work, heard: &Heard, error: &ReadError) {
        let (sequence, passing) = (heard.record.sequence, error.is_passing());
        NameMetrics::count(&self.metrics.relay.trees, if passing { "missing" } else { "refused" });
        let error = error as &dyn std::error::Error;
        if passing {
            tracing::debug!(sequence, error, "a tree of the station is not read");
            work.read_again_at = Some(Instant::now() + READ_AGAIN);
            return;
        }
        tracing::warn!(sequence, error, "a tree of the station is refused");
        if work.heard.as_ref().is_some_and(|newest| newest.record == heard.record) {
            work.heard = None;
        }
    }
}

impl Work {
    /// Whether a newer record may take the place of the one that is read: readings are short, or hopeless.
    fn may_leave_reading(&self) -> bool {
        self.reading.is_empty() || self.read_since.is_none_or(|since| since.elapsed() >= TREE_PATIENCE)
    }
}

fn root_to_find(record: &Record) -> Option<Cid> {
    record.value.strip_prefix("/ipfs/")?.parse().ok()
}
