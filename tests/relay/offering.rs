//! What a relay does with the station's record: peers get it, and the DHT once the station is silent.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use skywave::ipfs::ipns::{Name, Record, sign};
use skywave::ipfs::names::Routing;
use skywave::ipfs::{Block, Identity};
use skywave::metrics::Metrics;
use skywave::relay::offer::Offer;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::support::name_network::{Dht, Network, NetworkNode};

fn record(identity: &Identity, sequence: u64) -> Arc<Record> {
    let (root, day) = (Block::raw(format!("{sequence}")).cid, Duration::from_secs(48 * 3_600));
    let signed = sign(identity, root, sequence, 1_795_377_600_000, day, day).unwrap();
    Arc::new(Record::verify(&identity.name(), &signed.bytes).unwrap())
}

fn offer(node: &NetworkNode, name: Name) -> (watch::Sender<Option<Arc<Record>>>, CancellationToken) {
    let (sender, records) = watch::channel(None);
    let (cancel, metrics) = (CancellationToken::new(), Metrics::new().names);
    let offer = Offer { name, records, routing: Arc::new(node.clone()), metrics };
    let stop = cancel.clone();
    tokio::spawn(async move { offer.run(stop).await });
    (sender, cancel)
}

#[tokio::test(start_paused = true)]
async fn peers_get_the_newest_record_and_the_dht_gets_it_when_the_station_is_silent() {
    let (network, identity) = (Network::new(1), Identity::generate());
    let (node, peer, name) = (network.node(), network.node(), identity.name());
    let (records, _cancel) = offer(&node, name);
    for sequence in 1..=100 {
        records.send_replace(Some(record(&identity, sequence)));
        sleep(Duration::from_secs(4)).await;
    }
    let fetched = peer.fetch(name.routing_key()).next().await.unwrap();
    assert_eq!(fetched, record(&identity, 100).bytes);
    assert!(network.puts().is_empty(), "the station does it");
    sleep(Duration::from_secs(250)).await;
    let puts = network.puts();
    assert_eq!(puts.iter().map(|put| &put.value).collect::<Vec<_>>(), [&record(&identity, 100).bytes]);
    sleep(Duration::from_secs(5 * 3_600)).await;
    assert_eq!(network.puts().len(), 2, "again before the DHT forgets it");
    records.send_replace(Some(record(&identity, 101)));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(network.puts().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_a_dht_peers_get_it_nevertheless() {
    let (network, identity) = (Network::new(2), Identity::generate());
    let (node, peer, name) = (network.node(), network.node(), identity.name());
    network.set_dht(Dht::Off);
    let (records, cancel) = offer(&node, name);
    records.send_replace(Some(record(&identity, 1)));
    sleep(Duration::from_secs(600)).await;
    records.send_replace(Some(record(&identity, 2)));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(peer.fetch(name.routing_key()).next().await.unwrap(), record(&identity, 2).bytes);
    cancel.cancel();
}
