//! The handle: what the station asks of the network. Cheap to clone; no call holds up anybody for longer than its
//! time limit, and a full queue is an error, not a wait.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use libp2p::{Multiaddr, PeerId};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::bitswap::Bitswap;
use crate::book::{Book, ConnectedPeer, KnownPeer, peer_of};
use crate::counters::{Counters, Counts};
use crate::fetch::Answer;
use crate::gossip::{Judge, Message};
use crate::keep::Kept;
use crate::queries::Provider;
use crate::resolve::resolve;
use crate::store::MAX_VALUE;

/// Commands that wait for the swarm.
pub(crate) const COMMANDS: usize = 256;
/// How long the swarm may take to hear a command.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long a value may take to all its peers.
const PUT_WITHIN: Duration = Duration::from_secs(90);
/// How long names in an address may take.
const RESOLVE_WITHIN: Duration = Duration::from_secs(15);
/// How long a dial may take: the transport's own limit is 10 s per address.
const DIAL_WITHIN: Duration = Duration::from_secs(30);

/// Why the network did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NetworkError {
    /// The swarm was stopped.
    #[error("the node has stopped")]
    Closed,
    /// Too much is on its way already.
    #[error("too many questions at once")]
    Busy,
    /// The value or message, in bytes, is larger than the network takes.
    #[error("{0} bytes are more than the network takes")]
    TooLarge(usize),
    /// The list, with its limit, is full.
    #[error("no more than {0}")]
    TooMany(usize),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The DHT is switched off.
    #[error("the DHT is off")]
    NoDht,
    /// The peer or address was not reached.
    #[error("not reached: {0}")]
    Unreachable(String),
    /// The network does not do this, and why.
    #[error("refused: {0}")]
    Refused(&'static str),
}

/// A reply to come.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, NetworkError>>;

pub(crate) enum Command {
    Put { key: Vec<u8>, value: Bytes, reply: Reply<usize> },
    Values { key: Vec<u8>, reply: Reply<mpsc::Receiver<Bytes>> },
    Provide { key: Vec<u8>, reply: Reply<()> },
    StopProviding { key: Vec<u8>, reply: Reply<()> },
    Providers { key: Vec<u8>, reply: Reply<mpsc::Receiver<Provider>> },
    Subscribe { topic: String, judge: Judge, reply: Reply<mpsc::Receiver<Message>> },
    Publish { topic: String, data: Bytes, reply: Reply<usize> },
    Topics { reply: Reply<Vec<String>> },
    Fetch { peer: PeerId, key: Vec<u8>, reply: Reply<Answer> },
    FetchAll { key: Vec<u8>, reply: Reply<mpsc::Receiver<Bytes>> },
    SetFetched { key: Vec<u8>, value: Option<Bytes>, reply: Reply<()> },
    AddPeer { peer: PeerId, addresses: Vec<Multiaddr>, reply: Reply<bool> },
    Dial { peer: Option<PeerId>, addresses: Vec<Multiaddr>, reply: Reply<PeerId> },
    Disconnect { peer: PeerId, reply: Reply<()> },
    GiveUp { peer: PeerId, reply: Reply<()> },
    Bootstrap { reply: Reply<bool> },
    Routing { reply: Reply<Routing> },
}

/// Whether this node asks the DHT only or also answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// No DHT.
    Off,
    /// Asks.
    Client,
    /// Asks, answers and keeps records for others.
    Server,
}

/// Peers in the routing tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routing {
    /// Of the DHT within this network.
    pub lan: usize,
    /// Of the public DHT.
    pub wan: usize,
}

/// The running network.
#[derive(Clone)]
pub struct Network {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) bitswap: Bitswap,
    pub(crate) book: Book,
    pub(crate) kept: Kept,
    pub(crate) counters: Arc<Counters>,
    pub(crate) mode: Mode,
    pub(crate) local: PeerId,
}

