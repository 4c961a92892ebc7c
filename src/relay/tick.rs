//! A tick of a relay: what is held and due is on air, as one tree.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use futures::future::try_join_all;
use tokio::time::Instant;

use super::following::Following;
use super::signed_tree::SignedTree;
use super::{MOST_ADDRESSES, Relay, RelayError, station};
use crate::ipfs::Block;
use crate::ipfs::ipns::SignedRecord;
use crate::publisher::contents::Contents;
use crate::publisher::live_window::LiveWindow;
use crate::publisher::stream_tree::StreamTree;

/// A segment that comes on air by so much later than its estimate, in milliseconds, is late.
pub(super) const LATE_MS: i64 = 1_500;

/// Blocks whose pins are written at the same time.
const PUTS: usize = 32;

impl Relay {
    /// Holds what is signed, so that the name leads somewhere here, and hands on its record.
    pub(super) async fn adopt(&self, following: &mut Following, tree: &SignedTree) -> Result<(), RelayError> {
        let known: HashSet<Cid> =
            following.tree.iter().flat_map(|before| &before.blocks).map(|block| block.cid).collect();
        let fresh: Vec<_> = tree.blocks.iter().filter(|block| !known.contains(&block.cid)).collect();
        self.hold(&fresh).await?;
        let record = &tree.record;
        self.record.send_replace(Some(SignedRecord {
            sequence: record.sequence,
            root: tree.root,
            signed_at: self.clock.unix_millis(),
            bytes: record.bytes.clone(),
        }));
        following.tree_blocks.extend(tree.blocks.iter().map(|block| block.cid));
        let addresses = station::addresses(&tree.station, &self.name.peer_id(), MOST_ADDRESSES);
        self.origin_addresses.send_if_modified(|known| {
            *known != addresses && {
                *known = addresses;
                true
            }
        });
        self.overall.set_signed(record.sequence);
        self.metrics.ipns_sequence.set(i64::try_from(record.sequence).unwrap_or(i64::MAX));
        Ok(())
    }

    async fn hold(&self, blocks: &[&Block]) -> Result<(), RelayError> {
        for some in blocks.chunks(PUTS) {
            try_join_all(some.iter().map(|block| self.blocks.put_pinned(block)))
                .await
                .map_err(RelayError::Tree)?;
        }
        Ok(())
    }

    /// Puts on air what the window has on air.
    pub(super) async fn tick(&self, following: &mut Following) -> Result<(), RelayError> {
        let began = Instant::now();
        let gone = following.window.forget_before(*self.keep_from.borrow());
        following.forget(&gone);
        following.backlog.unlinked.extend(gone);
        following.airtimes.forget_before(following.window.oldest());
        let (Some(live), Some(signed)) = (following.window.live(), &following.tree) else { return Ok(()) };
        let station = self.station_of_tree(following, signed, &live);
        let Some((tree, blocks)) = build(following, signed, &live, station.clone()) else { return Ok(()) };
        let fresh: Vec<_> =
            blocks.iter().filter(|block| !following.tree_blocks.contains(&block.cid)).collect();
        self.hold(&fresh).await?;
        let now: HashSet<_> = blocks.iter().chain(&signed.blocks).map(|block| block.cid).collect();
        following.backlog.unlinked.extend(following.tree_blocks.difference(&now));
        following.tree_blocks = now;
        following.changed = false;
        let (root, newest) = (tree.root, tree.newest);
        self.save(following).await;
        self.tree.send_replace(Some(Arc::new(tree)));
        if following.last_reveal.is_none() {
            following.last_reveal = Some(Instant::now());
        }
        self.tell(following, &station, true);
        if let Ok(permit) = self.ticks.try_reserve() {
            permit.send(std::mem::take(&mut following.backlog));
        }
        self.report(following, newest, began);
        tracing::debug!(n = newest, cid = %root, "tick");
        Ok(())
    }

    /// The station's own file where it is of the same moment, else moved on to what is on air here.
    fn station_of_tree(&self, following: &Following, signed: &SignedTree, live: &LiveWindow) -> Bytes {
        let ends = live.aired().next().map(|segment| segment.n).zip(following.window.on_air());
        match ends.and_then(|(oldest, newest)| Some((oldest, following.window.segment(newest)?))) {
            Some((oldest, newest)) if newest.n != signed.signed.newest => {
                station::moved_on(&signed.station, oldest, newest)
            }
            _ => signed.station.clone(),
        }
    }

    /// station.json where there is no tree on air.
    pub(super) fn tell_station(&self, following: &Following) {
        let station = following.tree.as_ref().map(|tree| tree.station.clone());
        self.tell_file(station.as_ref(), false);
    }

    fn tell(&self, following: &Following, station: &Bytes, on_air: bool) {
        self.tell_file(Some(station), on_air);
        self.newest.send_replace(following.window.on_air().filter(|_| on_air));
        self.held_until.send_replace(following.window.held_until().filter(|_| on_air));
    }

    fn tell_file(&self, station: Option<&Bytes>, on_air: bool) {
        let addresses = self.addresses.borrow().clone();
        let ipns = self.name.to_string();
        let file = station::of_relay(station, &self.own_name, &ipns, on_air, &addresses);
        self.station_json.send_replace(file);
    }

    /// Nothing is left to put on air.
    pub(super) fn off_air(&self, following: &mut Following, why: &str) {
        following.last_reveal = None;
        self.tell_station(following);
        self.newest.send_replace(None);
        self.held_until.send_replace(None);
        self.overall.set_lead(Duration::ZERO);
        self.metrics.lead_seconds.set(0.0);
        self.overall.set_off_air(why);
        self.metrics.on_air.set(0);
    }

    /// Writes down where the relay stands. Only a restart needs it, so a failure is told and the air goes on.
    pub(super) async fn save(&self, following: &Following) {
        let Some(catalogue) = following.catalogue(&self.name, self.reading()) else { return };
        let file = self.catalogue_file.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || file.save(&catalogue)).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a restart now would not find the window"
            );
        }
    }

    fn report(&self, following: &Following, newest: u64, began: Instant) {
        let lead = following.lead(self.millis_at(Instant::now()));
        self.overall.set_on_air(newest);
        self.overall.set_lead(lead);
        self.metrics.on_air.set(1);
        self.metrics.newest_segment.set(i64::try_from(newest).unwrap_or(i64::MAX));
        self.metrics.lead_seconds.set(lead.as_secs_f64());
        let (blocks, bytes) = following.window.weight();
        let blocks = blocks + following.tree_blocks.len();
        self.metrics.blocks.set(i64::try_from(blocks).unwrap_or(i64::MAX));
        self.metrics.block_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.metrics.tick_seconds.observe(began.elapsed().as_secs_f64());
        self.health.progress();
    }
}

/// The tree of what is on air here. Where all that the station has signed is held, it is the station's own, root and all.
fn build(
    following: &Following,
    signed: &SignedTree,
    live: &LiveWindow,
    station: Bytes,
) -> Option<(StreamTree, Vec<Block>)> {
    let index: BTreeMap<u64, Block> = following.window.groups().clone();
    let contents = Contents {
        head: following.window.head()?,
        window: live,
        index,
        multivariant: signed.multivariant.clone(),
        station,
        others: signed.others.iter().map(|(name, entry)| (name.clone(), *entry)).collect::<HashMap<_, _>>(),
    };
    Some(contents.tree())
}
