use proptest::prelude::*;

use super::*;
use crate::ipfs::Block;
use crate::publisher::index::{Index, IndexedRendition};
use crate::publisher::live_window::StoredSegment;

const SEGMENT_MS: i64 = 3_840;
const LISTED: usize = 5;

fn entry(text: &str) -> Entry {
    Entry::from(&Block::raw(text.to_owned()))
}

fn head() -> Head {
    let rendition = |name: &str| IndexedRendition { name: name.into(), init: entry(name) };
    Head {
        target_duration: 4,
        playlist_segments: LISTED,
        segment_samples: 184_320,
        renditions: vec![rendition("lofi"), rendition("hifi")],
    }
}

fn segment(n: u64, place: i64, discontinuity: bool) -> StoredSegment {
    StoredSegment {
        n,
        unix_ms: place * SEGMENT_MS,
        airtime_ms: 0,
        program_date_time_ms: place * SEGMENT_MS,
        samples: 184_320,
        discontinuity,
        media: vec![entry(&format!("lofi {n}")), entry(&format!("hifi {n}"))],
        now_playing: None,
    }
}

fn signed(window: &LiveWindow) -> Signed {
    let mut index = Index::default();
    let read = |(k, block): (u64, &Block)| (k, (block.clone(), Group::parse(k, &block.data).unwrap()));
    let groups = index.update(&head(), window).map(read).collect();
    let ends = [window.aired().next().unwrap().n, window.aired().next_back().unwrap().n];
    Signed { head: head(), groups, oldest: ends[0], newest: ends[1] }
}

/// A station with `aired` of its segments 1.. on air and three more announced.
fn station(aired: u64) -> LiveWindow {
    let mut window = LiveWindow::new(0);
    (1..=aired + 3).for_each(|n| assert!(window.store(segment(n, n as i64, false))));
    (0..aired).for_each(|_| assert!(window.reveal(LISTED).is_some()));
    window
}

fn hold(window: &mut Window, wanted: impl Fn(u64) -> bool) {
    window.hold(entry("lofi").cid);
    window.hold(entry("hifi").cid);
    let media: Vec<_> = window.segments().filter(|s| wanted(s.n)).flat_map(|s| s.media.clone()).collect();
    media.iter().for_each(|entry| window.hold(entry.cid));
}

fn numbers(window: &Window) -> Vec<u64> {
    let playlist = window.live().and_then(|live| live.media_playlist(4));
    playlist.map_or_else(Vec::new, |playlist| playlist.segments.iter().map(|s| s.n).collect())
}

/// All that is missing, in the order of fetching.
fn all_missing(window: &Window) -> impl Iterator<Item = Cid> {
    window.missing().chain(window.missing_past()).map(|entry| entry.cid)
}

fn missing(window: &Window) -> Vec<String> {
    let name = |cid: Cid| {
        let known = |n: u64| ["lofi", "hifi"].map(|r| format!("{r} {n}"));
        let names = (0..100).flat_map(known).chain(["lofi".to_owned(), "hifi".to_owned()]);
        names.into_iter().find(|name| entry(name).cid == cid).unwrap()
    };
    all_missing(window).map(name).collect()
}

#[test]
fn what_players_need_comes_first_then_by_airtime_and_the_past_last_from_its_new_end() {
    let mut window = Window::default();
    window.take_in(&signed(&station(9)));
    let order = missing(&window);
    assert_eq!(order[..4], ["lofi", "hifi", "lofi 5", "hifi 5"]);
    let firsts: Vec<_> = order[2..].iter().filter_map(|name| name.strip_prefix("lofi ")).collect();
    assert_eq!(firsts, ["5", "6", "7", "8", "9", "10", "11", "12", "4", "3", "2", "1"]);
    assert_eq!((window.missing().count(), window.missing_past().count()), (2 + 2 * 8, 2 * 4));
}

#[test]
fn the_air_begins_with_the_whole_playlist_or_after_a_while_with_what_a_player_needs() {
    let mut window = Window::default();
    window.take_in(&signed(&station(9)));
    assert!(!window.begin(true), "nothing is held");
    hold(&mut window, |n| n == 9 || n == 8);
    assert!(!window.begin(true), "two are too few");
    hold(&mut window, |n| n >= 7);
    assert!(!window.begin(false), "the playlist has five");
    assert!(window.begin(true));
    assert_eq!(numbers(&window), [7, 8, 9]);
    hold(&mut window, |_| true);
    assert_eq!(numbers(&window), [7, 8, 9], "no playlist grows at its beginning");
    let mut whole = Window::default();
    whole.take_in(&signed(&station(9)));
    hold(&mut whole, |n| n >= 5);
    assert!(whole.begin(false));
    assert_eq!(numbers(&whole), [5, 6, 7, 8, 9]);
}

