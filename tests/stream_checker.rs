//! The stream checker under test: it passes a correct stream and names the rule for every way to break one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

/// Helpers shared by the test binaries.
mod support {
    pub(crate) mod checker;
    pub(crate) mod http_client;
}

use std::io::{Read, Write};
use std::net::TcpListener;
use support::checker::rules::{self, Rule, Violation};
use support::checker::source::{FolderSource, HttpSource, MapSource, Source};
use support::checker::synth::Synth;
use support::checker::tamper::{Tamper, TamperedSource};
use support::checker::{Checker, Expectations, Report};

/// Where a real station of 2026 would be.
const FIRST: u64 = 466_900_000;

fn expectations() -> Expectations {
    Expectations { refetch_per_poll: usize::MAX, ..Expectations::new(&["lofi", "midfi", "hifi"]) }
}

/// Polls once per state of the station.
fn run(expectations: Expectations, mut states: Vec<MapSource>) -> Result<Report, Violation> {
    let mut checker = Checker::new(expectations);
    for state in &mut states {
        checker.poll(state)?;
    }
    checker.finish()
}

/// Three polls of a sliding window.
fn three_states() -> Vec<MapSource> {
    let mut synth = Synth::new(FIRST);
    let first = synth.source();
    synth.tick();
    let second = synth.source();
    synth.tick();
    vec![first, second, synth.source()]
}

/// Rewrites one text file in a state.
fn edit(state: &mut MapSource, path: &str, change: impl Fn(&str) -> String) {
    let text = String::from_utf8(state.0[path].clone()).expect("playlists are text");
    let changed = change(&text);
    assert_ne!(text, changed, "the edit must change {path}");
    state.0.insert(path.to_owned(), changed.into_bytes());
}

/// Rewrites the media playlists of all renditions alike.
fn edit_all(state: &mut MapSource, change: impl Fn(&str) -> String) {
    for name in ["lofi", "midfi", "hifi"] {
        edit(state, &format!("{name}/live.m3u8"), &change);
    }
}

fn assert_breaks(rule: Rule, result: Result<Report, Violation>) -> Violation {
    let violation = result.expect_err(rule.name);
    assert_eq!(violation.rule, rule, "{violation}");
    violation
}

#[test]
fn a_correct_stream_passes_while_its_window_slides() {
    for (chunks, all_dates) in [(1, true), (12, true), (1, false)] {
        let mut synth = Synth { chunks, all_dates, ..Synth::new(FIRST) };
        let mut checker = Checker::new(expectations());
        for poll in 0..10 {
            let progress =
                checker.poll(&mut synth.source()).unwrap_or_else(|violation| panic!("{violation}"));
            assert_eq!(progress.newest, FIRST + 5 + poll);
            assert_eq!(progress.new_segments, if poll == 0 { 6 } else { 1 });
            synth.tick();
        }
        let report = checker.finish().expect("segments were judged");
        assert_eq!((report.polls, report.segments, report.range), (10, 15, (FIRST, FIRST + 14)));
        let (peak, average) = report.bit_rates["hifi"];
        assert!((185_000..200_000).contains(&average) && peak >= average, "{peak} {average}");
    }
}

#[test]
fn a_restart_passes_with_its_discontinuity_from_arrival_to_departure() {
    let mut synth = Synth::new(FIRST);
    let mut checker = Checker::new(expectations());
    checker.poll(&mut synth.source()).expect("before the restart");
    synth.jump(7);
    let progress = checker.poll(&mut synth.source()).expect("after the restart");
    assert_eq!((progress.discontinuities, progress.jumps, progress.newest), (1, 1, FIRST + 13));
    for _ in 0..10 {
        synth.tick();
        checker.poll(&mut synth.source()).unwrap_or_else(|violation| panic!("{violation}"));
    }
    let report = checker.finish().expect("segments were judged");
    assert_eq!((report.discontinuities, report.jumps), (1, 1));
}

