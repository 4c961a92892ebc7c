//! Names on the real network.

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{self, BoxFuture};
use futures::stream::{self, BoxStream, StreamExt};
use skywave_swarm::{Judge, Network, NetworkError};
use tokio::sync::mpsc::Receiver;

use super::names::{Routing, RoutingError};

impl Routing for Network {
    fn publish(&self, topic: &str, message: Bytes) -> BoxFuture<'static, Result<(), RoutingError>> {
        let (network, topic) = (self.clone(), topic.to_owned());
        async move { taken(network.publish(&topic, message).await).map(|_| ()) }.boxed()
    }

    fn subscribe(&self, topic: &str, judge: Judge) -> BoxStream<'static, Bytes> {
        let (network, topic) = (self.clone(), topic.to_owned());
        let following = async move { network.subscribe(&topic, judge).await };
        received(following).map(|(_, message)| message).boxed()
    }

    fn put_value(&self, key: Vec<u8>, value: Bytes) -> BoxFuture<'static, Result<usize, RoutingError>> {
        let network = self.clone();
        async move { taken(network.put_value(key, value).await) }.boxed()
    }

    fn get_values(&self, key: Vec<u8>) -> BoxStream<'static, Bytes> {
        let network = self.clone();
        received(async move { network.get_values(key).await })
    }

    fn fetch(&self, key: Vec<u8>) -> BoxStream<'static, Bytes> {
        let network = self.clone();
        received(async move { network.fetch_all(key).await })
    }

    fn set_fetched(
        &self,
        key: Vec<u8>,
        value: Option<Bytes>,
    ) -> BoxFuture<'static, Result<(), RoutingError>> {
        let network = self.clone();
        async move { network.set_fetched(key, value).await.map_err(failed) }.boxed()
    }
}

fn failed(error: NetworkError) -> RoutingError {
    RoutingError::Failed(error.to_string())
}

/// How many peers took it; none is no success.
fn taken(result: Result<usize, NetworkError>) -> Result<usize, RoutingError> {
    match result {
        Ok(0) => Err(RoutingError::NoPeers),
        Ok(peers) => Ok(peers),
        Err(error) => Err(failed(error)),
    }
}

/// What the network gives once it has heard the question; nothing where it refuses.
fn received<T, F>(asked: F) -> BoxStream<'static, T>
where
    T: Send + 'static,
    F: Future<Output = Result<Receiver<T>, NetworkError>> + Send + 'static,
{
    let opened = stream::once(asked).filter_map(|receiver| {
        if let Err(error) = &receiver {
            tracing::debug!(%error, "the network does not answer");
        }
        future::ready(receiver.ok())
    });
    opened.flat_map(values).boxed()
}

fn values<T: Send + 'static>(receiver: Receiver<T>) -> BoxStream<'static, T> {
    stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|value| (value, receiver)) })
        .boxed()
}
