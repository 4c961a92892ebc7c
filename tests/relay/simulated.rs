//! The relay stage under simulated time: a real publisher, and a network that is cut, lies and loses.

use std::collections::HashSet;
use std::time::Duration;

use skywave::health::Status;
use skywave::ipfs::ipns::{Record, sign};
use skywave::ipfs::{Block, Identity};
use tokio::time::{Instant, sleep};

use crate::support::relay_rig::{FIRST, LISTED, Network, Origin, RENDITIONS, RelayNode};

const SEGMENT: Duration = Duration::from_millis(3_840);
/// A record takes 30 to 130 ms, a block 50 ms; a relay on its own is half a second behind its estimate.
const LATE: Duration = Duration::from_millis(900);

fn no_cuts(_n: u64) -> bool {
    false
}

fn network() -> Network {
    Network::new(Duration::from_millis(50))
}

/// Holds every number from `first` to `last` to being on air at its time, after the origin and soon after it.
fn assert_on_time(relay: &RelayNode, origin: &Origin, first: u64, last: u64) {
    for n in first..=last {
        let due = origin.due(n);
        let at = relay.aired_at(n).unwrap_or_else(|| panic!("{n} was never on air"));
        let (early, late) = (due.saturating_duration_since(at), at.saturating_duration_since(due));
        assert!(early.is_zero() && late <= LATE, "{n} came on air {early:?} before, {late:?} after its time");
    }
}

/// Every playlist that both had on air with the same newest number.
async fn assert_same_playlists(relay: &RelayNode, origin: &Origin, numbers: std::ops::RangeInclusive<u64>) {
    let mut compared = 0;
    for n in numbers {
        for rendition in RENDITIONS {
            let path = format!("{rendition}/live.m3u8");
            let (ours, theirs) = (relay.file(n, &path).await, origin.file(n, &path).await);
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(&theirs), "at {n}");
                compared += 1;
            }
        }
    }
    assert!(compared >= 2, "{compared} playlists compared");
}

#[tokio::test(start_paused = true)]
async fn a_relay_has_the_same_on_air_at_the_same_time_byte_for_byte_and_the_lead_before_its_airtime() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(folder.path(), &network(), 8, |n| n % 13 == 7).await;
    let relay = RelayNode::start(folder.path(), &origin).await;
    for n in FIRST + 10..FIRST + 40 {
        origin.keep_from.send_replace(n - 9);
        relay.keep_from.send_replace(n - 9);
        relay.wait_for(n).await;
        assert!(relay.missing().await.is_empty(), "{:?}", relay.missing().await);
    }
    assert_on_time(&relay, &origin, FIRST + 10, FIRST + 39);
    assert_same_playlists(&relay, &origin, FIRST + 10..=FIRST + 39).await;
    let held = relay.held_until.borrow().unwrap();
    assert!(held >= relay.newest() + 6, "only {} ahead", held - relay.newest());
    // At rest, tree and name are the station's own.
    sleep(Duration::from_secs(1)).await;
    let root = origin.tree.borrow().as_ref().unwrap().root;
    assert_eq!(relay.tree.borrow().as_ref().unwrap().root, root);
    assert_eq!(relay.record.borrow().as_ref().unwrap().root, root);
    let report = relay.health.report();
    assert_eq!(report.status, Status::OnAir, "{report:#?}");
    assert!(report.lead_seconds > 25.0, "{}", report.lead_seconds);
    let station: serde_json::Value = serde_json::from_slice(&relay.station.borrow()).unwrap();
    assert_eq!((&station["role"], &station["name"]), (&"relay".into(), &"Test".into()));
}

