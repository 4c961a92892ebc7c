//! What a test adds to the start of a board: files below /run, before systemd. They come in a second archive behind the
//! initramfs of the image, so nothing in the image itself is there for tests.

use std::path::Path;

const FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;
const FOLDER: u32 = 0o040_755;
const LINK: u32 = 0o120_777;

/// The image's own init, with one line more before it hands over to systemd.
const START: &str = "#!/bin/sh
sed '/^for folder in proc sys dev run/i cp -a /addition/run/. /run/' /init >/addition/init
busybox grep -q /addition/run /addition/init || echo 'the init of the image has changed'
exec /bin/sh /addition/init
";

/// Files and links below /run.
#[derive(Debug, Default)]
pub struct Addition {
    entries: Vec<(String, u32, Vec<u8>)>,
}

impl Addition {
    /// What the kernel is to start.
    pub const INIT: &str = "/addition/start";

    /// Adds a file, by its path below /run.
    pub fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.add(path, FILE, content.into());
        self
    }

    /// Adds a program, by its path below /run.
    pub fn program(mut self, path: &str, content: Vec<u8>) -> Self {
        self.add(path, PROGRAM, content);
        self
    }

    /// Adds a unit that is wanted by multi-user.target.
    pub fn unit(mut self, name: &str, content: &str) -> Self {
        self.add(&format!("systemd/system/{name}"), FILE, content.into());
        let link = format!("systemd/system/multi-user.target.wants/{name}");
        self.add(&link, LINK, format!("../{name}").into());
        self
    }

    fn add(&mut self, path: &str, mode: u32, content: Vec<u8>) {
        let path = format!("addition/run/{path}");
        let folders: Vec<_> = Path::new(&path).ancestors().skip(1).map(Path::to_path_buf).collect();
        for folder in folders.iter().rev().map(|folder| folder.display().to_string()) {
            if !folder.is_empty() && self.entries.iter().all(|(known, _, _)| *known != folder) {
                self.entries.push((folder, FOLDER, Vec::new()));
            }
        }
        self.entries.push((path, mode, content));
    }

    /// The archive, as the kernel unpacks it (Documentation/driver-api/early-userspace/buffer-format.rst).
    pub fn archive(&self) -> Vec<u8> {
        let mut archive = Vec::new();
        let start = (Self::INIT.trim_start_matches('/').to_owned(), PROGRAM, START.as_bytes().to_vec());
        let end = ("TRAILER!!!".to_owned(), 0, Vec::new());
        // Its folder comes first, before whatever lies in it.
        let (mut entries, folder) = (self.entries.clone(), ("addition".to_owned(), FOLDER, Vec::new()));
        entries.retain(|(path, _, _)| path != "addition");
        let all = [folder, start].into_iter().chain(entries).chain([end]);
        for (inode, (path, mode, content)) in all.enumerate() {
            let fields = [inode + 1, mode as usize, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, path.len() + 1, 0];
            archive.extend(b"070701");
            fields.iter().for_each(|field| archive.extend(format!("{field:08x}").bytes()));
            archive.extend(path.bytes().chain([0]));
            archive.resize(archive.len().next_multiple_of(4), 0);
            archive.extend(content);
            archive.resize(archive.len().next_multiple_of(4), 0);
        }
        archive
    }
}
