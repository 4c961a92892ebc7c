//! The program: logging, configuration, signals, exit code.

mod car_command;
mod command_line;
mod progress;

use std::convert::Infallible;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use car_command::CarCommand;
use clap::Parser;
use command_line::{Cli, Command, InitArgs, RunArgs, StationError};
use indicatif::MultiProgress;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use skywave::appliance::{self, Appliance, StartError};
use skywave::clock::SystemClock;
use skywave::config::{Config, ConfigError, WifiConfig, hostname};
use skywave::health::Health;
use skywave::notices;
use skywave::service::Service;
use skywave::supervisor::chain;

/// How long threads in the middle of a file operation may hold up the end of the process.
const THREADS_MAY_TAKE: Duration = Duration::from_millis(200);

/// Exit code of a mistake in the configuration.
const EXIT_CONFIG: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => run(&cli.run),
        Some(Command::Run(args)) => run(&args),
        Some(Command::Init(args)) => init(args),
        Some(Command::Car(command)) => car_command::run(command),
        Some(Command::CheckConfig { defaults, file }) => check_config(defaults, file),
        Some(Command::Hostname { defaults, config }) => print_hostname(defaults, config),
        Some(Command::Wifi { file }) => print_wifi(&file),
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
    if let Some(repo) = args.repo_only {
        block_on(appliance::init_repo(&repo))?.map_err(|e| Failure::other(&e))?;
        say(&format!("{} is an initialised repo, without a key", repo.display()));
        return Ok(());
    }
    let run = RunArgs { config: args.config, data: args.data, offline: true, ..RunArgs::default() };
    let config = run.load().map_err(Failure::Config)?;
    let name = block_on(appliance::init(&config))?.map_err(|e| Failure::other(&e))?;
    say(&format!("{} is ready; the station's IPNS name is {name}", config.station.data.display()));
    Ok(())
}

fn check_config(defaults: Option<PathBuf>, file: PathBuf) -> Result<(), Failure> {
    let valid = format!("{} is a valid configuration", file.display());
    let run = RunArgs { defaults, config: Some(file), ..RunArgs::default() };
    run.load().map(|_| say(&valid)).map_err(Failure::Config)
}

/// The machine gets a name whatever the owner's file holds: without one, nobody finds the page that tells the mistake.
fn print_hostname(defaults: Option<PathBuf>, config: Option<PathBuf>) -> Result<(), Failure> {
    let lenient = RunArgs { defaults, config, reports: Some(PathBuf::new()), ..RunArgs::default() };
    let loaded = lenient.load().or_else(|mistake| {
        complain(&mistake.to_string());
        lenient.without_config().unwrap_or(Err(mistake))
    });
    say(&hostname(&loaded.map_err(Failure::Config)?.station.name));
    Ok(())
}

fn print_wifi(file: &Path) -> Result<(), Failure> {
    let text = Config::read(file).map_err(Failure::Config)?;
    let wifi = WifiConfig::parse(&text, file).map_err(Failure::Config)?;
    // Not by `say`: half a file must not pass for one.
    io::stdout().write_all(wifi.wpa_supplicant().as_bytes()).map_err(|e| Failure::other(&e))
}

fn run(args: &RunArgs) -> Result<(), Failure> {
    let (config, mistake) = match args.load() {
        Ok(config) => (config, None),
        Err(mistake) => match args.without_config() {
            Some(defaults) => (defaults.map_err(Failure::Config)?, Some(mistake.to_string())),
            None => return Err(Failure::Config(mistake)),
        },
    };
    let bars = MultiProgress::new();
    skywave::logging::init(&config.log, bars.clone());
    block_on(on_air(args, config, mistake, bars))?
}

/// Runs `work` on a runtime of its own and does not wait for threads that a dead disk or network mount holds up.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::other(&e))?;
    let result = runtime.block_on(work);
    runtime.shutdown_timeout(THREADS_MAY_TAKE);
    Ok(result)
}

async fn on_air(
    args: &RunArgs,
    mut config: Config,
    mut mistake: Option<String>,
    bars: MultiProgress,
) -> Result<(), Failure> {
    let mut signals = Signals::listen().map_err(|e| Failure::other(&e))?;
    let started = tokio::select! {
        station = start(args, &mut config, &mut mistake) => station,
        () = signals.end() => return Ok(()),
    };
    let station = started.map_err(|e| Failure::other(&e))?;
    let station_error = StationError::new(args.reports.clone());
    station_error.tell(mistake.as_deref(), station.health());
    introduce(&config, &station);
    let scan = tokio::spawn(progress::show(station.library(), bars));
    let service = Service::from_environment();
    let work = async {
        while let Told::Reload = signals.next().await {
            service.reloading();
            reload(args, &mut config, &station, &station_error);
            service.reloaded();
        }
    };
    tokio::select! {
        () = work => {}
        never = service.follow(station.health()) => match never {},
        never = follow_notices(args.notices.clone(), station.health()) => match never {},
    }
    service.stopping();
    scan.abort();
    station.stop().await;
    Ok(())
}

/// Starts the station. What --config asks for and the machine refuses, such as an address that is not its own, is a
/// mistake like one in the file itself: where mistakes are reported, the station goes on air without that file.
async fn start(
    args: &RunArgs,
    config: &mut Config,
    mistake: &mut Option<String>,
) -> Result<Appliance, StartError> {
    let clock = |config: &Config| Arc::new(SystemClock::new(config.ipfs.clock));
    let failed = match Appliance::start(config, clock(config)).await {
        Err(error) if mistake.is_none() => error,
        result => return result,
    };
    let Some(Ok(defaults)) = args.without_config().filter(|d| d.as_ref().is_ok_and(|d| d != config)) else {
        return Err(failed);
    };
    warn!(error = chain(&failed), "the station does not start with its configuration; starting without");
    let station = Appliance::start(&defaults, clock(&defaults)).await?;
    *mistake = Some(chain(&failed));
    *config = defaults;
    Ok(station)
}

/// What a signal asks for.
enum Told {
    Reload,
    Stop,
}

/// Signals to the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Told {
        let name = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hangup.recv() => return Told::Reload,
        };
        info!("{name}: shutting down");
        Told::Stop
    }

    /// Waits for the end; a configuration that is being loaded need not be loaded again.
    async fn end(&mut self) {
        while let Told::Reload = self.next().await {}
    }
}

async fn follow_notices(folder: Option<PathBuf>, health: &Health) -> Infallible {
    match folder {
        Some(folder) => notices::follow(folder, health).await,
        None => std::future::pending().await,
    }
}

fn reload(args: &RunArgs, config: &mut Config, station: &Appliance, station_error: &StationError) {
    let fresh = match args.load() {
        Ok(fresh) => fresh,
        Err(mistake) => {
            station_error.tell(Some(&mistake.to_string()), station.health());
            return error!(%mistake, "configuration not reloaded; the old one stays");
        }
    };
    station_error.tell(None, station.health());
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
    let title = match config.follow {
        Some(_) => "Skywave relay",
        None => &config.station.name,
    };
    say(&format!(
        "\n  {}\n\n  page   http://{host}/\n  HLS    http://{host}/live/stream.m3u8\n  IPNS   /ipns/{}\n",
        title,
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
