//! The library's actor: walks, looks into files, measures them one at a time, and publishes.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, mpsc, watch as latest};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::catalogue::{Catalogue, fingerprint};
use super::mounts::{self, MountPoints, MountWatch};
use super::scanner::{File, Walk, walk};
use super::settling::Settling;
use super::shelf::{Headers, Shelf};
use super::watch::FolderWatch;
use super::{
    CATALOGUE_FILE, FileVersion, Library, LibraryConfig, LibraryError, LibraryHandle, Measurer, REPORTS,
    Unplayable, tags, unix_nanos,
};
use crate::audio::loudness::{self, Measured};
use crate::supervisor::in_span;

/// Collects the changes of one copy into one walk.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Bounds the share of time spent walking while changes go on without end: one in five.
const WALK_REST: u32 = 4;

/// How often configured folders are looked at, and mounts where the system does not tell of changes.
const ROOT_POLL: Duration = Duration::from_secs(3);

/// How often folders are walked where changes cannot be watched.
const BLIND_WALK: Duration = Duration::from_secs(30);

/// How often they are walked anyway: network shares do not tell what others change.
const SWEEP: Duration = Duration::from_secs(600);

/// Least time between two writes of the catalogue: what a crash loses, and what a card bears.
const SAVE_INTERVAL: Duration = Duration::from_secs(30);

/// Files looked into between two snapshots.
const LOOK_BATCH: usize = 16;

/// Measures with the decoders and the loudness meter of [`crate::audio`].
#[derive(Debug)]
struct AudioMeasurer;

impl Measurer for AudioMeasurer {
    fn measure(&self, path: &Path, cancelled: &dyn Fn() -> bool) -> Result<Option<Measured>, String> {
        loudness::measure(path, &|| !cancelled()).map_err(|error| error.to_string())
    }
}

/// Does the library's work. It may be run again after a failure and starts over from the catalogue.
pub struct LibraryActor {
    snapshot: latest::Sender<Arc<Library>>,
    reports: mpsc::Receiver<Unplayable>,
    config: latest::Receiver<LibraryConfig>,
    rescan: Arc<Notify>,
    measurer: Arc<dyn Measurer>,
    catalogue_file: PathBuf,
}

impl LibraryActor {
    /// A library that keeps its catalogue in the folder `data`.
    pub fn new(config: LibraryConfig, data: &Path) -> (LibraryHandle, Self) {
        Self::with_measurer(config, data, Arc::new(AudioMeasurer))
    }

    /// The same with another way to measure.
    pub fn with_measurer(
        config: LibraryConfig,
        data: &Path,
        measurer: Arc<dyn Measurer>,
    ) -> (LibraryHandle, Self) {
        let first = Library { scanning: true, ..Library::default() };
        let (snapshot, snapshots) = latest::channel(Arc::new(first));
        let (report, reports) = mpsc::channel(REPORTS);
        let (settings, config) = latest::channel(config);
        let rescan = Arc::new(Notify::new());
        let handle = LibraryHandle {
            snapshot: snapshots,
            reports: report,
            config: Arc::new(settings),
            rescan: Arc::clone(&rescan),
        };
        let catalogue_file = data.join(CATALOGUE_FILE);
        (handle, Self { snapshot, reports, config, rescan, measurer, catalogue_file })
    }

    /// Keeps the snapshot true until cancelled; then saves the catalogue and returns.
    ///
    /// # Errors
    /// [`LibraryError::Work`] when a walk or a write panicked.
    pub async fn run(&mut self, cancel: CancellationToken) -> Result<(), LibraryError> {
        let result = self.run_inner(&cancel).await;
        match &result {
            Ok(()) => tracing::debug!("library stopped"),
            Err(error) => tracing::error!(error = error as &dyn std::error::Error, "library failed"),
        }
        result
    }

    async fn run_inner(&mut self, cancel: &CancellationToken) -> Result<(), LibraryError> {
        // Dropped on every way out, so that a measurement in flight ends.
        let stop = cancel.child_token();
        let _stop_on_drop = stop.clone().drop_guard();
        let file = self.catalogue_file.clone();
        let load = tokio::task::spawn_blocking(in_span(move || Catalogue::load(&file)));
        let mut desk = Desk::new(&self.config, load.await.map_err(LibraryError::Work)?);
        let mounts = MountWatch::new();
        loop {
            desk.start_work(self, &stop);
            let next = desk.next_deadline();
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                Some(done) = desk.work.join_next() => desk.absorb(done.map_err(LibraryError::Work)?),
                Ok(()) = self.config.changed() => desk.reconfigure(&self.config.borrow_and_update()),
                Some(report) = self.reports.recv() => desk.reject(&report),
                () = self.rescan.notified() => desk.changed(),
                () = mounts.changed() => desk.poll_at = Instant::now(),
                () = sleep_until(next) => {}
            }
            if std::mem::take(&mut desk.is_news) {
                self.snapshot.send_replace(Arc::new(desk.shelf.library(!desk.has_walked)));
            }
        }
        stop.cancel();
        while let Some(done) = desk.work.join_next().await {
            desk.absorb(done.map_err(LibraryError::Work)?);
        }
        if desk.is_dirty {
            desk.save(&self.catalogue_file);
            while let Some(done) = desk.work.join_next().await {
                desk.absorb(done.map_err(LibraryError::Work)?);
            }
        }
        Ok(())
    }
}