#[tokio::test(start_paused = true)]
async fn cut_off_it_plays_its_lead_at_the_right_times_says_so_and_picks_up_when_the_origin_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(folder.path(), &network(), 16, no_cuts).await;
    let relay = RelayNode::start(folder.path(), &origin).await;
    relay.wait_for(FIRST + 20).await;
    sleep(Duration::from_secs(2)).await;
    origin.network.set_online(origin.place, false);
    let held = relay.held_until.borrow().unwrap();
    assert!(held >= FIRST + 33, "{held}");
    sleep(Duration::from_secs(20)).await;
    let report = relay.health.report();
    assert_eq!(report.status, Status::Degraded, "{report:#?}");
    let words = &report.notices["origin"];
    assert!(
        words.starts_with("the origin is unreachable since ") && words.contains("the lead lasts until"),
        "{words}"
    );
    assert!(report.on_air);
    relay.wait_for(held).await;
    // Not one is missing, and each came at its time, which nobody told.
    assert_on_time(&relay, &origin, FIRST + 10, held);
    assert_same_playlists(&relay, &origin, FIRST + 18..=held).await;
    assert!(relay.missing().await.is_empty());
    sleep(4 * SEGMENT).await;
    let report = relay.health.report();
    assert_eq!(report.off_air_reason.as_deref(), Some("waiting for the origin"), "{report:#?}");
    assert!(report.notices["origin"].contains("the lead is over"));
    let station: serde_json::Value = serde_json::from_slice(&relay.station.borrow()).unwrap();
    assert_eq!(station["on_air"], false);

    sleep(Duration::from_secs(30)).await;
    let back = origin.newest();
    origin.network.set_online(origin.place, true);
    let healed = Instant::now();
    relay.wait_for(back + 1).await;
    assert!(healed.elapsed() < 2 * SEGMENT + LATE, "{:?}", healed.elapsed());
    relay.wait_for(back + 12).await;
    assert_on_time(&relay, &origin, back + 3, back + 12);
    let report = relay.health.report();
    assert_eq!(report.status, Status::OnAir, "{report:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_short_cut_is_not_heard_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(folder.path(), &network(), 16, no_cuts).await;
    let relay = RelayNode::start(folder.path(), &origin).await;
    relay.wait_for(FIRST + 20).await;
    for _ in 0..3 {
        origin.network.set_online(origin.place, false);
        sleep(Duration::from_secs(40)).await;
        origin.network.set_online(origin.place, true);
        sleep(Duration::from_secs(30)).await;
    }
    let newest = relay.newest();
    assert!(newest > FIRST + 60);
    assert_on_time(&relay, &origin, FIRST + 10, newest);
    assert_same_playlists(&relay, &origin, FIRST + 15..=newest).await;
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_comes_late_has_the_whole_playlist_at_once_and_then_all_of_the_window() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(folder.path(), &network(), 8, |n| n % 10 == 0).await;
    origin.wait_for(FIRST + 100).await;
    origin.keep_from.send_replace(FIRST + 60);
    sleep(SEGMENT).await;
    let relay = RelayNode::start(folder.path(), &origin).await;
    let began = Instant::now();
    relay.wait_for(FIRST + 100).await;
    assert!(began.elapsed() < SEGMENT, "{:?}", began.elapsed());
    let first = relay.newest();
    let playlist = relay.file(first, "hifi/live.m3u8").await.unwrap();
    let playlist = String::from_utf8_lossy(&playlist).into_owned();
    assert_eq!(playlist.matches("#EXTINF").count(), LISTED, "{playlist}");
    relay.wait_for(first + 4).await;
    assert_same_playlists(&relay, &origin, first..=first + 4).await;
    let tree = relay.tree.borrow().clone().unwrap();
    assert_eq!(tree.root, origin.tree.borrow().as_ref().unwrap().root, "whole, down to the oldest");
    assert!(tree.entries.contains_key(&format!("lofi/{}.m4s", FIRST + 70)));
}

