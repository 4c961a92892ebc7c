//! Catalogue: what the scan found out, kept across restarts and renames.
//!
//! One JSON file. Losing it costs a scan, nothing else; so damage is logged and never fatal.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, File as OpenFile};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use multihash_codetable::{Code, MultihashDigest};
use serde::{Deserialize, Serialize};

use super::scanner::File;
use super::{FileVersion, Tags};
use crate::audio::loudness::Loudness;
use crate::state::{self, Durability};

/// Changes with the meaning of the file: another number is read as an empty catalogue.
const FORMAT: u32 = 1;

/// Records of files that are not there just now (a stick in a drawer) and are kept nevertheless.
const MAX_ABSENT: usize = 10_000;

/// Bytes hashed at the start, in the middle and at the end of a file.
const SAMPLE: u64 = 64 << 10;

/// What is known of one content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Facts {
    /// Hex; empty for a file that could not be read, which is never stored.
    pub(super) fingerprint: String,
    #[serde(flatten)]
    pub(super) tags: Tags,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) duration: Option<Duration>,
    pub(super) verdict: Verdict,
}

/// How far the scan has come with one content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// Not measured yet.
    Pending,
    /// Plays.
    Measured(Loudness),
    /// Does not.
    Unplayable { reason: String },
}

impl Verdict {
    pub(super) fn loudness(&self) -> Option<Loudness> {
        match *self {
            Self::Measured(loudness) => Some(loudness),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    path: StoredPath,
    size: u64,
    modified: i64,
    #[serde(flatten)]
    facts: Facts,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    format: u32,
    /// Another version may play what this one could not.
    software: String,
    files: Vec<Record>,
}

/// JSON strings are Unicode; Unix paths need not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum StoredPath {
    Text(String),
    Bytes(Vec<u8>),
}

impl StoredPath {
    fn new(path: &Path) -> Self {
        match path.to_str() {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Bytes(path.as_os_str().as_bytes().to_vec()),
        }
    }

    fn into_path(self) -> Arc<Path> {
        match self {
            Self::Text(text) => PathBuf::from(text),
            Self::Bytes(bytes) => PathBuf::from(OsString::from_vec(bytes)),
        }
        .into()
    }
}

/// All records, by path and by content.
#[derive(Debug, Clone, Default)]
pub(super) struct Catalogue {
    files: HashMap<Arc<Path>, (FileVersion, Facts)>,
    contents: HashMap<String, Arc<Path>>,
}

impl Catalogue {
    /// Reads the file at `path`; one that is missing or damaged gives an empty catalogue.
    pub(super) fn load(path: &Path) -> Self {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::default(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "catalogue cannot be read: scanning anew");
                return Self::default();
            }
        };
        match serde_json::from_slice::<Stored>(&text) {
            Ok(stored) if stored.format == FORMAT => Self::restored(stored),
            Ok(stored) => {
                tracing::info!(format = stored.format, "catalogue of another format: scanning anew");
                Self::default()
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "catalogue is damaged: scanning anew");
                Self::default()
            }
        }
    }

    fn restored(stored: Stored) -> Self {
        let same_software = stored.software == env!("CARGO_PKG_VERSION");
        let mut catalogue = Self::default();
        for Record { path, size, modified, mut facts } in stored.files {
            if !same_software && matches!(facts.verdict, Verdict::Unplayable { .. }) {
                facts.verdict = Verdict::Pending;
            }
            let file = File { path: path.into_path(), version: FileVersion { size, modified } };
            catalogue.put(&file, &facts);
        }
        catalogue
    }

    /// What is known of the file, if it is still the one that was scanned.
    pub(super) fn get(&self, file: &File) -> Option<&Facts> {
        let (version, facts) = self.files.get(&file.path)?;
        (*version == file.version).then_some(facts)
    }

    /// What is known of a content, wherever it lay.
    pub(super) fn find(&self, fingerprint: &str) -> Option<&Facts> {
        let (_, facts) = self.files.get(self.contents.get(fingerprint)?)?;
        (facts.fingerprint == fingerprint).then_some(facts)
    }

    /// Remembers `facts`, unless the file could not be read.
    pub(super) fn put(&mut self, file: &File, facts: &Facts) {
        if !facts.fingerprint.is_empty() {
            self.contents.insert(facts.fingerprint.clone(), Arc::clone(&file.path));
            self.files.insert(Arc::clone(&file.path), (file.version, facts.clone()));
        }
    }

    /// Bounds what absent files cost; which of them go is arbitrary.
    pub(super) fn prune(&mut self, present: &HashSet<Arc<Path>>) {
        let mut room = MAX_ABSENT;
        self.files.retain(|path, _| {
            let keep = present.contains(path) || room > 0;
            room = room.saturating_sub(usize::from(!present.contains(path)));
            keep
        });
        let files = &self.files;
        self.contents.retain(|_, path| files.contains_key(path));
    }

    /// Replaces the file at `path` as a whole, or leaves the old one.
    ///
    /// # Errors
    /// Of the file system.
    pub(super) fn store(&self, path: &Path) -> io::Result<()> {
        let mut files: Vec<_> = self.files.iter().collect();
        files.sort_by_key(|(path, _)| Arc::clone(path));
        let files = files.into_iter().map(|(path, (version, facts))| Record {
            path: StoredPath::new(path),
            size: version.size,
            modified: version.modified,
            facts: facts.clone(),
        });
        let software = env!("CARGO_PKG_VERSION").to_owned();
        let stored = Stored { format: FORMAT, software, files: files.collect() };
        fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        state::replace(path, &serde_json::to_vec(&stored)?, Durability::Power, state::OPEN)
    }
}