/// What a piece of blocking work brings back.
enum Done {
    Walked {
        watch: Option<FolderWatch>,
        walk: Walk,
        took: Duration,
    },
    Identified(Vec<(File, Result<Headers, String>)>),
    /// `None`: cancelled, or the file changed on the way.
    Measured(File, Option<Result<Measured, String>>),
    Polled(Roots),
    Saved(std::io::Result<()>),
}

/// What tells a stick that was pulled or put in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Roots {
    mounts: Vec<u8>,
    present: Vec<bool>,
}

/// All that one run keeps between two events.
struct Desk {
    music: Vec<PathBuf>,
    shelf: Shelf,
    settling: Settling,
    catalogue: Catalogue,
    work: JoinSet<Done>,
    watch: Option<FolderWatch>,
    roots: Option<Roots>,
    missing: BTreeSet<PathBuf>,
    walk_at: Instant,
    poll_at: Instant,
    save_at: Instant,
    rest_until: Instant,
    is_walking: bool,
    is_scanning: bool,
    is_saving: bool,
    is_dirty: bool,
    is_news: bool,
    has_walked: bool,
}

impl Desk {
    fn new(config: &latest::Receiver<LibraryConfig>, catalogue: Catalogue) -> Self {
        let config = config.borrow().clone();
        let now = Instant::now();
        Self {
            music: config.music,
            shelf: Shelf::default(),
            settling: Settling::new(config.settle),
            catalogue,
            work: JoinSet::new(),
            watch: None,
            roots: None,
            missing: BTreeSet::new(),
            walk_at: now,
            poll_at: now + ROOT_POLL,
            save_at: now + SAVE_INTERVAL,
            rest_until: now,
            is_walking: false,
            is_scanning: false,
            is_saving: false,
            is_dirty: false,
            is_news: false,
            has_walked: false,
        }
    }

    /// Starts whatever is due and not under way: at most one walk, one look or measurement, one write.
    fn start_work(&mut self, actor: &LibraryActor, stop: &CancellationToken) {
        let now = Instant::now();
        if !self.is_walking && now >= self.walk_at {
            self.walk(&actor.rescan);
        }
        if now >= self.poll_at {
            self.poll_at = now + ROOT_POLL;
            let music = self.music.clone();
            self.work.spawn_blocking(in_span(move || Done::Polled(look_at(&music))));
        }
        if self.is_dirty && !self.is_saving && now >= self.save_at {
            self.save(&actor.catalogue_file);
        }
        if !self.is_scanning {
            self.scan(Arc::clone(&actor.measurer), stop.clone());
        }
    }

    fn next_deadline(&self) -> Instant {
        let mut next = self.poll_at;
        if !self.is_walking {
            next = next.min(self.walk_at);
        }
        if self.is_dirty && !self.is_saving {
            next = next.min(self.save_at);
        }
        next
    }

    fn walk(&mut self, changed: &Arc<Notify>) {
        self.is_walking = true;
        self.walk_at = Instant::now() + SWEEP;
        let (music, changed, watch) = (self.music.clone(), Arc::clone(changed), self.watch.take());
        self.work.spawn_blocking(in_span(move || {
            let started = std::time::Instant::now();
            // No folders, no inotify instance: they are few on a system.
            let mut watch = watch.or_else(|| (!music.is_empty()).then(|| FolderWatch::new(changed)));
            let mut walk = walk(&music, &mut |folder| {
                if let Some(watch) = &mut watch {
                    watch.follow(folder);
                }
            });
            walk.mounts = MountPoints::parse(&mounts::table());
            if let Some(watch) = &mut watch {
                watch.keep(&walk.folders);
            }
            Done::Walked { watch, walk, took: started.elapsed() }
        }));
    }

    /// Looks into new files first, for their tags; then measures, one file at a time.
    fn scan(&mut self, measurer: Arc<dyn Measurer>, stop: CancellationToken) {
        let batch = self.shelf.take_unidentified(LOOK_BATCH);
        if !batch.is_empty() {
            self.is_scanning = true;
            self.work.spawn_blocking(in_span(move || {
                Done::Identified(batch.into_iter().map(|file| (file.clone(), identify(&file))).collect())
            }));
        } else if let Some(file) = self.shelf.take_unmeasured() {
            self.is_scanning = true;
            self.work.spawn_blocking(in_span(move || {
                let result = measure(&*measurer, &file, &|| stop.is_cancelled());
                Done::Measured(file, result)
            }));
        }
    }

