//! Pubsub as the IPNS pubsub router of kubo speaks it: signed messages, each judged before it is passed on.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use cid::multibase::Base;
use libp2p::PeerId;
use libp2p::gossipsub::{
    self, AllowAllSubscriptionFilter, ConfigBuilder, IdentTopic, IdentityTransform,
    MaxCountSubscriptionFilter, MessageAcceptance, MessageAuthenticity, MessageId, PublishError, TopicHash,
    ValidationMode,
};
use libp2p::identity::Keypair;
use tokio::sync::mpsc;
use tokio::sync::mpsc::OwnedPermit;
use tokio::sync::mpsc::error::SendError;

use crate::NetworkError;
use crate::counters::Counters;

/// Largest message: an IPNS record (IPNS specification, "Record Size Limit").
pub const MAX_MESSAGE: usize = 10 * 1024;
/// What names of topics of records begin with; the base64url of the record's key follows (IPNS over PubSub specification).
const RECORDS: &str = "/record/";
/// Largest frame: peers put several messages and their control lists in one.
const MAX_FRAME: usize = 64 * 1024;
/// Messages that wait for whoever subscribed.
const BACKLOG: usize = 64;
/// Topics of one peer, and changes in one message; more are not believed.
const MAX_TOPICS: usize = 2048;
const MAX_CHANGES: usize = 512;
/// Frames that wait for one slow peer.
const SLOW_PEER: usize = 256;
/// Peers that a message is passed on to: so many, at least, at most. gossipsub's own are 6, 5 and 12, nearly all that a relay
/// has; the station's record and word go to each of its peers directly.
const MESH: [usize; 3] = [5, 4, 8];
/// Topics that this node may follow.
const MAX_SUBSCRIPTIONS: usize = 256;

/// What a listener says of a message before it is passed on (gossipsub v1.1, "Extended Validators").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Taken, and passed on to others.
    Accept,
    /// Neither; its sender did nothing wrong.
    Ignore,
    /// Neither; its sender is to blame.
    Reject,
}

/// Judges each message of a topic once, on the swarm's task: it must be quick.
pub type Judge = Arc<dyn Fn(&Bytes) -> Verdict + Send + Sync>;
/// A message and who passed it on.
pub type Message = (PeerId, Bytes);

pub(crate) type Gossipsub =
    gossipsub::Behaviour<IdentityTransform, MaxCountSubscriptionFilter<AllowAllSubscriptionFilter>>;

/// # Errors
/// When the settings contradict each other.
pub(crate) fn behaviour(keypair: &Keypair) -> Result<Gossipsub, String> {
    let config = ConfigBuilder::default()
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .max_transmit_size(MAX_FRAME)
        .duplicate_cache_time(Duration::from_secs(120))
        .connection_handler_queue_len(SLOW_PEER)
        .mesh_n(MESH[0])
        .mesh_n_low(MESH[1])
        .mesh_n_high(MESH[2])
        .max_messages_per_rpc(Some(MAX_CHANGES))
        .message_id_fn(message_id)
        .build()
        .map_err(|error| error.to_string())?;
    let filter = MaxCountSubscriptionFilter {
        filter: AllowAllSubscriptionFilter {},
        max_subscribed_topics: MAX_TOPICS,
        max_subscriptions_per_request: MAX_CHANGES,
    };
    let author = MessageAuthenticity::Signed(keypair.clone());
    Gossipsub::new_with_subscription_filter(author, config, filter).map_err(str::to_owned)
}

/// Author and sequence number as they travel: the id that go-libp2p-pubsub gives the message, so that both sides mean
/// the same one when they gossip about it.
fn message_id(message: &gossipsub::Message) -> MessageId {
    let mut id = message.source.map(PeerId::to_bytes).unwrap_or_default();
    id.extend(message.sequence_number.unwrap_or_default().to_be_bytes());
    MessageId::from(id)
}

type Permit = Pin<Box<dyn Future<Output = Result<OwnedPermit<Message>, SendError<()>>> + Send>>;

struct Subscription {
    judge: Judge,
    backlog: VecDeque<Message>,
    output: mpsc::Sender<Message>,
    permit: Option<Permit>,
}

impl Subscription {
    fn take(&mut self, message: Message, counters: &Counters) {
        if self.backlog.len() == BACKLOG {
            self.backlog.pop_front();
            counters.messages_dropped.add();
        }
        self.backlog.push_back(message);
    }

    fn deliver(&mut self, cx: &mut Context<'_>) {
        while !self.backlog.is_empty() {
            let output = &self.output;
            let permit = self.permit.get_or_insert_with(|| Box::pin(output.clone().reserve_owned()));
            let Poll::Ready(permit) = permit.as_mut().poll(cx) else { return };
            self.permit = None;
            match permit {
                Ok(permit) => _ = self.backlog.pop_front().map(|message| permit.send(message)),
                Err(_) => self.backlog.clear(),
            }
        }
    }
}

/// What this node follows, and who listens.
pub(crate) struct Topics {
    followed: HashMap<TopicHash, Vec<Subscription>>,
    counters: Arc<Counters>,
}

