//! Music goes into the real binary; what a listener gets over HTTP is judged by our checker, by ffmpeg and by ear.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support {
    pub(crate) mod audio_compare;
    pub(crate) mod checker;
    pub(crate) mod http_client;
    pub(crate) mod media;
    pub(crate) mod programme;
    pub(crate) mod station;
}

use cid::Cid;
use multihash_codetable::{Code, MultihashDigest};
use support::audio_compare::{
    Media, decode_with_ffmpeg, ffprobe_json, find_offset, gap_or_repeat, level_db, mono, peers_available,
};
use support::checker::rules::Violation;
use support::checker::source::HttpSource;
use support::checker::tamper::{Tamper, TamperedSource};
use support::checker::{Checker, Expectations, init_segment, media_segment};
use support::media::{Depth, sines, wav};
use support::programme::{Part, TITLES, programme};
use support::station::{Home, Station};

const RENDITIONS: [&str; 3] = ["lofi", "midfi", "hifi"];
const RATE: u32 = 48_000;
const SEGMENT: u64 = 184_320;
/// Samples by which FDK's AAC-LC encoder delays the sound.
const PRIMING: i64 = 2_048;
/// What ffmpeg says of any live stream with an EXT-X-MAP: its HLS reader fetches the init segment anew after each
/// reading of the playlist and hands it to its MP4 reader, which has it already. Of the same bytes as one file it
/// says nothing.
const INIT_AGAIN: &str = "Found duplicated MOOV Atom. Skipped it";

fn live(station: &Station) -> HttpSource {
    HttpSource::new(&format!("{}/live/", station.url))
}

fn expectations() -> Expectations {
    Expectations { fixed_media_sequence: true, ..Expectations::new(&RENDITIONS) }
}

/// Three tracks of 5 s, played in order.
fn three_tracks() -> Home {
    let home = Home::new("[player]\norder = \"ordered\"\n");
    for (name, hertz) in [("1 first.wav", 440.0), ("2 second.wav", 550.0), ("3 third.wav", 660.0)] {
        let tone = sines(44_100, 0, 5 * 44_100, &[(hertz, 0.3); 2]);
        home.add(name, &wav(44_100, 2, None, Depth::S16, &tone));
    }
    home
}

/// So many a player wants before it starts: they come as fast as they are encoded.
fn wait_for_three(station: &Station) {
    station.wait_on_air();
    station.wait_for("three segments", |station| (station.listed("hifi").len() >= 3).then_some(()));
}

/// What the checker says of a stream that is damaged on its way, within a few polls.
fn damaged(station: &Station, tamper: Tamper) -> Result<(), Violation> {
    let expectations = Expectations { refetch_per_poll: usize::MAX, ..expectations() };
    let mut source = TamperedSource::new(live(station), tamper, "midfi");
    let mut checker = Checker::new(expectations);
    (0..3).try_for_each(|_| checker.poll(&mut source).map(drop))
}

#[test]
fn the_stream_obeys_every_rule_and_no_damage_is_missed() {
    let home = three_tracks();
    let station = home.start();
    wait_for_three(&station);
    let (mut checker, mut source) = (Checker::new(expectations()), live(&station));
    checker.poll(&mut source).unwrap_or_else(|violation| panic!("{violation}"));
    let mut new = 0;
    station.wait_for("eight new segments", |_| {
        new += checker.poll(&mut source).unwrap_or_else(|violation| panic!("{violation}")).new_segments;
        (new >= 8).then_some(())
    });
    let report = checker.finish().expect("segments were judged");
    assert_eq!((report.jumps, report.discontinuities), (0, 0), "tracks changed without a cut: {report:?}");

    for tamper in Tamper::ALL {
        // A playlist that slid between two requests can hide a damage that shows in the next try.
        let found = (0..3).find_map(|_| damaged(&station, tamper).err());
        let violation = found.unwrap_or_else(|| panic!("{tamper:?} was not noticed"));
        assert_eq!(violation.rule, tamper.rule(), "{tamper:?}: {violation}");
    }
}

/// Init segment and all listed segments of a rendition as one file, and the first number in it.
fn recording(station: &Station, rendition: &str) -> (u64, Vec<u8>) {
    let numbers = station.listed(rendition);
    let mut file = station.get(&format!("/live/{rendition}/init.mp4")).body;
    for n in &numbers {
        file.extend(station.get(&format!("/live/{rendition}/{n}.m4s")).body);
    }
    (numbers[0], file)
}

/// Integrated loudness by ffmpeg's own meter.
fn lufs(mono: &[f32]) -> f64 {
    let both: Vec<f64> = mono.iter().flat_map(|sample| [f64::from(*sample); 2]).collect();
    support::audio_compare::loudness(&wav(RATE, 2, None, Depth::F32, &both)).expect("ffmpeg measures")
}