#[test]
fn renumbering_after_a_jump_is_a_violation_where_the_standard_is_taken_at_its_word() {
    let run_through_jump = |expectations| {
        let mut synth = Synth::new(FIRST);
        let mut states = vec![synth.source()];
        for step in 0..8 {
            if step == 0 {
                synth.jump(7)
            } else {
                synth.tick()
            }
            states.push(synth.source());
        }
        run(expectations, states)
    };
    run_through_jump(expectations()).expect("the design lets MEDIA-SEQUENCE be n");
    let strict = Expectations { fixed_media_sequence: true, ..expectations() };
    assert_breaks(rules::MEDIA_SEQUENCE, run_through_jump(strict));
}

#[test]
fn a_restart_without_a_jump_passes() {
    let mut synth = Synth::new(FIRST);
    let first = synth.source();
    synth.jump(0);
    let report = run(expectations(), vec![first, synth.source()]).expect("a correct stream");
    assert_eq!((report.discontinuities, report.jumps), (1, 0));
}

#[test]
fn every_tampering_breaks_its_rule_in_every_rendition() {
    for tamper in Tamper::ALL {
        for rendition in ["lofi", "midfi", "hifi"] {
            let states = three_states();
            let mut source = TamperedSource::new(MapSource::default(), tamper, rendition);
            let mut checker = Checker::new(expectations());
            let mut outcome = Ok(());
            let mut polls = 0;
            for state in states {
                source.inner = state;
                outcome = checker.poll(&mut source).map(|_| ());
                polls += 1;
                if outcome.is_err() {
                    break;
                }
            }
            let violation = outcome.expect_err(&format!("{tamper:?} went unseen"));
            assert_eq!(violation.rule, tamper.rule(), "{tamper:?}: {violation}");
            assert_eq!(polls, if tamper.needs_two_polls() { 2 } else { 1 }, "{tamper:?}: {violation}");
            // The one rendition that differs from the first is named; which of two is wrong, alignment cannot know.
            if tamper != Tamper::Unalign {
                assert_eq!(violation.rendition.as_deref(), Some(rendition), "{tamper:?}: {violation}");
            }
        }
    }
}

#[test]
fn the_tampered_source_is_the_only_cause_of_failure() {
    run(expectations(), three_states()).expect("the same states untouched");
}

#[test]
fn tampering_is_seen_in_the_middle_of_a_chunked_segment() {
    let state = Synth { chunks: 12, ..Synth::new(FIRST) }.source();
    let mut source = state.clone();
    let bytes = source.0.get_mut(&format!("lofi/{}.m4s", FIRST + 3)).expect("listed");
    let tfdts: Vec<usize> = (0..bytes.len() - 4).filter(|at| &bytes[*at..at + 4] == b"tfdt").collect();
    assert_eq!(tfdts.len(), 12);
    bytes[tfdts[6] + 15] ^= 1;
    let violation = assert_breaks(rules::TFDT_CONTINUITY, run(expectations(), vec![source]));
    assert_eq!((violation.rendition.as_deref(), violation.n), (Some("lofi"), Some(FIRST + 3)));
}

#[test]
fn a_shifted_tfdt_is_seen_without_the_epoch_lock_too() {
    let free = || Expectations { epoch_locked: false, ..expectations() };
    run(free(), three_states()).expect("a correct stream");
    let mut source = TamperedSource::new(three_states().remove(0), Tamper::ShiftTfdt, "midfi");
    let violation = Checker::new(free()).poll(&mut source).expect_err("shifted");
    assert_eq!(violation.rule, rules::TFDT_CONTINUITY, "{violation}");
}

#[test]
fn a_window_that_slides_back_is_refused_even_if_all_renditions_agree() {
    let mut states = three_states();
    states.swap(1, 2);
    assert_breaks(rules::MEDIA_SEQUENCE, run(expectations(), states));
}

#[test]
fn an_outdated_newest_segment_is_refused_though_media_sequence_stands_still() {
    let mut synth = Synth { window: 7, ..Synth::new(FIRST) };
    let short = synth.source();
    synth.tick();
    assert_breaks(rules::MEDIA_SEQUENCE, run(expectations(), vec![synth.source(), short]));
}

