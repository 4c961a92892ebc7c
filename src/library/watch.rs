//! Watch: says when something changed in the music folders (notify only here).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{ErrorKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// Watches single folders through inotify; goes blind, and says so, where that is not possible.
pub(super) struct FolderWatch {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    changed: Arc<Notify>,
    is_blind: bool,
}

impl FolderWatch {
    /// `changed` is notified of every change in a followed folder.
    pub(super) fn new(changed: Arc<Notify>) -> Self {
        let notifier = Arc::clone(&changed);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error may hide a change (a queue overflow does): look.
            if event.map_or(true, |event| is_change(event.kind)) {
                notifier.notify_one();
            }
        });
        let mut watch = Self { watcher: None, watched: BTreeSet::new(), changed, is_blind: false };
        match watcher {
            Ok(watcher) => watch.watcher = Some(watcher),
            Err(error) => watch.go_blind(&error),
        }
        watch
    }

    /// True where changes may go unseen: folders have to be walked from time to time.
    pub(super) fn is_blind(&self) -> bool {
        self.is_blind
    }

    /// Follows `folder` from now on. Again for one already followed: it may be another one by now.
    pub(super) fn follow(&mut self, folder: &Path) {
        let Some(watcher) = &mut self.watcher else { return };
        match watcher.watch(folder, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.watched.insert(folder.to_path_buf());
            }
            Err(error) if is_gone(&error) => self.changed.notify_one(),
            Err(error) => self.go_blind(&error),
        }
    }

    /// Stops following all folders but these.
    pub(super) fn keep(&mut self, folders: &BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        self.watched.retain(|folder| {
            let keep = folders.contains(folder);
            if !keep {
                // Fails for a folder that no longer exists, whose watch went with it.
                let _gone = watcher.unwatch(folder);
            }
            keep
        });
    }

    fn go_blind(&mut self, error: &notify::Error) {
        if !self.is_blind {
            tracing::warn!(%error, "changes in the music folders cannot be watched: looking every 30 s");
        }
        self.is_blind = true;
    }
}

fn is_gone(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

/// Reading is no change: the scan would wake itself for ever.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn told(changed: &Notify) -> bool {
        tokio::time::timeout(Duration::from_secs(10), changed.notified()).await.is_ok()
    }

    #[tokio::test]
    async fn a_new_file_and_a_recreated_folder_are_told() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("sub");
        let changed = Arc::new(Notify::new());
        let mut watch = FolderWatch::new(Arc::clone(&changed));
        assert!(!watch.is_blind());
        for _ in 0..2 {
            std::fs::create_dir(&folder).unwrap();
            watch.follow(&folder);
            std::fs::write(folder.join("a.mp3"), b"x").unwrap();
            assert!(told(&changed).await);
            std::fs::remove_dir_all(&folder).unwrap();
            watch.keep(&BTreeSet::new());
        }
    }

    #[tokio::test]
    async fn a_vanished_folder_asks_for_another_look_and_blinds_nobody() {
        let changed = Arc::new(Notify::new());
        let mut watch = FolderWatch::new(Arc::clone(&changed));
        watch.follow(Path::new("/nowhere/at/all"));
        assert!(told(&changed).await);
        assert!(!watch.is_blind());
    }

    #[test]
    fn reading_is_no_change() {
        use notify::event::{CreateKind, ModifyKind};
        assert!(!is_change(EventKind::Access(AccessKind::Open(AccessMode::Any))));
        assert!(is_change(EventKind::Access(AccessKind::Close(AccessMode::Write))));
        assert!(is_change(EventKind::Create(CreateKind::File)));
        assert!(is_change(EventKind::Modify(ModifyKind::Any)));
    }
}
