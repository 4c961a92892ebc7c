//! A peer that is bound by nothing but the transport: noise and yamux are real, what it says on its streams is made up.

use std::task::Poll;

use futures::{AsyncReadExt, AsyncWriteExt, FutureExt};
use libp2p::core::Endpoint;
use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox};
use libp2p::core::transport::{DialOpts, PortUse, Transport};
use libp2p::core::upgrade::Version;
use libp2p::{noise, tcp, yamux};
use rust_ipfs::{Keypair, Multiaddr};
use tokio::sync::{mpsc, oneshot};

const HEADER: &[u8] = b"\x13/multistream/1.0.0\n";
const BITSWAP: &[u8] = b"\x14/ipfs/bitswap/1.2.0\n";

/// The connection. Dropped, it is closed.
pub(crate) struct Stranger {
    open: mpsc::Sender<oneshot::Sender<SubstreamBox>>,
    /// Bitswap streams that the other side has opened, agreed on; nobody reads them but who takes them.
    pub(crate) answers: mpsc::Receiver<SubstreamBox>,
}

impl Stranger {
    pub(crate) async fn connect(address: &Multiaddr) -> Self {
        let key = Keypair::generate_ed25519();
        let mut transport = tcp::tokio::Transport::new(tcp::Config::default())
            .upgrade(Version::V1)
            .authenticate(noise::Config::new(&key).unwrap())
            .multiplex(yamux::Config::default());
        let address = address.iter().take(2).collect();
        let opts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let (_, muxer) = transport.dial(address, opts).unwrap().await.unwrap();
        let ((open, opens), (answered, answers)) = (mpsc::channel(8), mpsc::channel(64));
        tokio::spawn(drive(StreamMuxerBox::new(muxer), opens, answered));
        Self { open, answers }
    }

    /// A bitswap stream of its own; `None` once the connection is closed.
    pub(crate) async fn bitswap(&self) -> Option<SubstreamBox> {
        let (reply, opened) = oneshot::channel();
        self.open.send(reply).await.ok()?;
        let mut stream = opened.await.ok()?;
        stream.write_all(&[HEADER, BITSWAP].concat()).await.ok()?;
        let mut agreed = vec![0; HEADER.len() + BITSWAP.len()];
        stream.read_exact(&mut agreed).await.ok()?;
        assert_eq!(agreed, [HEADER, BITSWAP].concat());
        Some(stream)
    }
}

/// Keeps the connection going, opens what is asked for, and agrees to bitswap alone.
async fn drive(
    mut muxer: StreamMuxerBox,
    mut opens: mpsc::Receiver<oneshot::Sender<SubstreamBox>>,
    answered: mpsc::Sender<SubstreamBox>,
) {
    let mut waits: Option<oneshot::Sender<SubstreamBox>> = None;
    std::future::poll_fn(move |cx| {
        loop {
            if let Poll::Ready(Err(_)) = muxer.poll_unpin(cx) {
                return Poll::Ready(());
            }
            match muxer.poll_inbound_unpin(cx) {
                Poll::Ready(Ok(stream)) => {
                    tokio::spawn(agree(stream, answered.clone()).map(drop));
                    continue;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            if waits.is_none() {
                match opens.poll_recv(cx) {
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Ready(asked) => waits = asked,
                    Poll::Pending => return Poll::Pending,
                }
            }
            match muxer.poll_outbound_unpin(cx) {
                Poll::Ready(Ok(stream)) => _ = waits.take().map(|reply| reply.send(stream)),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}

/// The listener's side of multistream-select (multistream specification).
async fn agree(mut stream: SubstreamBox, answered: mpsc::Sender<SubstreamBox>) -> std::io::Result<()> {
    let mut header = vec![0; HEADER.len()];
    stream.read_exact(&mut header).await?;
    stream.write_all(HEADER).await?;
    loop {
        let mut length = [0];
        stream.read_exact(&mut length).await?;
        let mut name = vec![0; usize::from(length[0] & 0x7f)];
        stream.read_exact(&mut name).await?;
        if name == BITSWAP[1..] {
            stream.write_all(BITSWAP).await?;
            stream.flush().await?;
            _ = answered.try_send(stream);
            return Ok(());
        }
        stream.write_all(b"\x03na\n").await?;
        stream.flush().await?;
    }
}