#[test]
fn a_discontinuity_that_leaves_uncounted_is_refused() {
    let mut synth = Synth::new(FIRST);
    synth.jump(0);
    let mut states = vec![synth.source()];
    for _ in 0..6 {
        synth.tick();
        states.push(synth.source());
    }
    let tag = "#EXT-X-DISCONTINUITY-SEQUENCE:";
    edit_all(states.last_mut().expect("seven"), |text| text.replace(&format!("{tag}1"), &format!("{tag}0")));
    assert_breaks(rules::DISCONTINUITY_SEQUENCE, run(expectations(), states));
}

#[test]
fn a_jump_of_n_without_a_discontinuity_is_refused() {
    let mut synth = Synth::new(FIRST);
    synth.jump(3);
    let mut state = synth.source();
    edit_all(&mut state, |text| text.replace("#EXT-X-DISCONTINUITY\n", ""));
    assert_breaks(rules::SEGMENT_NUMBER, run(expectations(), vec![state]));
}

#[test]
fn a_window_of_less_than_three_target_durations_is_refused_once_segments_leave() {
    let mut synth = Synth { window: 3, ..Synth::new(FIRST) };
    synth.tick();
    let first = synth.source();
    synth.tick();
    assert_breaks(rules::WINDOW_LENGTH, run(expectations(), vec![first, synth.source()]));
}

#[test]
fn slow_drift_of_dates_from_the_epoch_is_refused() {
    let mut state = Synth::new(FIRST).source();
    edit_all(&mut state, |text| {
        let late = |line: &str| match line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:") {
            Some(date) => format!("#EXT-X-PROGRAM-DATE-TIME:{}", date.replace('Z', "+00:01")),
            None => line.to_owned(),
        };
        text.lines().map(|line| late(line) + "\n").collect()
    });
    assert_breaks(rules::PROGRAM_DATE_TIME, run(expectations(), vec![state]));
}

#[test]
fn broken_playlists_break_the_rule_that_covers_them() {
    let cases: [(Rule, &str, &str); 14] = [
        (rules::PLAYLIST_SYNTAX, "#EXTM3U\n", "\u{feff}#EXTM3U\n"),
        (rules::PLAYLIST_SYNTAX, "#EXTM3U\n", "\n#EXTM3U\n"),
        (rules::PLAYLIST_SYNTAX, "#EXTINF:3.840000,\n", "#EXTINF:3.840000\n"),
        (rules::PLAYLIST_TAG, "#EXT-X-VERSION:7\n", "#EXT-X-VERSION:7\n#EXT-X-VERSION:7\n"),
        (rules::PLAYLIST_TAG, "#EXT-X-VERSION:7\n", "#EXT-X-VERSION:7\n#EXT-X-NONSENSE:1\n"),
        (rules::VERSION, "#EXT-X-VERSION:7\n", "#EXT-X-VERSION:6\n"),
        (rules::VERSION, "#EXT-X-VERSION:7\n", ""),
        (rules::TARGETDURATION, "#EXT-X-TARGETDURATION:4\n", ""),
        (rules::TARGETDURATION, "#EXT-X-TARGETDURATION:4\n", "#EXT-X-TARGETDURATION:3\n"),
        (rules::MAP, "#EXT-X-MAP:URI=\"init.mp4\"\n", ""),
        (rules::MAP, "init.mp4", "other.mp4"),
        (rules::PLAYLIST_TYPE, "#EXT-X-VERSION:7\n", "#EXT-X-VERSION:7\n#EXT-X-PLAYLIST-TYPE:EVENT\n"),
        (rules::EXTINF, "3.840000,", "3.84,"),
        (rules::GAP, "#EXTINF", "#EXT-X-GAP\n#EXTINF"),
    ];
    for (rule, from, to) in cases {
        let mut state = Synth::new(FIRST).source();
        edit_all(&mut state, |text| text.replacen(from, to, 1));
        assert_breaks(rule, run(expectations(), vec![state]));
    }
}

