//! Small facts that outlive a restart: one JSON file each, replaced atomically.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// What a save must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process. Costs no write barrier.
    Process,
    /// A power cut.
    Power,
}

/// Why a state file could not be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// It could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It could not be written; the old content still stands.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// A file that holds one value, whole or not at all.
#[derive(Debug, Clone)]
pub struct StateFile {
    path: PathBuf,
    durability: Durability,
}

impl StateFile {
    /// A file at `path`; nothing is opened yet.
    pub fn new(path: impl Into<PathBuf>, durability: Durability) -> Self {
        Self { path: path.into(), durability }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The value; `None` where there is no file. A damaged file is set aside as `<name>.damaged` and counts as none.
    ///
    /// # Errors
    /// [`StateError::Read`] when the file is there and cannot be read.
    pub fn load<T: DeserializeOwned>(&self) -> Result<Option<T>, StateError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StateError::Read { path: self.path.clone(), source }),
        };
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "state file is damaged; set aside");
                let aside = with_suffix(&self.path, ".damaged");
                fs::rename(&self.path, aside)
                    .map_err(|source| StateError::Read { path: self.path.clone(), source })?;
                Ok(None)
            }
        }
    }

    /// Replaces the value.
    ///
    /// # Errors
    /// [`StateError::Write`]; the value before still stands.
    pub fn save<T: Serialize>(&self, value: &T) -> Result<(), StateError> {
        self.write(value).map_err(|source| StateError::Write { path: self.path.clone(), source })
    }

    fn write<T: Serialize>(&self, value: &T) -> io::Result<()> {
        replace(&self.path, &serde_json::to_vec(value)?, self.durability, OPEN)
    }
}

/// Permissions of a file that anybody may read, less the umask.
pub const OPEN: u32 = 0o666;
/// Permissions of a file that holds a secret.
pub const PRIVATE: u32 = 0o600;

/// Puts `content` in the place of the file at `path`, whole or not at all. A new file has the permissions `mode`.
///
/// # Errors
/// Of the file system; the old content still stands.
pub fn replace(path: &Path, content: &[u8], durability: Durability, mode: u32) -> io::Result<()> {
    let temporary = with_suffix(path, ".new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
    file.write_all(content)?;
    if durability == Durability::Power {
        file.sync_all()?;
    }
    fs::rename(&temporary, path)?;
    if durability == Durability::Power {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_back_and_a_missing_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path().join("x.json"), Durability::Power);
        assert_eq!(file.load::<Vec<u64>>().unwrap(), None);
        file.save(&vec![1_u64, 2]).unwrap();
        file.save(&vec![3_u64]).unwrap();
        assert_eq!(file.load::<Vec<u64>>().unwrap(), Some(vec![3]));
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_kept_for_whoever_wants_to_look() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        fs::write(&path, b"{\"n\": 1").unwrap();
        let file = StateFile::new(&path, Durability::Process);
        assert_eq!(file.load::<Vec<u64>>().unwrap(), None);
        assert_eq!(fs::read(folder.path().join("x.json.damaged")).unwrap(), b"{\"n\": 1");
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_value() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path().join("x.json"), Durability::Process);
        file.save(&1_u64).unwrap();
        // A folder in the way of the temporary file.
        fs::create_dir(folder.path().join("x.json.new")).unwrap();
        let error = file.save(&2_u64).unwrap_err();
        assert!(error.to_string().contains("x.json"), "{error}");
        assert_eq!(file.load::<u64>().unwrap(), Some(1));
    }
}
