//! From the signed record to the network.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use skywave::clock::SteppedClock;
use skywave::health::Health;
use skywave::ipfs::ipns::SignedRecord;
use skywave::ipfs::names::{NamePublisher, Routing, Verdict};
use skywave::ipfs::{Block, Identity};
use skywave::metrics::Metrics;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::name_network::{Dht, Network, NetworkNode};
use super::{clock, forged, seconds, sequence, signed};

const TICK: Duration = Duration::from_millis(3_840);
const DHT_EVERY: Duration = Duration::from_secs(60);

/// A name publisher that a test signs for.
struct Rig {
    identity: Identity,
    clock: Arc<SteppedClock>,
    record: watch::Sender<Option<SignedRecord>>,
    highest_seen: watch::Receiver<u64>,
    health: Health,
    metrics: Metrics,
    node: NetworkNode,
    cancel: CancellationToken,
}

impl Rig {
    fn start(network: &Network) -> Self {
        Self::start_as(Identity::generate(), network)
    }

    fn start_as(identity: Identity, network: &Network) -> Self {
        Self::start_with(identity, network, true)
    }

    fn start_with(identity: Identity, network: &Network, provide: bool) -> Self {
        let (record, records) = watch::channel(None);
        let (seen, highest_seen) = watch::channel(0);
        let (clock, health, metrics, node) = (clock(), Health::new(), Metrics::new(), network.node());
        let publisher = NamePublisher {
            name: identity.name(),
            dht_every: DHT_EVERY,
            provide,
            routing: Arc::new(node.clone()),
            clock: clock.clone(),
            record: records,
            highest_seen: seen,
            overall: health.clone(),
            metrics: metrics.names.clone(),
        };
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        tokio::spawn(async move { publisher.run(stop).await });
        Self { identity, clock, record, highest_seen, health, metrics, node, cancel }
    }

    fn sign(&self, sequence: u64) {
        let record = signed(&self.identity, sequence, &self.clock, seconds(3_600));
        self.record.send_replace(Some(record));
    }

    /// Sequence numbers that a new node hears on the topic, with their times.
    fn follower(&self, network: &Network) -> Heard {
        let heard = Heard::default();
        let (identity, log) = (self.identity.clone(), heard.clone());
        let judge = Arc::new(move |message: &bytes::Bytes| {
            log.0.lock().unwrap().push((Instant::now(), sequence(&identity, message)));
            Verdict::Accept
        });
        let mut messages = network.node().subscribe(&self.identity.name().topic(), judge);
        tokio::spawn(async move { while messages.next().await.is_some() {} });
        heard
    }

    fn page_has(&self, line: &str) -> bool {
        self.metrics.encode().lines().any(|l| l == format!("skywave_{line}"))
    }
}

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<(Instant, u64)>>>);

impl Heard {
    fn last(&self) -> Option<(Instant, u64)> {
        self.0.lock().unwrap().last().copied()
    }

