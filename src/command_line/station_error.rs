//! station-error.txt: what an owner finds on the card after a mistake in station.toml.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use skywave::health::Health;
use tracing::{error, warn};

/// Name of the file, and key of the notice.
const FILE: &str = "station-error.txt";
const NOTICE: &str = "station-error";

/// Where a mistake is told; nowhere without a folder.
#[derive(Debug, Clone)]
pub(crate) struct StationError {
    folder: Option<PathBuf>,
}

impl StationError {
    pub(crate) fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    /// Writes the mistake down and makes it a notice, or takes back what was said of an earlier one.
    pub(crate) fn tell(&self, mistake: Option<&str>, health: &Health) {
        let Some(folder) = &self.folder else { return };
        let path = folder.join(FILE);
        let written = match mistake {
            Some(mistake) => {
                error!(mistake, "a mistake in the configuration");
                health.set_notice(NOTICE, mistake);
                write(&path, &text(mistake))
            }
            None => {
                health.clear_notice(NOTICE);
                fs::remove_file(&path)
                    .or_else(|e| if e.kind() == ErrorKind::NotFound { Ok(()) } else { Err(e) })
            }
        };
        if let Err(error) = written {
            warn!(path = %path.display(), %error, "the report cannot be written");
        }
    }
}

/// Whole or as it was: it may be copied at any moment.
fn write(path: &std::path::Path, text: &str) -> io::Result<()> {
    let fresh = path.with_extension("new");
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    fs::write(&fresh, text)?;
    fs::rename(&fresh, path)
}

fn text(mistake: &str) -> String {
    format!(
        "The station's settings have a mistake:\r\n\r\n  {}\r\n\r\n\
         Until it is corrected, the station goes by other settings: those from before, or the ones it was made with.\r\n\
         Correct the file and switch the station off and on. This report goes away by itself then.\r\n",
        mistake.replace(['\n', '\r'], "\r\n  ")
    )
}
