//! The only wiring: start, reload, shutdown.

mod board;
mod copies;
mod publishing;
mod relay;
mod restore;
mod sync;
mod wiring;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use crate::clock::SharedClock;
use crate::config::Config;
use crate::encoder::EncoderError;
use crate::health::Health;
use crate::http::{self, Bound, HttpError};
use crate::ipfs::ipns::{Name, SignedRecord};
use crate::ipfs::names::Resolver;
use crate::ipfs::{Identity, IpfsError, Node, Peers};
use crate::library::{Library, LibraryHandle};
use crate::metrics::Metrics;
use crate::player::PlayerHandle;
use crate::publisher::stream_tree::StreamTree;
use crate::state::StateError;
use crate::sync::SyncHandle;
use publishing::Names;
use relay::Relayed;
use wiring::{Outside, Parts, Stage, Wiring};

/// How long the stages may take to drain, all together.
const DRAIN_LIMIT: Duration = Duration::from_millis(2_500);
/// How long any one of them may take.
const STAGE_LIMIT: Duration = Duration::from_millis(1_200);

/// Why the station cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The data folder cannot be made.
    #[error("cannot make the data folder {path}")]
    Data {
        /// The folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The web server cannot have its port.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The node did not start.
    #[error(transparent)]
    Ipfs(#[from] IpfsError),
    /// The encoders refuse the configuration.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// A relay cannot follow the station whose key it has.
    #[error("follow: {name} is this machine's own name; a relay follows the station of another one")]
    FollowsItself {
        /// The name.
        name: String,
    },
    /// State of the run before cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Makes what a first start would make: the key and the repo. Returns the station's IPNS name.
///
/// # Errors
/// [`StartError`] with what could not be made.
pub async fn init(config: &Config) -> Result<String, StartError> {
    let identity = prepare(config)?;
    let name = identity.ipns_name();
    let offline = crate::ipfs::IpfsConfig { offline: true, ..config.ipfs.in_folder(&config.station.data)? };
    Node::start(&offline, identity, &config.repo()).await?;
    Ok(name)
}

/// Makes an empty, initialised repo in `folder`, for an image that many boards begin with: it holds no key.
///
/// # Errors
/// [`StartError::Ipfs`] when it cannot be made, or something else has it.
pub async fn init_repo(folder: &Path) -> Result<(), StartError> {
    let offline = crate::ipfs::IpfsConfig { offline: true, ..crate::ipfs::IpfsConfig::default() };
    // Offline, the key is used for nothing and written nowhere.
    Node::start(&offline, Identity::generate(), folder).await?;
    Ok(())
}

fn prepare(config: &Config) -> Result<Identity, StartError> {
    let data = &config.station.data;
    std::fs::create_dir_all(data).map_err(|source| StartError::Data { path: data.clone(), source })?;
    Ok(Identity::load_or_create(&data.join("identity.key"))?)
}

/// The running station.
pub struct Appliance {
    address: SocketAddr,
    ipns_name: String,
    /// What plays; none on a relay.
    music: Option<(LibraryHandle, PlayerHandle)>,
    tree: watch::Receiver<Option<Arc<StreamTree>>>,
    names: Names,
    sync: Option<SyncHandle>,
    health: Health,
    node: Arc<Node>,
    /// Cancelled in this order, each awaited before the next.
    stages: Vec<Stage>,
}

impl Appliance {
    /// Starts every stage. The clock tells Unix time; all else runs on tokio's.
    ///
    /// # Errors
    /// [`StartError`] with what stands in the way; nothing keeps running then.
    pub async fn start(config: &Config, clock: SharedClock) -> Result<Self, StartError> {
        let bound = http::bind(&config.http).await?;
        let identity = prepare(config)?;
        let follows = config.followed();
        if follows == Some(identity.name()) {
            return Err(StartError::FollowsItself { name: identity.ipns_name() });
        }
        let ipfs = config.ipfs.in_folder(&config.station.data)?;
        let node = Arc::new(Node::start(&ipfs, identity, &config.repo()).await?);
        let peers = match node.network() {
            Some(network) => Some(Peers::start(network.clone(), &ipfs, &config.station.data).await?),
            None => None,
        };
        let (health, metrics) = (Health::new(), Metrics::new());
        let parts = Parts { config, clock, origin: Instant::now(), node, health, metrics };
        match follows {
            None => Self::originate(parts, bound, peers).await,
            Some(name) => Self::relay(parts, bound, peers, name).await,
        }
    }

    /// A station of its own.
    async fn originate(parts: Parts<'_>, bound: Bound, peers: Option<Peers>) -> Result<Self, StartError> {
        let restored = restore::restore(parts.config, &parts.node, &parts.clock, parts.origin).await?;
        let mut wiring = Wiring::new(&parts);
        let (library, player, pcm) = wiring.library_and_player(&parts);
        let segments = wiring.encoder_and_hls(&parts, &restored, pcm);
        let (content, names, ends) = wiring.publisher_and_retention(&parts, restored, segments);
        let started = wiring.outside(&parts, bound, content, ends, peers);
        wiring.follow_library(&parts, library.snapshot());
        wiring.follow_conditions(&parts);
        wiring.button_and_leds(&parts, Some(player.clone()));
        Ok(Self::started(parts, wiring, started, names, Some((library, player))))
    }

    /// Follows the station of another node.
    async fn relay(
        parts: Parts<'_>,
        bound: Bound,
        peers: Option<Peers>,
        name: Name,
    ) -> Result<Self, StartError> {
        let restored = restore::restore_relay(parts.config, &parts.node, &parts.clock, &name).await?;
        let mut wiring = Wiring::new(&parts);
        let Relayed { content, names, sync, origin } = wiring.relay(&parts, name, restored);
        let (named_sender, named) = watch::channel(Vec::new());
        let peers = peers.map(|peers| peers.keep_to(named));
        let started = wiring.outside(&parts, bound, content, sync, peers);
        wiring.keep_together(&parts, origin, named_sender, started.sync.as_ref());
        wiring.follow_conditions(&parts);
        wiring.button_and_leds(&parts, None);
        Ok(Self::started(parts, wiring, started, names, None))
    }

    fn started(
        parts: Parts<'_>,
        wiring: Wiring,
        outside: Outside,
        names: Names,
        music: Option<(LibraryHandle, PlayerHandle)>,
    ) -> Self {
        let Outside { address, ipns_name, tree, sync } = outside;
        let (health, node, stages) = (parts.health, parts.node, wiring.into_stages());
        Self { address, ipns_name, music, tree, names, sync, health, node, stages }
    }

    /// Where the web server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The station's IPNS name, `k51...`.
    pub fn ipns_name(&self) -> &str {
        &self.ipns_name
    }

    /// What is known of the music; an empty library that never changes on a relay.
    pub fn library(&self) -> watch::Receiver<Arc<Library>> {
        let none = || watch::channel(Arc::default()).1;
        self.music.as_ref().map_or_else(none, |(library, _)| library.snapshot())
    }

    /// What is on air.
    pub fn tree(&self) -> watch::Receiver<Option<Arc<StreamTree>>> {
        self.tree.clone()
    }

    /// The newest IPNS record; `None` until the clock is synchronised.
    pub fn record(&self) -> watch::Receiver<Option<SignedRecord>> {
        self.names.record.clone()
    }

    /// Resolves names of others; `None` where there is no network.
    pub fn resolver(&self) -> Option<&Resolver> {
        self.names.resolver.as_ref()
    }

    /// The station's other nodes; `None` where there is no network.
    pub fn sync(&self) -> Option<&SyncHandle> {
        self.sync.as_ref()
    }

    /// What the stages say of themselves.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// The node, for whoever wants to look at its blocks.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Takes in what can change while the station is on air; returns the sections that need a restart.
    pub fn reload(&self, before: &Config, now: &Config) -> Vec<&'static str> {
        if let Some((library, player)) = &self.music {
            if before.library.music != now.library.music {
                library.set_folders(now.library.music.clone());
            }
            if before.player != now.player {
                player.set_config(now.player.clone());
            }
        }
        now.needs_restart(before)
    }

    /// Stops the stages in flow order, each after the one before has drained, and closes the node.
    pub async fn stop(self) {
        let deadline = Instant::now() + DRAIN_LIMIT;
        self.health.set_stopping();
        self.health.set_off_air("shutting down");
        for stage in self.stages {
            stage.cancel.cancel();
            let abort = stage.task.abort_handle();
            // One slow stage, such as a library on a dead mount, leaves time for the others.
            let limit = deadline.min(Instant::now() + STAGE_LIMIT);
            if timeout_at(limit, stage.task).await.is_err() {
                warn!(stage = stage.name, "stage did not end in time");
                abort.abort();
            }
        }
        // A tick may have come in between.
        self.health.set_off_air("stopped");
        if timeout_at(deadline + Duration::from_millis(200), self.node.stop()).await.is_err() {
            warn!("the IPFS node did not end in time");
        }
        info!("station stopped");
    }
}
