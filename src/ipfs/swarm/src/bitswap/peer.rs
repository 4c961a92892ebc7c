//! One peer: its streams are read as fast as it may speak, and it is answered as fast as it reads.
//!
//! Whatever it does, it holds no more memory here than one message that is being read, one that is being sent, and the
//! wants of its [`Ledger`].

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::PeerId;
use libp2p::swarm::Stream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use super::ledger::{Bucket, Ledger};
use super::message::{self, Builder, Entry, Part};
use super::streams::{NoStream, Open};
use super::wanted::Told;
use super::{Shared, held};
use crate::protobuf::malformed;

/// Streams that a peer may have open: kubo sends blocks on eight at a time, each a new one.
const MAX_STREAMS: usize = 16;
/// Longest message of a peer that was asked for nothing: kubo's wants come in half of it.
const MAX_WANTLIST: usize = 512 * 1024;
/// Longest message of one that was: a block of 2 MiB at most (Bitswap specification, "Block Sizes") and wants.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// How long a message may take once its length is known.
const READ_WITHIN: Duration = Duration::from_secs(30);
/// How long a peer may take no byte of an answer.
const WRITE_WITHIN: Duration = Duration::from_secs(30);
/// How long a stream may take to open.
const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of answers in one message, the last block not counted: what a peer that does not read holds here.
const BATCH: usize = 128 * 1024;
/// A block of more bytes is counted as one of media.
const LARGE: usize = 16 * 1024;
/// Bytes that are read at a time.
const READ_CHUNK: usize = 16 * 1024;
/// Bytes that are written at a time.
const CHUNK: usize = 64 * 1024;
/// Wants and cancels of ours that wait for a peer; more are told again later.
const MAX_TELLING: usize = 2048;
/// Statements of a peer at once, and in a second.
const RATE: (u32, u32) = (16_384, 2_000);
/// Bytes of blocks that nobody wanted which count as one statement.
const UNASKED: usize = 1024;

pub(super) struct Peer {
    pub(super) id: PeerId,
    ledger: Mutex<Ledger>,
    telling: Mutex<VecDeque<Entry>>,
    rate: Mutex<Bucket>,
    wake: Notify,
    gone: AtomicBool,
    /// Held while the body of a message is read: one at a time.
    body: tokio::sync::Mutex<()>,
    streams: Arc<Semaphore>,
}

impl Peer {
    pub(super) fn new(id: PeerId) -> Self {
        Self {
            id,
            ledger: Mutex::default(),
            telling: Mutex::default(),
            rate: Mutex::new(Bucket::new(RATE.0, RATE.1)),
            wake: Notify::new(),
            gone: AtomicBool::new(false),
            body: tokio::sync::Mutex::default(),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        }
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        held(&self.ledger)
    }

    /// A place for one more stream.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.streams).try_acquire_owned().ok()
    }

    /// Queues a want or cancel of ours.
    pub(super) fn tell(&self, entry: Entry) {
        let mut telling = held(&self.telling);
        if telling.len() < MAX_TELLING {
            telling.push_back(entry);
        }
        drop(telling);
        self.wake.notify_one();
    }

    /// A block came; the peer gets it if it waits for it.
    pub(super) fn stored(&self, cid: &cid::Cid) {
        if self.ledger().stored(cid) {
            self.wake.notify_one();
        }
    }

    /// Ends the task that answers it.
    pub(super) fn leave(&self) {
        self.gone.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }
}

impl Shared {
    /// Reads one stream of a peer to its end.
    pub(super) async fn read(
        self: Arc<Self>,
        peer: Arc<Peer>,
        mut stream: Stream,
        _place: OwnedSemaphorePermit,
    ) {
        loop {
            let longest = if held(&self.wanted).is_empty() { MAX_WANTLIST } else { MAX_MESSAGE };
            let hear = || self.book.hear(&peer.id);
            let rest = match read_message(&peer, &mut stream, longest, hear).await {
                Ok(Some(message)) => self.take_in(&peer, &message),
                Ok(None) => return,
                Err(error) => {
                    if error.kind() == io::ErrorKind::InvalidData {
                        self.counters.bitswap_refused.add();
                    }
                    return;
                }
            };
            if !rest.is_zero() {
                tokio::time::sleep(rest).await;
            }
        }
    }

    /// How long the peer is to rest now.
    fn take_in(self: &Arc<Self>, peer: &Peer, message: &[u8]) -> Duration {
        let (mut statements, mut told) = (1, Vec::new());
        if message::is_full(message) {
            peer.ledger().clear();
        }
        for part in message::parts(message) {
            statements += 1;
            match part {
                Ok(Part::Want(entry)) => {
                    let counter = match peer.ledger().enter(entry) {
                        true => &self.counters.wants,
                        false => &self.counters.wants_refused,
                    };
                    counter.add();
                }
                Ok(Part::Block(cid, data)) => {
                    let arrived = held(&self.wanted).arrived(peer.id, &cid, || Bytes::copy_from_slice(data));
                    match arrived {
                        Some(others) => {
                            self.counters.blocks_received.add();
                            told.extend(others);
                        }
                        None => {
                            self.counters.blocks_refused.add();
                            statements += data.len() / UNASKED;
                        }
                    }
                }
                Ok(Part::Presence(cid, have)) => told.extend(self.presence(peer.id, cid, have)),
                Err(_) => self.counters.bitswap_refused.add(),
            }
        }
        peer.wake.notify_one();
        self.tell(told);
        held(&peer.rate).take(statements, self.now())
    }