    fn save(&mut self, path: &Path) {
        self.is_saving = true;
        self.is_dirty = false;
        self.save_at = Instant::now() + SAVE_INTERVAL;
        self.catalogue.prune(&self.shelf.paths());
        let (catalogue, path) = (self.catalogue.clone(), path.to_path_buf());
        self.work.spawn_blocking(in_span(move || Done::Saved(catalogue.store(&path))));
    }

    fn absorb(&mut self, done: Done) {
        match done {
            Done::Walked { watch, walk, took } => self.walked(watch, walk, took),
            Done::Identified(looks) => {
                self.is_scanning = false;
                for (file, headers) in looks {
                    self.shelf.identified(&file, headers, &mut self.catalogue);
                }
                (self.is_dirty, self.is_news) = (true, true);
            }
            Done::Measured(file, Some(result)) => {
                self.is_scanning = false;
                self.shelf.measured(&file, result, &mut self.catalogue);
                (self.is_dirty, self.is_news) = (true, true);
            }
            Done::Measured(_, None) => {
                self.is_scanning = false;
                self.changed();
            }
            Done::Polled(roots) => self.polled(roots),
            Done::Saved(result) => {
                self.is_saving = false;
                if let Err(error) = result {
                    tracing::warn!(%error, "catalogue cannot be written: trying again");
                    self.is_dirty = true;
                }
            }
        }
    }

    fn walked(&mut self, watch: Option<FolderWatch>, walk: Walk, took: Duration) {
        let now = Instant::now();
        self.is_walking = false;
        self.rest_until = now + took * WALK_REST;
        let unix_now = unix_nanos(SystemTime::now());
        let (settled, look_again) = self.settling.admit(walk.files, &walk.mounts, now.into_std(), unix_now);
        if let Some(due) = look_again {
            self.walk_at = self.walk_at.min(Instant::from_std(due));
        }
        if watch.as_ref().is_some_and(FolderWatch::is_blind) {
            self.walk_at = self.walk_at.min(now + BLIND_WALK);
        }
        self.watch = watch;
        self.shelf.restock(settled, &self.catalogue);
        let missing: BTreeSet<_> = walk.missing.into_iter().collect();
        for folder in missing.difference(&self.missing) {
            tracing::warn!(path = %folder.display(), "music folder is missing: waiting for it");
        }
        for folder in self.missing.difference(&missing) {
            tracing::info!(path = %folder.display(), "music folder is back");
        }
        self.missing = missing;
        (self.has_walked, self.is_news) = (true, true);
    }

    fn polled(&mut self, roots: Roots) {
        if let Some(before) = self.roots.replace(roots) {
            if self.roots.as_ref().is_some_and(|now| now.mounts != before.mounts) {
                self.shelf.forgive();
                self.is_news = true;
            }
            if self.roots.as_ref() != Some(&before) {
                self.changed();
            }
        } else if !self.missing.is_empty() {
            // The first look cannot tell what changed since the first walk.
            self.changed();
        }
    }

    fn changed(&mut self) {
        let due = (Instant::now() + DEBOUNCE).max(self.rest_until);
        self.walk_at = self.walk_at.min(due);
    }

    fn reject(&mut self, report: &Unplayable) {
        self.shelf.reject(&report.path, &report.reason);
        self.is_news = true;
    }

    fn reconfigure(&mut self, config: &LibraryConfig) {
        self.music.clone_from(&config.music);
        self.roots = None;
        self.walk_at = Instant::now();
    }
}

fn look_at(music: &[PathBuf]) -> Roots {
    Roots { mounts: mounts::table(), present: music.iter().map(|folder| folder.exists()).collect() }
}

fn identify(file: &File) -> Result<Headers, String> {
    let fingerprint = fingerprint(&file.path).map_err(|error| format!("cannot be read: {error}"))?;
    let (tags, duration) = tags::read_headers(&file.path);
    Ok(Headers { fingerprint, tags, duration })
}

/// `None` when cancelled, or when the file is not the one that was found: no verdict then.
fn measure(
    measurer: &dyn Measurer,
    file: &File,
    cancelled: &dyn Fn() -> bool,
) -> Option<Result<Measured, String>> {
    let outcome = catch_unwind(AssertUnwindSafe(|| measurer.measure(&file.path, cancelled)));
    let result = outcome.unwrap_or_else(|_| Err("the decoder panicked".to_owned()));
    let version = std::fs::metadata(&file.path).map(|metadata| FileVersion::of(&metadata));
    match version {
        Ok(version) if version == file.version => result.transpose(),
        _ => None,
    }
}
