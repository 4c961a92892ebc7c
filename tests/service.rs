//! The station as a board runs it: defaults below the owner's file, mistakes reported, notices, and systemd told.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support {
    pub(crate) mod http_client;
    pub(crate) mod station;
}

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use support::station::{Home, Station, run_to_end, skywave};

/// A folder with a board's defaults, an owner's file and the folders below /run.
struct Board {
    home: Home,
}

impl Board {
    fn new(owners: Option<&str>) -> Self {
        let board = Self { home: Home::new("") };
        let (data, music) = (board.home.data(), board.home.music());
        let defaults = format!(
            "[station]\nname = 'Board'\ndata = {data:?}\n[library]\nmusic = [{music:?}, '/nonexistent/stick']\n\
             [ipfs]\nlisten = ['/ip4/127.0.0.1/tcp/0']\nbootstrap = []\nmdns = false\nupnp = false\n"
        );
        fs::write(board.path("board.toml"), defaults).unwrap();
        fs::remove_file(board.home.config()).unwrap();
        if let Some(owners) = owners {
            board.configure(owners);
        }
        fs::create_dir(board.path("notices")).unwrap();
        board
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn configure(&self, owners: &str) {
        fs::write(self.home.config(), owners).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = skywave(&["run", "--http", "127.0.0.1:0"]);
        command.arg("--defaults").arg(self.path("board.toml")).arg("--config").arg(self.home.config());
        command.arg("--reports").arg(self.path("reports")).arg("--notices").arg(self.path("notices"));
        command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC");
        command
    }

    fn start(&self) -> Station {
        let station = Station::start(self.command());
        station.wait_on_air();
        station
    }

    fn error_file(&self) -> Option<String> {
        fs::read_to_string(self.path("reports/station-error.txt")).ok()
    }
}

fn name(station: &Station) -> Value {
    station.json("/station.json").unwrap()["name"].clone()
}

fn health(station: &Station) -> Value {
    station.json("/health").unwrap()
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn without_an_owners_file_the_boards_settings_are_on_air() {
    let board = Board::new(None);
    let station = board.start();
    assert_eq!(name(&station), "Board");
    let health = health(&station);
    assert_eq!(health["status"], "on_air", "{health}");
    assert_eq!(health["notices"], serde_json::json!({}));
    assert_eq!(board.error_file(), None);
}

#[test]
fn a_mistake_is_reported_and_the_station_is_on_air_without_that_file() {
    let board = Board::new(Some("[station]\nname = \"Kitchen\"\n\n[hls]\nlead = \"soon\"\n"));
    let station = board.start();
    assert_eq!(name(&station), "Board", "of the file with the mistake nothing counts");
    let told = health(&station);
    assert_eq!(told["status"], "degraded", "{told}");
    let notice = told["notices"]["station-error"].as_str().unwrap();
    assert!(notice.contains("station.toml:5: hls.lead"), "{notice}");
    let report = board.error_file().expect("a report");
    assert!(report.contains("station.toml:5: hls.lead") && report.contains("switch"), "{report}");

    // Mended: the report and the notice go, and a reload that fails brings both back.
    board.configure("[station]\nname = \"Kitchen\"\n");
    station.signal("HUP");
    station.wait_for("the report taken back", |station| {
        (board.error_file().is_none() && health(station)["notices"] == serde_json::json!({})).then_some(())
    });
    board.configure("[hls]\nlead = \"never\"\n");
    station.signal("HUP");
    station
        .wait_for("the new mistake", |_| board.error_file().filter(|text| text.contains("toml:2: hls.lead")));
    assert_eq!(name(&station), "Board", "and it stays on air");
    let (status, _) = station.terminate();
    assert!(status.success());

    board.configure("[station]\nname = \"Kitchen\"\n");
    let station = board.start();
    assert_eq!(name(&station), "Kitchen");
    assert_eq!(board.error_file(), None, "a start without a mistake takes the report away");
}

#[test]
fn what_the_machine_refuses_is_a_mistake_too() {
    // An address of a network that this machine is not in (TEST-NET-1, RFC 5737).
    let board = Board::new(Some("[http]\nlisten = \"192.0.2.1:80\"\n"));
    let defaults = fs::read_to_string(board.path("board.toml")).unwrap();
    fs::write(board.path("board.toml"), format!("{defaults}[http]\nlisten = '127.0.0.1:0'\n")).unwrap();
    let mut command = skywave(&["run"]);
    command.arg("--defaults").arg(board.path("board.toml")).arg("--config").arg(board.home.config());
    command.arg("--reports").arg(board.path("reports"));
    let station = Station::start(command);
    station.wait_on_air();
    assert!(board.error_file().unwrap().contains("192.0.2.1:80"));
    let notice = health(&station)["notices"]["station-error"].clone();
    assert!(notice.as_str().unwrap().contains("192.0.2.1:80"), "{notice}");
}

#[test]
fn an_owner_who_wants_a_private_network_is_never_made_public_by_a_mistake() {
    let mistake = "[ipfs]\nswarm_key = \"/nonexistent/swarm.key\"\n";
    for owners in [mistake.to_owned(), format!("{mistake}dhtt = \"off\"\n")] {
        let board = Board::new(Some(&owners));
        let station = board.start();
        assert!(board.error_file().is_some(), "{owners}");
        let addresses = station.json("/station.json").unwrap()["addresses"].clone();
        assert!(addresses.as_array().is_none_or(Vec::is_empty), "{owners}: {addresses}");
    }
    // The key in a comment is none: such a station stays on the public network.
    let board = Board::new(Some("# swarm_key = \"x\"\n[hls]\nlead = \"soon\"\n"));
    let station = board.start();
    station.wait_for("an address", |station| {
        let addresses = station.json("/station.json")?["addresses"].clone();
        addresses.as_array().filter(|list| !list.is_empty()).map(|_| ())
    });
}

#[test]
fn a_mistake_in_the_boards_own_file_stops_the_start() {
    let board = Board::new(Some(""));
    fs::write(board.path("board.toml"), "[hls]\nleed = '1m'\n").unwrap();
    let (code, _, err) = said(&run_to_end(board.command()));
    assert_eq!(code, Some(2));
    assert!(err.contains("board.toml:2: hls.leed"), "{err}");
}

#[test]
fn notices_show_in_health_and_go_with_their_files() {
    let board = Board::new(None);
    fs::write(board.path("notices/data"), "the data lie in memory\n").unwrap();
    let station = board.start();
    station.wait_for("the notice", |station| {
        let health = health(station);
        (health["notices"]["data"] == "the data lie in memory" && health["status"] == "degraded")
            .then_some(())
    });
    assert_eq!(station.get("/readyz").status, 200, "it is heard nevertheless");
    fs::write(board.path("notices/updating"), "").unwrap();
    fs::remove_file(board.path("notices/data")).unwrap();
    station.wait_for("the update alone", |station| {
        let health = health(station);
        (health["updating"] == true && health["status"] == "on_air").then_some(())
    });
}

#[test]
fn systemd_is_told_of_readiness_life_reloads_and_the_end() {
    let board = Board::new(None);
    let manager = UnixDatagram::bind(board.path("notify")).unwrap();
    manager.set_read_timeout(Some(support::station::PATIENCE)).unwrap();
    let mut told = Vec::new();
    let wait_for = |wanted: &str, told: &mut Vec<String>| {
        let mut buffer = [0; 4096];
        while !told.iter().any(|line: &String| line.starts_with(wanted)) {
            let length = manager.recv(&mut buffer).unwrap_or_else(|_| panic!("no {wanted} in {told:?}"));
            told.extend(String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned));
        }
        std::mem::take(told)
    };
    let mut command = board.command();
    command.env("NOTIFY_SOCKET", board.path("notify")).env("WATCHDOG_USEC", "10000000");
    let station = Station::start(command);
    let before = wait_for("READY=1", &mut told);
    assert!(before.iter().any(|line| line.starts_with("STATUS=on air")), "{before:?}");
    assert_eq!(station.get("/readyz").status, 200, "ready is on air");
    // One came with the start; the next ones come with segments.
    wait_for("WATCHDOG=1", &mut told);
    wait_for("WATCHDOG=1", &mut told);
    station.signal("HUP");
    let reloaded = wait_for("READY=1", &mut told);
    let begin = reloaded.iter().position(|line| line == "RELOADING=1").expect("told before");
    assert!(reloaded[begin + 1].starts_with("MONOTONIC_USEC="), "{reloaded:?}");
    station.signal("TERM");
    wait_for("STOPPING=1", &mut told);
    station.wait_for_end(0);
}

#[test]
fn the_hostname_comes_of_the_name_whatever_the_owners_file_holds() {
    let board = Board::new(Some("[station]\nname = \"Radio Küche\"\n"));
    let hostname = || {
        let mut command = skywave(&["hostname"]);
        command.arg("--defaults").arg(board.path("board.toml")).arg("--config").arg(board.home.config());
        said(&run_to_end(command))
    };
    assert_eq!(hostname(), (Some(0), "radio-kueche\n".into(), String::new()));
    board.configure("[station]\nname = \"Küche\n");
    let (code, out, err) = hostname();
    assert_eq!((code, out.as_str()), (Some(0), "board\n"));
    assert!(err.contains("station.toml:2"), "{err}");
    fs::remove_file(board.home.config()).unwrap();
    assert_eq!(hostname(), (Some(0), "board\n".into(), String::new()));
    assert_eq!(said(&run_to_end(skywave(&["hostname"]))).1, "skywave\n");
}

#[test]
fn wifi_toml_becomes_a_wpa_supplicant_conf_or_names_its_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wifi.toml");
    let wifi = || said(&run_to_end(skywave(&["wifi", file.to_str().unwrap()])));
    fs::write(&file, "country = \"DE\"\n[[network]]\nssid = \"Küche\"\npassword = \"geheim und lang\"\n")
        .unwrap();
    let (code, out, err) = wifi();
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("psk=\"geheim und lang\"") && out.ends_with("}\n"), "{out}");
    fs::write(&file, "[[network]]\nssid = \"x\"\npassword = \"short\"\n").unwrap();
    let (code, out, err) = wifi();
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("wifi.toml:3: network.password") && !err.contains("short"), "{err}");
    fs::remove_file(&file).unwrap();
    assert_eq!(wifi().0, Some(2));
}

