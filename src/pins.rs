//! Pins stage: has pinning services hold the station, so that it is there while the board is not.
//!
//! Takes the [`StreamTree`] from the publisher, gives nothing. Each service is asked to pin the newest root in the place
//! of the one before, once in a while, and each day of the archive that is over under a name of its own. The service
//! fetches the blocks by itself: it is told where we are, and we connect to its peers. A service that is slow, broken or
//! away costs no tick: roots do not queue, the newest is the one that counts. A crash loses what was known of the
//! services; everything of ours is listed anew then.

mod keeper;
mod ledger;
mod pin_status;
mod service;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::health::PinHealth;
use crate::http_client::{Client, Connect, Endpoint, ExchangeError, Secret, Trust};
use crate::ipfs::{Blocks, Node};
use crate::metrics::Metrics;
use crate::publisher::stream_tree::StreamTree;

const EVERY: Duration = Duration::from_secs(60);
const SHORTEST_EVERY: Duration = Duration::from_secs(5);
const LONGEST_EVERY: Duration = Duration::from_secs(86_400);

/// `[[pin]]`: a pinning service that holds a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinConfig {
    /// Where its API is, such as `https://api.example.com/psa`; http or https.
    pub url: String,
    /// What it is called in health and metrics; host and port where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `bearer:<token>`, or `basic:<user>:<password>` where a cluster wants that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Secret>,
    /// PEM file of the authorities that vouch for an https address; public ones where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Time between two roots, 5 s to a day.
    #[serde(default = "default_every", with = "humantime_serde")]
    pub every: Duration,
    /// Pins each day of the archive that is over.
    #[serde(default = "default_archive")]
    pub archive: bool,
    /// Unpins days that left the archive.
    #[serde(default)]
    pub unpin_days: bool,
}

fn default_every() -> Duration {
    EVERY
}

fn default_archive() -> bool {
    true
}

impl PinConfig {
    /// Where it is, and how to get in.
    ///
    /// # Errors
    /// Says in words what is wrong with `url` or `authorization`.
    pub fn endpoint(&self) -> Result<Endpoint, String> {
        Endpoint::parse(&self.url, self.authorization.as_ref().map(|secret| secret.0.as_str()))
    }

    /// The service, reached by `connect`.
    ///
    /// # Errors
    /// As [`PinConfig::endpoint`].
    pub fn client(&self, connect: Arc<dyn Connect>) -> Result<Client, String> {
        let trust = self.ca.clone().map_or(Trust::Public, Trust::File);
        Ok(Client::new(self.endpoint()?, connect).trusting(trust))
    }

    /// What it is called.
    pub fn name(&self) -> String {
        let host =
            || self.endpoint().map_or_else(|_| self.url.clone(), |endpoint| endpoint.host().to_owned());
        self.name.clone().unwrap_or_else(host)
    }
}

/// Checks what a type cannot say. The error is the key with the service's place in the list from 0, and what is wrong.
///
/// # Errors
/// Of the first mistake.
pub fn validate(pins: &[PinConfig]) -> Result<(), (String, String)> {
    for (index, pin) in pins.iter().enumerate() {
        let wrong = |reason: String| (format!("pin[{index}]"), reason);
        pin.endpoint().map_err(wrong)?;
        let name = pin.name();
        if name.is_empty() || name.chars().count() > 64 || name.chars().any(char::is_control) {
            return Err(wrong(format!("name {name:?} must be 1 to 64 printable characters")));
        }
        if !(SHORTEST_EVERY..=LONGEST_EVERY).contains(&pin.every) {
            let every = humantime::format_duration(pin.every);
            return Err(wrong(format!("every = \"{every}\" is not within 5s to 1day")));
        }
        if pins[..index].iter().any(|other| other.name() == name) {
            return Err(wrong(format!("name {name:?} is used twice")));
        }
    }
    Ok(())
}