    fn sequences(&self) -> Vec<u64> {
        self.0.lock().unwrap().iter().map(|(_, sequence)| *sequence).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn gossip_gets_every_record_at_once_and_the_dht_the_newest_at_its_own_pace() {
    let network = Network::new(1);
    let rig = Rig::start(&network);
    let heard = rig.follower(&network);
    sleep(seconds(1)).await;
    let mut signed_at = Vec::new();
    for sequence in 100..200 {
        signed_at.push((Instant::now(), sequence));
        rig.sign(sequence);
        sleep(Duration::from_millis(100)).await;
        let (at, newest) = heard.last().unwrap();
        assert_eq!(newest, sequence, "heard within 100 ms");
        assert!(at - signed_at.last().unwrap().0 <= Duration::from_millis(40));
        sleep(TICK - Duration::from_millis(100)).await;
    }
    assert_eq!(heard.sequences(), (100..200).collect::<Vec<_>>());
    let puts = network.puts();
    assert_eq!(network.most_putting(), 1);
    assert!((6..=7).contains(&puts.len()), "{} puts in 384 s", puts.len());
    for pair in puts.windows(2) {
        assert!((DHT_EVERY..DHT_EVERY + TICK).contains(&(pair[1].at - pair[0].at)), "{pair:?}");
    }
    for put in &puts {
        let newest = signed_at.iter().rev().find(|(at, _)| *at <= put.at).unwrap().1;
        assert_eq!(sequence(&rig.identity, &put.value), newest, "the newest, none that waited");
    }
    assert!(rig.page_has("ipns_gossip_sent_total{outcome=\"sent\"} 100"), "{}", rig.metrics.encode());
    assert!(rig.page_has(&format!("ipns_dht_puts_total{{outcome=\"done\"}} {}", puts.len())));
    assert!(rig.page_has("ipns_dht_put_peers 1"));
    let report = rig.health.report().name;
    assert_eq!((report.dht_put_peers, report.dht_error), (Some(1), None));
    rig.cancel.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_dht_that_hangs_holds_up_neither_gossip_nor_the_next_put() {
    let network = Network::new(2);
    let rig = Rig::start(&network);
    let heard = rig.follower(&network);
    network.set_dht(Dht::Hangs);
    sleep(seconds(1)).await;
    for sequence in 1..=50 {
        rig.sign(sequence);
        sleep(TICK).await;
        assert_eq!(heard.last().unwrap().1, sequence);
    }
    assert_eq!(network.most_putting(), 1, "one at a time, however long it takes");
    assert!(network.puts().len() >= 2, "given up after a minute: {}", network.puts().len());
    assert!(rig.health.report().name.dht_error.unwrap().contains("no answer"));
    assert!(!rig.page_has("ipns_dht_puts_total{outcome=\"done\"} 1"));
    network.set_dht(Dht::Takes(seconds(1)));
    sleep(seconds(180)).await;
    assert_eq!(rig.health.report().name.dht_put_sequence, Some(50));
    assert_eq!(rig.health.report().name.dht_error, None);
}

#[tokio::test(start_paused = true)]
async fn a_quick_dht_gets_every_record() {
    let network = Network::new(1);
    network.set_dht(Dht::Takes(Duration::from_millis(50)));
    let rig = Rig::start(&network);
    let _heard = rig.follower(&network);
    sleep(seconds(1)).await;
    for sequence in 100..120 {
        rig.sign(sequence);
        sleep(TICK).await;
    }
    let puts: Vec<_> = network.puts().iter().map(|put| sequence(&rig.identity, &put.value)).collect();
    assert_eq!(puts, (100..120).collect::<Vec<_>>());
    rig.cancel.cancel();
}

#[tokio::test(start_paused = true)]
async fn the_root_that_the_dht_names_is_provided_and_the_one_before_no_more() {
    for provide in [true, false] {
        let network = Network::new(1);
        network.set_dht(Dht::Takes(Duration::from_millis(50)));
        let rig = Rig::start_with(Identity::generate(), &network, provide);
        let _heard = rig.follower(&network);
        sleep(seconds(1)).await;
        for sequence in 100..110 {
            rig.sign(sequence);
            sleep(TICK).await;
            let root = Block::raw(format!("root {sequence}")).cid.hash().to_bytes();
            assert_eq!(network.provided().0, HashSet::from_iter(provide.then_some(root)));
        }
        assert_eq!(network.provided().1, if provide { 2 } else { 0 });
        rig.cancel.cancel();
    }
}

#[tokio::test(start_paused = true)]
async fn a_put_that_fails_is_tried_again_ever_more_slowly_and_without_a_new_record() {
    let network = Network::new(3);
    let rig = Rig::start(&network);
    rig.sign(7);
    sleep(seconds(300)).await;
    assert_eq!(rig.health.report().name.dht_error.as_deref(), Some("no peers"));
    let alone = network.puts().len();
    assert!((6..20).contains(&alone), "{alone} attempts in 5 min");
    let _peer = network.node();
    network.set_dht(Dht::Fails);
    sleep(seconds(120)).await;
    let error = rig.health.report().name.dht_error.unwrap();
    assert!(error.contains("query"), "{error}");
    network.set_dht(Dht::Takes(seconds(1)));
    sleep(seconds(65)).await;
    assert_eq!(rig.health.report().name.dht_put_sequence, Some(7));
    let done = network.puts().len();
    sleep(seconds(3_000)).await;
    assert_eq!(network.puts().len(), done, "a record that the DHT has is not put again");
    assert!(rig.page_has("ipns_gossip_sent_total{outcome=\"no_peers\"} 1"));
}

#[tokio::test(start_paused = true)]
async fn a_dht_that_is_switched_off_is_no_mistake_and_gossip_goes_on() {
    let network = Network::new(8);
    network.set_dht(Dht::Off);
    let rig = Rig::start(&network);
    let heard = rig.follower(&network);
    sleep(seconds(1)).await;
    for sequence in 1..100 {
        rig.sign(sequence);
        sleep(TICK).await;
    }
    assert_eq!(heard.sequences(), (1..100).collect::<Vec<_>>());
    assert_eq!(network.puts().len(), 1, "asked once");
    assert_eq!(rig.health.report().name.dht_error, None);
}

#[tokio::test(start_paused = true)]
async fn peers_that_fetch_get_the_newest_record() {
    let network = Network::new(4);
    let rig = Rig::start(&network);
    let (peer, key) = (network.node(), rig.identity.name().routing_key());
    assert!(peer.fetch(key.clone()).collect::<Vec<_>>().await.is_empty());
    for number in [1, 2, 3] {
        rig.sign(number);
        sleep(Duration::from_millis(10)).await;
        let fetched: Vec<_> = peer.fetch(key.clone()).collect().await;
        assert_eq!(fetched.iter().map(|r| sequence(&rig.identity, r)).collect::<Vec<_>>(), [number]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_higher_sequence_of_our_name_is_found_in_the_dht_at_a_peer_and_on_the_topic_even_expired() {
    let identity = Identity::generate();
    let key = identity.name().routing_key();
    for place in 0..3 {
        let network = Network::new(5);
        let other = network.node();
        let past = clock();
        past.step(-1_000_000_000);
        // Expired long ago, and its number was used nevertheless.
        let older = signed(&identity, 4_000, &past, seconds(60));
        match place {
            0 => network.plant(key.clone(), older.bytes.clone()),
            1 => other.set_fetched(key.clone(), Some(older.bytes.clone())).await.unwrap(),
            _ => {}
        }
        let mut rig = Rig::start_as(identity.clone(), &network);
        rig.sign(10);
        sleep(seconds(1)).await;
        if place == 2 {
            other.publish(&identity.name().topic(), older.bytes.clone()).await.unwrap();
        }
        let found = timeout(seconds(10), rig.highest_seen.wait_for(|seen| *seen == 4_000)).await;
        assert!(found.is_ok(), "place {place}");
        rig.cancel.cancel();
    }
}

#[tokio::test(start_paused = true)]
async fn forged_foreign_and_older_records_of_our_name_raise_nothing_and_forgers_are_blamed() {
    let network = Network::new(6);
    let (rig, forger) = (Rig::start(&network), network.node());
    rig.sign(10);
    let stranger = Identity::generate();
    let (high, theirs) = (seconds(3_600), signed(&stranger, 90_000, &rig.clock, seconds(3_600)));
    let forged = forged(&signed(&rig.identity, 90_000, &rig.clock, high));
    let older = signed(&rig.identity, 9, &rig.clock, high).bytes;
    for bytes in [forged.clone(), theirs.bytes.clone(), vec![0xff; 20_000].into(), older.clone()] {
        network.plant(rig.identity.name().routing_key(), bytes.clone());
        sleep(seconds(1)).await;
        forger.publish(&rig.identity.name().topic(), bytes).await.unwrap();
    }
    sleep(seconds(600)).await;
    assert_eq!(*rig.highest_seen.borrow(), 0);
    assert_eq!(rig.node.rejected(), 3, "and the older one is nobody's fault");
    for (reason, count) in [("forged", 2), ("too_large", 1), ("older", 1)] {
        let line = format!("ipns_records_refused_total{{source=\"gossip\",reason=\"{reason}\"}} {count}");
        assert!(rig.page_has(&line), "{line}\n{}", rig.metrics.encode());
    }
    assert!(rig.page_has("ipns_gossip_received_total 4"));
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_the_network_ends_is_made_anew() {
    let network = Network::new(7);
    let (mut rig, other) = (Rig::start(&network), network.node());
    rig.sign(10);
    sleep(seconds(1)).await;
    rig.node.drop_subscriptions();
    sleep(seconds(3)).await;
    let newer = signed(&rig.identity, 11, &rig.clock, seconds(3_600));
    other.publish(&rig.identity.name().topic(), newer.bytes).await.unwrap();
    timeout(seconds(5), rig.highest_seen.wait_for(|seen| *seen == 11)).await.unwrap().unwrap();
}