#[test]
fn a_repo_for_an_image_holds_no_key_and_a_station_starts_on_a_copy_of_it() {
    let board = Board::new(None);
    let repo = board.path("template");
    let mut command = skywave(&["init", "--repo-only"]);
    command.arg(&repo);
    let (code, out, err) = said(&run_to_end(command));
    assert_eq!(code, Some(0), "{err}");
    assert!(!out.contains("k51"), "{out}");
    let files: Vec<_> = files_below(&repo).collect();
    // An Ed25519 private key as libp2p writes it (peer ids specification, "Keys").
    let holds_a_key =
        |file: &PathBuf| fs::read(file).unwrap().windows(4).any(|bytes| bytes == [8, 1, 0x12, 0x40]);
    assert!(!files.iter().any(holds_a_key), "{files:?}");

    fs::create_dir(board.home.data()).unwrap();
    fs::rename(&repo, board.home.data().join("ipfs")).unwrap();
    let station = board.start();
    assert!(board.home.data().join("identity.key").is_file(), "made at the first start");
    drop(station);
}

fn files_below(folder: &std::path::Path) -> Box<dyn Iterator<Item = PathBuf>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    Box::new(
        entries.flat_map(
            |path| if path.is_dir() { files_below(&path) } else { Box::new(std::iter::once(path)) },
        ),
    )
}