/// Judges one rendition's sound against what was put in.
fn sounds_like(rendition: &str, parts: &[Part], heard: &[f32]) {
    let reference: Vec<f32> = parts.iter().flat_map(|part| part.sound.iter().copied()).collect();
    let beginning = &reference[..3 * RATE as usize];
    let offset = find_offset(beginning, &heard[..6 * RATE as usize]);
    assert_eq!(offset.samples, PRIMING, "{rendition}: the music begins with the stream: {offset:?}");
    assert!(offset.correlation > 0.9, "{rendition}: {offset:?}");
    let heard = &heard[PRIMING as usize..];
    assert!(heard.len() > reference.len() + RATE as usize, "{rendition}: {} samples", heard.len());
    assert_eq!(gap_or_repeat(&reference, heard, RATE), None, "{rendition}: joins");
    // After its end the programme begins again.
    let again = find_offset(&reference[..RATE as usize / 2], &heard[reference.len()..][..RATE as usize]);
    assert!(again.samples.abs() <= 1 && again.correlation > 0.9, "{rendition}: {again:?}");
    let mut at = 0;
    for part in parts {
        let sound = &heard[at..at + part.sound.len()];
        if part.measurable {
            let loudness = lufs(sound);
            assert!((loudness + 18.0).abs() < 0.4, "{rendition}, {}: {loudness} LUFS", part.name);
        } else {
            let difference = level_db(sound) - level_db(&part.sound);
            assert!(difference.abs() < 0.7, "{rendition}, {}: {difference} dB", part.name);
        }
        at += part.sound.len();
    }
}

/// What the playlist says of the stream, seen by ffprobe.
fn probed(url: &str) -> Vec<serde_json::Value> {
    let seen = ffprobe_json(Media::Url(url, 0.0)).unwrap_or_else(|error| panic!("{url}: {error}"));
    let streams = seen["streams"].as_array().expect("streams").clone();
    for stream in &streams {
        assert_eq!((&stream["codec_name"], &stream["profile"]), (&"aac".into(), &"LC".into()), "{url}");
        assert_eq!((&stream["sample_rate"], &stream["channels"]), (&"48000".into(), &2.into()), "{url}");
    }
    streams
}

