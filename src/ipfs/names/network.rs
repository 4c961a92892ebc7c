//! What names need of the network, from the running one.

use std::future::Future;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc::Receiver;

use super::{Judge, Routing, RoutingError};
use crate::ipfs::{Network, NetworkError};

impl Routing for Network {
    fn publish(&self, topic: &str, message: Bytes) -> BoxFuture<'static, Result<(), RoutingError>> {
        let (network, topic) = (self.clone(), topic.to_owned());
        async move {
            match network.publish(&topic, message).await? {
                0 => Err(RoutingError::NoPeers),
                _ => Ok(()),
            }
        }
        .boxed()
    }

    fn subscribe(&self, topic: &str, judge: Judge) -> BoxStream<'static, Bytes> {
        let (network, topic) = (self.clone(), topic.to_owned());
        let messages = received(async move { network.subscribe(&topic, judge).await });
        messages.map(|(_, message)| message).boxed()
    }

    fn put_value(&self, key: Vec<u8>, value: Bytes) -> BoxFuture<'static, Result<usize, RoutingError>> {
        let network = self.clone();
        async move { Ok(network.put_value(key, value).await?) }.boxed()
    }

    fn provide(&self, key: Vec<u8>, on: bool) -> BoxFuture<'static, Result<(), RoutingError>> {
        let network = self.clone();
        async move {
            let told = if on { network.provide(key).await } else { network.stop_providing(key).await };
            told.map_err(RoutingError::from)
        }
        .boxed()
    }

    fn get_values(&self, key: Vec<u8>) -> BoxStream<'static, Bytes> {
        let network = self.clone();
        received(async move { network.get_values(key).await }).boxed()
    }

    fn fetch(&self, key: Vec<u8>) -> BoxStream<'static, Bytes> {
        let network = self.clone();
        received(async move { network.fetch_all(key).await }).boxed()
    }

    fn set_fetched(
        &self,
        key: Vec<u8>,
        value: Option<Bytes>,
    ) -> BoxFuture<'static, Result<(), RoutingError>> {
        let network = self.clone();
        async move { Ok(network.set_fetched(key, value).await?) }.boxed()
    }
}

impl From<NetworkError> for RoutingError {
    fn from(error: NetworkError) -> Self {
        match error {
            NetworkError::NoDht => Self::Off,
            error => Self::Failed(error.to_string()),
        }
    }
}

/// What comes on a channel that has yet to be opened; nothing when it cannot be.
fn received<T: Send + 'static>(
    opening: impl Future<Output = Result<Receiver<T>, NetworkError>> + Send + 'static,
) -> impl stream::Stream<Item = T> + Send {
    let opened = opening.map(|opened| {
        let channel = opened.inspect_err(|error| tracing::debug!(%error, "the network gives nothing")).ok();
        let next = |channel: Option<Receiver<T>>| async move {
            let mut channel = channel?;
            Some((channel.recv().await?, Some(channel)))
        };
        stream::unfold(channel, next)
    });
    opened.flatten_stream()
}
