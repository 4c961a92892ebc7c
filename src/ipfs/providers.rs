//! Peers that have what is asked for, by the DHT.

use std::collections::HashSet;

use cid::Cid;
use futures::future;
use futures::stream::{self, SelectAll, StreamExt};

use super::Network;

/// Peers that are dialled for one question, and so connections that a client can make the station open.
const MOST_DIALS: usize = 8;

/// Dials at the same time.
const DIALS_AT_ONCE: usize = 4;

/// Connects to peers that say they have `cid` or its `root`, until nobody else is known. Dropped, it ends.
pub async fn connect(network: &Network, root: Cid, cid: Cid) {
    let keys: HashSet<_> = [root, cid].iter().map(|cid| cid.hash().to_bytes()).collect();
    let mut found = SelectAll::new();
    for key in keys {
        match network.providers(key).await {
            Ok(providers) => {
                let next = |mut providers: tokio::sync::mpsc::Receiver<_>| async move {
                    Some((providers.recv().await?, providers))
                };
                found.push(stream::unfold(providers, next).boxed());
            }
            Err(error) => tracing::debug!(%cid, %error, "providers cannot be looked for"),
        }
    }
    let (own, mut seen) = (network.local_peer(), HashSet::new());
    let strangers = found.filter(move |(peer, _)| future::ready(*peer != own && seen.insert(*peer)));
    let dials = strangers.take(MOST_DIALS).map(|(peer, addresses)| async move {
        if let Err(error) = network.dial_any(Some(peer), &addresses).await {
            tracing::debug!(%peer, %error, "a provider was not reached");
        }
    });
    dials.buffer_unordered(DIALS_AT_ONCE).for_each(future::ready).await;
}
