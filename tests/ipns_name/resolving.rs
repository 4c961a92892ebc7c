//! From the network to the best record.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use proptest::prelude::*;
use skywave::clock::{SteppedClock, WallClock};
use skywave::ipfs::Identity;
use skywave::ipfs::ipns::{self, Record};
use skywave::ipfs::names::{ResolveError, Resolver, Routing};
use skywave::metrics::Metrics;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::name_network::{Dht, Network, NetworkNode};
use super::name_station::Station;
use super::{OCTOBER_2026, clock, forged, seconds, signed};

struct Rig {
    network: Network,
    node: NetworkNode,
    peer: NetworkNode,
    clock: Arc<SteppedClock>,
    resolver: Resolver,
    metrics: Metrics,
    cancel: CancellationToken,
}

impl Rig {
    fn start(seed: u64) -> Self {
        let network = Network::new(seed);
        let (peer, clock) = (network.node(), clock());
        let (node, resolver, metrics, cancel) = join(&network, &clock);
        Self { network, node, peer, clock, resolver, metrics, cancel }
    }

    async fn sequence(&self, identity: &Identity) -> Result<u64, ResolveError> {
        self.resolver.resolve(&identity.name()).await.map(|record| record.sequence)
    }

    fn resolved(&self, outcome: &str) -> u64 {
        let start = format!("skywave_ipns_resolves_total{{outcome=\"{outcome}\"}} ");
        let page = self.metrics.encode();
        page.lines().find_map(|line| line.strip_prefix(&start)).map_or(0, |count| count.parse().unwrap())
    }
}

/// A node that resolves.
fn join(network: &Network, clock: &Arc<SteppedClock>) -> (NetworkNode, Resolver, Metrics, CancellationToken) {
    let (node, metrics, cancel) = (network.node(), Metrics::new(), CancellationToken::new());
    let (resolver, mut topics) = Resolver::new(Arc::new(node.clone()), clock.clone(), metrics.names.clone());
    let (running, stop) = (resolver.clone(), cancel.clone());
    tokio::spawn(async move { running.run(&mut topics, stop).await });
    (node, resolver, metrics, cancel)
}

#[derive(Debug, Clone)]
enum Found {
    Valid { sequence: u64, validity: u64 },
    Expired { sequence: u64 },
    Forged { sequence: u64 },
    Strangers { sequence: u64 },
    Garbage(Vec<u8>),
}

fn found() -> impl Strategy<Value = (Found, bool)> {
    let number = 0_u64..50;
    let found = prop_oneof![
        (number.clone(), 60_u64..3_600).prop_map(|(sequence, validity)| Found::Valid { sequence, validity }),
        number.clone().prop_map(|sequence| Found::Expired { sequence: sequence + 50 }),
        number.clone().prop_map(|sequence| Found::Forged { sequence: sequence + 50 }),
        number.prop_map(|sequence| Found::Strangers { sequence: sequence + 50 }),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Found::Garbage),
    ];
    (found, any::<bool>())
}