    fn presence(&self, peer: PeerId, cid: cid::Cid, have: bool) -> Option<Told> {
        let (mut wanted, now) = (held(&self.wanted), self.now());
        if have { wanted.has(peer, cid, now) } else { wanted.has_not(peer, cid, now) }
    }

    /// Tells and answers a peer until it is gone, or takes nothing any more.
    pub(super) async fn write(self: Arc<Self>, peer: Arc<Peer>) {
        let mut stream = None;
        while let Some(message) = self.next_message(&peer).await {
            if let Err(reason) = self.send(&peer, &mut stream, &message).await {
                tracing::debug!(peer = %peer.id, ?reason, "no bitswap with a peer");
                break;
            }
        }
        self.forget(&peer);
    }

    async fn next_message(&self, peer: &Peer) -> Option<Vec<u8>> {
        loop {
            if peer.gone.load(Ordering::Relaxed) {
                return None;
            }
            let mut message = Builder::default();
            held(&peer.telling).drain(..).for_each(|entry| message.want(&entry));
            while message.len() < BATCH {
                let Some(entry) = peer.ledger().next() else { break };
                self.answer(peer, &entry, &mut message).await;
            }
            if !message.is_empty() {
                return Some(message.framed());
            }
            peer.wake.notified().await;
        }
    }

    async fn answer(&self, peer: &Peer, entry: &Entry, message: &mut Builder) {
        let cid = entry.cid;
        let here = match (self.shelf.get(), entry.block) {
            (None, _) => false,
            (Some(shelf), false) => shelf.holds(cid).await,
            (Some(shelf), true) => match shelf.read(cid).await {
                Some(data) => {
                    self.counters.blocks_sent.add();
                    self.counters.block_bytes_sent.add_many(data.len());
                    if data.len() > LARGE {
                        self.counters.large_block_bytes_sent.add_many(data.len());
                    }
                    message.block(&cid, &data);
                    peer.ledger().answered(entry);
                    return;
                }
                None => false,
            },
        };
        match here {
            true => peer.ledger().answered(entry),
            false => peer.ledger().remember(entry),
        }
        if here || entry.dont_have {
            message.presence(&cid, here);
        }
    }

    /// Sends on the stream that is open; where it has ended meanwhile, on a new one.
    async fn send(&self, peer: &Peer, stream: &mut Option<Stream>, message: &[u8]) -> Result<(), NoStream> {
        if let Some(open) = stream {
            match write_message(open, message).await {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    self.counters.readers_refused.add();
                    return Err(NoStream::Failed);
                }
                Err(_) => {}
            }
        }
        let (reply, opened) = oneshot::channel();
        let open = async {
            self.open.send(Open { peer: peer.id, reply }).await.map_err(|_| NoStream::Failed)?;
            // Dropped where the peer is not connected any more.
            opened.await.unwrap_or(Err(NoStream::Failed))
        };
        let mut opened = timeout(OPEN_WITHIN, open).await.unwrap_or(Err(NoStream::Failed))?;
        if let Err(error) = write_message(&mut opened, message).await {
            if error.kind() == io::ErrorKind::TimedOut {
                self.counters.readers_refused.add();
            }
            return Err(NoStream::Failed);
        }
        *stream = Some(opened);
        Ok(())
    }
}

/// The next message without its length; `None` at the end of the stream. Tells `hear` whenever something comes.
async fn read_message<T>(
    peer: &Peer,
    io: &mut T,
    longest: usize,
    hear: impl Fn(),
) -> io::Result<Option<Vec<u8>>>
where
    T: AsyncRead + Unpin + Send,
{
    let mut length = 0_usize;
    for shift in [0, 7, 14, 21] {
        let mut byte = [0];
        match io.read(&mut byte).await? {
            0 if shift == 0 => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => length |= usize::from(byte[0] & 0x7f) << shift,
        }
        if byte[0] & 0x80 == 0 {
            if length > longest {
                break;
            }
            let _alone = peer.body.lock().await;
            let message = timeout(READ_WITHIN, read_body(io.take(length as u64), hear)).await??;
            return if message.len() == length { Ok(Some(message)) } else { Err(malformed("cut off")) };
        }
    }
    Err(malformed("a message of more than its largest size"))
}

/// What is left of a message. It grows with what has come.
async fn read_body<T: AsyncRead + Unpin + Send>(mut io: T, hear: impl Fn()) -> io::Result<Vec<u8>> {
    let (mut message, mut chunk) = (Vec::new(), vec![0; READ_CHUNK]);
    loop {
        let length = io.read(&mut chunk).await?;
        hear();
        match length {
            0 => return Ok(message),
            _ => message.extend_from_slice(&chunk[..length]),
        }
    }
}

async fn write_message<T: AsyncWrite + Unpin + Send>(io: &mut T, message: &[u8]) -> io::Result<()> {
    for chunk in message.chunks(CHUNK) {
        timeout(WRITE_WITHIN, io.write_all(chunk)).await??;
    }
    timeout(WRITE_WITHIN, io.flush()).await?
}