#[tokio::test(start_paused = true)]
async fn a_block_that_one_peer_lacks_or_forges_comes_from_another() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(folder.path(), &network(), 8, no_cuts).await;
    let honest = RelayNode::start(folder.path(), &origin).await;
    let other = tempfile::tempdir().unwrap();
    for n in FIRST + 12..FIRST + 20 {
        origin.network.forge(origin.place, Origin::media(n, "hifi"));
    }
    honest.wait_for(FIRST + 8).await;
    let relay = RelayNode::start(other.path(), &origin).await;
    for n in FIRST + 22..FIRST + 30 {
        // The other relay has it before the origin gives it to nobody any more.
        honest.wait_for(n - 6).await;
        origin.network.hide(origin.place, Origin::media(n, "lofi"));
    }
    relay.wait_for(FIRST + 32).await;
    assert_on_time(&relay, &origin, FIRST + 12, FIRST + 32);
    assert!(honest.metrics.encode().contains("outcome=\"wrong\""), "a forgery was met");
    for n in FIRST + 12..FIRST + 20 {
        let cid = Origin::media(n, "hifi");
        for blocks in [&relay.blocks, &honest.blocks] {
            assert_eq!(Block::raw(blocks.get(&cid).await.unwrap().unwrap()).cid, cid);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_nobody_sends_is_left_out_and_the_air_goes_on_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(folder.path(), &network(), 8, no_cuts).await;
    let lost = FIRST + 24;
    origin.network.hide(origin.place, Origin::media(lost, "hifi"));
    let relay = RelayNode::start(folder.path(), &origin).await;
    relay.wait_for(lost - 1).await;
    relay.wait_for(lost + 5).await;
    assert!(relay.aired_at(lost).is_none());
    let playlist = relay.file(lost + 5, "hifi/live.m3u8").await.unwrap();
    let text = String::from_utf8_lossy(&playlist).into_owned();
    assert!(text.contains(&format!("#EXT-X-MEDIA-SEQUENCE:{}\n", lost + 1)), "{text}");
    assert!(relay.metrics.encode().contains("skywave_relay_segments_skipped_total 1\n"));
    // Should it come after all, no playlist goes back.
    relay.wait_for(lost + 20).await;
    assert_same_playlists(&relay, &origin, lost + 10..=lost + 20).await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_at_once_without_a_hole_also_while_the_origin_is_cut_off() {
    for (cut, crash) in [(false, false), (false, true), (true, false), (true, true)] {
        let folder = tempfile::tempdir().unwrap();
        let origin = Origin::start(folder.path(), &network(), 16, no_cuts).await;
        let relay = RelayNode::start(folder.path(), &origin).await;
        relay.wait_for(FIRST + 20).await;
        sleep(Duration::from_secs(2)).await;
        if cut {
            origin.network.set_online(origin.place, false);
            sleep(Duration::from_secs(20)).await;
        }
        let before = relay.newest();
        let playlist = relay.file(before, "hifi/live.m3u8").await.unwrap();
        let began = Instant::now();
        let relay = relay.restart(&origin, crash).await;
        relay.wait_for(before).await;
        assert!(began.elapsed() < Duration::from_millis(50), "{:?}", began.elapsed());
        if relay.newest() == before {
            assert_eq!(
                relay.file(before, "hifi/live.m3u8").await.unwrap(),
                playlist,
                "cut {cut} crash {crash}"
            );
        }
        relay.wait_for(before + 8).await;
        assert_on_time(&relay, &origin, before + 2, before + 8);
        assert_same_playlists(&relay, &origin, before..=before + 8).await;
        assert!(relay.missing().await.is_empty(), "cut {cut} crash {crash}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_air_has_overtaken_is_not_played_after_a_long_stop() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(folder.path(), &network(), 8, no_cuts).await;
    let relay = RelayNode::start(folder.path(), &origin).await;
    relay.wait_for(FIRST + 20).await;
    let before = relay.newest();
    origin.network.set_online(origin.place, false);
    origin.clock.step(600_000);
    // Not in good order: what it wrote down is of before.
    let relay = relay.restart(&origin, true).await;
    sleep(Duration::from_secs(30)).await;
    assert_eq!(relay.newest(), 0, "nothing of ten minutes ago");
    assert_eq!(relay.health.report().off_air_reason.as_deref(), Some("waiting for the origin"));
    origin.network.set_online(origin.place, true);
    let now = origin.newest();
    relay.wait_for(now).await;
    assert!(relay.newest() > before);
}

#[tokio::test(start_paused = true)]
async fn an_older_record_and_a_tree_that_is_none_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(folder.path(), &network(), 8, no_cuts).await;
    origin.wait_for(FIRST + 5).await;
    let old = origin.record.borrow().clone().unwrap();
    let relay = RelayNode::start(folder.path(), &origin).await;
    relay.wait_for(FIRST + 20).await;
    let name = origin.identity.name();
    let old = std::sync::Arc::new(Record::verify(&name, &old.bytes).unwrap());
    let (before, known) = (relay.newest(), relay.record.borrow().clone().unwrap().sequence);
    relay.records.send_replace(Some(old));
    sleep(Duration::from_millis(500)).await;
    assert!(relay.newest() >= before && relay.record.borrow().as_ref().unwrap().sequence >= known);
    // Signed by the station, and no tree of one: told of, and left aside.
    let odd = Block::raw("a file");
    origin.blocks.put_pinned(&odd).await.unwrap();
    let hour = Duration::from_secs(3_600);
    let ahead = known + 1;
    let signed = sign(&origin.identity, odd.cid, ahead, 1_800_000_000_000, hour, hour).unwrap();
    let record = Record::verify(&name, &signed.bytes).unwrap();
    relay.records.send_replace(Some(std::sync::Arc::new(record)));
    relay.wait_for(before + 6).await;
    assert_on_time(&relay, &origin, before + 2, before + 6);
    assert!(relay.metrics.encode().contains("skywave_relay_trees_total{outcome=\"refused\"} 1\n"));
    assert!(Record::verify(&Identity::generate().name(), &signed.bytes).is_err());
}

#[tokio::test(start_paused = true)]
async fn many_relays_get_most_of_it_from_each_other() {
    const RELAYS: usize = 20;
    let folders: Vec<_> = (0..=RELAYS).map(|_| tempfile::tempdir().unwrap()).collect();
    let origin = Origin::start(folders[RELAYS].path(), &network(), 16, no_cuts).await;
    let mut relays = Vec::new();
    for folder in &folders[..RELAYS] {
        relays.push(RelayNode::start(folder.path(), &origin).await);
    }
    for relay in &relays {
        relay.wait_for(FIRST + 30).await;
    }
    for relay in &relays {
        relay.wait_for(FIRST + 60).await;
    }
    for relay in &relays {
        assert_on_time(relay, &origin, FIRST + 30, FIRST + 60);
    }
    let files: Vec<_> = (FIRST + 48..=FIRST + 60).map(|n| Origin::media(n, "hifi")).collect();
    let given: usize = files.iter().map(|cid| origin.network.given(origin.place, cid)).sum();
    assert!(given >= files.len() && given < 6 * files.len(), "{given} times {} files", files.len());
}

#[tokio::test(start_paused = true)]
async fn relays_that_hear_the_origin_late_and_hold_enough_still_take_turns() {
    const RELAYS: usize = 12;
    let folders: Vec<_> = (0..=RELAYS).map(|_| tempfile::tempdir().unwrap()).collect();
    let origin = Origin::start(folders[RELAYS].path(), &network(), 16, no_cuts).await;
    let mut relays = Vec::new();
    for folder in &folders[..RELAYS] {
        relays.push(RelayNode::start(folder.path(), &origin).await);
    }
    relays[0].wait_for(FIRST + 20).await;
    sleep(SEGMENT).await;
    let (mut files, mut given) = (0, 0);
    for _ in 0..6 {
        let known = relays[0].held_until.borrow().unwrap();
        origin.network.set_online(origin.place, false);
        sleep(3 * SEGMENT).await;
        origin.network.set_online(origin.place, true);
        sleep(2 * SEGMENT).await;
        let fresh: Vec<_> = (known + 1..=known + 3).map(|n| Origin::media(n, "hifi")).collect();
        files += fresh.len();
        given += fresh.iter().map(|cid| origin.network.given(origin.place, cid)).sum::<usize>();
    }
    assert!(given >= files && given < 5 * files, "{given} times {files} files");
}

#[tokio::test(start_paused = true)]
async fn relays_that_come_at_once_take_what_is_past_from_each_other() {
    const RELAYS: usize = 12;
    let folders: Vec<_> = (0..=RELAYS).map(|_| tempfile::tempdir().unwrap()).collect();
    let origin = Origin::start(folders[RELAYS].path(), &network(), 8, no_cuts).await;
    origin.wait_for(FIRST + 80).await;
    let mut relays = Vec::new();
    for folder in &folders[..RELAYS] {
        relays.push(RelayNode::start(folder.path(), &origin).await);
    }
    let past: Vec<_> = (FIRST..FIRST + 70).flat_map(|n| RENDITIONS.map(|r| Origin::media(n, r))).collect();
    for relay in &relays {
        relay.wait_for(FIRST + 82).await;
        let held: HashSet<_> = relay.blocks.list().await.iter().map(|cid| cid.hash().to_owned()).collect();
        assert!(!past.iter().any(|cid| held.contains(cid.hash())), "others are not known yet");
    }
    origin.wait_for(FIRST + 120).await;
    for relay in &relays {
        assert!(relay.missing().await.is_empty(), "{:?}", relay.missing().await);
        assert_on_time(relay, &origin, FIRST + 85, FIRST + 119);
    }
    let given: usize = past.iter().map(|cid| origin.network.given(origin.place, cid)).sum();
    assert!(given >= past.len() && given < 5 * past.len(), "{given} times {} files", past.len());
}

#[tokio::test(start_paused = true)]
async fn what_left_the_window_is_told_to_retention_and_nothing_that_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::start(folder.path(), &network(), 8, no_cuts).await;
    origin.wait_for(FIRST + 2 * LISTED as u64).await;
    let relay = RelayNode::start(folder.path(), &origin).await;
    for n in FIRST + 13..FIRST + 60 {
        origin.keep_from.send_replace(n - 12);
        relay.keep_from.send_replace(n - 12);
        relay.wait_for(n).await;
    }
    sleep(Duration::from_secs(1)).await;
    let ticks = std::mem::take(&mut *relay.ticks.lock().unwrap());
    let aired: Vec<_> = ticks.iter().flat_map(|tick| &tick.aired).map(|segment| segment.n).collect();
    assert_eq!(aired[0], FIRST, "all of the window, not the playlist alone");
    assert!(aired.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{aired:?}");
    for cid in ticks.iter().flat_map(|tick| &tick.unlinked) {
        relay.blocks.remove(cid).await.unwrap();
    }
    assert!(relay.missing().await.is_empty(), "{:?}", relay.missing().await);
    let held = relay.blocks.list().await.len();
    // 20 segments and the lead in two renditions, the init segment, folders, playlists, index.
    assert!(held < 2 * (14 + 10) + 20, "{held} blocks");
}
