//! Holds the pages to the program: keys and defaults, metrics, and links that lead somewhere.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use skywave::config::Config;
use toml::{Table, Value};

/// Keys that are left out, or given.
const WITHOUT_DEFAULT: [&str; 16] = [
    "ipfs.repo",
    "ipfs.swarm_key",
    "retention.archive_folder",
    "mirror.name",
    "mirror.authorization",
    "mirror.ca",
    "pin.name",
    "pin.authorization",
    "pin.ca",
    "leds.chip",
    "leds.power",
    "leds.network",
    "leds.on_air",
    "button.pin",
    "button.active_low",
    "follow",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    let path = root().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Key with its section, and the cell of its default.
fn documented(page: &str) -> BTreeMap<String, String> {
    let (mut keys, mut section) = (BTreeMap::new(), String::new());
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            let name = title.strip_prefix("`").map(|title| title.trim_matches(['`', '[', ']']));
            // Keys above the first section stand under a title in words.
            section = name.map_or_else(String::new, |name| format!("{name}."));
        } else if let Some(row) = line.strip_prefix("| `") {
            let (key, rest) = row.split_once("` | ").expect("a row begins with its key");
            let (default, _) = rest.split_once(" | ").expect("the default comes second");
            let before = keys.insert(format!("{section}{key}"), default.to_owned());
            assert_eq!(before, None, "{section}{key} stands there twice");
        }
    }
    keys
}

/// Key with its section, and the default; of a list of tables, the keys of one.
fn built_in(config: &Table) -> BTreeMap<String, Value> {
    let mut keys = BTreeMap::new();
    for (section, content) in config {
        // A list of blocks at the top, such as [[mirror]].
        let content = content.as_array().and_then(|list| list.first()).unwrap_or(content);
        let Some(table) = content.as_table() else {
            keys.insert(section.clone(), content.clone());
            continue;
        };
        for (key, value) in table {
            // One of a list of tables, or a section below the section.
            let list = value.as_array().and_then(|list| list.first()?.as_table()).or(value.as_table());
            match list {
                Some(table) => keys.extend(
                    table.iter().map(|(inner, value)| (format!("{section}.{key}.{inner}"), value.clone())),
                ),
                None => _ = keys.insert(format!("{section}.{key}"), value.clone()),
            }
        }
    }
    keys
}

fn defaults() -> Table {
    // A key without a default is not written; it must stand on the page nevertheless.
    let mut config = Config { follow: Some(String::new()), ..Config::default() };
    config.ipfs.repo = Some(PathBuf::new());
    config.ipfs.swarm_key = Some(PathBuf::new());
    let mirror = "url = 'http://nas.local:5001'\nname = 'nas'\nauthorization = 'bearer:x'\nca = 'x'";
    config.mirror = vec![toml::from_str(mirror).expect("a mirror")];
    config.pin = vec![toml::from_str(mirror).expect("a pin")];
    config.retention.archive_folder = Some(PathBuf::new());
    (config.leds.power, config.leds.network, config.leds.on_air) = (Some(1), Some(2), Some(3));
    config.leds.chip = Some("pinctrl".to_owned());
    (config.button.pin, config.button.active_low) = (Some(4), Some(true));
    let text = toml::to_string(&config).expect("a configuration can be written");
    toml::from_str(&text).expect("what was written can be read")
}

#[test]
fn the_configuration_page_names_every_key_and_no_other() {
    let page = documented(&page("docs/configuration.md"));
    let program = built_in(&defaults());
    assert!(program.len() > 15, "found {} keys only", program.len());
    assert_eq!(page.keys().collect::<Vec<_>>(), program.keys().collect::<Vec<_>>());
}

#[test]
fn the_configuration_page_tells_the_defaults() {
    let page = documented(&page("docs/configuration.md"));
    let mut compared = 0;
    for (key, value) in built_in(&defaults()) {
        match page[&key].as_str() {
            "not set" => assert!(WITHOUT_DEFAULT.contains(&&*key), "{key}"),
            "must be given" => assert!(
                key.starts_with("encoder.rendition.") || matches!(&*key, "mirror.url" | "pin.url"),
                "{key}"
            ),
            cell => {
                let text = format!("value = {}", cell.trim_matches('`'));
                let table: Table = toml::from_str(&text).unwrap_or_else(|error| panic!("{key}: {error}"));
                assert_eq!(table["value"], value, "{key}");
                compared += 1;
            }
        }
    }
    assert!(compared > 15, "compared {compared} defaults only");
}

#[test]
fn the_reload_column_agrees_with_the_program() {
    let page = page("docs/configuration.md");
    let mut section = String::new();
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            let name = title.strip_prefix("`").map(|title| title.trim_matches(['`', '[', ']']));
            // Keys above the first section stand under a title in words.
            section = name.map_or_else(String::new, |name| format!("{name}."));
        } else if line.starts_with("| `") {
            let cells: Vec<&str> = line.split('|').map(str::trim).skip(1).collect();
            let key = cells[0].trim_matches('`');
            let live = section == "player." || (section == "library." && key == "music");
            assert_eq!(cells[3] == "yes", live, "{section}{key}");
            assert!(["yes", "restart"].contains(&cells[3]), "{section}{key}: {}", cells[3]);
        }
    }
    // The program's side: neither of the two is a section that waits for a restart.
    let (before, mut now) = (Config::default(), Config::default());
    now.library.music = vec![PathBuf::from("elsewhere")];
    now.player.loudness_target = -20.0;
    assert!(now.needs_restart(&before).is_empty());
    now.hls.lead *= 2;
    assert_eq!(now.needs_restart(&before), ["hls"]);
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut pages = vec![];
    for folder in ["", "docs", "docs/decisions"] {
        let entries = fs::read_dir(root().join(folder)).expect("the folder can be read");
        pages.extend(entries.map(|entry| entry.expect("the folder can be read").path()));
    }
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    assert!(pages.len() > 8, "found {} pages only", pages.len());
    for path in pages {
        let text = fs::read_to_string(&path).expect("a page is text");
        let folder = path.parent().expect("a page lies in a folder");
        for target in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            let is_file = !target.is_empty() && !target.contains(':');
            assert!(!is_file || folder.join(target).exists(), "{}: {target}", path.display());
        }
    }
}
