//! Values and providers in the DHT.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use skywave::ipfs::{Block, Identity, NetworkError, ipns};

use crate::swarm::{Peer, client, knows, line, server, start, until};

pub(crate) fn key_of(identity: &Identity) -> Vec<u8> {
    [b"/ipns/".as_slice(), &identity.peer_id().to_bytes()].concat()
}

pub(crate) fn record(identity: &Identity, sequence: u64) -> Bytes {
    let now = chrono::Utc::now().timestamp_millis();
    let (validity, ttl) = (Duration::from_secs(3600), Duration::from_secs(5));
    ipns::sign(identity, Block::raw("root").cid, sequence, now, validity, ttl).unwrap().bytes
}

async fn values(peer: &Peer, key: &[u8]) -> BTreeSet<Bytes> {
    let mut values = peer.network().get_values(key.to_vec()).await.unwrap();
    let mut found = BTreeSet::new();
    while let Some(value) = values.recv().await {
        found.insert(value);
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_put_at_one_node_is_got_at_another_through_a_third() {
    let peers = line(&[server(), server(), server(), server(), client(), client()]).await;
    let (putter, getter) = (&peers[4], &peers[5]);
    // The two clients never met: neither can answer the other.
    putter.network().disconnect(getter.id()).await.unwrap();
    getter.network().dial(&peers[0].address().await).await.unwrap();
    knows(getter.network(), 1).await;
    let owner = Identity::generate();
    let (key, value) = (key_of(&owner), record(&owner, 1));
    let took = putter.network().put_value(key.clone(), value.clone()).await.unwrap();
    assert!((1..=4).contains(&took), "{took} peers took it");
    assert_eq!(values(getter, &key).await, BTreeSet::from([value]));
    // A client keeps nothing, and nothing is sent again behind our back.
    assert_eq!(putter.network().counts().records_stored, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_an_older_and_an_oversized_record_are_never_stored() {
    let peers = line(&[server(), client()]).await;
    let (keeper, putter) = (&peers[0], &peers[1]);
    let (owner, forger) = (Identity::generate(), Identity::generate());
    let key = key_of(&owner);
    let newest = record(&owner, 7);
    assert_eq!(putter.network().put_value(key.clone(), newest.clone()).await.unwrap(), 1);
    let refused = || keeper.network().counts().records_refused;
    for (n, bad) in
        [record(&forger, 9), record(&owner, 6), Bytes::from_static(b"no record")].into_iter().enumerate()
    {
        _ = putter.network().put_value(key.clone(), bad).await.unwrap();
        until("it is refused", || async { (refused() == n as u64 + 1).then_some(()) }).await;
    }
    // Under a key that is no name.
    _ = putter.network().put_value(b"/v/anything".to_vec(), newest.clone()).await.unwrap();
    until("it is refused", || async { (refused() == 4).then_some(()) }).await;
    assert_eq!(values(putter, &key).await, BTreeSet::from([newest]));
    assert_eq!(values(putter, b"/v/anything").await, BTreeSet::new());
    let large = Bytes::from(vec![0; 10 * 1024 + 1]);
    assert_eq!(
        putter.network().put_value(key, large.clone()).await,
        Err(NetworkError::TooLarge(large.len()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_found_with_its_address_until_it_stops() {
    let peers = line(&[server(), server(), server(), client(), client()]).await;
    let (giver, taker) = (&peers[3], &peers[4]);
    taker.network().dial(&peers[0].address().await).await.unwrap();
    knows(taker.network(), 1).await;
    let key = Block::raw("segment").cid.hash().to_bytes();
    giver.network().provide(key.clone()).await.unwrap();
    let (found, addresses) = until("it is found", || async {
        let mut providers = taker.network().providers(key.clone()).await.unwrap();
        providers.recv().await
    })
    .await;
    assert_eq!(found, giver.id());
    let address = giver.address().await;
    let bare = address.to_string().rsplit_once("/p2p/").unwrap().0.parse().unwrap();
    assert!(addresses.contains(&bare), "{addresses:?} lacks {bare}");
}

/// Notes on rust-ipfs, 6: `provide` fails from the 1,025th key on, and nothing can be taken back.
#[tokio::test(flavor = "multi_thread")]
async fn more_keys_than_rust_ipfs_takes_are_provided_and_the_list_ends_with_an_error() {
    let peer = start(&server()).await;
    let key = |n: u32| Block::raw(n.to_string().into_bytes()).cid.hash().to_bytes();
    for n in 0..4096 {
        peer.network().provide(key(n)).await.unwrap();
    }
    assert_eq!(peer.network().provide(key(4096)).await, Err(NetworkError::TooMany(4096)));
    peer.network().stop_providing(key(0)).await.unwrap();
    peer.network().provide(key(4096)).await.unwrap();
    // Telling the DHT of thousands of keys leaves room for questions.
    let other = start(&server()).await;
    peer.network().dial(&other.address().await).await.unwrap();
    knows(peer.network(), 1).await;
    until("providing has begun", || async { (other.network().counts().providers_stored > 8).then_some(()) })
        .await;
    let mut values = peer.network().get_values(key(1)).await.unwrap();
    assert_eq!(values.recv().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_offers_no_dht_and_without_dht_none_is_asked() {
    let peers = line(&[server(), client()]).await;
    let protocols = |of: &Peer, id| {
        let connected = of.network().connected();
        connected.into_iter().find(|peer| peer.peer == id).map(|peer| peer.protocols).unwrap_or_default()
    };
    let of_client = until("identify", || async {
        Some(protocols(&peers[0], peers[1].id())).filter(|protocols| !protocols.is_empty())
    })
    .await;
    assert!(of_client.iter().all(|name| !name.contains("/kad/")), "{of_client:?}");
    assert!(of_client.iter().any(|name| name.contains("bitswap")), "{of_client:?}");
    let of_server = protocols(&peers[1], peers[0].id());
    assert!(
        ["/ipfs/kad/1.0.0", "/ipfs/lan/kad/1.0.0"].iter().all(|name| of_server.iter().any(|p| p == name))
    );
    let without = start(&skywave::ipfs::IpfsConfig { dht: skywave::ipfs::Dht::Off, ..server() }).await;
    assert_eq!(without.network().get_values(b"x".to_vec()).await.err(), Some(NetworkError::NoDht));
}