impl Network {
    async fn ask<T>(
        &self,
        within: Duration,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, NetworkError> {
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(command(reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NetworkError::Busy,
            mpsc::error::TrySendError::Closed(_) => NetworkError::Closed,
        })?;
        let answer = timeout(within, answer).await.map_err(|_| NetworkError::Timeout)?;
        answer.unwrap_or(Err(NetworkError::Closed))
    }

    /// This node.
    pub fn local_peer(&self) -> PeerId {
        self.local
    }

    /// Whether the DHT is asked, answered or off.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Puts a value under a key, such as `/ipns/` and the bytes of a peer id, to the peers nearest to it in both DHTs;
    /// how many took it. No copy stays here that would be sent again.
    ///
    /// # Errors
    /// [`NetworkError`]; that nobody was there is `Ok(0)`.
    pub async fn put_value(&self, key: Vec<u8>, value: Bytes) -> Result<usize, NetworkError> {
        if value.len() > MAX_VALUE {
            return Err(NetworkError::TooLarge(value.len()));
        }
        self.ask(PUT_WITHIN, |reply| Command::Put { key, value, reply }).await
    }

    /// Every value that peers of either DHT give for a key, unchecked, as they come; ends with the question, after a
    /// minute at most. Drop it to end the question.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub async fn get_values(&self, key: Vec<u8>) -> Result<mpsc::Receiver<Bytes>, NetworkError> {
        self.ask(ANSWER_WITHIN, |reply| Command::Values { key, reply }).await
    }

    /// Tells the DHTs, now and again, that this node has what the multihash `key` names.
    ///
    /// # Errors
    /// [`NetworkError::TooMany`] from the 4,097th key on.
    pub async fn provide(&self, key: Vec<u8>) -> Result<(), NetworkError> {
        self.ask(ANSWER_WITHIN, |reply| Command::Provide { key, reply }).await
    }