impl Topics {
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        Self { followed: HashMap::new(), counters }
    }

    pub(crate) fn subscribe(
        &mut self,
        gossipsub: &mut Gossipsub,
        topic: String,
        judge: Judge,
    ) -> Result<mpsc::Receiver<Message>, NetworkError> {
        if self.followed.values().map(Vec::len).sum::<usize>() >= MAX_SUBSCRIPTIONS {
            return Err(NetworkError::TooMany(MAX_SUBSCRIPTIONS));
        }
        let topic = IdentTopic::new(topic);
        gossipsub.subscribe(&topic).map_err(|_| NetworkError::Refused("the topic is not allowed"))?;
        // One slot: what waits, waits in the backlog, where the oldest can be dropped.
        let (output, input) = mpsc::channel(1);
        let subscription = Subscription { judge, backlog: VecDeque::new(), output, permit: None };
        self.followed.entry(topic.hash()).or_default().push(subscription);
        Ok(input)
    }

    /// Leaves the topics that nobody listens to any more.
    pub(crate) fn leave_unheard(&mut self, gossipsub: &mut Gossipsub) {
        self.followed.retain(|topic, listeners| {
            listeners.retain(|listener| !listener.output.is_closed());
            if listeners.is_empty() {
                gossipsub.unsubscribe(&IdentTopic::new(topic.as_str()));
            }
            !listeners.is_empty()
        });
    }

    /// Has a message judged: one listener that rejects it is enough to stop it, one that accepts it to pass it on.
    pub(crate) fn received(
        &mut self,
        gossipsub: &mut Gossipsub,
        from: PeerId,
        id: &MessageId,
        message: gossipsub::Message,
    ) {
        let (acceptance, counter) = match self.judge(from, &message.topic, message.data.into()) {
            Verdict::Accept => (MessageAcceptance::Accept, &self.counters.messages),
            Verdict::Ignore => (MessageAcceptance::Ignore, &self.counters.messages_ignored),
            Verdict::Reject => (MessageAcceptance::Reject, &self.counters.messages_refused),
        };
        counter.add();
        gossipsub.report_message_validation_result(id, &from, acceptance);
    }

    /// Takes what a peer has to say on a topic, by gossip or because it was asked.
    pub(crate) fn judge(&mut self, from: PeerId, topic: &TopicHash, data: Bytes) -> Verdict {
        let (mut accepted, mut rejected) = (false, data.len() > MAX_MESSAGE);
        let listeners = self.followed.get_mut(topic).filter(|_| !rejected);
        for listener in listeners.into_iter().flatten() {
            match (listener.judge)(&data) {
                Verdict::Accept => {
                    listener.take((from, data.clone()), &self.counters);
                    accepted = true;
                }
                Verdict::Ignore => {}
                Verdict::Reject => rejected = true,
            }
        }
        match (rejected, accepted) {
            (true, _) => Verdict::Reject,
            (false, true) => Verdict::Accept,
            (false, false) => Verdict::Ignore,
        }
    }

    /// Under which key peers give the newest record of a topic, where it is one of records and followed.
    pub(crate) fn record_key(&self, topic: &TopicHash) -> Option<Vec<u8>> {
        let key = topic.as_str().strip_prefix(RECORDS).filter(|_| self.followed.contains_key(topic))?;
        Base::Base64Url.decode(key).ok()
    }

    /// Peers that follow what this node follows.
    pub(crate) fn followers<'a>(&'a self, gossipsub: &'a Gossipsub) -> impl Iterator<Item = &'a PeerId> {
        let same = |topics: &[&TopicHash]| topics.iter().any(|topic| self.followed.contains_key(*topic));
        gossipsub.all_peers().filter(move |(_, topics)| same(topics)).map(|(peer, _)| peer)
    }

    /// Hands on what waits, as far as there is room.
    pub(crate) fn deliver(&mut self, cx: &mut Context<'_>) {
        self.followed.values_mut().flatten().for_each(|listener| listener.deliver(cx));
    }

    /// Names of the topics that somebody listens to.
    pub(crate) fn names(&self) -> Vec<String> {
        self.followed.keys().map(|topic| topic.as_str().to_owned()).collect()
    }
}

/// Sends a message; the number of peers that follow the topic. Nobody there is no error.
pub(crate) fn publish(gossipsub: &mut Gossipsub, topic: String, data: Bytes) -> Result<usize, NetworkError> {
    if data.len() > MAX_MESSAGE {
        return Err(NetworkError::TooLarge(data.len()));
    }
    let topic = IdentTopic::new(topic).hash();
    let followers = gossipsub.all_peers().filter(|(_, topics)| topics.contains(&&topic)).count();
    match gossipsub.publish(topic, data) {
        Ok(_) => Ok(followers),
        Err(PublishError::NoPeersSubscribedToTopic) => Ok(0),
        Err(PublishError::Duplicate) => Ok(followers),
        Err(PublishError::AllQueuesFull(_)) => Err(NetworkError::Busy),
        Err(_) => Err(NetworkError::Refused("the message cannot be signed or sent")),
    }
}
