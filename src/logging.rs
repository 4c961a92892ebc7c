//! Logs: journald where the service manager connected us to it, else one line per event on stderr.

use std::io::{self, IsTerminal, Write};

use indicatif::MultiProgress;
use serde::{Deserialize, Serialize};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Crates whose chatter below this level helps nobody.
const QUIET: &str = "rust_ipfs=error,connexa=error,libp2p=error,libp2p_kad=error,libp2p_swarm=error,symphonia=off,\
    symphonia_core=off,symphonia_bundle_mp3=off,symphonia_format_isomp4=off,symphonia_format_ogg=off,lofty=error";

/// What the names of fields begin with in the journal, so that none is taken for one of its own.
const JOURNAL_PREFIX: &str = "SKYWAVE";

/// `[log]`: what is logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// error, warn, info, debug or trace.
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".into() }
    }
}

impl LogConfig {
    /// Checks the level. The error is the key's name and what is wrong with it.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        match self.level.parse::<Level>() {
            Ok(_) => Ok(()),
            Err(_) => {
                Err(("log.level", format!("{:?} is not error, warn, info, debug or trace", self.level)))
            }
        }
    }
}

/// Installs the log for the whole process. Lines on a terminal step around `bars`.
///
/// `SKYWAVE_LOG` overrides it: a level, or levels of targets such as `info,skywave::ipfs=debug`.
pub fn init(config: &LogConfig, bars: MultiProgress) {
    let directives = std::env::var("SKYWAVE_LOG").unwrap_or_else(|_| format!("{},{QUIET}", config.level));
    let filter = directives.parse().unwrap_or_else(|_| Targets::new().with_default(Level::INFO));
    let registry = tracing_subscriber::registry().with(filter);
    if stderr_is_journal()
        && let Ok(journal) = tracing_journald::layer()
    {
        registry.with(journal.with_field_prefix(Some(JOURNAL_PREFIX.into()))).init();
        return;
    }
    let stderr = tracing_subscriber::fmt::layer()
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .with_writer(AroundBars(bars));
    registry.with(stderr).init();
}

/// Whether stderr is the stream that `JOURNAL_STREAM` names (systemd.exec(5)); programs started from a service's
/// children inherit the variable without it.
fn stderr_is_journal() -> bool {
    use std::os::unix::fs::MetadataExt;
    let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let stderr = std::fs::metadata("/proc/self/fd/2").map(|m| format!("{}:{}", m.dev(), m.ino()));
    stderr.is_ok_and(|stderr| stderr == named)
}

/// Writes to stderr and draws the progress bars again behind it.
#[derive(Clone)]
struct AroundBars(MultiProgress);

impl<'a> MakeWriter<'a> for AroundBars {
    type Writer = Self;

    fn make_writer(&'a self) -> Self::Writer {
        self.clone()
    }
}

impl Write for AroundBars {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write_all(line)).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_is_none_is_refused_by_its_key() {
        assert!(LogConfig::default().validate().is_ok());
        let (key, reason) = LogConfig { level: "loud".into() }.validate().unwrap_err();
        assert_eq!(key, "log.level");
        assert!(reason.contains("loud"));
    }
}