/// Tells contents apart by length and three samples: cheap on a card, and a rename changes nothing.
///
/// # Errors
/// Of the file system: the file cannot be read.
pub(super) fn fingerprint(path: &Path) -> io::Result<String> {
    let mut file = OpenFile::open(path)?;
    let size = file.metadata()?.len();
    let mut sample = size.to_le_bytes().to_vec();
    let offsets = [0, (size / 2).saturating_sub(SAMPLE / 2), size.saturating_sub(SAMPLE)];
    for offset in offsets {
        file.seek(SeekFrom::Start(offset))?;
        (&mut file).take(SAMPLE).read_to_end(&mut sample)?;
        if size <= SAMPLE {
            break;
        }
    }
    let hash = Code::Sha2_256.digest(&sample);
    Ok(hash.digest()[..16].iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &[u8], size: u64) -> File {
        let path = Path::new(std::ffi::OsStr::from_bytes(path)).into();
        File { path, version: FileVersion { size, modified: -5 } }
    }

    fn facts(fingerprint: &str, verdict: Verdict) -> Facts {
        let tags = Tags { title: "T".into(), artist: String::new(), album: "A".into() };
        Facts { fingerprint: fingerprint.into(), tags, duration: Some(Duration::from_millis(1500)), verdict }
    }

    const LOUD: Verdict = Verdict::Measured(Loudness { integrated_lufs: -9.5, true_peak: 0.25 });

    #[test]
    fn a_stored_catalogue_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/catalogue.json");
        let all = [
            (file(b"/m/a.mp3", 1), facts("aa", LOUD)),
            (file(b"/m/caf\xe9.mp3", 2), facts("bb", Verdict::Pending)),
            (file(b"/m/c.mp3", 3), facts("cc", Verdict::Unplayable { reason: "no".into() })),
        ];
        let mut catalogue = Catalogue::default();
        all.iter().for_each(|(file, facts)| catalogue.put(file, facts));
        catalogue.store(&path).unwrap();
        let again = Catalogue::load(&path);
        for (file, facts) in &all {
            assert_eq!(again.get(file), Some(facts));
        }
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_changed_file_is_unknown_and_a_renamed_one_is_not() {
        let mut catalogue = Catalogue::default();
        catalogue.put(&file(b"/m/a.mp3", 1), &facts("aa", LOUD));
        assert_eq!(catalogue.get(&file(b"/m/a.mp3", 2)), None);
        assert_eq!(catalogue.find("aa").unwrap().verdict, LOUD);
        assert_eq!(catalogue.find("bb"), None);
    }

    #[test]
    fn damage_gives_an_empty_catalogue() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalogue.json");
        for text in ["", "{", "[]", "null", r#"{"format":1}"#, r#"{"format":9,"software":"x","files":[]}"#] {
            fs::write(&path, text).unwrap();
            assert!(Catalogue::load(&path).files.is_empty(), "{text}");
        }
        assert!(Catalogue::load(folder.path()).files.is_empty());
    }

    #[test]
    fn another_software_tries_the_unplayable_again() {
        let stored = Stored {
            format: FORMAT,
            software: "0.0.0".into(),
            files: vec![Record {
                path: StoredPath::Text("/m/a.mp3".into()),
                size: 1,
                modified: -5,
                facts: facts("aa", Verdict::Unplayable { reason: "no".into() }),
            }],
        };
        let catalogue = Catalogue::restored(stored);
        assert_eq!(catalogue.get(&file(b"/m/a.mp3", 1)).unwrap().verdict, Verdict::Pending);
    }

    #[test]
    fn absent_files_are_kept_within_bounds() {
        let mut catalogue = Catalogue::default();
        let present = file(b"/m/here.mp3", 1);
        catalogue.put(&present, &facts("here", LOUD));
        for n in 0..MAX_ABSENT + 10 {
            catalogue.put(&file(format!("/m/{n}.mp3").as_bytes(), 1), &facts(&n.to_string(), LOUD));
        }
        catalogue.prune(&HashSet::from([Arc::clone(&present.path)]));
        assert_eq!(catalogue.files.len(), MAX_ABSENT + 1);
        assert_eq!(catalogue.contents.len(), MAX_ABSENT + 1);
        assert!(catalogue.get(&present).is_some());
    }

    #[test]
    fn a_fingerprint_follows_the_content_and_not_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        let mut content = vec![0; 400_000];
        fs::write(&a, &content).unwrap();
        fs::rename(&a, &b).unwrap();
        let before = fingerprint(&b).unwrap();
        fs::write(&a, &content).unwrap();
        assert_eq!(fingerprint(&a).unwrap(), before);
        content[200_000] = 1;
        fs::write(&a, &content).unwrap();
        assert_ne!(fingerprint(&a).unwrap(), before);
        assert!(fingerprint(&folder.path().join("gone")).is_err());
    }
}
