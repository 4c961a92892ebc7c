//! Settling: lets a file count only once its writes have ended. Pure.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::FileVersion;
use super::mounts::MountPoints;
use super::scanner::File;

/// Remembers since when each file has been as it is.
#[derive(Debug)]
pub(super) struct Settling {
    settle: Duration,
    files: HashMap<Arc<Path>, Observation>,
    /// The first walk has nothing to compare with and goes by modification times.
    is_first: bool,
}

#[derive(Debug, Clone, Copy)]
struct Observation {
    version: FileVersion,
    /// `None` once settled.
    since: Option<Instant>,
}

impl Settling {
    pub(super) fn new(settle: Duration) -> Self {
        Self { settle, files: HashMap::new(), is_first: true }
    }

    /// The files that have settled by `now`, and when to look again if some have not. What lies on a read-only file
    /// system is written by nobody and has settled.
    /// `unix_now` (nanoseconds) is only compared with modification times, on the first walk.
    pub(super) fn admit(
        &mut self,
        files: Vec<File>,
        mounts: &MountPoints,
        now: Instant,
        unix_now: i64,
    ) -> (Vec<File>, Option<Instant>) {
        let mut settled = Vec::with_capacity(files.len());
        let mut observed = HashMap::with_capacity(files.len());
        let mut look_again: Option<Instant> = None;
        for file in files {
            let mut observation = self.observe(&file, now, unix_now);
            observation.since = observation.since.filter(|_| !mounts.is_read_only(&file.path));
            observed.insert(Arc::clone(&file.path), observation);
            match observation.since {
                None => settled.push(file),
                Some(since) => {
                    let due = since + self.settle;
                    look_again = Some(look_again.map_or(due, |earlier| earlier.min(due)));
                }
            }
        }
        self.files = observed;
        self.is_first = false;
        (settled, look_again)
    }

    fn observe(&self, file: &File, now: Instant, unix_now: i64) -> Observation {
        let version = file.version;
        let since = match self.files.get(&file.path) {
            Some(before) if before.version == version => {
                before.since.filter(|since| now.duration_since(*since) < self.settle)
            }
            Some(_) => Some(now),
            None if self.is_first && !self.is_recent(version, unix_now) => None,
            None => Some(now),
        };
        Observation { version, since: since.filter(|_| !self.settle.is_zero()) }
    }

    fn is_recent(&self, version: FileVersion, unix_now: i64) -> bool {
        u128::from(version.modified.abs_diff(unix_now)) < self.settle.as_nanos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Duration = Duration::from_secs(2);
    const UNIX: i64 = 1_700_000_000_000_000_000;

    fn file(size: u64, modified: i64) -> File {
        File { path: Path::new("/m/a.mp3").into(), version: FileVersion { size, modified } }
    }

    fn writable() -> MountPoints {
        MountPoints::parse(b"1 1 8:1 / / rw - ext4 /dev/sda1 rw")
    }

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn old_files_count_at_once_on_the_first_walk() {
        let mut settling = Settling::new(SETTLE);
        let (settled, due) = settling.admit(vec![file(1, 5)], &writable(), Instant::now(), UNIX);
        assert_eq!((settled.len(), due), (1, None));
    }

    #[test]
    fn a_file_being_written_counts_once_it_stays_the_same() {
        let (mut settling, start) = (Settling::new(SETTLE), Instant::now());
        let (settled, due) = settling.admit(vec![file(1, UNIX)], &writable(), start, UNIX);
        assert_eq!((settled.len(), due), (0, Some(start + SETTLE)));
        let (settled, due) = settling.admit(vec![file(2, UNIX)], &writable(), after(start, 1500), UNIX);
        assert_eq!((settled.len(), due), (0, Some(after(start, 3500))));
        assert!(settling.admit(vec![file(2, UNIX)], &writable(), after(start, 3499), UNIX).0.is_empty());
        assert_eq!(settling.admit(vec![file(2, UNIX)], &writable(), after(start, 3500), UNIX).0.len(), 1);
        assert_eq!(
            settling.admit(vec![file(2, UNIX)], &writable(), after(start, 3501), UNIX),
            (vec![file(2, UNIX)], None)
        );
    }

    #[test]
    fn a_later_file_waits_even_with_an_old_modification_time() {
        let (mut settling, start) = (Settling::new(SETTLE), Instant::now());
        settling.admit(vec![], &writable(), start, UNIX);
        assert!(settling.admit(vec![file(1, 5)], &writable(), start, UNIX).0.is_empty());
        assert_eq!(settling.admit(vec![file(1, 5)], &writable(), start + SETTLE, UNIX).0.len(), 1);
    }

    #[test]
    fn a_changed_file_settles_anew() {
        let (mut settling, start) = (Settling::new(SETTLE), Instant::now());
        assert_eq!(settling.admit(vec![file(1, 5)], &writable(), start, UNIX).0.len(), 1);
        assert!(settling.admit(vec![file(2, 5)], &writable(), after(start, 9000), UNIX).0.is_empty());
    }

    #[test]
    fn no_settling_means_at_once() {
        let mut settling = Settling::new(Duration::ZERO);
        assert_eq!(settling.admit(vec![file(1, UNIX)], &writable(), Instant::now(), UNIX).0.len(), 1);
    }

    #[test]
    fn what_nobody_can_write_to_counts_at_once() {
        let stick = MountPoints::parse(b"1 1 8:1 / / rw - ext4 a rw\n2 1 8:2 / /m ro - vfat b ro");
        let mut settling = Settling::new(SETTLE);
        settling.admit(vec![], &stick, Instant::now(), UNIX);
        let (settled, due) = settling.admit(vec![file(1, UNIX)], &stick, Instant::now(), UNIX);
        assert_eq!((settled.len(), due), (1, None));
    }
}
