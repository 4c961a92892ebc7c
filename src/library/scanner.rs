//! Scanner: walks the music folders and says which files are there, in play order.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::mounts::MountPoints;
use super::{FileVersion, natural_order, playlist_file};

/// File name extensions that are tried, in lower case.
const AUDIO: [&str; 20] = [
    "mp3", "mp2", "mp1", "flac", "wav", "wave", "ogg", "oga", "opus", "m4a", "m4b", "mp4", "aac", "aif",
    "aiff", "aifc", "caf", "mka", "weba", "webm",
];

/// Extensions of playlist files.
const PLAYLIST: [&str; 2] = ["m3u", "m3u8"];

/// What marks the data folder of a station, which is never music.
const STATION_KEY: &str = "identity.key";

/// Folders deeper than this are left out: no music lies there, but a broken file system may.
const MAX_DEPTH: usize = 32;

/// Longest playlist read, in bytes: about 40,000 entries.
const MAX_PLAYLIST: u64 = 4 << 20;

/// Folders of other systems that hold deleted or private files.
const FOREIGN: [&str; 3] = ["$RECYCLE.BIN", "System Volume Information", "lost+found"];

/// A file with an audio extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) path: Arc<Path>,
    pub(super) version: FileVersion,
}

/// What one walk saw.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// In play order, each file once, whatever links and playlists lead to it.
    pub(super) files: Vec<File>,
    /// Folders whose changes matter.
    pub(super) folders: BTreeSet<PathBuf>,
    /// Configured folders that are not there.
    pub(super) missing: Vec<PathBuf>,
    /// What was mounted right after; empty where nobody looked.
    pub(super) mounts: MountPoints,
}

/// True for a name with an extension that is tried.
pub fn is_audio(path: &Path) -> bool {
    has_extension(path, &AUDIO)
}

fn has_extension(path: &Path, known: &[&str]) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    known.iter().any(|one| extension.eq_ignore_ascii_case(one))
}

/// Walks `roots`. `before_listing` sees each folder before it is listed, so that a watch set there
/// misses nothing.
pub(super) fn walk(roots: &[PathBuf], before_listing: &mut dyn FnMut(&Path)) -> Walk {
    let mut walker = Walker {
        walk: Walk::default(),
        seen_files: HashSet::new(),
        seen_folders: HashSet::new(),
        before_listing,
    };
    for root in roots {
        walker.root(root);
    }
    walker.walk
}

struct Walker<'a> {
    walk: Walk,
    /// Canonical paths: what a link leads to counts once, and a loop of links ends.
    seen_files: HashSet<PathBuf>,
    seen_folders: HashSet<PathBuf>,
    before_listing: &'a mut dyn FnMut(&Path),
}