impl Found {
    fn bytes(&self, identity: &Identity, clock: &SteppedClock) -> Bytes {
        let past = SteppedClock::starting_at(clock.unix_millis() - 10_000_000);
        match self {
            Self::Valid { sequence, validity } => {
                signed(identity, *sequence, clock, seconds(*validity)).bytes
            }
            Self::Expired { sequence } => signed(identity, *sequence, &past, seconds(60)).bytes,
            Self::Forged { sequence } => forged(&signed(identity, *sequence, clock, seconds(3_600))),
            Self::Strangers { sequence } => {
                signed(&Identity::generate(), *sequence, clock, seconds(3_600)).bytes
            }
            Self::Garbage(bytes) => bytes.clone().into(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_best_valid_record_wins_and_a_forged_expired_or_older_one_never_does(
        records in prop::collection::vec(found(), 0..12),
        seed in any::<u64>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let (rig, identity) = (Rig::start(seed), Identity::generate());
            let mut valid = Vec::new();
            for (found, at_peer) in &records {
                let bytes = found.bytes(&identity, &rig.clock);
                let key = identity.name().routing_key();
                match at_peer {
                    true => rig.network.node().set_fetched(key, Some(bytes.clone())).await.unwrap(),
                    false => rig.network.plant(key, bytes.clone()),
                }
                valid.extend(Record::verify_at(&identity.name(), &bytes, rig.clock.unix_millis()));
            }
            let resolved = rig.resolver.resolve(&identity.name()).await.ok().map(|record| (*record).clone());
            prop_assert_eq!(resolved, valid.into_iter().max());
            Ok(())
        })?;
    }
}

#[tokio::test(start_paused = true)]
async fn a_known_record_is_kept_for_its_ttl_asked_for_anew_after_it_and_forgotten_when_it_expires() {
    let (rig, identity) = (Rig::start(1), Identity::generate());
    let key = identity.name().routing_key();
    rig.network.plant(key.clone(), signed(&identity, 5, &rig.clock, seconds(600)).bytes);
    assert_eq!(rig.sequence(&identity).await, Ok(5));
    rig.network.plant(key, signed(&identity, 6, &rig.clock, seconds(600)).bytes);
    assert_eq!(rig.sequence(&identity).await, Ok(5), "from the cache");
    assert_eq!(rig.network.searches(), 1);
    sleep(seconds(6)).await;
    assert_eq!(rig.sequence(&identity).await, Ok(6));
    assert_eq!(rig.network.searches(), 2);
    // A network that is gone, or has older records only, changes nothing until the record expires.
    rig.network.empty_dht();
    rig.network.plant(identity.name().routing_key(), signed(&identity, 4, &rig.clock, seconds(90)).bytes);
    sleep(seconds(6)).await;
    assert_eq!(rig.sequence(&identity).await, Ok(6));
    rig.node.set_online(false);
    sleep(seconds(300)).await;
    assert_eq!(rig.sequence(&identity).await, Ok(6));
    sleep(seconds(300)).await;
    assert!(matches!(rig.sequence(&identity).await, Err(ResolveError::NotFound { .. })));
    let outcomes = ["network", "cached", "stale", "not_found"].map(|outcome| rig.resolved(outcome));
    assert_eq!(outcomes, [2, 1, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn many_who_ask_for_one_name_cause_one_search_and_many_names_are_bounded() {
    let (rig, identity) = (Rig::start(2), Identity::generate());
    rig.network.plant(identity.name().routing_key(), signed(&identity, 5, &rig.clock, seconds(600)).bytes);
    let answers = join_all((0..500).map(|_| rig.sequence(&identity))).await;
    assert!(answers.iter().all(|answer| *answer == Ok(5)));
    assert_eq!(rig.network.searches(), 1);
    let strangers: Vec<_> = (0..100).map(|_| Identity::generate()).collect();
    for stranger in &strangers {
        rig.network.plant(stranger.name().routing_key(), Bytes::from_static(b"takes a moment to come"));
    }
    let answers = join_all(strangers.iter().map(|stranger| rig.sequence(stranger))).await;
    let busy = answers.iter().filter(|answer| **answer == Err(ResolveError::Busy)).count();
    assert!((80..100).contains(&busy), "{busy} turned away");
    assert!(rig.network.searches() <= 20);
    assert!(matches!(rig.sequence(&strangers[99]).await, Err(ResolveError::NotFound { .. })), "later it may");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_answers_ends_and_a_silent_network_too() {
    let (rig, identity) = (Rig::start(3), Identity::generate());
    for number in 0..5_000 {
        rig.network.plant(identity.name().routing_key(), format!("garbage {number}").into());
    }
    let began = Instant::now();
    assert!(rig.sequence(&identity).await.is_err());
    assert!(began.elapsed() <= seconds(20), "{:?}", began.elapsed());
    let line = "skywave_ipns_records_refused_total{source=\"dht\",reason=\"malformed\"} 64";
    assert!(rig.metrics.encode().contains(line), "{}", rig.metrics.encode());
}

#[tokio::test(start_paused = true)]
async fn a_name_that_was_resolved_is_followed_on_its_topic() {
    let (rig, identity) = (Rig::start(4), Identity::generate());
    rig.network.plant(identity.name().routing_key(), signed(&identity, 1, &rig.clock, seconds(600)).bytes);
    assert_eq!(rig.sequence(&identity).await, Ok(1));
    for number in 2..50 {
        let record = signed(&identity, number, &rig.clock, seconds(600));
        rig.peer.publish(&identity.name().topic(), record.bytes).await.unwrap();
        sleep(Duration::from_millis(100)).await;
        assert_eq!(rig.sequence(&identity).await, Ok(number));
        sleep(Duration::from_millis(3_740)).await;
    }
    assert_eq!(rig.network.searches(), 1, "gossip is enough");
    // What is forged, older or expired changes nothing.
    let past = SteppedClock::starting_at(OCTOBER_2026 - 10_000_000);
    let newest = signed(&identity, 90, &rig.clock, seconds(600));
    let bad = [forged(&newest), signed(&identity, 9, &rig.clock, seconds(600)).bytes];
    for bytes in bad.into_iter().chain([signed(&identity, 91, &past, seconds(60)).bytes]) {
        rig.peer.publish(&identity.name().topic(), bytes).await.unwrap();
    }
    sleep(seconds(1)).await;
    assert_eq!(rig.sequence(&identity).await, Ok(49));
    assert_eq!(rig.node.rejected(), 2);
}

#[tokio::test(start_paused = true)]
async fn followers_of_a_station_are_a_tick_behind_at_most_though_a_third_of_all_messages_gets_lost() {
    let (folder, network, identity, clock) =
        (tempfile::tempdir().unwrap(), Network::new(5), Identity::generate(), clock());
    network.set_loss(0.33);
    network.set_dht(Dht::Takes(seconds(30)));
    let followers: Vec<_> = (0..8).map(|_| join(&network, &clock)).collect();
    let mut station = Station::start(folder.path(), &identity, &clock);
    station.join(Arc::new(network.node()));
    for _ in 0..20 {
        station.tick().await;
    }
    // The first search finds the record at the station itself.
    let name = identity.name();
    let all = || join_all(followers.iter().map(|(_, resolver, ..)| resolver.resolve(&name)));
    assert!(all().await.iter().all(Result::is_ok));
    let mut late = 0;
    for _ in 0..100 {
        station.tick().await;
        sleep(seconds(1)).await;
        let newest = station.record.borrow().as_ref().unwrap().sequence;
        for record in all().await {
            let behind = newest - record.unwrap().sequence;
            assert!(behind <= 3, "{behind} records behind");
            late += usize::from(behind > 0);
        }
    }
    assert!(late < 40, "{late} of 800 were behind");
    station.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_record_with_the_longest_ttl_goes_when_it_expires() {
    let (rig, identity) = (Rig::start(6), Identity::generate());
    let root = skywave::ipfs::Block::raw("root").cid;
    let year = seconds(31_536_000);
    let record = ipns::sign(&identity, root, 1, rig.clock.unix_millis(), seconds(60), year).unwrap();
    rig.network.plant(identity.name().routing_key(), record.bytes);
    assert_eq!(rig.sequence(&identity).await, Ok(1));
    rig.network.empty_dht();
    sleep(seconds(59)).await;
    assert_eq!(rig.sequence(&identity).await, Ok(1));
    sleep(seconds(2)).await;
    assert!(rig.sequence(&identity).await.is_err());
    rig.cancel.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_followed_name_gives_each_better_record_whichever_way_it_comes() {
    let rig = Rig::start(31);
    let identity = Identity::generate();
    let (name, key) = (identity.name(), identity.name().routing_key());
    let mut newest = rig.resolver.follow(&name);
    let sequence = |record: &Option<Arc<Record>>| record.as_ref().map(|record| record.sequence);
    // Found by a search, which goes on until somebody has it.
    sleep(seconds(40)).await;
    assert_eq!(sequence(&newest.borrow_and_update()), None);
    rig.network.plant(key, signed(&identity, 5, &rig.clock, seconds(86_400)).bytes);
    sleep(seconds(60)).await;
    assert_eq!(sequence(&newest.borrow_and_update()), Some(5));
    // By gossip, though nobody resolves the name and others crowd the topics.
    for _ in 0..80 {
        let _ = rig.resolver.known(&Identity::generate().name());
    }
    sleep(seconds(2)).await;
    let told = signed(&identity, 6, &rig.clock, seconds(86_400));
    rig.peer.publish(&name.topic(), told.bytes).await.unwrap();
    sleep(seconds(1)).await;
    assert_eq!(sequence(&newest.borrow_and_update()), Some(6));
    // By another part of the program; an older one changes nothing.
    for (number, better) in [(9, true), (8, false)] {
        let bytes = signed(&identity, number, &rig.clock, seconds(86_400)).bytes;
        let record = Record::verify(&name, &bytes).unwrap();
        assert_eq!(rig.resolver.offer(&name, record), better, "{number}");
    }
    assert_eq!(sequence(&newest.borrow()), Some(9));
    assert_eq!(sequence(&rig.resolver.follow(&name).borrow()), Some(9), "a second follower begins with it");
    rig.cancel.cancel();
}
