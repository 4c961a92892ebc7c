//! The library, on real folders: what is found, measured, remembered and forgotten.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skywave::audio::loudness::{Loudness, Measured};
use skywave::library::{
    CATALOGUE_FILE, Library, LibraryActor, LibraryConfig, LibraryError, LibraryHandle, Measurer,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Long enough for any machine, short enough to see a hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// Remembers every measurement asked for. Files that begin with "bad" cannot be played, those that
/// begin with "panic" panic, those that begin with "slow" are never done.
#[derive(Default)]
struct FakeMeasurer {
    asked: Mutex<Vec<PathBuf>>,
}

impl FakeMeasurer {
    fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Measurer for FakeMeasurer {
    fn measure(&self, path: &Path, cancelled: &dyn Fn() -> bool) -> Result<Option<Measured>, String> {
        self.asked.lock().unwrap().push(path.to_path_buf());
        let content = fs::read(path).map_err(|error| error.to_string())?;
        if content.starts_with(b"bad") {
            return Err("no music in it".into());
        }
        assert!(!content.starts_with(b"panic"), "a bug");
        while content.starts_with(b"slow") {
            if cancelled() {
                return Ok(None);
            }
            std::thread::yield_now();
        }
        let loudness = Loudness { integrated_lufs: -11.0, true_peak: 0.9 };
        Ok(Some(Measured { loudness, duration: Duration::from_secs(180), skipped_packets: 0 }))
    }
}

/// A music folder and a data folder that outlive runs of the library.
struct House {
    _keep: tempfile::TempDir,
    music: PathBuf,
    data: PathBuf,
}

impl House {
    fn new() -> Self {
        let keep = tempfile::tempdir().unwrap();
        let base = keep.path().canonicalize().unwrap();
        let (music, data) = (base.join("music"), base.join("data"));
        fs::create_dir_all(&music).unwrap();
        Self { _keep: keep, music, data }
    }

    fn put(&self, name: &str, content: &str) -> PathBuf {
        let path = self.music.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn open(&self) -> Running {
        self.open_with(LibraryConfig { music: vec![self.music.clone()], settle: Duration::ZERO })
    }

    fn open_with(&self, config: LibraryConfig) -> Running {
        let measurer = Arc::new(FakeMeasurer::default());
        let (handle, mut actor) = LibraryActor::with_measurer(config, &self.data, measurer.clone());
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        let task = tokio::spawn(async move { actor.run(stop).await });
        Running { snapshot: handle.snapshot(), handle, measurer, cancel, task }
    }
}

struct Running {
    handle: LibraryHandle,
    snapshot: watch::Receiver<Arc<Library>>,
    measurer: Arc<FakeMeasurer>,
    cancel: CancellationToken,
    task: JoinHandle<Result<(), LibraryError>>,
}

impl Running {
    async fn until(&mut self, what: &str, wanted: impl Fn(&Library) -> bool) -> Arc<Library> {
        let mut snapshot = self.snapshot.clone();
        let found = tokio::time::timeout(PATIENCE, snapshot.wait_for(|library| wanted(library))).await;
        match found {
            Ok(library) => Arc::clone(&library.unwrap()),
            Err(_) => panic!("{what}: not seen, but {:?}", self.snapshot.borrow()),
        }
    }

    async fn scanned(&mut self, count: usize) -> Arc<Library> {
        self.until("the end of the scan", |library| !library.scanning && library.found == count).await
    }

    async fn stop(self) {
        self.cancel.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }
}

fn names(library: &Library) -> Vec<String> {
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    library.tracks.iter().map(|track| name(&track.path)).collect()
}

#[tokio::test]
async fn tracks_are_listed_before_they_are_measured() {
    let house = House::new();
    house.put("1.mp3", "slow");
    house.put("2.mp3", "b");
    let mut library = house.open();
    let first = library.until("tracks", |library| library.tracks.len() == 2).await;
    assert!(first.scanning && first.tracks[0].loudness.is_none());
    library.stop().await;
}

#[tokio::test]
async fn every_file_is_measured_once_in_play_order() {
    let house = House::new();
    for name in ["10.mp3", "2.flac", "sub/1.ogg"] {
        house.put(name, name);
    }
    let mut library = house.open();
    let done = library.scanned(3).await;
    assert_eq!(names(&done), ["2.flac", "10.mp3", "1.ogg"]);
    assert!(done.tracks.iter().all(|track| track.loudness.is_some()));
    assert_eq!(done.tracks[0].duration, Some(Duration::from_secs(180)));
    assert_eq!(done.scanned, 3);
    let paths: Vec<_> = done.tracks.iter().map(|track| track.path.to_path_buf()).collect();
    assert_eq!(*library.measurer.asked.lock().unwrap(), paths);
    library.stop().await;
}

#[tokio::test]
async fn a_second_start_measures_nothing_again_not_even_what_was_renamed() {
    let house = House::new();
    house.put("a.mp3", "a");
    house.put("b.mp3", "b");
    house.put("c.mp3", "bad");
    let mut first = house.open();
    first.scanned(3).await;
    first.stop().await;
    fs::rename(house.music.join("b.mp3"), house.music.join("z.mp3")).unwrap();
    let mut second = house.open();
    let done = second.scanned(3).await;
    assert_eq!(second.measurer.count(), 0);
    assert_eq!(names(&done), ["a.mp3", "z.mp3"]);
    assert!(done.tracks.iter().all(|track| track.loudness.is_some()));
    assert_eq!(done.unplayable[0].reason, "no music in it");
    second.stop().await;
}

#[tokio::test]
async fn a_changed_file_is_measured_again() {
    let house = House::new();
    house.put("a.mp3", "bad");
    let mut library = house.open();
    assert_eq!(library.scanned(1).await.unplayable.len(), 1);
    house.put("a.mp3", "good by now");
    library.until("the file's return", |library| library.tracks.len() == 1 && !library.scanning).await;
    assert_eq!(library.measurer.count(), 2);
    library.stop().await;
}

#[tokio::test]
async fn a_damaged_catalogue_is_rebuilt() {
    let house = House::new();
    house.put("a.mp3", "a");
    fs::create_dir_all(&house.data).unwrap();
    let catalogue = house.data.join(CATALOGUE_FILE);
    fs::write(&catalogue, "{\"format\":1,\"files\":[{").unwrap();
    let mut library = house.open();
    library.scanned(1).await;
    assert_eq!(library.measurer.count(), 1);
    library.stop().await;
    let json: serde_json::Value = serde_json::from_slice(&fs::read(&catalogue).unwrap()).unwrap();
    assert_eq!(json["files"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_unwritable_data_folder_stops_nothing() {
    let house = House::new();
    house.put("a.mp3", "a");
    fs::write(&house.data, "a file where the folder should be").unwrap();
    let mut library = house.open();
    library.scanned(1).await;
    library.stop().await;
}

#[tokio::test]
async fn a_file_that_makes_the_decoder_panic_is_unplayable_and_no_more() {
    let house = House::new();
    house.put("1.mp3", "panic");
    house.put("2.mp3", "b");
    let mut library = house.open();
    let done = library.scanned(2).await;
    assert_eq!(names(&done), ["2.mp3"]);
    assert_eq!(done.unplayable.len(), 1);
    library.stop().await;
}

#[tokio::test]
async fn stopping_does_not_wait_for_a_long_measurement() {
    let house = House::new();
    house.put("a.mp3", "slow");
    let library = house.open();
    tokio::time::timeout(PATIENCE, async {
        while library.measurer.count() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    library.stop().await;
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(house.data.join(CATALOGUE_FILE)).unwrap()).unwrap();
    assert_eq!(json["files"][0]["verdict"], "pending");
}

#[tokio::test]
async fn new_files_appear_deleted_ones_go_and_new_folders_are_followed() {
    let house = House::new();
    house.put("a.mp3", "a");
    let mut library = house.open();
    library.scanned(1).await;
    house.put("new/deep/b.mp3", "b");
    library.scanned(2).await;
    house.put("new/deep/c.mp3", "c");
    library.scanned(3).await;
    fs::remove_file(house.music.join("a.mp3")).unwrap();
    fs::remove_dir_all(house.music.join("new")).unwrap();
    assert!(library.scanned(0).await.tracks.is_empty());
    library.stop().await;
}

#[tokio::test]
async fn a_new_file_counts_only_once_its_writes_have_settled() {
    let house = House::new();
    let settle = Duration::from_millis(300);
    let mut library = house.open_with(LibraryConfig { music: vec![house.music.clone()], settle });
    library.scanned(0).await;
    let path = house.put("a.mp3", "half");
    let written = std::time::Instant::now();
    library.until("the file", |library| library.tracks.len() == 1).await;
    assert!(written.elapsed() >= settle);
    // Changed once more: gone until it has settled again, and measured as what it is then.
    fs::write(&path, "the whole").unwrap();
    library
        .until("the whole file", |library| {
            library.tracks.first().is_some_and(|track| track.version.size == 9 && track.loudness.is_some())
        })
        .await;
    library.stop().await;
}

#[tokio::test]
async fn a_vanished_folder_is_forgotten_and_comes_back_without_a_measurement() {
    let house = House::new();
    house.put("a.mp3", "a");
    let mut library = house.open();
    library.scanned(1).await;
    let away = house.music.with_file_name("away");
    fs::rename(&house.music, &away).unwrap();
    library.scanned(0).await;
    fs::rename(&away, &house.music).unwrap();
    let back = library.scanned(1).await;
    assert!(back.tracks[0].loudness.is_some());
    assert_eq!(library.measurer.count(), 1);
    library.stop().await;
}

#[tokio::test]
async fn a_folder_that_is_missing_at_the_start_is_waited_for() {
    let house = House::new();
    let late = house.music.join("stick");
    let mut library = house.open_with(LibraryConfig { music: vec![late.clone()], settle: Duration::ZERO });
    library.scanned(0).await;
    house.put("stick/a.mp3", "a");
    library.scanned(1).await;
    library.stop().await;
}

#[tokio::test]
async fn a_playlist_sets_the_order_and_a_changed_one_another() {
    let house = House::new();
    for name in ["a.mp3", "b.mp3", "c.mp3"] {
        house.put(name, name);
    }
    house.put("../outside.mp3", "outside");
    house.put("list.m3u8", "#EXTM3U\nc.mp3\n../outside.mp3\nc.mp3\n");
    let mut library = house.open();
    assert_eq!(names(&*library.scanned(4).await), ["c.mp3", "outside.mp3", "a.mp3", "b.mp3"]);
    house.put("list.m3u8", "b.mp3\n");
    assert_eq!(names(&*library.scanned(3).await), ["b.mp3", "a.mp3", "c.mp3"]);
    library.stop().await;
}

#[tokio::test]
async fn what_the_player_cannot_play_leaves_the_snapshot() {
    let house = House::new();
    let path = house.put("a.mp3", "a");
    house.put("b.mp3", "b");
    let mut library = house.open();
    library.scanned(2).await;
    library.handle.report_unplayable(&path, "it sounds wrong");
    let without = library.until("the report", |library| library.tracks.len() == 1).await;
    assert_eq!(without.unplayable[0].path, path);
    assert_eq!(without.unplayable[0].reason, "it sounds wrong");
    library.handle.rescan();
    house.put("a.mp3", "another content");
    library.scanned(2).await;
    library.until("the new content", |library| library.tracks.len() == 2).await;
    library.stop().await;
}

#[tokio::test]
async fn other_folders_can_be_set_while_running() {
    let house = House::new();
    house.put("one/a.mp3", "a");
    house.put("two/b.mp3", "b");
    let mut library =
        house.open_with(LibraryConfig { music: vec![house.music.join("one")], settle: Duration::ZERO });
    assert_eq!(names(&*library.scanned(1).await), ["a.mp3"]);
    library.handle.set_folders(vec![house.music.join("two")]);
    library.until("the other folder", |library| names(library) == ["b.mp3"]).await;
    library.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_catalogue_is_written_rarely() {
    let house = House::new();
    for n in 0..40 {
        house.put(&format!("{n}.mp3"), &n.to_string());
    }
    let mut library = house.open();
    library.scanned(40).await;
    let catalogue = house.data.join(CATALOGUE_FILE);
    // Paused time moves on only once all blocking work, writes too, has ended.
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(!catalogue.exists(), "written too soon");
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(catalogue.exists());
    fs::remove_file(&catalogue).unwrap();
    house.put("new.mp3", "new");
    library.handle.rescan();
    library.scanned(41).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!catalogue.exists(), "written again too soon");
    library.stop().await;
}

#[tokio::test]
async fn no_folders_are_an_empty_library_at_once() {
    let house = House::new();
    let mut library = house.open_with(LibraryConfig::default());
    assert!(library.scanned(0).await.tracks.is_empty());
    library.stop().await;
}

#[tokio::test]
async fn the_library_can_be_run_again() {
    let house = House::new();
    house.put("a.mp3", "a");
    let config = LibraryConfig { music: vec![house.music.clone()], settle: Duration::ZERO };
    let measurer = Arc::new(FakeMeasurer::default());
    let (handle, mut actor) = LibraryActor::with_measurer(config, &house.data, measurer.clone());
    for _ in 0..2 {
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        let task = tokio::spawn(async move {
            let result = actor.run(stop).await;
            (actor, result)
        });
        let mut snapshot = handle.snapshot();
        tokio::time::timeout(PATIENCE, snapshot.wait_for(|library| !library.scanning && library.found == 1))
            .await
            .unwrap()
            .unwrap();
        cancel.cancel();
        let (again, result) = task.await.unwrap();
        result.unwrap();
        actor = again;
    }
    assert_eq!(measurer.count(), 1);
}

#[test]
fn settings_are_read_and_a_missing_folder_is_named() {
    let config: LibraryConfig = toml::from_str("music = [\"/nowhere\"]\nsettle = \"500ms\"").unwrap();
    assert_eq!(config.settle, Duration::from_millis(500));
    match config.validate() {
        Err(LibraryError::MissingFolder { path }) => assert_eq!(path, Path::new("/nowhere")),
        other => panic!("{other:?}"),
    }
    assert!(LibraryConfig::default().validate().is_ok());
    assert!(toml::from_str::<LibraryConfig>("musik = []").is_err());
    let written: HashMap<String, toml::Value> =
        toml::from_str(&toml::to_string(&LibraryConfig::default()).unwrap()).unwrap();
    assert_eq!(written["settle"].as_str(), Some("2s"));
}
