//! The archive: what was on air is found again, day by day, whatever happens to the process, the disk and its files.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

/// Helpers shared by the test binaries.
mod support {
    pub(crate) mod archive_rig;
    pub(crate) mod http_client;
    pub(crate) mod station;
}

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use futures::future::BoxFuture;
use skywave::archive::lending::{Lending, Lent, Wants};
use skywave::health::{Health, StageState};
use skywave::ipfs::{Block, BlockSource, Blocks};
use support::archive_rig::*;
use support::station::Home;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

#[tokio::test(start_paused = true)]
async fn what_was_on_air_is_found_by_day_and_hour_and_a_day_that_is_over_ends() {
    let folder = scratch();
    let rig = Rig::start(folder.path(), 1 << 40, Blocks::in_memory(), Vec::new()).await;
    let last = EVENING + 3 * HOUR;
    rig.air(EVENING..last).await;
    let (link, store) = rig.end().await;
    let (reader, root) = (Blocks::in_memory().with_source(store), link.unwrap().cid);
    assert_eq!(days(&reader, root).await, ["2026-10-23", "2026-10-24"]);
    let (before, over) = listed(&reader, root, "2026-10-23").await;
    let (after, open) = listed(&reader, root, "2026-10-24").await;
    assert_eq!([before, after.clone()].concat(), (EVENING..after[after.len() - 1] + 1).collect::<Vec<_>>());
    assert!(after[after.len() - 1] + 175 > last, "the link is ten minutes behind at most");
    assert!(
        over.contains("TYPE:VOD") && over.ends_with("#EXT-X-ENDLIST\n") && !over.contains("DISCONTINUITY")
    );
    assert!(open.contains("TYPE:EVENT") && !open.contains("ENDLIST"));
    assert!(over.contains("\n22/") && over.contains("\n23/") && open.contains("\n00/"));
    let top = read(&reader, root, "2026-10-23/stream.m3u8").await.unwrap();
    assert!(top.contains("lofi/live.m3u8") && top.contains("hifi/live.m3u8"), "{top}");
    // Another process finds the same, the rest of the last ten minutes included.
    let rig = Rig::start(folder.path(), 1 << 40, Blocks::in_memory(), Vec::new()).await;
    rig.until("the archive is read", |rig| rig.link.borrow().is_some()).await;
    let (reader, root) = (rig.reader(), rig.link.borrow().unwrap().cid);
    assert_eq!(listed(&reader, root, "2026-10-23").await.1, over);
    assert_eq!(*listed(&reader, root, "2026-10-24").await.0.last().unwrap(), last - 1);
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_the_middle_of_a_day_costs_nothing_that_the_window_still_holds() {
    let folder = scratch();
    let blocks = Blocks::in_memory();
    let mut next = EVENING;
    let mut random = fastrand::Rng::with_seed(7);
    for crash in 0..12 {
        let mut window = Vec::new();
        for n in next.saturating_sub(60).max(EVENING)..next {
            window.push(stored(&blocks, n).await);
        }
        let rig = Rig::start(folder.path(), 1 << 40, blocks.clone(), window).await;
        let count = random.u64(1..400);
        rig.air(next..next + count).await;
        next += count;
        if crash % 3 == 2 { drop(rig.end().await) } else { rig.kill().await }
    }
    let mut window = Vec::new();
    for n in next - 60..next {
        window.push(stored(&blocks, n).await);
    }
    let rig = Rig::start(folder.path(), 1 << 40, blocks, window).await;
    rig.end().await;
    let rig = Rig::start(folder.path(), 1 << 40, Blocks::in_memory(), Vec::new()).await;
    rig.until("the archive is read", |rig| rig.link.borrow().is_some()).await;
    let (reader, root) = (rig.reader(), rig.link.borrow().unwrap().cid);
    let mut all = Vec::new();
    for day in days(&reader, root).await {
        all.extend(listed(&reader, root, &day).await.0);
    }
    assert_eq!(all, (EVENING..next).collect::<Vec<_>>());
    rig.end().await;
}

fn bytes_of(folder: &Path) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        bytes += if path.is_dir() { bytes_of(&path) } else { entry.metadata().unwrap().len() };
    }
    bytes
}

