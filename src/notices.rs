//! Notices of the system around the station: a folder of small files, shown in health.
//!
//! Takes the files, gives [`Health::set_notice`]: a file's name is the key, its first line the text. The file
//! [`UPDATING`] is no notice; while it is there, the system is being updated. A crash loses nothing: the files stay.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::{debug, info, warn};

use crate::health::Health;

/// Name of the file that is there while the system is being updated.
pub const UPDATING: &str = "updating";

/// How often the folder is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Bounds what is read of a file, and of the folder.
const MAX_BYTES: u64 = 2_000;
const MAX_FILES: usize = 64;

/// Shows what lies in `folder`, which need not be there yet, for as long as it is polled.
pub async fn follow(folder: PathBuf, health: &Health) -> Infallible {
    let mut shown = BTreeMap::new();
    loop {
        let place = folder.clone();
        match tokio::task::spawn_blocking(move || read(&place)).await {
            Ok(found) => shown = show(shown, found, health),
            Err(error) => debug!(%error, "notices cannot be read"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The files of the folder by their names, with their first lines; of an empty one, its name.
fn read(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(MAX_FILES);
    let notice = |entry: fs::DirEntry| {
        let key = entry.file_name().into_string().ok().filter(|name| !name.starts_with('.'))?;
        // Not through a link, and never a pipe, which would hold the reader up.
        entry.file_type().ok().filter(fs::FileType::is_file)?;
        let mut bytes = Vec::new();
        File::open(entry.path()).ok()?.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let line = text.lines().next().unwrap_or("").trim();
        let line = if line.is_empty() { key.clone() } else { line.to_owned() };
        Some((key, line))
    };
    entries.filter_map(notice).collect()
}

/// Brings health from what was shown to what was found; gives back what is shown now.
fn show(
    shown: BTreeMap<String, String>,
    mut found: BTreeMap<String, String>,
    health: &Health,
) -> BTreeMap<String, String> {
    health.set_updating(found.remove(UPDATING).is_some());
    // One that the program itself has set under the same key is not ours to clear.
    for key in shown.keys().filter(|key| !found.contains_key(*key)) {
        if health.clear_notice(key) {
            info!(notice = key, "notice is taken back");
        }
    }
    for (key, text) in found.iter().filter(|(key, text)| shown.get(*key) != Some(*text)) {
        if health.set_notice(key, text) {
            warn!(notice = key, text, "notice");
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Polls until the report is as wanted; the folder is looked at every second of paused time.
    async fn until(health: &Health, folder: &Path, wanted: impl Fn(&crate::health::Report) -> bool) {
        let seen = async {
            while !wanted(&health.report()) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            never = follow(folder.to_owned(), health) => match never {},
            () = seen => {}
            () = tokio::time::sleep(Duration::from_secs(600)) => panic!("{:?}", health.report()),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn files_come_change_and_go() {
        let (home, health) = (tempfile::tempdir().unwrap(), Health::new());
        let folder = home.path().join("notices");
        let mut shown = BTreeMap::new();
        let mut look = || shown = show(std::mem::take(&mut shown), read(&folder), &health);
        look();
        assert!(health.report().notices.is_empty(), "no folder yet");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("data"), "the data lie in memory\nmore").unwrap();
        fs::write(folder.join("bare"), "").unwrap();
        fs::write(folder.join(".data.new"), "not whole yet").unwrap();
        fs::create_dir(folder.join("folder")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", folder.join("link")).unwrap();
        look();
        let notices = health.report().notices;
        assert_eq!(notices.keys().collect::<Vec<_>>(), ["bare", "data"]);
        assert_eq!((&*notices["data"], &*notices["bare"]), ("the data lie in memory", "bare"));
        fs::write(folder.join("data"), "the data lie on a stick").unwrap();
        fs::remove_file(folder.join("bare")).unwrap();
        look();
        assert_eq!(
            health.report().notices.into_iter().collect::<Vec<_>>(),
            [("data".to_owned(), "the data lie on a stick".to_owned())]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_update_shows_as_such_and_is_no_notice() {
        let (home, health) = (tempfile::tempdir().unwrap(), Health::new());
        fs::write(home.path().join(UPDATING), "").unwrap();
        until(&health, home.path(), |report| report.updating).await;
        assert!(health.report().notices.is_empty());
        fs::remove_file(home.path().join(UPDATING)).unwrap();
        until(&health, home.path(), |report| !report.updating).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_program_said_itself_stays() {
        let (home, health) = (tempfile::tempdir().unwrap(), Health::new());
        health.set_notice("station-error", "line 3");
        fs::write(home.path().join("data"), "x").unwrap();
        until(&health, home.path(), |report| report.notices.len() == 2).await;
        fs::remove_file(home.path().join("data")).unwrap();
        let shown = BTreeMap::from([("data".to_owned(), "x".to_owned())]);
        show(shown, read(home.path()), &health);
        assert_eq!(health.report().notices.into_keys().collect::<Vec<_>>(), ["station-error"]);
    }
}