#[test]
fn broken_multivariant_playlists_break_the_rule_that_covers_them() {
    let cases: [(Rule, &str, &str); 9] = [
        (rules::INDEPENDENT_SEGMENTS, "#EXT-X-INDEPENDENT-SEGMENTS\n", ""),
        (rules::VERSION, "#EXT-X-VERSION:7", "#EXT-X-VERSION:5"),
        (rules::RELATIVE_URI, "lofi/live.m3u8", "/live/lofi/live.m3u8"),
        (rules::RELATIVE_URI, "lofi/live.m3u8", "http://127.0.0.1/lofi/live.m3u8"),
        (rules::STREAM_INF, "lofi/live.m3u8", "other/live.m3u8"),
        (rules::STREAM_INF, "lofi/live.m3u8\n", ""),
        (rules::STREAM_INF, "CODECS=\"mp4a.40.2\"", "CODECS=mp4a.40.2"),
        (rules::STREAM_INF, ",AVERAGE-BANDWIDTH=", ",AVERAGE="),
        (rules::PLAYLIST_SYNTAX, ",CODECS", ", CODECS"),
    ];
    for (rule, from, to) in cases {
        let mut state = Synth::new(FIRST).source();
        edit(&mut state, "stream.m3u8", |text| text.replacen(from, to, 1));
        let violation = run(expectations(), vec![state]).expect_err(rule.name);
        let relaxed = rule == rules::PLAYLIST_SYNTAX && violation.rule == rules::STREAM_INF;
        assert!(violation.rule == rule || relaxed, "{} but {violation}", rule.name);
    }
}

#[test]
fn a_checker_that_saw_nothing_does_not_pass() {
    let violation = Checker::new(expectations()).finish().expect_err("nothing judged");
    assert_eq!(violation.rule, rules::SOMETHING_JUDGED);
}

#[test]
fn rule_names_are_unique() {
    let mut names: Vec<&str> = rules::ALL.iter().map(|rule| rule.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), rules::ALL.len());
}

#[test]
fn a_folder_and_a_server_give_the_same_verdict_as_the_map() {
    let mut state = Synth::new(FIRST).source();
    let expected = run(expectations(), vec![state.clone()]).expect("a correct stream");
    let folder = tempfile::tempdir().expect("a folder");
    for (path, bytes) in &state.0 {
        let file = folder.path().join(path);
        std::fs::create_dir_all(file.parent().expect("below the folder")).expect("a writable folder");
        std::fs::write(file, bytes).expect("a writable folder");
    }
    let verdict = |source: &mut dyn Source| {
        let mut checker = Checker::new(expectations());
        checker.poll(source).unwrap_or_else(|violation| panic!("{violation}"));
        checker.finish().expect("segments were judged")
    };
    assert_eq!(verdict(&mut FolderSource(folder.path().to_owned())), expected);
    state.0.remove(&format!("hifi/{FIRST}.m4s"));
    let served = serve(state);
    let violation =
        Checker::new(expectations()).poll(&mut HttpSource::new(&served)).expect_err("one is gone");
    assert_eq!((violation.rule, violation.n), (rules::FETCHABLE, Some(FIRST)), "{violation}");
}

/// Serves a state on a free port for the rest of the test run.
fn serve(mut state: MapSource) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let base = format!("http://{}/live", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                head.push(byte[0]);
            }
            let request = String::from_utf8_lossy(&head).into_owned();
            let path =
                request.split(' ').nth(1).and_then(|path| path.strip_prefix("/live/")).unwrap_or_default();
            let Ok(answer) = state.get(path) else { continue };
            let (status, length) = (answer.status, answer.body.len());
            let kind = answer.content_type.unwrap_or_default();
            let head =
                format!("HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n");
            // A client that went away is its own affair.
            let _ = stream.write_all(&[head.as_bytes(), &answer.body].concat());
        }
    });
    base
}
