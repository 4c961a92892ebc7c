//! Mirror stage: pushes each tick to other IPFS nodes, so that the stream lives on there.
//!
//! Takes the [`StreamTree`] from the publisher, gives nothing. One tick is one CAR of exactly the blocks that the mirror
//! lacks, with the tick's root first; kubo imports it, pins the root and drops the pin before. A mirror that is slow,
//! broken or away costs no tick: ticks that cannot wait any longer are merged into the next. A crash loses what was
//! known of the mirrors; the next push brings the whole window.

pub mod holding;
pub mod kubo;
mod queue;
mod waiting;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use futures::future::join_all;
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::health::MirrorHealth;
use crate::http_client::{Client, Connect, Endpoint, ExchangeError, Secret, Trust};
use crate::ipfs::traversal::TraversalError;
use crate::ipfs::{Blocks, IpfsError, car};
use crate::metrics::{Metrics, MirrorLabel, MirrorPushLabel};
use crate::publisher::stream_tree::StreamTree;
use crate::supervisor::backoff::Backoff;
use crate::supervisor::chain;
use holding::Holding;
use kubo::Kubo;
use queue::Tick;
use waiting::Waiting;

/// Delay after the first failure.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// Longest delay: a mirror that comes back is noticed within it.
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// Ticks that may wait: about a minute, for as long as the blocks of an old tick are held.
const QUEUE: usize = 16;
const LONGEST_QUEUE: usize = 1_000;

/// `[[mirror]]`: a kubo that holds a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MirrorConfig {
    /// Where its RPC is, such as `http://nas.local:5001`; http or https.
    pub url: String,
    /// What it is called in health and metrics; host and port where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `bearer:<token>` or `basic:<user>:<password>`, as in kubo's `API.Authorizations`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Secret>,
    /// PEM file of the authorities that vouch for an https address; public ones where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Ticks that wait while the mirror is away; older ones are merged.
    #[serde(default = "default_queue")]
    pub queue: usize,
}

fn default_queue() -> usize {
    QUEUE
}

impl MirrorConfig {
    /// Where it is, and how to get in.
    ///
    /// # Errors
    /// Says in words what is wrong with `url` or `authorization`.
    pub fn endpoint(&self) -> Result<Endpoint, String> {
        Endpoint::parse(&self.url, self.authorization.as_ref().map(|secret| secret.0.as_str()))
    }

    /// The kubo, reached by `connect`.
    ///
    /// # Errors
    /// As [`MirrorConfig::endpoint`].
    pub fn kubo(&self, connect: Arc<dyn Connect>) -> Result<Kubo, String> {
        let trust = self.ca.clone().map_or(Trust::Public, Trust::File);
        Ok(Kubo::new(Client::new(self.endpoint()?, connect).trusting(trust)))
    }

    /// What it is called.
    pub fn name(&self) -> String {
        let host =
            || self.endpoint().map_or_else(|_| self.url.clone(), |endpoint| endpoint.host().to_owned());
        self.name.clone().unwrap_or_else(host)
    }
}

/// Checks what a type cannot say. The error is the key with the mirror's place in the list from 0, and what is wrong.
///
/// # Errors
/// Of the first mistake.
pub fn validate(mirrors: &[MirrorConfig]) -> Result<(), (String, String)> {
    for (index, mirror) in mirrors.iter().enumerate() {
        let wrong = |reason: String| (format!("mirror[{index}]"), reason);
        let endpoint = mirror.endpoint().map_err(wrong)?;
        let name = mirror.name();
        if name.is_empty() || name.chars().count() > 64 || name.chars().any(char::is_control) {
            return Err(wrong(format!("name {name:?} must be 1 to 64 printable characters")));
        }
        if !(1..=LONGEST_QUEUE).contains(&mirror.queue) {
            return Err(wrong(format!("queue {} is not within 1..={LONGEST_QUEUE}", mirror.queue)));
        }
        for other in &mirrors[..index] {
            if other.name() == name {
                return Err(wrong(format!("name {name:?} is used twice")));
            }
            if other.endpoint().is_ok_and(|other| other.is_same(&endpoint)) {
                return Err(wrong(format!("url {:?} is used twice", mirror.url)));
            }
        }
    }
    Ok(())
}

