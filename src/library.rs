//! Library stage: knows every track of the music folders, in play order.
//!
//! In: folders, single files and playlists on disk, watched; failures the player met. Out: a
//! [`Library`] snapshot on a `watch` channel, newest only. A crash loses at most thirty seconds of
//! scan results: they are measured again.

mod actor;
mod catalogue;
mod mounts;
mod natural_order;
mod playlist_file;
mod scanner;
mod settling;
mod shelf;
mod tags;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc, watch as latest};

use crate::audio::loudness::{Loudness, Measured};

pub use actor::LibraryActor;
pub use scanner::is_audio;
pub use tags::Tags;

/// Where the library keeps what it measured, inside the data folder.
pub const CATALOGUE_FILE: &str = "catalogue.json";

/// Reports of unplayable files that may wait; the player retries none of them, so one lost is harmless.
const REPORTS: usize = 256;

/// The `[library]` section of station.toml.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LibraryConfig {
    /// Folders to play, in play order; a playlist or a single audio file may stand in for a folder.
    pub music: Vec<PathBuf>,
    /// How long a new file must stay unchanged before it counts. Too short plays half-copied files.
    #[serde(with = "humantime_serde")]
    pub settle: Duration,
}

impl Default for LibraryConfig {
    fn default() -> Self {
        Self { music: Vec::new(), settle: Duration::from_secs(2) }
    }
}

impl LibraryConfig {
    /// Refuses a configuration that names a folder that is not there.
    ///
    /// # Errors
    /// [`LibraryError::MissingFolder`] with the first such folder.
    pub fn validate(&self) -> Result<(), LibraryError> {
        match self.music.iter().find(|folder| !folder.exists()) {
            Some(folder) => Err(LibraryError::MissingFolder { path: folder.clone() }),
            None => Ok(()),
        }
    }
}

/// What can go wrong in the library stage.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// The configuration names a music folder that does not exist.
    #[error("music folder {} does not exist", path.display())]
    MissingFolder {
        /// As configured.
        path: PathBuf,
    },
    /// A folder walk or a catalogue write panicked: restart the stage.
    #[error("library work failed")]
    Work(#[source] tokio::task::JoinError),
}

/// All that is known of the music, at one moment.
#[derive(Debug, Clone, Default)]
pub struct Library {
    /// Every track worth trying, in play order; each file once.
    pub tracks: Vec<Arc<Track>>,
    /// Files with an audio extension that cannot be played, in play order.
    pub unplayable: Vec<Unplayable>,
    /// True until every file found has been measured or given up.
    pub scanning: bool,
    /// Files measured or given up.
    pub scanned: usize,
    /// Files found.
    pub found: usize,
}

/// One playable file.
#[derive(Debug, Clone)]
pub struct Track {
    /// Absolute, as found (symbolic links kept).
    pub path: Arc<Path>,
    /// Empty until the scan has read them, and where the file has none.
    pub tags: Tags,
    /// Exact once measured, from the headers before; `None` until the scan has seen the file.
    pub duration: Option<Duration>,
    /// EBU R 128, once measured.
    pub loudness: Option<Loudness>,
    /// Size and modification time: another content, another key.
    pub version: FileVersion,
}

/// Tells one content of a path from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileVersion {
    /// Bytes.
    pub size: u64,
    /// Modification time, nanoseconds of Unix time.
    pub modified: i64,
}

impl FileVersion {
    /// The version of a file with this metadata.
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        let modified = metadata.modified().map_or(0, unix_nanos);
        Self { size: metadata.len(), modified }
    }
}

/// Nanoseconds of Unix time, negative before 1970, saturating in the year 2262.
fn unix_nanos(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
    }
}

/// A file that is left alone until it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unplayable {
    /// Absolute, as found.
    pub path: PathBuf,
    /// In words, for the owner.
    pub reason: String,
}

/// Measures whole files; the seam at which tests count and fake.
pub trait Measurer: Send + Sync + 'static {
    /// Decodes `path` to its end. `Ok(None)` when `cancelled` turned true on the way.
    ///
    /// # Errors
    /// Why the file cannot be played, in words.
    fn measure(&self, path: &Path, cancelled: &dyn Fn() -> bool) -> Result<Option<Measured>, String>;
}

/// Asks the library from other stages. Cheap to clone; outlives restarts of the actor.
#[derive(Debug, Clone)]
pub struct LibraryHandle {
    snapshot: latest::Receiver<Arc<Library>>,
    reports: mpsc::Sender<Unplayable>,
    config: Arc<latest::Sender<LibraryConfig>>,
    rescan: Arc<Notify>,
}

impl LibraryHandle {
    /// The newest snapshot, and every later one.
    pub fn snapshot(&self) -> latest::Receiver<Arc<Library>> {
        self.snapshot.clone()
    }

    /// Takes a file out of the snapshot until its content changes. Never blocks.
    pub fn report_unplayable(&self, path: &Path, reason: &str) {
        let report = Unplayable { path: path.to_path_buf(), reason: reason.to_owned() };
        if self.reports.try_send(report).is_err() {
            tracing::debug!(track = %path.display(), "report of an unplayable file dropped");
        }
    }

    /// Walks the folders again soon, for file systems that report no changes.
    pub fn rescan(&self) {
        self.rescan.notify_one();
    }

    /// Plays these folders from now on; what was measured is kept.
    pub fn set_folders(&self, music: Vec<PathBuf>) {
        self.config.send_if_modified(|config| {
            let changed = config.music != music;
            config.music = music;
            changed
        });
    }
}
