//! The command line: what it prints, what it makes, and what it exits with.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support {
    pub(crate) mod http_client;
    pub(crate) mod station;
}

use std::net::TcpListener;
use std::process::Output;
use support::station::{Home, run_to_end, skywave};

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    told(run_to_end(skywave(arguments)))
}

fn told(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).expect("what it says is UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn help_names_every_flag_and_command() {
    let (code, out, err) = run(&["--help"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for word in [
        "--defaults",
        "--config",
        "--reports",
        "--notices",
        "--follow",
        "--music",
        "--data",
        "--http",
        "--offline",
        "init",
        "check-config",
        "hostname",
        "wifi",
        "car",
        "--version",
    ] {
        assert!(out.contains(word), "{word}:\n{out}");
    }
}

#[test]
fn a_relay_says_what_it_needs() {
    let home = Home::new("");
    let config = home.config().display().to_string();
    let (code, _, err) = run(&["run", "--config", &config, "--follow", "radio.example.org"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("--follow") && err.contains("k51"), "{err}");
    let name = "k51qzi5uqu5dk38jn6dt1evawx93fnkqjirh24luhyhyoc9nxpswvc06t8411z";
    let (code, _, err) = run(&["run", "--config", &config, "--follow", name, "--offline"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("ipfs.offline"), "{err}");
    std::fs::write(home.config(), format!("follow = \"{name}\"\n")).unwrap();
    let (code, out, err) = run(&["check-config", &config]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    // A machine does not relay itself.
    let data = home.data().display().to_string();
    let (_, out, _) = run(&["init", "--data", &data]);
    let own = out.split_whitespace().last().unwrap();
    let (code, _, err) = run(&["run", "--data", &data, "--follow", own, "--http", "127.0.0.1:0"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("own name"), "{err}");
}

#[test]
fn version_is_the_one_of_the_package() {
    let (code, out, _) = run(&["--version"]);
    assert_eq!((code, out.trim()), (Some(0), concat!("skywave ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn an_unknown_flag_is_a_mistake_of_the_command_line() {
    let (code, _, err) = run(&["--musik", "/tmp"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("--musik") && err.contains("--music"), "it is named, and what was meant:\n{err}");
}

#[test]
fn a_good_configuration_passes() {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/board/station.toml");
    let (code, out, err) = run(&["check-config", shipped]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("station.toml") && out.contains("valid"), "{out}");
}

#[test]
fn a_bad_configuration_is_refused_with_its_place() {
    let home = Home::new("");
    let cases = [
        ("[hls]\nleed = \"60s\"\n", "2: hls.leed"),
        ("[hls]\n\nlead = \"soon\"\n", "3: hls.lead"),
        ("[hls]\nsegment = \"4s\"\n", "2: hls.segment"),
        ("[library]\nmusic = [\"/nonexistent/music\"]\n", "2: library.music"),
        ("[station\n", "1: "),
    ];
    for (text, place) in cases {
        std::fs::write(home.config(), text).expect("writable");
        let file = home.config().display().to_string();
        let (checked, out, err) = run(&["check-config", &file]);
        assert_eq!((checked, out.as_str()), (Some(2), ""), "{text:?}");
        assert!(err.contains(&format!("{file}:{place}")), "{text:?}: {err}");
        let (ran, _, run_err) = told(run_to_end(home.command("127.0.0.1:0")));
        assert_eq!((ran, run_err), (Some(2), err), "run says the same as check-config");
        assert!(!home.data().exists(), "nothing is made by a mistake");
    }
}

#[test]
fn a_missing_file_or_folder_is_named() {
    let (code, _, err) = run(&["check-config", "/nonexistent/station.toml"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("/nonexistent/station.toml"), "{err}");
    let (code, _, err) = run(&["--music", "/nonexistent/music", "--http", "127.0.0.1:0", "--offline"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("--music") && err.contains("/nonexistent/music"), "{err}");
}

#[test]
fn a_station_that_was_initialised_runs_under_the_same_name() {
    let home = Home::new("");
    let mut init = skywave(&["init", "--data"]);
    init.arg(home.data());
    let (code, out, err) = told(run_to_end(init));
    assert_eq!(code, Some(0), "{err}");
    let name = out.split_whitespace().find(|word| word.starts_with("k51"));
    let station = home.start();
    assert_eq!(Some(station.ipns.as_str()), name, "{out}");
    station.wait_on_air();
    assert_eq!(station.json("/station.json").expect("JSON")["ipns"], station.ipns);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let home = Home::new("");
    let (code, out, err) = told(run_to_end(home.command(&address)));
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains(&address), "{err}");
}