#[test]
fn peers_hear_what_was_put_in_without_a_gap_and_at_the_right_level() {
    if !peers_available() {
        return;
    }
    let home = Home::new("[player]\norder = \"ordered\"\n");
    let parts = programme(&home);
    home.measure_music(TITLES);
    let station = home.start();
    station.wait_on_air();
    let length: usize = parts.iter().map(|part| part.sound.len()).sum();
    let segments = length.div_ceil(SEGMENT as usize) + 1;
    station
        .wait_for("the whole programme", |station| (station.listed("hifi").len() >= segments).then_some(()));

    assert_eq!(probed(&format!("{}/live/stream.m3u8", station.url)).len(), RENDITIONS.len());
    assert_eq!(probed(&format!("{}/ipns/{}/stream.m3u8", station.url, station.ipns)).len(), RENDITIONS.len());
    for rendition in RENDITIONS {
        let url = format!("{}/live/{rendition}/live.m3u8", station.url);
        assert_eq!(probed(&url).len(), 1);
        let (_, file) = recording(&station, rendition);
        let decoded = decode_with_ffmpeg(Media::Bytes(&file)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(decoded.stderr, "", "{rendition}");
        sounds_like(rendition, &parts, &mono(&decoded.stereo));
    }
    // All at once: a live stream is heard in real time.
    std::thread::scope(|scope| {
        for rendition in RENDITIONS {
            let url = format!("{}/live/{rendition}/live.m3u8", station.url);
            scope.spawn(move || {
                let decoded =
                    decode_with_ffmpeg(Media::Url(&url, 15.0)).unwrap_or_else(|error| panic!("{error}"));
                let known =
                    |line: &&str| line.ends_with(INIT_AGAIN) || line.contains("Last message repeated");
                let doubts: Vec<_> = decoded.stderr.lines().filter(|line| !known(line)).collect();
                assert!(doubts.is_empty(), "{url}: {doubts:?}");
                let seconds = decoded.stereo.len() as f64 / 2.0 / f64::from(RATE);
                assert!((14.9..=15.1).contains(&seconds), "{url}: {seconds} s");
                assert!(level_db(&decoded.stereo) > -30.0, "{url} is silent");
            });
        }
    });
}

/// Every title and when it begins, in samples of the media timeline, from the segments on air.
fn titles(station: &Station) -> Vec<(u64, String)> {
    let init = station.get("/live/hifi/init.mp4").body;
    let init = init_segment::parse(&init, RATE).unwrap_or_else(|violation| panic!("{violation}"));
    let mut titles: Vec<(u64, String)> = Vec::new();
    for n in station.listed("hifi") {
        let bytes = station.get(&format!("/live/hifi/{n}.m4s")).body;
        let segment = media_segment::parse(&bytes, &init, RATE, SEGMENT);
        for event in segment.unwrap_or_else(|violation| panic!("{violation}")).events {
            let title = event.frames["TIT2"].clone();
            if titles.last().is_none_or(|(_, last)| *last != title) {
                titles.push((event.presentation_time, title));
            }
        }
    }
    titles
}

#[test]
fn titles_come_in_the_order_of_the_tracks_and_when_they_begin() {
    let home = three_tracks();
    let station = home.start();
    station.wait_on_air();
    let seen = station.wait_for("four changes of title", |station| {
        let seen = titles(station);
        (seen.len() >= 5).then_some(seen)
    });
    let order = ["1 first", "2 second", "3 third"];
    let begin = seen.iter().position(|(_, title)| title == order[0]).expect("the first track");
    for (index, (time, title)) in seen[begin..].iter().enumerate() {
        assert_eq!(title, order[index % 3], "{seen:?}");
        let wanted = seen[begin].0 + index as u64 * 5 * u64::from(RATE);
        // A frame of AAC is as exact as it gets.
        assert!(index == 0 || time.abs_diff(wanted) <= 1_024 + PRIMING as u64, "{title}: {time}, {wanted}");
    }
    let told = station.json("/station.json").expect("JSON");
    assert_eq!(told["newest"], *station.listed("hifi").last().expect("segments"), "{told}");
    assert_eq!(told["now_playing"]["title"], titles(&station).last().expect("a title").1, "{told}");
    assert_eq!((&told["ipns"], &told["on_air"]), (&station.ipns.as_str().into(), &true.into()));
    let names: Vec<_> = told["renditions"].as_array().expect("a list").iter().map(|r| &r["name"]).collect();
    assert_eq!(names, RENDITIONS);
}

#[test]
fn a_segment_is_its_cid_on_every_path() {
    let home = three_tracks();
    let station = home.start();
    wait_for_three(&station);
    for rendition in RENDITIONS {
        let n = station.listed(rendition)[1];
        let path = format!("/live/{rendition}/{n}.m4s");
        let segment = station.get(&path);
        let etag = segment.header("etag").expect("an ETag").trim_matches('"').to_owned();
        let cid = Cid::try_from(etag.as_str()).expect("the ETag is the CID");
        assert_eq!((cid.codec(), *cid.hash()), (0x55, Code::Sha2_256.digest(&segment.body)), "{path}");
        assert_eq!(station.get(&format!("/ipfs/{cid}")).body, segment.body);
        assert_eq!(station.get(&format!("/ipns/{}/{rendition}/{n}.m4s", station.ipns)).body, segment.body);

        let head = station.request("HEAD", &path, &[]);
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), Some(segment.body.len().to_string().as_str()));
        let part = station.request("GET", &path, &[("Range", "bytes=100-199")]);
        assert_eq!((part.status, part.body.as_slice()), (206, &segment.body[100..200]));
        let known = station.request("GET", &path, &[("If-None-Match", &format!("\"{etag}\""))]);
        assert_eq!((known.status, known.body.len()), (304, 0));
    }
}

#[test]
fn health_and_metrics_say_what_is_on_air() {
    let home = three_tracks();
    let station = home.start();
    station.wait_on_air();
    station.wait_for("the lead, and the files to settle", |station| {
        let health = station.json("/health")?;
        (health["lead_seconds"].as_f64()? > 50.0 && health["library"]["tracks"] == 3).then_some(())
    });
    let health = station.json("/health").expect("JSON");
    assert_eq!((&health["status"], &health["on_air"]), (&"on_air".into(), &true.into()), "{health}");
    for (name, stage) in health["stages"].as_object().expect("stages") {
        assert_eq!((&stage["state"], &stage["restarts"]), (&"running".into(), &0.into()), "{name}: {stage}");
    }
    assert_eq!(health["library"]["tracks"], 3, "{health}");
    assert_eq!(station.get("/healthz").status, 200);
    assert_eq!(station.get("/readyz").status, 200);
    let metrics = station.text("/metrics");
    let value =
        |name: &str| metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    assert_eq!(value("skywave_on_air "), Some(1.0), "{metrics}");
    assert!(value("skywave_lead_seconds ").is_some_and(|lead| lead > 50.0), "{metrics}");
    let newest = value("skywave_newest_segment ").expect("a number") as u64;
    assert!(station.listed("hifi").contains(&newest), "{metrics}");
}