/// Why a service did not do what it was asked.
#[derive(Debug, Error)]
pub enum PinError {
    /// No answer.
    #[error("{operation}")]
    Exchange {
        /// What was asked.
        operation: &'static str,
        /// The cause.
        #[source]
        source: ExchangeError,
    },
    /// The service wants another authorization.
    #[error("{operation}: refused with status {status}; check `authorization`")]
    Unauthorized {
        /// What was asked.
        operation: &'static str,
        /// 401 or 403.
        status: u16,
    },
    /// There is no such pin, or no such API.
    #[error("{operation}: status 404; check `url`: the API's `/pins` is looked for below it")]
    Missing {
        /// What was asked.
        operation: &'static str,
    },
    /// The service wants to be left alone for a while.
    #[error("{operation}: status {status}: it has too much to do")]
    Busy {
        /// What was asked.
        operation: &'static str,
        /// 429 or 503.
        status: u16,
        /// For how long, where it says.
        retry_after: Option<Duration>,
    },
    /// The service says no.
    #[error("{operation}: status {status}: {message}")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// Status code.
        status: u16,
        /// What it says, shortened.
        message: String,
    },
    /// The answer is not of the API.
    #[error("{operation}: the answer is none of the Pinning Services API: {reason}")]
    Answer {
        /// What was asked.
        operation: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// How services find the node, and the node them.
pub trait Peering: Send + Sync {
    /// Full addresses of the node.
    fn addresses(&self) -> Vec<String>;

    /// Connects to whom these addresses lead to, as far as they are reached.
    fn connect(self: Arc<Self>, addresses: Vec<String>) -> BoxFuture<'static, ()>;
}

impl Peering for Node {
    fn addresses(&self) -> Vec<String> {
        Self::addresses(self)
    }

    fn connect(self: Arc<Self>, addresses: Vec<String>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.connect_to(&addresses).await;
        })
    }
}

/// The stage's ends; survives a restart of the stage.
pub struct Pins {
    /// The services.
    pub services: Vec<PinService>,
}

impl Pins {
    /// Keeps all of them current until `cancel` fires or the publisher has ended.
    ///
    /// # Errors
    /// None: what fails is tried again.
    pub async fn run(&self, cancel: CancellationToken) -> Result<(), PinError> {
        tokio::select! {
            () = cancel.cancelled() => {}
            _ = join_all(self.services.iter().map(PinService::run)) => {}
        }
        Ok(())
    }
}

/// One service's ends.
pub struct PinService {
    /// What it is called.
    pub name: String,
    /// Its API.
    pub client: Client,
    /// IPNS name of the station.
    pub station: String,
    /// Time between two roots.
    pub every: Duration,
    /// Whether days of the archive are pinned.
    pub archive: bool,
    /// Whether days that left the archive are unpinned.
    pub unpin_days: bool,
    /// Where the folder of days is read.
    pub blocks: Blocks,
    /// What is on air.
    pub tree: watch::Receiver<Option<Arc<StreamTree>>>,
    /// How the service finds the node, and the node it.
    pub peering: Arc<dyn Peering>,
    /// Where it reports.
    pub health: PinHealth,
    /// Where it counts.
    pub metrics: Metrics,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(keys: &str) -> PinConfig {
        toml::from_str(&format!("url = \"https://pins.test/psa\"\n{keys}")).unwrap()
    }

    #[test]
    fn a_service_needs_no_more_than_its_url() {
        let config = pin("");
        assert_eq!((config.every, config.archive, config.unpin_days), (EVERY, true, false));
        assert_eq!(config.name(), "pins.test:443");
        assert_eq!(validate(&[config]), Ok(()));
    }

    #[test]
    fn mistakes_name_the_block_of_the_list() {
        let check = |pins: &[PinConfig]| validate(pins).unwrap_err();
        let (key, reason) = check(&[pin(""), pin("")]);
        assert!(key == "pin[1]" && reason.contains("used twice"), "{key}: {reason}");
        // Two accounts with one service are no mistake.
        assert_eq!(validate(&[pin("name = \"a\""), pin("name = \"b\"")]), Ok(()));
        assert!(check(&[pin("every = \"1s\"")]).1.contains("5s to 1day"));
        assert!(check(&[pin("name = \"\"")]).1.contains("1 to 64"));
        let reason = check(&[pin("authorization = \"hush\"")]).1;
        assert!(reason.contains("bearer:<token>") && !reason.contains("hush"), "{reason}");
        assert!(check(&[PinConfig { url: "ipfs://x".into(), ..pin("") }]).1.contains("form"));
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert!(!format!("{:?}", pin("authorization = \"bearer:hush\"")).contains("hush"));
    }
}
