//! A network in memory: nodes that gossip, a DHT and libp2p fetch, with loss, delay, and values that nobody verified.
//!
//! Gossip floods as gossipsub does: who accepts a message passes it on, who has seen it does not take it again.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support modules")]

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, BoxStream, StreamExt};
use skywave::ipfs::names::{Judge, Routing, RoutingError, Verdict};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

/// Messages that wait for a listener; more are lost.
const WAITING: usize = 16;

/// What the DHT does with a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dht {
    /// Takes it after so long.
    Takes(Duration),
    /// Answers with an error at once.
    Fails,
    /// Never answers.
    Hangs,
    /// Is switched off.
    Off,
}

/// A put, as the DHT saw it begin.
#[derive(Debug, Clone)]
pub struct Put {
    pub at: Instant,
    pub value: Bytes,
}

struct Node {
    online: bool,
    listeners: Vec<(String, Judge, mpsc::Sender<Bytes>)>,
    seen: HashSet<Bytes>,
    fetched: HashMap<Vec<u8>, Bytes>,
    rejected: usize,
}

struct State {
    nodes: Vec<Node>,
    dht: Dht,
    values: HashMap<Vec<u8>, Vec<Bytes>>,
    delay: Duration,
    loss: f64,
    random: fastrand::Rng,
    puts: Vec<Put>,
    putting: usize,
    most_putting: usize,
    searches: usize,
    provided: HashSet<Vec<u8>>,
    most_provided: usize,
}

/// The network; clones are the same one.
#[derive(Clone)]
pub struct Network(Arc<Mutex<State>>);

/// One node of it.
#[derive(Clone)]
pub struct NetworkNode {
    network: Network,
    index: usize,
}

impl Network {
    /// A network without nodes whose messages take 20 ms.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            nodes: Vec::new(),
            dht: Dht::Takes(Duration::from_secs(3)),
            values: HashMap::new(),
            delay: Duration::from_millis(20),
            loss: 0.0,
            random: fastrand::Rng::with_seed(seed),
            puts: Vec::new(),
            putting: 0,
            most_putting: 0,
            searches: 0,
            provided: HashSet::new(),
            most_provided: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// A new node, connected to all others.
    pub fn node(&self) -> NetworkNode {
        let mut state = self.state();
        state.nodes.push(Node {
            online: true,
            listeners: Vec::new(),
            seen: HashSet::new(),
            fetched: HashMap::new(),
            rejected: 0,
        });
        NetworkNode { network: self.clone(), index: state.nodes.len() - 1 }
    }

    pub fn set_dht(&self, dht: Dht) {
        self.state().dht = dht;
    }

    /// Part of the gossip messages that get lost between two nodes, 0 to 1.
    pub fn set_loss(&self, loss: f64) {
        self.state().loss = loss;
    }

    /// Leaves a value in the DHT that nobody verified.
    pub fn plant(&self, key: Vec<u8>, value: Bytes) {
        self.state().values.entry(key).or_default().push(value);
    }

    /// Forgets what the DHT holds.
    pub fn empty_dht(&self) {
        self.state().values.clear();
    }

    pub fn puts(&self) -> Vec<Put> {
        self.state().puts.clone()
    }

    /// Most puts that were ever under way together.
    pub fn most_putting(&self) -> usize {
        self.state().most_putting
    }

    /// Multihashes that are provided now, and the most that ever were together.
    pub fn provided(&self) -> (HashSet<Vec<u8>>, usize) {
        let state = self.state();
        (state.provided.clone(), state.most_provided)
    }

    /// How often the DHT was asked.
    pub fn searches(&self) -> usize {
        self.state().searches
    }

    /// Carries a message from one node to another, and from there on.
    fn carry(&self, from: usize, to: usize, topic: String, message: Bytes) {
        let (delay, lost) = {
            let mut state = self.state();
            let (loss, jitter) = (state.loss, state.random.f64());
            (state.delay.mul_f64(0.5 + jitter), state.random.f64() < loss)
        };
        if lost || from == to {
            return;
        }
        let network = self.clone();
        tokio::spawn(async move {
            sleep(delay).await;
            if network.arrive(to, &topic, &message) {
                let nodes = network.state().nodes.len();
                (0..nodes).for_each(|next| network.carry(to, next, topic.clone(), message.clone()));
            }
        });
    }

    /// Whether the node takes the message and passes it on.
    fn arrive(&self, to: usize, topic: &str, message: &Bytes) -> bool {
        let listeners: Vec<_> = {
            let node = &mut self.state().nodes[to];
            if !node.online || !node.seen.insert(message.clone()) {
                return false;
            }
            node.listeners.retain(|(_, _, sender)| !sender.is_closed());
            node.listeners.iter().filter(|(of, _, _)| of == topic).cloned().collect()
        };
        let mut accepted = false;
        for (_, judge, sender) in listeners {
            match judge(message) {
                Verdict::Accept => {
                    accepted = true;
                    let _ = sender.try_send(message.clone());
                }
                Verdict::Ignore => {}
                Verdict::Reject => self.state().nodes[to].rejected += 1,
            }
        }
        accepted
    }

