//! Bitswap 1.2.0: serves the repo's blocks to connected peers, and asks them for others.
//!
//! Bounded by construction, because a station serves whoever asks: see `peer` for what one peer may hold of memory and
//! time. Blocks that come go to who asked for them and are not stored.

mod ledger;
pub mod message;
mod peer;
mod streams;
mod wanted;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use futures::future::BoxFuture;
use libp2p::PeerId;
use libp2p::swarm::Stream;
use rust_ipfs::repo::{DefaultStorage, Repo};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::book::Book;
use crate::counters::Counters;
use crate::network::NetworkError;
use peer::Peer;
use streams::Open;
pub(crate) use streams::Streams;
use wanted::{Told, Wanted};

/// Streams that others opened and nobody has taken yet.
const ROOM: usize = 64;
/// How often it is looked who came and went.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is served.
pub(crate) trait Shelf: Send + Sync {
    fn read(&self, cid: Cid) -> BoxFuture<'_, Option<Bytes>>;
    fn holds(&self, cid: Cid) -> BoxFuture<'_, bool>;
}

impl Shelf for Repo<DefaultStorage> {
    fn read(&self, cid: Cid) -> BoxFuture<'_, Option<Bytes>> {
        // A store that fails serves nothing, and says so where the station itself reads it.
        Box::pin(async move { self.get_block_now(&cid).await.ok()?.map(|block| block.inner_data().clone()) })
    }

    fn holds(&self, cid: Cid) -> BoxFuture<'_, bool> {
        Box::pin(async move { self.contains(&cid).await.unwrap_or(false) })
    }
}

/// Streams of bitswap that others open.
pub(crate) type Opened = mpsc::Receiver<(PeerId, Stream)>;

/// The handle; clones share everything.
#[derive(Clone)]
pub(crate) struct Bitswap(Arc<Shared>);

/// No lock of it is held while another is waited for, but `wanted` or `peers` for those of one peer.
struct Shared {
    peers: Mutex<HashMap<PeerId, Arc<Peer>>>,
    wanted: Mutex<Wanted>,
    tasks: Mutex<JoinSet<()>>,
    shelf: OnceLock<Arc<dyn Shelf>>,
    open: mpsc::Sender<Open>,
    book: Book,
    counters: Arc<Counters>,
    start: Instant,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of the lock panics")
}

impl Bitswap {
    pub(crate) fn new(book: Book, counters: Arc<Counters>) -> (Streams, Self, Opened) {
        let (streams, ends) = Streams::new(ROOM);
        let shared = Shared {
            peers: Mutex::default(),
            wanted: Mutex::default(),
            tasks: Mutex::default(),
            shelf: OnceLock::new(),
            open: ends.open,
            book,
            counters,
            start: Instant::now(),
        };
        (streams, Self(Arc::new(shared)), ends.opened)
    }

    /// Serves `shelf` until the swarm ends.
    pub(crate) async fn run(self, shelf: Arc<dyn Shelf>, mut opened: Opened) {
        let shared = &self.0;
        _ = shared.shelf.set(shelf);
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                stream = opened.recv() => match stream {
                    Some((peer, stream)) => shared.accept(peer, stream),
                    None => break,
                },
                _ = look.tick() => shared.look(),
            }
        }
        held(&shared.tasks).abort_all();
    }

    /// Where a peer is `spared` for some time, a few of the others are asked first.
    pub(crate) async fn block(
        &self,
        cid: Cid,
        patience: Duration,
        spared: Option<(PeerId, Duration)>,
    ) -> Result<Option<Bytes>, NetworkError> {
        let (peers, now) = (self.0.speaking(), self.0.now());
        let spared = spared.map(|(peer, spare)| (peer, now + spare));
        let begun = held(&self.0.wanted).begin(cid, &peers, spared, now);
        let (found, told) = begun.ok_or(NetworkError::Busy)?;
        let mut waiting = Waiting { shared: &self.0, cid, found: Some(found) };
        self.0.tell(told);
        let found = waiting.found.as_mut().expect("taken at the end alone").wait_for(Option::is_some);
        let block = timeout(patience, found).await.ok().and_then(Result::ok);
        Ok(block.and_then(|block| block.clone()))
    }

    pub(crate) fn stored(&self, cid: &Cid) {
        held(&self.0.peers).values().for_each(|peer| peer.stored(cid));
    }

    pub(crate) fn wanted(&self) -> HashSet<Cid> {
        let peers: Vec<_> = held(&self.0.peers).values().cloned().collect();
        peers.iter().flat_map(|peer| peer.ledger().wanted().copied().collect::<Vec<_>>()).collect()
    }
}

