//! The files of the card: what the program makes of them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use skywave::config::{Config, Layers, WifiConfig};
use skywave::ipfs::peers::seeds;

fn board(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("board").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(board(name)).unwrap()
}

/// The file as it is once every line that can count does.
fn uncommented(text: &str) -> String {
    let is_code = |line: &str| {
        line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
    };
    let lines = text.lines().map(|line| match line.strip_prefix("# ") {
        Some(code) if is_code(code) => code,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn layers(files: &[&Path]) -> Config {
    let mut layers = Layers::default();
    for file in files {
        layers.push(file).unwrap_or_else(|mistake| panic!("{mistake}"));
    }
    let config = layers.merged();
    config.validate_values().unwrap_or_else(|(key, reason)| panic!("{key}: {reason}"));
    config
}

#[test]
fn a_board_keeps_its_blocks_in_memory_and_serves_the_lan() {
    let config = layers(&[&board("board.toml")]);
    assert_eq!(config.station.data, Path::new("/data/skywave"));
    assert_eq!(config.repo(), Path::new("/run/skywave/ipfs"));
    assert_eq!(config.http.listen.to_string(), "0.0.0.0:80");
    assert!(!config.ipfs.offline && !config.retention.archive);
    assert!(config.library.music.iter().any(|folder| folder == Path::new("/run/media")), "the stick");
    // What it does not name is as anywhere else.
    assert_eq!(config.encoder, Config::default().encoder);
}

#[test]
fn the_unit_names_the_folders_of_the_board() {
    let unit = text("systemd/skywave.service");
    let config = layers(&[&board("board.toml")]);
    let data = config.station.data.display().to_string();
    assert!(unit.contains(&format!("ReadWritePaths={data}\n")), "{unit}");
    assert!(unit.contains("RuntimeDirectory=skywave ") && config.repo().starts_with("/run/skywave"));
}

#[test]
fn the_owners_files_change_nothing_until_a_line_counts() {
    assert_eq!(layers(&[&board("board.toml"), &board("fat/station.toml")]), layers(&[&board("board.toml")]));
    let wifi = WifiConfig::parse(&text("fat/wifi.toml"), Path::new("wifi.toml")).unwrap();
    assert_eq!(wifi.wpa_supplicant().lines().count(), 1, "no network");
}

#[test]
fn the_owners_files_are_right_once_every_line_counts() {
    let folder = tempfile::tempdir().unwrap();
    let station = folder.path().join("station.toml");
    std::fs::write(&station, uncommented(&text("fat/station.toml"))).unwrap();
    let config = layers(&[&board("board.toml"), &station]);
    assert_eq!(config.station.name, "Kitchen Radio");
    assert_eq!(config.station.data, Path::new("/data/skywave"), "the board's still");
    let wifi = WifiConfig::parse(&uncommented(&text("fat/wifi.toml")), Path::new("wifi.toml")).unwrap();
    let conf = wifi.wpa_supplicant();
    assert!(conf.contains("country=DE") && conf.contains("psk=\"its password\""), "{conf}");
}

#[test]
fn the_seed_list_can_be_read() {
    let seeds = seeds::load(&board("peers.toml")).unwrap();
    assert!(seeds.len() >= 4 && seeds.iter().all(|(_, addresses)| !addresses.is_empty()));
}