    fn begin_put(&self, value: &Bytes) -> Dht {
        let mut state = self.state();
        state.puts.push(Put { at: Instant::now(), value: value.clone() });
        state.putting += 1;
        state.most_putting = state.most_putting.max(state.putting);
        state.dht
    }
}

/// Ends a put, also one that was given up.
struct Putting(Network);

impl Drop for Putting {
    fn drop(&mut self) {
        self.0.state().putting -= 1;
    }
}

impl NetworkNode {
    /// Takes the node off the network, or back onto it.
    pub fn set_online(&self, online: bool) {
        self.network.state().nodes[self.index].online = online;
    }

    /// Messages that this node blamed their sender for.
    pub fn rejected(&self) -> usize {
        self.network.state().nodes[self.index].rejected
    }

    /// Ends all subscriptions, as a network that restarts does.
    pub fn drop_subscriptions(&self) {
        self.network.state().nodes[self.index].listeners.clear();
    }

    fn others(&self) -> Vec<usize> {
        let state = self.network.state();
        match state.nodes[self.index].online {
            true => (0..state.nodes.len()).filter(|n| *n != self.index && state.nodes[*n].online).collect(),
            false => Vec::new(),
        }
    }

    fn one_by_one(&self, values: Vec<Bytes>) -> BoxStream<'static, Bytes> {
        let (network, delay) = (self.network.clone(), self.network.state().delay);
        let late = move |value| {
            let jitter = network.state().random.f64();
            async move {
                sleep(delay.mul_f64(2.0 * jitter)).await;
                value
            }
        };
        stream::iter(values).then(late).boxed()
    }
}

impl Routing for NetworkNode {
    fn publish(&self, topic: &str, message: Bytes) -> BoxFuture<'static, Result<(), RoutingError>> {
        let listens = |state: &State, n: usize| {
            state.nodes[n].listeners.iter().any(|(of, _, sender)| of == topic && !sender.is_closed())
        };
        let others = self.others();
        let heard = others.iter().any(|n| listens(&self.network.state(), *n));
        if heard {
            self.network.state().nodes[self.index].seen.insert(message.clone());
            others.iter().for_each(|n| {
                self.network.carry(self.index, *n, topic.to_owned(), message.clone());
            });
        }
        async move { if heard { Ok(()) } else { Err(RoutingError::NoPeers) } }.boxed()
    }

    fn subscribe(&self, topic: &str, judge: Judge) -> BoxStream<'static, Bytes> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let listener = (topic.to_owned(), judge, sender);
        self.network.state().nodes[self.index].listeners.push(listener);
        stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
            .boxed()
    }

    fn put_value(&self, key: Vec<u8>, value: Bytes) -> BoxFuture<'static, Result<usize, RoutingError>> {
        let (network, others) = (self.network.clone(), self.others().len());
        async move {
            let dht = network.begin_put(&value);
            let _putting = Putting(network.clone());
            match dht {
                Dht::Takes(_) if others == 0 => Err(RoutingError::NoPeers),
                Dht::Fails => Err(RoutingError::Failed("the query ended without a peer".into())),
                Dht::Hangs => std::future::pending().await,
                Dht::Off => Err(RoutingError::Off),
                Dht::Takes(time) => {
                    sleep(time).await;
                    // Peers keep the best; what is planted stands beside it.
                    network.plant(key, value);
                    Ok(others)
                }
            }
        }
        .boxed()
    }

    fn provide(&self, key: Vec<u8>, on: bool) -> BoxFuture<'static, Result<(), RoutingError>> {
        let mut state = self.network.state();
        if on {
            _ = state.provided.insert(key)
        } else {
            _ = state.provided.remove(&key)
        }
        state.most_provided = state.most_provided.max(state.provided.len());
        async { Ok(()) }.boxed()
    }

    fn get_values(&self, key: Vec<u8>) -> BoxStream<'static, Bytes> {
        let others = self.others();
        let mut values = {
            let mut state = self.network.state();
            state.searches += 1;
            let mut values = state.values.get(&key).cloned().unwrap_or_default();
            state.random.shuffle(&mut values);
            values
        };
        if others.is_empty() {
            values.clear();
        }
        self.one_by_one(values)
    }

    fn fetch(&self, key: Vec<u8>) -> BoxStream<'static, Bytes> {
        let others = self.others();
        let values = {
            let state = self.network.state();
            others.iter().filter_map(|n| state.nodes[*n].fetched.get(&key).cloned()).collect()
        };
        self.one_by_one(values)
    }

    fn set_fetched(
        &self,
        key: Vec<u8>,
        value: Option<Bytes>,
    ) -> BoxFuture<'static, Result<(), RoutingError>> {
        let node = self.clone();
        async move {
            let fetched = &mut node.network.state().nodes[node.index].fetched;
            match value {
                Some(value) => fetched.insert(key, value),
                None => fetched.remove(&key),
            };
            Ok(())
        }
        .boxed()
    }
}
