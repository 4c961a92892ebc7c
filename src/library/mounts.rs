//! Mounts: when file systems come and go, and on which of them files cannot change (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// Differs whenever a file system was mounted or unmounted, which inotify does not tell. Empty where the system does not
/// say.
pub(super) fn table() -> Vec<u8> {
    std::fs::read(MOUNTINFO).unwrap_or_default()
}

/// Mount points, each with whether its file system is read-only for everybody. Later ones hide earlier ones.
#[derive(Debug, Default)]
pub(super) struct MountPoints(Vec<(PathBuf, bool)>);

impl MountPoints {
    /// Of a table; lines of another shape count as none.
    pub(super) fn parse(table: &[u8]) -> Self {
        Self(table.split(|byte| *byte == b'\n').filter_map(mount_point).collect())
    }

    /// Whether the file at the absolute `path` stays as it is while it is mounted.
    pub(super) fn is_read_only(&self, path: &Path) -> bool {
        let around = self.0.iter().filter(|(point, _)| path.starts_with(point));
        around.max_by_key(|(point, _)| point.components().count()).is_some_and(|(_, read_only)| *read_only)
    }
}

/// The fifth field is the mount point; behind the separator stand type, source and the options of the file system, which
/// hold for every mount of it.
fn mount_point(line: &[u8]) -> Option<(PathBuf, bool)> {
    let fields: Vec<_> = line.split(|byte| *byte == b' ').collect();
    let separator = fields.iter().position(|field| *field == b"-")?;
    let options = fields.get(separator + 3)?;
    let read_only = options.split(|byte| *byte == b',').any(|option| option == b"ro");
    Some((PathBuf::from(OsString::from_vec(unescape(fields.get(4)?))), read_only))
}

/// Blanks and backslashes stand as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *first == b'\\');
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

/// Tells of changes as they come; where the system does not, never.
pub(super) struct MountWatch(Option<AsyncFd<File>>);

impl MountWatch {
    #[expect(
        deprecated,
        reason = "its successor is unsafe; a File keeps its descriptor for as long as it lives"
    )]
    pub(super) fn new() -> Self {
        let file = File::open(MOUNTINFO).and_then(|file| AsyncFd::with_interest(file, Interest::PRIORITY));
        Self(file.inspect_err(|error| tracing::debug!(%error, "mounts cannot be watched")).ok())
    }

    /// Returns once something was mounted or unmounted.
    pub(super) async fn changed(&self) {
        let Some(file) = &self.0 else { return std::future::pending().await };
        match file.ready(Interest::PRIORITY).await {
            Ok(mut ready) => ready.clear_ready(),
            Err(_) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 254:1 / / ro,relatime shared:1 - squashfs /dev/root ro,errors=continue
30 22 254:3 / /data rw,noatime - ext4 /dev/vda4 rw
31 30 8:1 / /data/a\\040stick rw,noatime shared:7 master:1 - vfat /dev/sda1 ro,utf8
32 22 0:30 /x /bound ro,noatime - tmpfs tmpfs rw,size=1k
short line";

    #[test]
    fn the_innermost_file_system_says_whether_a_file_can_change() {
        let points = MountPoints::parse(TABLE.as_bytes());
        let read_only = |path: &str| points.is_read_only(Path::new(path));
        assert!(read_only("/usr/share/a.mp3"));
        assert!(!read_only("/data/a.mp3"));
        assert!(read_only("/data/a stick/a.mp3"));
        assert!(!read_only("/bound/a.mp3"), "another mount of it may be written to");
        assert!(!MountPoints::default().is_read_only(Path::new("/a.mp3")));
    }

    #[test]
    fn escapes_are_undone_and_half_ones_left() {
        assert_eq!(unescape(b"a\\040b\\134\\04"), b"a b\\\\04");
    }

    #[test]
    fn this_machine_has_a_root() {
        assert!(MountPoints::parse(&table()).0.iter().any(|(point, _)| point == Path::new("/")));
    }
}
