//! The station's name among real nodes.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use skywave::clock::{ClockTrust, SharedClock, SystemClock};
use skywave::health::Health;
use skywave::ipfs::ipns::{self, SignedRecord};
use skywave::ipfs::names::{NamePublisher, Resolver};
use skywave::ipfs::{Block, Identity};
use skywave::metrics::Metrics;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::swarm::{LIMIT, Peer, client, line, server, start_in, until};

fn clock() -> SharedClock {
    Arc::new(SystemClock::new(ClockTrust::Trusted))
}

fn signed(identity: &Identity, sequence: u64) -> SignedRecord {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let root = Block::raw(format!("root {sequence}")).cid;
    ipns::sign(identity, root, sequence, now, Duration::from_secs(3_600), Duration::from_secs(1)).unwrap()
}

/// Publishes what a test signs.
struct Owner {
    identity: Identity,
    record: watch::Sender<Option<SignedRecord>>,
    highest_seen: watch::Receiver<u64>,
    health: Health,
}

impl Owner {
    fn join(peer: &Peer) -> Self {
        let identity = peer.node.identity().clone();
        let (record, records) = watch::channel(None);
        let (seen, highest_seen) = watch::channel(0);
        let health = Health::new();
        let publisher = NamePublisher {
            name: identity.name(),
            dht_every: Duration::from_secs(10),
            provide: true,
            routing: peer.node.routing().unwrap(),
            clock: clock(),
            record: records,
            highest_seen: seen,
            overall: health.clone(),
            metrics: Metrics::new().names,
        };
        tokio::spawn(async move { publisher.run(CancellationToken::new()).await });
        Self { identity, record, highest_seen, health }
    }

    fn sign(&self, sequence: u64) {
        self.record.send_replace(Some(signed(&self.identity, sequence)));
    }
}

fn resolver(peer: &Peer) -> Resolver {
    let (resolver, mut topics) = Resolver::new(peer.node.routing().unwrap(), clock(), Metrics::new().names);
    let running = resolver.clone();
    tokio::spawn(async move { running.run(&mut topics, CancellationToken::new()).await });
    resolver
}

async fn resolves_to(resolver: &Resolver, identity: &Identity, sequence: u64) {
    until(&format!("sequence {sequence}"), || async {
        let record = resolver.resolve(&identity.name()).await.ok()?;
        (record.sequence == sequence).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_resolved_from_the_dht_by_one_who_never_met_its_owner_and_followed_on_its_topic() {
    let peers = line(&[client(), server(), client()]).await;
    let owner = Owner::join(&peers[0]);
    owner.sign(1);
    until("the DHT takes the record", || async { owner.health.report().name.dht_put_sequence }).await;
    let follower = resolver(&peers[2]);
    resolves_to(&follower, &owner.identity, 1).await;
    // The one between them follows the name too, so that gossip has a way.
    let between = resolver(&peers[1]);
    for sequence in 2..20 {
        owner.sign(sequence);
        resolves_to(&between, &owner.identity, sequence).await;
        resolves_to(&follower, &owner.identity, sequence).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_whose_state_is_lost_learns_its_sequence_from_the_network() {
    let peers = line(&[client(), server()]).await;
    let owner = Owner::join(&peers[0]);
    owner.sign(4_711);
    until("the DHT takes the record", || async { owner.health.report().name.dht_put_sequence }).await;
    let again = with_the_key_of(&peers[0], &peers[1]).await;
    let mut restarted = Owner::join(&again);
    let learnt = restarted.highest_seen.wait_for(|seen| *seen == 4_711);
    tokio::time::timeout(LIMIT, learnt).await.expect("within the limit").unwrap();
}

/// Another node with the key of `owner`, connected to `peer`.
async fn with_the_key_of(owner: &Peer, peer: &Peer) -> Peer {
    let folder = tempfile::tempdir().unwrap();
    let node = start_in(&client(), owner.node.identity().clone(), folder.path()).await;
    node.network().unwrap().dial(&peer.address().await).await.unwrap();
    Peer { node, folder }
}
