//! A card: a copy of the image, with what a board wrote to it; and what the host's own tools say of its file systems.

use crate::board::{Board, Setup, qemu_scripts};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Duration;

/// Bytes before the FAT partition (board/image/disk).
const FAT_START: u64 = 4 << 20;
/// Size of the FAT partition.
const FAT_SIZE: u64 = 256 << 20;
/// Offset in the MBR of the fourth entry.
const FOURTH: usize = 446 + 3 * 16;

/// Offset in a partition of ext4's superblock.
const SUPERBLOCK: u64 = 1024;

/// Settings of a station that leaves an emulated processor time for what is tested: three encoders fill it.
pub const LIGHT: &str = "[[encoder.rendition]]\nname = \"lofi\"\nbitrate = 64000\nafterburner = false\n";

/// A card that a board has been started from once, and what listeners know of its station.
pub struct Started {
    pub card: Card,
    /// The station's permanent name.
    pub name: String,
    /// The highest number that was on air.
    pub newest: u64,
    /// How long that start took to the air.
    pub took: Duration,
}

/// What ext4's superblock says.
#[derive(Debug)]
pub struct DataFileSystem {
    /// Bytes of the partition, and of the file system in it.
    pub partition: u64,
    pub size: u64,
    /// Whether it was left in the middle: its journal must be replayed.
    pub needs_recovery: bool,
}

/// A card of its own for one test.
pub struct Card {
    folder: tempfile::TempDir,
    pub image: PathBuf,
    /// What is on it; made of the image by the first start.
    pub state: PathBuf,
}

impl Card {
    /// A card as it comes from flashing.
    pub fn flashed(image: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the card");
        Self { state: folder.path().join("card.qcow2"), folder, image: image.to_owned() }
    }

    /// A copy of the one card that was started once, for all tests that begin with such a one. Its station is [`LIGHT`].
    pub fn started(image: &Path) -> Started {
        static ONCE: OnceLock<Started> = OnceLock::new();
        let first = ONCE.get_or_init(|| {
            let card = Self::flashed(image);
            card.put("station.toml", LIGHT);
            let mut board = Board::start(&card, &Setup::default());
            let took = board.wait_on_air();
            let name = board.wait_for("the station's name", Board::ipns);
            let newest = board.wait_for("a number", Board::newest);
            board.cut();
            Started { card, name, newest, took }
        });
        let card = Self::flashed(image);
        std::fs::copy(&first.card.state, &card.state).expect("a copy of the card");
        Started { card, name: first.name.clone(), ..*first }
    }

    /// Copied to a card of so many bytes.
    pub fn enlarge(&self, size: u64) {
        run("qemu-img", &["resize", "-q", &self.state.display().to_string(), &size.to_string()], &[0]);
    }

    /// The initramfs that a board starts with from this card.
    pub fn initramfs(&self) -> Vec<u8> {
        std::fs::read(self.boot_files().join("initramfs")).expect("the image has an initramfs")
    }

    /// Puts a file onto the FAT partition, as an owner does on a computer.
    pub fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        self.edit(|raw| {
            let file = self.folder.path().join("file");
            std::fs::write(&file, &content).expect("a file");
            let target = format!("{}@@{FAT_START}", raw.display());
            let to = format!("::/{name}");
            run("mcopy", &["-o", "-i", &target, &file.display().to_string(), &to], &[0]);
        });
    }

    /// What a file of the FAT partition says, or `None` where there is none.
    pub fn read(&self, name: &str) -> Option<String> {
        let fat = self.cut_out("fat", FAT_START, FAT_SIZE).display().to_string();
        let output = output("mcopy", &["-i", &fat, &format!("::/{name}"), "-"]);
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Overwrites bytes of the data partition, counted from its beginning.
    pub fn damage_data(&self, at: u64, length: usize) {
        use std::os::unix::fs::FileExt;
        self.edit(|raw| {
            let (start, _) = self.data_partition().expect("a data partition");
            let file = std::fs::OpenOptions::new().write(true).open(raw).expect("the card");
            file.write_all_at(&vec![0xa5; length], start + at).expect("the card");
        });
    }

    /// Gives the data partition all that is behind it, and leaves the file system in it as it is.
    pub fn enlarge_data_partition(&self) {
        use std::os::unix::fs::FileExt;
        self.edit(|raw| {
            let (start, _) = self.data_partition().expect("a data partition");
            let size = std::fs::metadata(raw).expect("the card").len() - start;
            let sectors = u32::try_from(size / 512).expect("a size for an MBR");
            let file = std::fs::OpenOptions::new().write(true).open(raw).expect("the card");
            file.write_all_at(&sectors.to_le_bytes(), (FOURTH + 12) as u64).expect("the card");
        });
    }

    /// Fails the test where a file system is not clean. A journal may want replaying, which every mount does; what is
    /// left after that must be without a fault.
    pub fn check(&self) {
        let fat = self.cut_out("fat", FAT_START, FAT_SIZE);
        run("fsck.fat", &["-n", &fat.display().to_string()], &[0]);
        // Before the first start has got that far there is none.
        if let Some((start, size)) = self.data_partition() {
            let data = self.cut_out("data", start, size).display().to_string();
            run("e2fsck", &["-p", &data], &[0, 1]);
            run("e2fsck", &["-f", "-n", &data], &[0]);
        }
    }

    /// The data partition, as its own superblock tells of it (Documentation/filesystems/ext4/super.rst).
    pub fn data(&self) -> DataFileSystem {
        let (start, partition) = self.data_partition().expect("a data partition");
        let block =
            std::fs::read(self.cut_out("superblock", start + SUPERBLOCK, 1024)).expect("a superblock");
        let number = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().expect("four bytes"));
        assert_eq!(number(0x38) & 0xffff, 0xef53, "no ext4");
        let size = u64::from(number(4)) << (10 + number(0x18));
        DataFileSystem { partition, size, needs_recovery: number(0x60) & 4 != 0 }
    }

    /// Start and size in bytes of the data partition, once it is made (type 83).
    fn data_partition(&self) -> Option<(u64, u64)> {
        let sector = std::fs::read(self.cut_out("mbr", 0, 512)).expect("a card with an MBR");
        let entry = &sector[FOURTH..FOURTH + 16];
        let number = |at: usize| {
            u64::from(u32::from_le_bytes(entry[at..at + 4].try_into().expect("four bytes"))) * 512
        };
        (entry[4] == 0x83).then(|| (number(8), number(12)))
    }

    /// A part of the card as it is now, a running board's included.
    fn cut_out(&self, name: &str, start: u64, size: u64) -> PathBuf {
        let to = self.folder.path().join(name);
        let source = format!(
            "driver=raw,offset={start},size={size},file.driver=qcow2,file.file.filename={}",
            self.state.display()
        );
        let arguments = ["convert", "-U", "--image-opts", "-O", "raw", &source, &to.display().to_string()];
        run("qemu-img", &arguments, &[0]);
        to
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
            self.boot_files();
        }
        let raw = self.raw();
        change(&raw);
        let (from, to) = (raw.display().to_string(), self.state.display().to_string());
        run("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", &from, &to], &[0]);
    }

    /// The folder with what a board boots; makes the card's state too, where there is none.
    fn boot_files(&self) -> PathBuf {
        let folder = self.folder.path().join("boot");
        if !folder.exists() {
            let script = qemu_scripts().join("card").display().to_string();
            let arguments = [&self.image, &self.state, &folder].map(|path| path.display().to_string());
            run(&script, &arguments.each_ref().map(String::as_str), &[0]);
        }
        folder
    }
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
