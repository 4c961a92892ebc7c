//! A card: the image and what a board wrote over it; and what the host's own tools say of its file systems.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Bytes before the FAT partition (board/image/disk).
const FAT_START: u64 = 4 << 20;
/// Size of the FAT partition.
const FAT_SIZE: u64 = 256 << 20;
/// Offset in the MBR of the fourth entry.
const FOURTH: usize = 446 + 3 * 16;

/// A card of its own for one test.
pub struct Card {
    folder: tempfile::TempDir,
    pub image: PathBuf,
    /// What differs from the image; made by the first start.
    pub state: PathBuf,
}

impl Card {
    /// A card as it comes from flashing.
    pub fn flashed(image: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the card");
        Self { state: folder.path().join("card.qcow2"), folder, image: image.to_owned() }
    }

    /// Puts a file onto the FAT partition, as an owner does on a computer.
    pub fn put(&self, name: &str, content: &str) {
        self.edit(|raw| {
            let file = self.folder.path().join("file");
            std::fs::write(&file, content).expect("a file");
            let target = format!("{}@@{FAT_START}", raw.display());
            let to = format!("::/{name}");
            run("mcopy", &["-o", "-i", &target, &file.display().to_string(), &to], &[0]);
        });
    }

    /// What a file of the FAT partition says, or `None` where there is none.
    pub fn read(&self, name: &str) -> Option<String> {
        let raw = self.raw();
        let target = format!("{}@@{FAT_START}", raw.display());
        let output = output("mcopy", &["-i", &target, &format!("::/{name}"), "-"]);
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Overwrites bytes of the data partition, counted from its beginning.
    pub fn damage_data(&self, at: u64, length: usize) {
        use std::os::unix::fs::FileExt;
        self.edit(|raw| {
            let (start, _) = data_partition(raw).expect("a data partition");
            let file = std::fs::OpenOptions::new().write(true).open(raw).expect("the card");
            file.write_all_at(&vec![0xa5; length], start + at).expect("the card");
        });
    }

    /// Fails the test where a file system is not clean. A journal may want replaying, which every mount does; what is
    /// left after that must be without a fault.
    pub fn check(&self) {
        let raw = self.raw();
        let fat = self.folder.path().join("fat");
        cut_out(&raw, &fat, FAT_START, FAT_SIZE);
        run("fsck.fat", &["-n", &fat.display().to_string()], &[0]);
        // Before the first start has got that far there is none.
        if let Some((start, size)) = data_partition(&raw) {
            let data = self.folder.path().join("data");
            cut_out(&raw, &data, start, size);
            let data = data.display().to_string();
            run("e2fsck", &["-p", &data], &[0, 1]);
            run("e2fsck", &["-f", "-n", &data], &[0]);
        }
    }

    /// The whole card as it is now.
    fn raw(&self) -> PathBuf {
        let raw = self.folder.path().join("card.raw");
        let (from, to) = (self.state.display().to_string(), raw.display().to_string());
        run("qemu-img", &["convert", "-U", "-O", "raw", &from, &to], &[0]);
        raw
    }

    fn edit(&self, change: impl FnOnce(&Path)) {
        if !self.state.exists() {
            let folder = self.folder.path().join("boot");
            let script = crate::board::qemu_scripts().join("card");
            let arguments = [&self.image, &self.state, &folder].map(|path| path.display().to_string());
            run(&script.display().to_string(), &arguments.each_ref().map(String::as_str), &[0]);
        }
        let raw = self.raw();
        change(&raw);
        let (from, to) = (raw.display().to_string(), self.state.display().to_string());
        run("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", &from, &to], &[0]);
    }
}

/// Start and size in bytes of the data partition, once it is made (type 83).
fn data_partition(raw: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::FileExt;
    let mut sector = [0; 512];
    std::fs::File::open(raw).and_then(|file| file.read_exact_at(&mut sector, 0)).expect("a card with an MBR");
    let entry = &sector[FOURTH..FOURTH + 16];
    let number =
        |at: usize| u64::from(u32::from_le_bytes(entry[at..at + 4].try_into().expect("four bytes"))) * 512;
    (entry[4] == 0x83).then(|| (number(8), number(12)))
}

fn cut_out(from: &Path, to: &Path, start: u64, size: u64) {
    let arguments = [
        format!("if={}", from.display()),
        format!("of={}", to.display()),
        format!("skip={start}"),
        format!("count={size}"),
    ];
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments.extend(["bs=1M", "iflag=skip_bytes,count_bytes", "conv=sparse", "status=none"]);
    run("dd", &arguments, &[0]);
}

fn output(tool: &str, arguments: &[&str]) -> Output {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(tool).args(arguments).env("PATH", path).output();
    output.unwrap_or_else(|error| panic!("{tool}: {error}"))
}

fn run(tool: &str, arguments: &[&str], codes: &[i32]) {
    let output = output(tool, arguments);
    let well = output.status.code().is_some_and(|code| codes.contains(&code));
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(well, "{tool} {arguments:?}: {}\n{said}", output.status);
}