impl Walker<'_> {
    fn root(&mut self, root: &Path) {
        let root = std::path::absolute(root).unwrap_or_else(|_| root.to_path_buf());
        let (Ok(canonical), Ok(metadata)) = (root.canonicalize(), fs::metadata(&root)) else {
            self.walk.missing.push(root);
            return;
        };
        if metadata.is_dir() {
            self.folder(&root, canonical, 0);
            return;
        }
        self.watch_parent(&root);
        if has_extension(&root, &PLAYLIST) {
            self.playlist(&root);
        } else {
            self.file(&root, canonical);
        }
    }

    fn folder(&mut self, path: &Path, canonical: PathBuf, depth: usize) {
        if depth > MAX_DEPTH || !self.seen_folders.insert(canonical.clone()) {
            return;
        }
        // Watching its own blocks come and go would keep the library walking for ever.
        if path.join(STATION_KEY).is_file() {
            return;
        }
        self.watch(path);
        let mut entries = match list(path, &canonical) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "folder cannot be read");
                return;
            }
        };
        entries.sort_by(|a, b| natural_order::compare(a.name(), b.name()));
        for entry in entries.iter().filter(|entry| !entry.is_folder && has_extension(&entry.path, &PLAYLIST))
        {
            self.playlist(&entry.path);
        }
        for entry in entries {
            if entry.is_folder {
                self.folder(&entry.path, entry.canonical, depth + 1);
            } else if is_audio(&entry.path) {
                self.file(&entry.path, entry.canonical);
            }
        }
    }

    fn file(&mut self, path: &Path, canonical: PathBuf) {
        // Pipes and devices would block whoever opens them.
        let Ok(metadata) = fs::metadata(path) else { return };
        if metadata.is_file() && is_audio(path) && self.seen_files.insert(canonical) {
            self.walk.files.push(File { path: path.into(), version: FileVersion::of(&metadata) });
        }
    }

    /// Adds the files of a playlist; entries that are not there are passed over.
    fn playlist(&mut self, path: &Path) {
        let mut text = Vec::new();
        let read = fs::metadata(path).and_then(|metadata| {
            if !metadata.is_file() {
                return Ok(0);
            }
            fs::File::open(path)?.take(MAX_PLAYLIST).read_to_end(&mut text)
        });
        if let Err(error) = read {
            tracing::warn!(path = %path.display(), %error, "playlist cannot be read");
            return;
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        for spellings in playlist_file::entries(&text) {
            let found = spellings.iter().map(|spelling| folder.join(spelling)).find(|file| file.exists());
            match found.as_ref().and_then(|file| Some((file, file.canonicalize().ok()?))) {
                Some((file, canonical)) if is_audio(file) => {
                    self.watch_parent(&canonical);
                    self.file(file, canonical);
                }
                Some(_) => {}
                None => tracing::debug!(playlist = %path.display(), entry = ?spellings[0], "no such file"),
            }
        }
    }

    fn watch_parent(&mut self, path: &Path) {
        if let Some(parent) = path.parent() {
            self.watch(parent);
        }
    }

    fn watch(&mut self, folder: &Path) {
        if !self.walk.folders.contains(folder) {
            (self.before_listing)(folder);
            self.walk.folders.insert(folder.to_path_buf());
        }
    }
}

struct Entry {
    path: PathBuf,
    canonical: PathBuf,
    is_folder: bool,
}

impl Entry {
    fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }
}

