//! What the command line asks for, and the configuration that it makes of files and flags.

mod station_error;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use skywave::config::{Config, ConfigError, Layers};

use super::CarCommand;
pub(crate) use station_error::StationError;

/// A radio station that broadcasts over IPFS.
#[derive(Debug, Parser)]
#[command(name = "skywave", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Puts the station on air (the default).
    Run(RunArgs),
    /// Makes the station's key and an initialised repo, ready to run.
    Init(InitArgs),
    /// Checks a configuration file; exit code 2 and the place of the mistake where there is one.
    CheckConfig {
        /// Configuration below the file.
        #[arg(long, value_name = "FILE")]
        defaults: Option<PathBuf>,
        /// The station.toml to check.
        file: PathBuf,
    },
    /// Prints the name of the machine in the network, made from the station's.
    Hostname {
        /// Configuration below the other.
        #[arg(long, value_name = "FILE")]
        defaults: Option<PathBuf>,
        /// Configuration file. One with a mistake, or that is not there, is left out.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Prints the wpa_supplicant.conf of a wifi.toml; exit code 2 and the place of a mistake where there is one.
    Wifi {
        /// The wifi.toml to read.
        file: PathBuf,
    },
    /// Moves trees of blocks out of the repo and into it, while the station is not running.
    #[command(subcommand)]
    Car(CarCommand),
}

#[derive(Debug, Default, Args)]
pub(crate) struct RunArgs {
    /// Configuration below that of --config, such as a board's.
    #[arg(long, value_name = "FILE")]
    pub(crate) defaults: Option<PathBuf>,
    /// Configuration file; every key has a default.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder for station-error.txt: a mistake in --config is written there, and the station starts without that file.
    /// Music that is not there is waited for.
    #[arg(long, value_name = "DIR")]
    pub(crate) reports: Option<PathBuf>,
    /// Folder of notices to show in /health: one file each, named by its key.
    #[arg(long, value_name = "DIR")]
    pub(crate) notices: Option<PathBuf>,
    /// Folder where the button puts its requests to the system: poweroff, reset-settings, reset-all.
    #[arg(long, value_name = "DIR")]
    pub(crate) requests: Option<PathBuf>,
    /// IPNS name of a station that this node is to relay, k51...; no music and no key are needed. Replaces follow.
    #[arg(long, value_name = "NAME")]
    pub(crate) follow: Option<String>,
    /// Folder of music, playlist or file; may be given more than once. Replaces library.music.
    #[arg(long, value_name = "DIR")]
    pub(crate) music: Vec<PathBuf>,
    /// Folder of everything the station keeps. Replaces station.data.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Address of the web server, such as 0.0.0.0:8080. Replaces http.listen.
    #[arg(long, value_name = "ADDR")]
    pub(crate) http: Option<SocketAddr>,
    /// Opens no swarm port. Sets ipfs.offline.
    #[arg(long)]
    pub(crate) offline: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Configuration file; every key has a default.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder to make. Replaces station.data.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Makes an initialised repo in this folder and nothing else: no key, so that many boards can begin with it.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "data"])]
    pub(crate) repo_only: Option<PathBuf>,
}

impl RunArgs {
    /// The configuration files with the command line on top.
    pub(crate) fn load(&self) -> Result<Config, ConfigError> {
        self.compose(self.config.as_deref())
    }

    /// What a station that reports mistakes does in spite of one in --config; `None` where there is no such file, or
    /// mistakes are not reported. A file that names a swarm key keeps the station off the public network: an owner who
    /// wants a private one is never made public by a mistake.
    pub(crate) fn without_config(&self) -> Option<Result<Config, ConfigError>> {
        let (config, _) = (self.config.as_deref()?, self.reports.as_deref()?);
        Some(self.compose(None).map(|mut defaults| {
            defaults.ipfs.offline |= may_be_private(config);
            defaults
        }))
    }

    fn compose(&self, config: Option<&Path>) -> Result<Config, ConfigError> {
        let mut files = Layers::default();
        self.defaults.iter().try_for_each(|path| files.push(path))?;
        match config {
            Some(path) if self.reports.is_some() => _ = files.push_if_there(path)?,
            Some(path) => files.push(path)?,
            None => {}
        }
        let mut config = files.merged();
        config.follow = self.follow.clone().or(config.follow);
        if !self.music.is_empty() {
            config.library.music.clone_from(&self.music);
        }
        config.station.data = self.data.clone().unwrap_or(config.station.data);
        config.http.listen = self.http.unwrap_or(config.http.listen);
        config.ipfs.offline |= self.offline;
        config.button.requests.clone_from(&self.requests);
        let waits_for_music = self.reports.is_some();
        let checked = if waits_for_music { config.validate_values() } else { config.validate() };
        let flag = |key: &str| match key {
            "library.music" if !self.music.is_empty() => Some("--music"),
            "follow" if self.follow.is_some() => Some("--follow"),
            _ => None,
        };
        checked.map_err(|(key, reason)| match flag(&key) {
            Some(flag) => ConfigError { file: None, line: None, key: flag.into(), reason },
            None => files.locate(key, reason),
        })?;
        Ok(config)
    }
}

/// Whether a file that cannot be understood may ask for a private network.
fn may_be_private(file: &Path) -> bool {
    let Ok(bytes) = fs::read(file) else { return true };
    let names_a_key = |line: &str| line.split('#').next().is_some_and(|code| code.contains("swarm_key"));
    String::from_utf8_lossy(&bytes).lines().any(names_a_key)
}
