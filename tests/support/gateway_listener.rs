//! Two listeners on somebody else's gateway at once: ffmpeg in real time, and hls.js in Chromium.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support modules")]

use super::station::{Guarded, keep};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Samples a second of the stream.
const RATE: f64 = 48_000.0;
/// A segment: audio that comes later than this against the wall clock was waited for longer than it plays.
const SEGMENT: Duration = Duration::from_millis(3_840);
/// How long ffmpeg may be silent; before its first frame it reads three playlists and some segments.
const START: Duration = Duration::from_secs(20);
/// What ffmpeg says of any live stream with an EXT-X-MAP: its HLS reader fetches the init segment anew after each
/// reading of the playlist and hands it to its MP4 reader, which has it already.
const INIT_AGAIN: &str = "Found duplicated MOOV Atom. Skipped it";

fn browser_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser")
}

/// Whether Node, Chromium and playwright-core are here; without them a test skips aloud, unless they are required.
pub fn browser_available() -> bool {
    let runs = |name: &str| {
        let status = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let browser = std::env::var_os("CHROMIUM").is_some()
        || ["chromium", "chromium-browser", "google-chrome"].iter().any(|name| runs(name));
    let available = runs("node") && browser && browser_folder().join("node_modules/playwright-core").is_dir();
    let required = std::env::var("SKYWAVE_PEERS").is_ok_and(|value| value == "required");
    assert!(
        available || !required,
        "SKYWAVE_PEERS=required, but node, Chromium or playwright-core is missing"
    );
    if !available {
        eprintln!("SKIPPED: node, Chromium or playwright-core (npm ci in tests/browser) is missing");
    }
    available
}

/// Lets both play the playlist at `url` for so many seconds; `hls` is where hls.js is. Panics with what went wrong.
pub fn listen(url: &str, hls: &str, seconds: u32) {
    std::thread::scope(|scope| {
        let browser = scope.spawn(|| play_in_browser(url, hls, seconds));
        play_with_ffmpeg(url, seconds);
        browser.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause));
    });
}

/// Whether a line of ffmpeg's is one that any stream like ours gets.
pub fn expected(line: &str) -> bool {
    line.ends_with(INIT_AGAIN) || line.contains("Last message repeated")
}

/// Decodes at the speed of the clock. Every frame follows the one before, none comes late by a segment or more.
fn play_with_ffmpeg(url: &str, seconds: u32) {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "warning", "-xerror", "-nostdin", "-re", "-i", url, "-t", &seconds.to_string()]);
    command.args(["-map", "0:a:0", "-flush_packets", "1", "-f", "framecrc", "-"]);
    let mut ffmpeg = Guarded(spawn(command));
    let stderr = keep(ffmpeg.0.stderr.take().expect("piped"));
    let lines = lines_of(ffmpeg.0.stdout.take().expect("piped"));
    let (mut began, mut next, mut latest) = (None, None, Duration::ZERO);
    loop {
        let line = match lines.recv_timeout(START) {
            Ok(line) if line.starts_with('#') => continue,
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("ffmpeg: nothing for {START:?}\n{}", stderr.text()),
        };
        let (pts, duration) = frame(&line).unwrap_or_else(|| panic!("ffmpeg wrote {line:?}"));
        assert_eq!(
            next.unwrap_or(pts),
            pts,
            "ffmpeg: a gap or an overlap in the timestamps\n{}",
            stderr.text()
        );
        next = Some(pts + duration);
        let (start, first) = *began.get_or_insert((Instant::now(), pts));
        let due = Duration::from_secs_f64((pts - first) as f64 / RATE);
        latest = latest.max(start.elapsed().saturating_sub(due));
        assert!(latest < SEGMENT, "ffmpeg: a stall: audio comes {latest:?} late\n{}", stderr.text());
    }
    let (_, first) = began.expect("ffmpeg decoded nothing");
    let heard = (next.expect("a last frame") - first) as f64 / RATE;
    assert!(ffmpeg.0.wait().expect("a child of ours").success(), "ffmpeg: {}", stderr.text());
    assert!((heard - f64::from(seconds)).abs() < 0.1, "ffmpeg: {heard} s of {seconds} s");
    let said = stderr.whole();
    let strange: Vec<_> = said.lines().filter(|line| !expected(line)).collect();
    assert!(strange.is_empty(), "ffmpeg: {strange:#?}");
    eprintln!(
        "ffmpeg: {heard:.1} s without a gap, audio {:.0} ms late at most",
        latest.as_secs_f64() * 1000.0
    );
}

/// The lines of a pipe as they come.
fn lines_of(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        // A test that failed listens no more.
        BufReader::new(pipe).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    lines
}

/// A line of the format framecrc, `stream, dts, pts, duration, size, checksum`: pts and duration in samples.
fn frame(line: &str) -> Option<(i64, i64)> {
    let mut fields = line.split(',').skip(2).map(|field| field.trim().parse().ok());
    Some((fields.next()??, fields.next()??))
}

fn play_in_browser(url: &str, hls: &str, seconds: u32) {
    let mut command = Command::new("node");
    command.args(["gateway.mjs", "--url", url, "--hls", hls, "--seconds", &seconds.to_string()]);
    command.current_dir(browser_folder());
    let mut node = Guarded(spawn(command));
    let stdout = keep(node.0.stdout.take().expect("piped"));
    let stderr = keep(node.0.stderr.take().expect("piped"));
    // It judges with a patience of its own.
    let status = node.0.wait().expect("a child of ours");
    let said = stdout.whole();
    eprint!("hls.js: {said}");
    assert!(status.success() && said.ends_with("PASS\n"), "hls.js: {said}{}", stderr.whole());
}

fn spawn(mut command: Command) -> Child {
    let name = command.get_program().to_string_lossy().into_owned();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    child.unwrap_or_else(|error| panic!("{name}: {error}"))
}
