//! Command line of the station: arguments, logging, configuration, signals, exit code.

mod car_command;
mod progress;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use car_command::CarCommand;
use clap::{Args, Parser, Subcommand};
use indicatif::MultiProgress;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use skywave::appliance::{self, Appliance};
use skywave::clock::SystemClock;
use skywave::config::{Config, ConfigError, locate};
use skywave::supervisor::chain;

/// How long threads in the middle of a file operation may hold up the end of the process.
const THREADS_MAY_TAKE: Duration = Duration::from_millis(200);

/// Exit code of a mistake in the configuration.
const EXIT_CONFIG: u8 = 2;

/// A radio station that broadcasts over IPFS.
#[derive(Debug, Parser)]
#[command(name = "skywave", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Puts the station on air (the default).
    Run(RunArgs),
    /// Makes the station's key and an initialised repo, ready to run.
    Init(InitArgs),
    /// Checks a configuration file; exit code 2 and the place of the mistake where there is one.
    CheckConfig {
        /// The station.toml to check.
        file: PathBuf,
    },
    /// Moves trees of blocks out of the repo and into it, while the station is not running.
    #[command(subcommand)]
    Car(CarCommand),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Configuration file; every key has a default.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of music, playlist or file; may be given more than once. Replaces library.music.
    #[arg(long, value_name = "DIR")]
    music: Vec<PathBuf>,
    /// Folder of everything the station keeps. Replaces station.data.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address of the web server, such as 0.0.0.0:8080. Replaces http.listen.
    #[arg(long, value_name = "ADDR")]
    http: Option<SocketAddr>,
    /// Opens no swarm port. Sets ipfs.offline.
    #[arg(long)]
    offline: bool,
    /// Folder where the button puts its requests to the system: poweroff, reset-settings, reset-all.
    #[arg(long, value_name = "DIR")]
    requests: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct InitArgs {
    /// Configuration file; every key has a default.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder to make. Replaces station.data.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl RunArgs {
    /// The configuration file with the command line on top.
    fn load(&self) -> Result<Config, ConfigError> {
        let path = self.config.as_deref();
        let text = path.map(Config::read).transpose()?.unwrap_or_default();
        let mut config = match path {
            Some(path) => Config::parse(&text, path)?,
            None => Config::default(),
        };
        if !self.music.is_empty() {
            config.library.music.clone_from(&self.music);
        }
        config.station.data = self.data.clone().unwrap_or(config.station.data);
        config.http.listen = self.http.unwrap_or(config.http.listen);
        config.ipfs.offline |= self.offline;
        config.button.requests.clone_from(&self.requests);
        let flagged = |key: &str| key == "library.music" && !self.music.is_empty();
        let path = path.unwrap_or(Path::new(""));
        config.validate().map_err(|(key, reason)| match flagged(&key) {
            true => ConfigError { file: None, line: None, key: "--music".into(), reason },
            false => locate(path, &text, key, reason),
        })?;
        Ok(config)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => run(&cli.run),
        Some(Command::Run(args)) => run(&args),
        Some(Command::Init(args)) => init(args),
        Some(Command::Car(command)) => car_command::run(command),
        Some(Command::CheckConfig { file }) => Config::load(&file)
            .map(|_| say(&format!("{} is a valid configuration", file.display())))
            .map_err(Failure::Config),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Config(error)) => {
            complain(&error.to_string());
            ExitCode::from(EXIT_CONFIG)
        }
        Err(Failure::Other(text)) => {
            complain(&text);
            ExitCode::FAILURE
        }
    }
}

enum Failure {
    Config(ConfigError),
    Other(String),
}

impl Failure {
    fn other(error: &dyn std::error::Error) -> Self {
        Self::Other(chain(error))
    }
}

fn init(args: InitArgs) -> Result<(), Failure> {
    let run = RunArgs {
        config: args.config,
        music: Vec::new(),
        data: args.data,
        http: None,
        offline: true,
        requests: None,
    };
    let config = run.load().map_err(Failure::Config)?;
    let name = block_on(appliance::init(&config))?.map_err(|e| Failure::other(&e))?;
    say(&format!("{} is ready; the station's IPNS name is {name}", config.station.data.display()));
    Ok(())
}

fn run(args: &RunArgs) -> Result<(), Failure> {
    let config = args.load().map_err(Failure::Config)?;
    let bars = MultiProgress::new();
    skywave::logging::init(&config.log, bars.clone());
    block_on(on_air(args, config, bars))?
}

/// Runs `work` on a runtime of its own and does not wait for threads that a dead disk or network mount holds up.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::other(&e))?;
    let result = runtime.block_on(work);
    runtime.shutdown_timeout(THREADS_MAY_TAKE);
    Ok(result)
}

async fn on_air(args: &RunArgs, mut config: Config, bars: MultiProgress) -> Result<(), Failure> {
    let failed = |e: io::Error| Failure::other(&e);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let station = tokio::select! {
        station = Appliance::start(&config, Arc::new(SystemClock::new(config.ipfs.clock))) => station.map_err(|e| Failure::other(&e))?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    introduce(&config, &station);
    let scan = tokio::spawn(progress::show(station.library(), bars));
    loop {
        tokio::select! {
            _ = terminate.recv() => break info!("SIGTERM: shutting down"),
            _ = interrupt.recv() => break info!("SIGINT: shutting down"),
            _ = hangup.recv() => reload(args, &mut config, &station),
        }
    }
    scan.abort();
    station.stop().await;
    Ok(())
}

fn reload(args: &RunArgs, config: &mut Config, station: &Appliance) {
    let fresh = match args.load() {
        Ok(fresh) => fresh,
        Err(mistake) => return error!(%mistake, "configuration not reloaded; the old one stays"),
    };
    let restart = station.reload(config, &fresh);
    if !restart.is_empty() {
        warn!(sections = restart.join(", "), "these changes need a restart");
    }
    info!("configuration reloaded");
    // What needs a restart is not running yet, so that the next reload says so again.
    config.library.music = fresh.library.music;
    config.player = fresh.player;
}

fn introduce(config: &Config, station: &Appliance) {
    let address = station.address();
    let host = if address.ip().is_unspecified() {
        format!("localhost:{}", address.port())
    } else {
        address.to_string()
    };
    say(&format!(
        "\n  {}\n\n  page   http://{host}/\n  HLS    http://{host}/live/stream.m3u8\n  IPNS   /ipns/{}\n",
        config.station.name,
        station.ipns_name(),
    ));
}

/// A line for people, on stdout; a closed pipe is no reason to go off air.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "skywave: {text}");
}