/// The entries of a folder without hidden ones and dangling links.
fn list(folder: &Path, canonical: &Path) -> std::io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let foreign = FOREIGN.iter().any(|one| name.eq_ignore_ascii_case(one));
        if name.as_bytes().starts_with(b".") || foreign {
            continue;
        }
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        let is_link = kind.is_symlink();
        let canonical = if is_link { path.canonicalize().ok() } else { Some(canonical.join(&name)) };
        let is_folder = if is_link { path.is_dir() } else { kind.is_dir() };
        if let Some(canonical) = canonical {
            entries.push(Entry { path, canonical, is_folder });
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::symlink;

    fn make(folder: &Path, names: &[&str]) {
        for name in names {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"x").unwrap();
        }
    }

    fn names(roots: &[PathBuf]) -> Vec<String> {
        let walk = walk(roots, &mut |_| {});
        let base = roots[0].canonicalize().unwrap_or_default();
        let short = |path: &Path| path.strip_prefix(&base).unwrap_or(path).to_string_lossy().into_owned();
        walk.files.iter().map(|file| short(&file.path)).collect()
    }

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().canonicalize().unwrap();
        (temporary, path)
    }

    #[test]
    fn the_data_folder_of_a_station_is_no_music() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("skywave-data");
        fs::create_dir_all(data.join("ipfs")).unwrap();
        fs::write(data.join("identity.key"), b"key").unwrap();
        fs::write(data.join("ipfs/x.mp3"), b"x").unwrap();
        fs::write(folder.path().join("a.mp3"), b"x").unwrap();
        let mut listed = Vec::new();
        let walk = walk(&[folder.path().to_path_buf()], &mut |path| listed.push(path.to_path_buf()));
        assert_eq!(walk.files.len(), 1);
        assert!(!listed.iter().any(|path| path.starts_with(&data)), "{listed:?}");
    }

    #[test]
    fn files_come_in_natural_order_and_only_audio_counts() {
        let (_keep, root) = folder();
        make(&root, &["10.mp3", "9.FLAC", "b/1.ogg", "notes.txt", "a/x.Opus", "noextension", "cover.jpg"]);
        assert_eq!(names(&[root]), ["9.FLAC", "10.mp3", "a/x.Opus", "b/1.ogg"]);
    }

    #[test]
    fn hidden_and_foreign_files_are_left_out() {
        let (_keep, root) = folder();
        make(&root, &[".a.mp3", "._b.mp3", ".hidden/c.mp3", "$Recycle.Bin/d.mp3", "e.mp3"]);
        assert_eq!(names(&[root]), ["e.mp3"]);
    }

    #[test]
    fn a_directory_with_an_audio_name_is_a_directory() {
        let (_keep, root) = folder();
        make(&root, &["x.mp3/1.wav"]);
        assert_eq!(names(&[root]), ["x.mp3/1.wav"]);
    }

    #[test]
    fn loops_of_links_end_and_linked_files_count_once() {
        let (_keep, root) = folder();
        make(&root, &["a/1.mp3"]);
        symlink(&root, root.join("a/loop")).unwrap();
        symlink(root.join("a"), root.join("b")).unwrap();
        symlink(root.join("a/1.mp3"), root.join("z.mp3")).unwrap();
        symlink(root.join("gone.mp3"), root.join("dangling.mp3")).unwrap();
        assert_eq!(names(&[root]), ["a/1.mp3"]);
    }

    #[test]
    fn names_outside_utf_8_are_found() {
        let (_keep, root) = folder();
        let name = std::ffi::OsString::from_vec(b"caf\xe9.mp3".to_vec());
        fs::write(root.join(name), b"x").unwrap();
        assert_eq!(walk(&[root], &mut |_| {}).files.len(), 1);
    }

    #[test]
    fn a_playlist_sets_the_order_and_reaches_outside() {
        let (_keep, root) = folder();
        make(&root, &["music/a.mp3", "music/b.mp3", "music/sub/c.mp3", "outside/o.mp3"]);
        let list = "sub/c.mp3\n../outside/o.mp3\nb.mp3\nb.mp3\nmissing.mp3\n../../etc/passwd\n";
        fs::write(root.join("music/all.m3u"), list).unwrap();
        let walk = walk(&[root.join("music")], &mut |_| {});
        let ends: Vec<_> =
            walk.files.iter().map(|file| file.path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(ends, ["c.mp3", "o.mp3", "b.mp3", "a.mp3"]);
        assert!(walk.folders.contains(&root.join("outside")));
    }

    #[test]
    fn a_root_may_be_a_playlist_or_a_file_and_may_be_missing() {
        let (_keep, root) = folder();
        make(&root, &["a.mp3", "b.mp3"]);
        fs::write(root.join("one.m3u8"), "b.mp3").unwrap();
        let roots = [root.join("one.m3u8"), root.join("gone"), root.join("a.mp3")];
        let walk = walk(&roots, &mut |_| {});
        assert_eq!(walk.files.len(), 2);
        assert_eq!(*walk.files[0].path, root.join("b.mp3"));
        assert_eq!(walk.missing, [root.join("gone")]);
    }

    #[test]
    fn every_folder_is_announced_before_it_is_listed() {
        let (_keep, root) = folder();
        make(&root, &["a/1.mp3"]);
        let mut seen = Vec::new();
        let late = root.join("a/late.mp3");
        let walk = walk(std::slice::from_ref(&root), &mut |folder| {
            seen.push(folder.to_path_buf());
            if folder.ends_with("a") {
                fs::write(&late, b"x").unwrap();
            }
        });
        assert_eq!(seen, [root.clone(), root.join("a")]);
        assert_eq!(walk.files.len(), 2);
    }
}