/// Why a tick did not get to a mirror.
#[derive(Debug, Error)]
pub enum MirrorError {
    /// No answer.
    #[error("{operation}")]
    Exchange {
        /// Path of the RPC.
        operation: &'static str,
        /// The cause.
        #[source]
        source: ExchangeError,
    },
    /// The mirror wants another authorization.
    #[error(
        "{operation}: refused with status {status}; check `authorization`, and API.Authorizations of the mirror"
    )]
    Unauthorized {
        /// Path of the RPC.
        operation: &'static str,
        /// 401 or 403.
        status: u16,
    },
    /// The mirror says no.
    #[error("{operation}: status {status}: {message}")]
    Refused {
        /// Path of the RPC.
        operation: &'static str,
        /// Status code.
        status: u16,
        /// What it says, shortened.
        message: String,
    },
    /// The mirror's answer is not kubo's.
    #[error("{operation}: {reason}")]
    Answer {
        /// Path of the RPC.
        operation: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The mirror has not all blocks of the tree. The next push brings all of them.
    #[error("the mirror could not pin {root}: {message}")]
    Incomplete {
        /// Root of the tree.
        root: Cid,
        /// What it says, shortened.
        message: String,
    },
    /// The tick is so old that its blocks have been removed here.
    #[error("the tick waited too long: block {cid} is not held here any more")]
    Gone {
        /// A block of it.
        cid: Cid,
    },
    /// The tree cannot be read here.
    #[error("cannot read the tree")]
    Tree(#[source] TraversalError),
    /// A block cannot be read here.
    #[error("cannot read the blocks")]
    Store(#[from] IpfsError),
}

impl From<TraversalError> for MirrorError {
    fn from(error: TraversalError) -> Self {
        match error {
            TraversalError::NotHeld { cid } => Self::Gone { cid },
            other => Self::Tree(other),
        }
    }
}

/// The stage's ends; survives a restart of the stage.
pub struct Mirrors {
    /// The mirrors.
    pub mirrors: Vec<Mirror>,
}

impl Mirrors {
    /// Pushes to all of them until `cancel` fires, or until the publisher has ended and everything is pushed.
    ///
    /// # Errors
    /// None: what fails is tried again.
    pub async fn run(&self, cancel: CancellationToken) -> Result<(), MirrorError> {
        tokio::select! {
            () = cancel.cancelled() => {}
            _ = join_all(self.mirrors.iter().map(Mirror::run)) => {}
        }
        Ok(())
    }
}

/// One mirror's ends.
pub struct Mirror {
    /// Its name, in metrics.
    pub name: String,
    /// Its RPC.
    pub kubo: Kubo,
    /// Name of our pin there: one per station.
    pub pin_name: String,
    /// Ticks that may wait.
    pub queue: usize,
    /// The block store.
    pub blocks: Blocks,
    /// What is on air.
    pub tree: watch::Receiver<Option<Arc<StreamTree>>>,
    /// Where it reports.
    pub health: MirrorHealth,
    /// Where it counts.
    pub metrics: Metrics,
}

/// What is known of a mirror.
#[derive(Default)]
struct Known {
    holding: Holding,
    /// Roots that are pinned there under our name; `None` while nobody has asked.
    pinned: Option<Vec<Cid>>,
    /// Roots that may be pinned there without our name.
    nameless: Vec<Cid>,
}

impl Mirror {
    async fn run(&self) {
        let (mut waiting, mut known) = (Waiting::new(self), Known::default());
        let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
        while let Some(tick) = waiting.next().await {
            match waiting.meanwhile(self.push(tick, &mut known)).await {
                Ok(()) => {
                    self.count("ok");
                    self.health.pushed(tick.newest);
                    backoff.reset();
                    waiting.done();
                }
                Err(MirrorError::Gone { .. }) if waiting.has_newer() => waiting.merge(),
                Err(error) => {
                    self.count("failed");
                    tracing::warn!(
                        mirror = self.name,
                        n = tick.newest,
                        cid = %tick.root,
                        error = chain(&error),
                        "mirror does not take the tick"
                    );
                    self.health.failed(&chain(&error));
                    waiting.put_back(tick);
                    waiting.meanwhile(tokio::time::sleep(backoff.next(fastrand::f64()))).await;
                }
            }
        }
    }

    fn count(&self, result: &'static str) {
        let label = MirrorPushLabel { mirror: self.name.clone(), result };
        self.metrics.mirror_pushes.get_or_create(&label).inc();
    }

    /// Brings the mirror to the tick's root and takes older roots of ours off its pins.
    async fn push(&self, tick: Tick, known: &mut Known) -> Result<(), MirrorError> {
        // Without knowing better, a crash of ours may have left pins there. Also the cheapest way to find out whether
        // it lets us in.
        let mut pinned = match known.pinned.take() {
            Some(pinned) => pinned,
            None => self.kubo.pinned(&self.pin_name).await?,
        };
        let plan = known.holding.plan(&self.blocks, tick.root).await?;
        if !pinned.contains(&tick.root) {
            let imported = self.kubo.import(tick.root, self.car(tick.root, plan.fresh)).await;
            if let Err(MirrorError::Incomplete { .. }) = imported {
                known.holding = Holding::default();
            }
            imported?;
            if let Err(error) = self.kubo.name_pin(tick.root, &self.pin_name).await {
                // Under no name, nobody would find it again.
                if self.kubo.unpin(tick.root).await.is_err() {
                    known.nameless.push(tick.root);
                }
                return Err(error);
            }
        }
        known.holding = plan.holding;
        pinned.append(&mut known.nameless);
        pinned.retain(|root| *root != tick.root);
        for root in pinned {
            self.kubo.unpin(root).await?;
        }
        known.pinned = Some(vec![tick.root]);
        Ok(())
    }

    /// The CAR, block by block.
    fn car(
        &self,
        root: Cid,
        fresh: Vec<Cid>,
    ) -> impl Stream<Item = Result<Bytes, MirrorError>> + Send + 'static {
        let sent = self.metrics.mirror_bytes.get_or_create_owned(&MirrorLabel { mirror: self.name.clone() });
        let blocks = self.blocks.clone();
        let sections = stream::iter(fresh).then(move |cid| {
            let blocks = blocks.clone();
            async move {
                let data = blocks.get(&cid).await?.ok_or(MirrorError::Gone { cid })?;
                Ok([car::section_begin(&cid, data.len()), data])
            }
        });
        let parts = sections.flat_map(|section| {
            let (parts, error) = match section {
                Ok(parts) => (parts.to_vec(), None),
                Err(error) => (Vec::new(), Some(Err(error))),
            };
            stream::iter(parts.into_iter().map(Ok).chain(error))
        });
        let whole = stream::iter([Ok(car::header(&[root]))]).chain(parts);
        whole.inspect_ok(move |bytes| {
            sent.inc_by(bytes.len() as u64);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror(url: &str) -> MirrorConfig {
        MirrorConfig { url: url.into(), name: None, authorization: None, ca: None, queue: QUEUE }
    }

    #[test]
    fn mistakes_name_the_block_of_the_list() {
        let check = |mirrors: &[MirrorConfig]| validate(mirrors).err();
        let good = mirror("http://nas.local:5001");
        assert_eq!(check(&[good.clone(), mirror("http://other:5001")]), None);
        let (key, reason) = check(&[good.clone(), mirror("ftp://x:5001")]).unwrap();
        assert_eq!(key, "mirror[1]");
        assert!(reason.contains("form"), "{reason}");
        let named = |name: &str| MirrorConfig { name: Some(name.into()), ..mirror("http://other:5001/") };
        assert!(check(&[good.clone(), named("nas.local:5001")]).unwrap().1.contains("twice"));
        assert!(check(&[good.clone(), MirrorConfig { name: Some("b".into()), ..good.clone() }]).is_some());
        assert!(check(&[named("")]).unwrap().1.contains("1 to 64"));
        assert!(check(&[MirrorConfig { queue: 0, ..good.clone() }]).unwrap().1.contains("queue 0"));
    }

    #[test]
    fn a_secret_is_not_shown() {
        let config =
            MirrorConfig { authorization: Some(Secret("bearer:hush".into())), ..mirror("http://x:1") };
        assert!(!format!("{config:?}").contains("hush"));
    }
}