/// Somebody who waits for a block, also when dropped while waiting.
struct Waiting<'a> {
    shared: &'a Arc<Shared>,
    cid: Cid,
    found: Option<watch::Receiver<Option<Bytes>>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.found.take();
        let told = held(&self.shared.wanted).left(&self.cid);
        self.shared.tell(told);
    }
}

impl Shared {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Connected peers that speak the protocol, or did not say yet what they speak. Those of the same network come first, and
    /// among equals it is chance: where only the first are asked it is not always the same ones.
    fn speaking(&self) -> Vec<PeerId> {
        let mut peers = self.book.speaking(streams::PROTOCOL.as_ref());
        fastrand::shuffle(&mut peers);
        peers.sort_by_key(|(_, near)| !near);
        peers.into_iter().map(|(peer, _)| peer).collect()
    }

    /// The peer; its answering task begins with the first call.
    fn peer(self: &Arc<Self>, id: PeerId) -> Arc<Peer> {
        let mut peers = held(&self.peers);
        let fresh = || {
            let peer = Arc::new(Peer::new(id));
            held(&self.tasks).spawn(Arc::clone(self).write(Arc::clone(&peer)));
            peer
        };
        Arc::clone(peers.entry(id).or_insert_with(fresh))
    }

    fn forget(&self, peer: &Arc<Peer>) {
        let mut peers = held(&self.peers);
        if peers.get(&peer.id).is_some_and(|known| Arc::ptr_eq(known, peer)) {
            peers.remove(&peer.id);
        }
    }

    fn accept(self: &Arc<Self>, id: PeerId, stream: Stream) {
        let peer = self.peer(id);
        match peer.place() {
            Some(place) => {
                held(&self.tasks).spawn(Arc::clone(self).read(peer, stream, place));
            }
            None => self.counters.bitswap_refused.add(),
        }
    }

    fn tell(self: &Arc<Self>, told: Vec<Told>) {
        for (peer, entry) in told {
            self.peer(peer).tell(entry);
        }
    }

    fn look(self: &Arc<Self>) {
        while held(&self.tasks).try_join_next().is_some() {}
        let connected = self.book.connected_ids();
        held(&self.peers).retain(|id, peer| {
            let stays = connected.contains(id);
            if !stays {
                peer.leave();
            }
            stays
        });
        if !held(&self.wanted).is_empty() {
            let speaking = self.speaking();
            let told = held(&self.wanted).look(&speaking, self.now());
            self.tell(told);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::swarm::ConnectionId;

    #[test]
    fn peers_of_the_same_network_are_asked_first_and_among_equals_it_is_chance() {
        let book = Book::default();
        let add = |connection: usize, address: &str, protocol: &str| {
            let peer = PeerId::random();
            book.opened(peer, ConnectionId::new_unchecked(connection), &address.parse().unwrap(), true);
            book.identified(peer, "", vec![protocol.to_owned()]);
            peer
        };
        let name = streams::PROTOCOL;
        let far: Vec<_> = (0..9).map(|n| add(n, "/ip4/203.0.113.1/tcp/4001", name.as_ref())).collect();
        let near = add(9, "/ip4/192.168.1.2/tcp/4001", name.as_ref());
        add(10, "/ip4/192.168.1.3/tcp/4001", "/another/1.0.0");
        let (_streams, bitswap, _opened) = Bitswap::new(book, Arc::default());
        let seconds: HashSet<_> = (0..200)
            .map(|_| {
                let order = bitswap.0.speaking();
                assert_eq!((order[0], order.len()), (near, 10));
                order[1]
            })
            .collect();
        assert_eq!(seconds, far.into_iter().collect());
    }
}