    /// No longer tells of `key`; others forget it within a day or two.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub async fn stop_providing(&self, key: Vec<u8>) -> Result<(), NetworkError> {
        self.ask(ANSWER_WITHIN, |reply| Command::StopProviding { key, reply }).await
    }

    /// Peers that say they have what the multihash `key` names; ends with the question, after a minute at most.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub async fn providers(&self, key: Vec<u8>) -> Result<mpsc::Receiver<Provider>, NetworkError> {
        self.ask(ANSWER_WITHIN, |reply| Command::Providers { key, reply }).await
    }

    /// Follows a pubsub topic until the receiver is dropped; gives the messages that `judge` accepts. What it does not
    /// accept is not passed on to others. 64 messages wait; then the oldest is dropped.
    ///
    /// # Errors
    /// [`NetworkError::TooMany`] from the 257th on.
    pub async fn subscribe(
        &self,
        topic: &str,
        judge: Judge,
    ) -> Result<mpsc::Receiver<Message>, NetworkError> {
        let topic = topic.to_owned();
        self.ask(ANSWER_WITHIN, |reply| Command::Subscribe { topic, judge, reply }).await
    }

    /// Sends a message of 10 KiB at most; how many connected peers follow the topic. Nobody is no error.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub async fn publish(&self, topic: &str, data: Bytes) -> Result<usize, NetworkError> {
        let topic = topic.to_owned();
        self.ask(ANSWER_WITHIN, |reply| Command::Publish { topic, data, reply }).await
    }

    /// Topics that this node follows.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub async fn topics(&self) -> Result<Vec<String>, NetworkError> {
        self.ask(ANSWER_WITHIN, |reply| Command::Topics { reply }).await
    }

    /// Asks a peer for the newest value of a key (libp2p fetch specification); `None` when it has none.
    ///
    /// # Errors
    /// [`NetworkError::Unreachable`] when it is not connected, does not speak the protocol or answers too slowly.
    pub async fn fetch(&self, peer: PeerId, key: Vec<u8>) -> Result<Option<Bytes>, NetworkError> {
        self.ask(DIAL_WITHIN, |reply| Command::Fetch { peer, key, reply }).await
    }

    /// Asks every connected peer that speaks the protocol, 32 at most, for the newest value of a key; what they have,
    /// unchecked, as it comes.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub async fn fetch_all(&self, key: Vec<u8>) -> Result<mpsc::Receiver<Bytes>, NetworkError> {
        self.ask(ANSWER_WITHIN, |reply| Command::FetchAll { key, reply }).await
    }

    /// What others get when they ask this node for `key`; `None` takes it back.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub async fn set_fetched(&self, key: Vec<u8>, value: Option<Bytes>) -> Result<(), NetworkError> {
        self.ask(ANSWER_WITHIN, |reply| Command::SetFetched { key, value, reply }).await
    }

    /// Enters a peer into the routing tables that its addresses belong to; whether there was one.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub async fn add_peer(&self, peer: PeerId, addresses: Vec<Multiaddr>) -> Result<bool, NetworkError> {
        self.ask(ANSWER_WITHIN, |reply| Command::AddPeer { peer, addresses, reply }).await
    }

    /// Connects to an address, whose names are asked of the system's resolver; a peer that is connected already is
    /// the answer at once.
    ///
    /// # Errors
    /// [`NetworkError::Unreachable`] says why.
    pub async fn dial(&self, address: &Multiaddr) -> Result<PeerId, NetworkError> {
        let peer = peer_of(address);
        self.dial_any(peer, std::slice::from_ref(address)).await
    }

    /// Connects to a peer under any of its addresses.
    ///
    /// # Errors
    /// [`NetworkError::Unreachable`] says why.
    pub async fn dial_any(
        &self,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
    ) -> Result<PeerId, NetworkError> {
        if let Some(peer) = peer.filter(|peer| self.book.is_connected(peer)) {
            return Ok(peer);
        }
        let resolved = async {
            let mut found = Vec::new();
            for address in addresses {
                found.extend(resolve(address).await);
            }
            found
        };
        let addresses = timeout(RESOLVE_WITHIN, resolved).await.map_err(|_| NetworkError::Timeout)?;
        if addresses.is_empty() {
            return Err(NetworkError::Unreachable("no address is known".into()));
        }
        self.ask(DIAL_WITHIN, |reply| Command::Dial { peer, addresses, reply }).await
    }

    /// Connects to a peer under any of its addresses within a time that is shorter than the transport's own, after which the
    /// attempt ends: one that began while the line was cut pauses for longer and longer before it sends again.
    ///
    /// # Errors
    /// [`NetworkError::Timeout`]; [`NetworkError::Unreachable`] says why.
    pub async fn dial_within(
        &self,
        peer: PeerId,
        addresses: &[Multiaddr],
        within: Duration,
    ) -> Result<PeerId, NetworkError> {
        match timeout(within, self.dial_any(Some(peer), addresses)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                self.ask(ANSWER_WITHIN, |reply| Command::GiveUp { peer, reply }).await?;
                Err(NetworkError::Timeout)
            }
        }
    }

    /// A block that a connected peer has, or one that connects meanwhile; its bytes match `cid`. `None` where nobody
    /// sent it within `patience`.
    ///
    /// # Errors
    /// [`NetworkError::Busy`] where 1,024 blocks are being asked for.
    pub async fn block(&self, cid: Cid, patience: Duration) -> Result<Option<Bytes>, NetworkError> {
        self.bitswap.block(cid, patience, None).await
    }

    /// The same, but one peer is asked only when so long is over, as others may have the block by then, and of the others a few at
    /// first.
    ///
    /// # Errors
    /// As [`Network::block`].
    pub async fn block_sparing(
        &self,
        cid: Cid,
        patience: Duration,
        spared: (PeerId, Duration),
    ) -> Result<Option<Bytes>, NetworkError> {
        self.bitswap.block(cid, patience, Some(spared)).await
    }

    /// The repo has a block that it did not have: peers that wait for it get it.
    pub fn stored(&self, cid: &Cid) {
        self.bitswap.stored(cid);
    }

    /// Blocks that connected peers ask for, held or not; 2,048 at most of each.
    pub fn wanted(&self) -> HashSet<Cid> {
        self.bitswap.wanted()
    }

    /// Closes the connections to a peer.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub async fn disconnect(&self, peer: PeerId) -> Result<(), NetworkError> {
        self.ask(ANSWER_WITHIN, |reply| Command::Disconnect { peer, reply }).await
    }

    /// Whether the connection to a peer stays open when nothing travels on it.
    pub fn keep(&self, peer: PeerId, keep: bool) {
        self.kept.set(peer, keep);
    }

    /// Looks for more peers in every DHT that knows one; whether there was one to ask.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub async fn bootstrap(&self) -> Result<bool, NetworkError> {
        self.ask(ANSWER_WITHIN, |reply| Command::Bootstrap { reply }).await
    }

    /// How many peers the routing tables know.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub async fn routing(&self) -> Result<Routing, NetworkError> {
        self.ask(ANSWER_WITHIN, |reply| Command::Routing { reply }).await
    }

    /// Peers with an open connection.
    pub fn connected(&self) -> Vec<ConnectedPeer> {
        self.book.connected()
    }

    /// Peer ids with an open connection.
    pub fn connected_ids(&self) -> HashSet<PeerId> {
        self.book.connected_ids()
    }

    /// Peers that answered, with the address under which this node reached them: worth saving.
    pub fn known_peers(&self) -> Vec<KnownPeer> {
        self.book.known()
    }

    /// Peers that mDNS tells of.
    pub fn neighbours(&self) -> Vec<(PeerId, Vec<Multiaddr>)> {
        self.book.neighbours()
    }

    /// What was done and refused since the start.
    pub fn counts(&self) -> Counts {
        self.counters.read()
    }
}