#[test]
fn announced_segments_that_the_station_takes_back_go_and_what_is_on_air_here_stays() {
    let mut window = Window::default();
    window.take_in(&signed(&station(9)));
    hold(&mut window, |_| true);
    assert!(window.begin(false));
    window.reveal(10);
    // The station starts anew: 10 to 12 were never on air there, and numbers jump.
    let mut station = station(9);
    station.drop_ahead();
    assert!(station.store(segment(40, 13, true)));
    station.reveal(LISTED);
    let gone = window.take_in(&signed(&station));
    assert_eq!(gone.len(), 4, "both files of 11 and 12");
    assert_eq!(window.segments().map(|s| s.n).collect::<Vec<_>>().split_off(8), [9, 10, 40]);
    hold(&mut window, |_| true);
    // More than a playlist behind: anew at the jump.
    assert!(window.begin(false));
    assert_eq!(numbers(&window), [40]);
    assert_eq!(window.beside().iter().map(|s| s.n).collect::<Vec<_>>(), [10]);
    let mut again = Window::default();
    again.take_in(&signed(&station));
    hold(&mut again, |_| true);
    again.resume(40, 40, window.beside());
    assert_eq!((numbers(&again), again.segments().count()), (vec![40], window.segments().count()));
}

#[test]
fn other_renditions_begin_anew_above_what_was_on_air() {
    let mut window = Window::default();
    window.take_in(&signed(&station(9)));
    hold(&mut window, |_| true);
    assert!(window.begin(false));
    let mut other = signed(&station(9));
    other.head.renditions.pop();
    for (_, group) in other.groups.values_mut() {
        group.head = other.head.clone();
        group.segments.iter_mut().for_each(|segment| _ = segment.media.pop());
    }
    window.take_in(&other);
    assert_eq!(window.on_air(), None);
    hold(&mut window, |_| true);
    assert!(!window.begin(true), "9 was on air with other renditions");
}

/// One step of the life of a station and its relay.
#[derive(Debug, Clone)]
struct Moment {
    gap: u64,
    cut: bool,
    heard: bool,
    sent: f64,
    kept: u64,
}

fn moment() -> impl Strategy<Value = Moment> {
    let gap = prop_oneof![9 => Just(1_u64), 1 => 2_u64..4];
    let parts = (gap, prop::bool::weighted(0.1), prop::bool::weighted(0.8), 0.5..1.2_f64, 4_u64..30);
    parts.prop_map(|(gap, cut, heard, sent, kept)| Moment { gap, cut, heard, sent, kept })
}

/// What a listener of the relay must never see, from one playlist to the next.
fn check(window: &Window, before: &mut Option<(u64, u64, u64)>) -> Result<(), TestCaseError> {
    let Some(live) = window.live() else { return Ok(()) };
    let playlist = live.media_playlist(4).expect("what is on air is listed");
    prop_assert!((1..=LISTED).contains(&playlist.segments.len()));
    for (index, listed) in playlist.segments.iter().enumerate() {
        prop_assert_eq!(listed.n, playlist.media_sequence + index as u64);
        let segment = window.segment(listed.n).expect("it is known");
        prop_assert!(window.holds(segment), "{} is listed and not held", listed.n);
    }
    let newest = playlist.segments.last().map_or(0, |s| s.n);
    let now = (playlist.media_sequence, newest, playlist.discontinuity_sequence);
    if let Some(before) = *before {
        prop_assert!(now.0 >= before.0 && now.1 >= before.1 && now.2 >= before.2, "{before:?} {now:?}");
    }
    *before = Some(now);
    Ok(())
}

proptest! {
    #[test]
    fn whatever_is_heard_and_sent_playlists_obey_the_specification_and_agree_where_all_is_held(
        moments in prop::collection::vec(moment(), 20..120),
        seed in any::<u64>(),
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut origin, mut window, mut airtimes) = (LiveWindow::new(1), Window::default(), Airtimes::default());
        let (mut n, mut before) = (1_000, None);
        for (place, moment) in (0_i64..).zip(moments) {
            n += moment.gap;
            prop_assert!(origin.store(segment(n, place, moment.cut || moment.gap > 1)));
            if place < 4 {
                continue;
            }
            origin.reveal(LISTED);
            let newest = origin.aired().next_back().expect("just now").n;
            origin.forget_before(newest.saturating_sub(moment.kept));
            // The newest on air began four segments before the one that was stored just now.
            let now = (place - 3) * SEGMENT_MS + 50;
            if moment.heard {
                window.take_in(&signed(&origin));
                window.segments().for_each(|segment| airtimes.learn(segment));
                airtimes.arrived(newest, now);
            }
            let sent: Vec<_> = all_missing(&window).filter(|_| random.f64() < moment.sent).collect();
            sent.into_iter().for_each(|cid| window.hold(cid));
            window.begin(true);
            for later in [0, PATIENCE_MS] {
                while let Step::Reveal(next) = window.step(&airtimes, now + later) {
                    window.reveal(next);
                    check(&window, &mut before)?;
                }
            }
            window.forget_before(newest.saturating_sub(moment.kept));
            check(&window, &mut before)?;
            prop_assert!(window.on_air().is_none_or(|on_air| on_air <= newest), "before its airtime");
            let all = all_missing(&window).next().is_none() && window.on_air() == Some(newest);
            let ours = window.live().and_then(|live| live.media_playlist(4)).filter(|_| all);
            let theirs = origin.media_playlist(4).expect("on air");
            if let Some(ours) = ours.filter(|ours| ours.media_sequence == theirs.media_sequence) {
                prop_assert_eq!(ours.to_string(), theirs.to_string());
            }
        }
    }
}
