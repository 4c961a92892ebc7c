//! What names need of the network: one topic and one key per name.

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
pub use skywave_swarm::{Judge, Verdict};
use thiserror::Error;

/// Why the network took nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RoutingError {
    /// There is nobody to give it to.
    #[error("no peers")]
    NoPeers,
    /// It is switched off.
    #[error("switched off")]
    Off,
    /// What the network said.
    #[error("{0}")]
    Failed(String),
}

/// Gossip, DHT and peers. Futures and streams stop their work when they are dropped; none of them may wait for
/// another, and streams hold a bounded number of values.
pub trait Routing: Send + Sync + 'static {
    /// Sends `message` to whoever listens to `topic`.
    fn publish(&self, topic: &str, message: Bytes) -> BoxFuture<'static, Result<(), RoutingError>>;

    /// Listens to `topic` until the stream is dropped, and gives the messages that `judge` accepted. The stream ends
    /// when the network does.
    fn subscribe(&self, topic: &str, judge: Judge) -> BoxStream<'static, Bytes>;

    /// Puts `value` to the DHT under `key`, and returns how many peers took it.
    fn put_value(&self, key: Vec<u8>, value: Bytes) -> BoxFuture<'static, Result<usize, RoutingError>>;

    /// Tells the DHT that this node has what the multihash `key` names, now and again until `on` is `false`.
    fn provide(&self, key: Vec<u8>, on: bool) -> BoxFuture<'static, Result<(), RoutingError>>;

    /// What the DHT has under `key`, value by value as they come, none of them verified.
    fn get_values(&self, key: Vec<u8>) -> BoxStream<'static, Bytes>;

    /// What connected peers have under `key` (libp2p specification, "Fetch Protocol", `/libp2p/fetch/0.0.1`), none of
    /// it verified.
    fn fetch(&self, key: Vec<u8>) -> BoxStream<'static, Bytes>;

    /// What peers get from us that fetch `key`; nothing where it is `None`.
    fn set_fetched(&self, key: Vec<u8>, value: Option<Bytes>)
    -> BoxFuture<'static, Result<(), RoutingError>>;
}