#[tokio::test(start_paused = true)]
async fn the_byte_limit_drops_the_oldest_day_its_link_first_and_then_its_files() {
    let folder = scratch();
    let day = 24 * HOUR;
    // Half an hour of each of five days; the limit holds a little more than three.
    let half = HOUR / 2;
    let one = {
        let rig = Rig::start(folder.path(), 1 << 40, Blocks::in_memory(), Vec::new()).await;
        rig.air(EVENING..EVENING + half).await;
        rig.end().await;
        bytes_of(folder.path())
    };
    let rig = Rig::start(folder.path(), one * 7 / 2, Blocks::in_memory(), Vec::new()).await;
    for index in 1..5 {
        rig.air(EVENING + index * day..EVENING + index * day + half).await;
    }
    let five = |folder: &Path| folder.join("2026-10-27").is_dir();
    rig.until("the fifth day", |_| five(folder.path())).await;
    let reader = rig.reader();
    let first = audio("hifi", EVENING);
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert!(reader.get(&first.cid).await.unwrap().is_none(), "the oldest is held still");
    assert!(!folder.path().join("2026-10-23").exists());
    assert!(bytes_of(folder.path()) <= one * 7 / 2);
    let (link, store) = rig.end().await;
    let reader = Blocks::in_memory().with_source(store);
    let left = days(&reader, link.unwrap().cid).await;
    assert_eq!(left, ["2026-10-25", "2026-10-26", "2026-10-27"]);
    for day in &left {
        assert!(!listed(&reader, link.unwrap().cid, day).await.0.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_day_is_read_on_for_a_grace_after_its_link_went() {
    let folder = scratch();
    let rig = Rig::start(folder.path(), 400_000, Blocks::in_memory(), Vec::new()).await;
    rig.air(EVENING..EVENING + HOUR / 2).await;
    rig.until("the first day", |rig| rig.link.borrow().is_some()).await;
    let (reader, first) = (rig.reader(), audio("hifi", EVENING));
    let next = EVENING + 24 * HOUR;
    rig.air(next..next + HOUR / 2).await;
    let gone = |root: Cid| {
        let reader = reader.clone();
        async move { days(&reader, root).await == ["2026-10-24"] }
    };
    let mut link = rig.link.clone();
    while !gone(link.borrow_and_update().unwrap().cid).await {
        timeout(Duration::from_secs(60), link.changed()).await.expect("the first day leaves").unwrap();
    }
    assert_eq!(reader.get(&first.cid).await.unwrap(), Some(first.data.clone()), "still read");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(reader.get(&first.cid).await.unwrap().is_some(), "for a minute at least");
    rig.until("removed", |_| !folder.path().join("2026-10-23").exists()).await;
    assert!(reader.get(&first.cid).await.unwrap().is_none());
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_limit_below_a_day_is_kept_and_the_next_day_is_archived_again() {
    let folder = scratch();
    let limit = 300_000;
    let rig = Rig::start(folder.path(), limit, Blocks::in_memory(), Vec::new()).await;
    rig.air(EVENING..EVENING + HOUR).await;
    rig.until("the limit", |rig| rig.count("archive_segments_lost_total") > 0).await;
    assert!(bytes_of(folder.path()) <= limit);
    let next = EVENING + 24 * HOUR;
    rig.air(next..next + 2 * MINUTE).await;
    rig.until("the next day", |_| folder.path().join("2026-10-24/22.car").exists()).await;
    assert!(rig.health.report().stages.iter().all(|stage| stage.restarts == 0));
    rig.end().await;
}

fn files(folder: &Path, day: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join(day)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test(start_paused = true)]
async fn damaged_files_cost_what_they_held_and_nothing_else() {
    let folder = scratch();
    let rig = Rig::start(folder.path(), 1 << 40, Blocks::in_memory(), Vec::new()).await;
    rig.air(EVENING..EVENING + 2 * HOUR + 4 * MINUTE).await;
    rig.end().await;
    let before = Rig::start(folder.path(), 1 << 40, Blocks::in_memory(), Vec::new()).await;
    before.until("the archive is read", |rig| rig.link.borrow().is_some()).await;
    let (link, _) = before.end().await;
    let day = files(folder.path(), "2026-10-23");
    let names: Vec<_> = day.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["22.car", "23.car", "tree.car"]);
    // A tree that is gone or damaged is made anew out of the hours, the very same.
    for damage in [None, Some(&b"garbage"[..])] {
        match damage {
            None => std::fs::remove_file(&day[2]).unwrap(),
            Some(bytes) => std::fs::write(&day[2], bytes).unwrap(),
        }
        let rig = Rig::start(folder.path(), 1 << 40, Blocks::in_memory(), Vec::new()).await;
        rig.until("the archive is read", |rig| rig.link.borrow().is_some()).await;
        assert_eq!(rig.end().await.0, link);
    }
    // An hour that is garbage is set aside; the day is what the other hours hold, and a new minute is taken in.
    std::fs::write(&day[0], b"garbage").unwrap();
    std::fs::remove_file(&day[2]).unwrap();
    let rig = Rig::start(folder.path(), 1 << 40, Blocks::in_memory(), Vec::new()).await;
    let next = EVENING + 2 * HOUR + 4 * MINUTE;
    rig.air(next..next + MINUTE).await;
    let (link, store) = rig.end().await;
    let (reader, root) = (Blocks::in_memory().with_source(store), link.unwrap().cid);
    assert!(day[0].with_extension("damaged").exists());
    assert!(!listed(&reader, root, "2026-10-23").await.1.contains("\n22/"));
    let rig = Rig::start(folder.path(), 1 << 40, Blocks::in_memory(), Vec::new()).await;
    rig.until("the archive is read", |rig| rig.link.borrow().is_some()).await;
    let (reader, root) = (rig.reader(), rig.link.borrow().unwrap().cid);
    assert_eq!(*listed(&reader, root, "2026-10-24").await.0.last().unwrap(), next + MINUTE - 1);
    rig.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_takes_no_writes_is_told_and_costs_what_the_memory_cannot_hold() {
    let folder = scratch();
    let place = folder.path().join("archive");
    let rig = Rig::start(&place, 1 << 40, Blocks::in_memory(), Vec::new()).await;
    rig.air(EVENING..EVENING + 3 * MINUTE).await;
    rig.until("three minutes", |rig| rig.count("archive_segments_total") == 48).await;
    // A plain file in place of the folder: nothing can be written, whoever asks.
    std::fs::rename(&place, folder.path().join("aside")).unwrap();
    std::fs::write(&place, b"").unwrap();
    rig.air(EVENING + 48..EVENING + 48 + 2 * MINUTE).await;
    rig.until("told", |rig| rig.health.report().stages.iter().any(|s| s.last_error.is_some())).await;
    rig.air(EVENING + 80..EVENING + 80 + 8 * MINUTE).await;
    rig.until("bounded", |rig| rig.count("archive_segments_lost_total") > 0).await;
    std::fs::remove_file(&place).unwrap();
    std::fs::rename(folder.path().join("aside"), &place).unwrap();
    rig.air(EVENING + 300..EVENING + 300 + MINUTE).await;
    rig.until("written again", |rig| rig.count("archive_segments_total") > 48 + 16).await;
    rig.until("well", |rig| rig.health.report().stages.iter().all(|s| s.state == StageState::Running)).await;
    let (link, store) = rig.end().await;
    let reader = Blocks::in_memory().with_source(store);
    let (numbers, playlist) = listed(&reader, link.unwrap().cid, "2026-10-23").await;
    assert!(numbers.is_sorted() && playlist.contains("#EXT-X-DISCONTINUITY"), "{playlist}");
}

/// Peers that want what they are told to.
#[derive(Default)]
struct Peers(std::sync::Mutex<Vec<Cid>>);

impl Wants for Peers {
    fn wanted(&self) -> BoxFuture<'_, Vec<Cid>> {
        Box::pin(async { self.0.lock().unwrap().clone() })
    }
}

#[tokio::test(start_paused = true)]
async fn what_peers_want_of_the_archive_is_lent_to_the_repo_for_a_minute() {
    let folder = scratch();
    let rig = Rig::start(folder.path(), 1 << 40, Blocks::in_memory(), Vec::new()).await;
    rig.air(EVENING..EVENING + 2 * MINUTE).await;
    let (link, store) = rig.end().await;
    let (repo, peers, stop) = (Blocks::in_memory(), Arc::<Peers>::default(), CancellationToken::new());
    let live = audio("hifi", EVENING + 1);
    repo.put_pinned(&live).await.unwrap();
    let lending = Arc::new(Lending {
        wants: peers.clone(),
        blocks: repo.clone(),
        store,
        lent: Mutex::new(Lent::default()),
        health: Health::new().stage("lending", None),
    });
    let cancel = stop.clone();
    let task = tokio::spawn(async move { lending.run(cancel).await });
    let (old, root) = (audio("hifi", EVENING).cid, link.unwrap().cid);
    *peers.0.lock().unwrap() = vec![old, root, live.cid, Block::raw("nobody has this").cid];
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(repo.list().await.len(), 3, "the two that were wanted, and what was there");
    assert_eq!(repo.get(&old).await.unwrap(), Some(audio("hifi", EVENING).data));
    assert_eq!(repo.pinned().await.unwrap().len(), 1);
    peers.0.lock().unwrap().clear();
    tokio::time::sleep(Duration::from_secs(62)).await;
    assert_eq!(repo.list().await.len(), 1, "taken back");
    assert!(repo.contains(&live.cid).await.unwrap());
    stop.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_reader_looks_into_the_repo_first_and_lists_it_alone() {
    struct One(Block);
    impl BlockSource for One {
        fn read(&self, cid: Cid) -> BoxFuture<'_, Option<Bytes>> {
            Box::pin(async move { (cid == self.0.cid).then(|| self.0.data.clone()) })
        }
        fn holds(&self, cid: &Cid) -> bool {
            *cid == self.0.cid
        }
    }
    let (near, far) = (Block::raw("near"), Block::raw("far"));
    let repo = Blocks::in_memory();
    repo.put_pinned(&near).await.unwrap();
    let both = repo.with_source(Arc::new(One(far.clone())));
    assert_eq!(both.get(&near.cid).await.unwrap(), Some(near.data));
    assert_eq!(both.get(&far.cid).await.unwrap(), Some(far.data));
    assert!(both.contains(&far.cid).await.unwrap() && !repo.contains(&far.cid).await.unwrap());
    assert_eq!(both.list().await.len(), 1);
}

/// The real binary: what it archived is there for players after a restart, under its own path.
#[test]
fn a_station_with_an_archive_serves_yesterday_as_it_serves_today() {
    let home = Home::new("[retention]\narchive = true\n[hls]\nsegment = \"1s 920ms\"\n");
    let station = home.start();
    station.wait_on_air();
    let first = station.listed("lofi")[0];
    let (status, _) = station.terminate();
    assert!(status.success(), "{status}");
    let station = home.start();
    station.wait_on_air();
    let archive = station.wait_for("the archive in the tree", |station| {
        let moved = station.get("/live/archive/");
        (moved.status == 307).then(|| moved.header("location").unwrap().to_owned())
    });
    let page = station.text(&archive);
    let day =
        page.split(['"', '/', '>', '<']).find(|word| word.len() == 10 && word.starts_with("20")).unwrap();
    let playlist = station.text(&format!("{archive}{day}/lofi/live.m3u8"));
    let line = playlist.lines().find(|line| line.ends_with(&format!("{first}.m4s")));
    let uri = line.unwrap_or_else(|| panic!("no segment {first} in {playlist}"));
    let segment = station.get(&format!("{archive}{day}/lofi/{uri}"));
    assert_eq!((segment.status, segment.body[4..8].to_vec()), (200, b"styp".to_vec()));
    assert_eq!(station.get(&format!("{archive}{day}/lofi/init.mp4")).status, 200);
    let (status, _) = station.terminate();
    assert!(status.success(), "{status}");
}
