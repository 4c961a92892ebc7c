//! Wi-Fi by wifi.toml, between two simulated radios of one board: one is an access point, the other the board's own.
//!
//! The kernel's simulator (mac80211_hwsim) and the access point come with the test; driver, wpa_supplicant and units of the
//! other radio are the image's.

use crate::addition::Addition;
use crate::board::{Board, Setup};
use crate::card::Card;
use crate::image::{image, is_required};
use std::path::{Path, PathBuf};
use std::process::Command;

const PASSWORD: &str = "correct horse";
/// Modules of the kernel's package that the image does not have, each behind those that it needs.
const MODULES: [&str; 4] = [
    "crypto/ccm",
    "lib/crypto/libarc4",
    "net/mac80211/mac80211",
    "drivers/net/wireless/virtual/mac80211_hwsim",
];
/// wlan0 is not the board's: no unit of the image may join with it.
const ACCESS_POINT: &str = "[Service]
ExecStart=
ExecStart=/usr/sbin/wpa_supplicant -i wlan0 -D nl80211 -c /run/simulated/access-point.conf
";
const NETWORK: &str = "[Match]
Name=wlan0
[Network]
Address=10.66.0.1/24
DHCPServer=yes
";
/// What the board's own radio does is told on the serial line.
const SIMULATED: &str = "[Unit]
After=systemd-udevd.service systemd-networkd.service
[Service]
ExecStartPre=/usr/sbin/modprobe cfg80211
ExecStart=/bin/sh -c 'for module in ccm libarc4 mac80211 mac80211_hwsim; do insmod /run/simulated/$$module.ko; done; \
    exec journalctl --follow --output cat --unit skywave-wifi@wlan1'
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
";

/// The folder with the unpacked packages of the image (board/image/packages).
fn packages() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = variable("SKYWAVE_IMAGE_CACHE").or_else(|| {
        let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
        Some(cache.join("skywave/image"))
    })?;
    let folders = std::fs::read_dir(cache).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let unpacked = folders.filter(|path| path.to_string_lossy().contains("/packages-"));
    unpacked.max_by_key(|path| path.metadata().and_then(|data| data.modified()).ok())
}

fn module(packages: &Path, name: &str) -> Vec<u8> {
    let releases = packages.join("root/usr/lib/modules");
    let release = std::fs::read_dir(&releases).ok().and_then(|mut all| Some(all.next()?.ok()?.path()));
    let path = release.expect("the kernel's modules").join(format!("kernel/{name}.ko.xz"));
    let unpacked = Command::new("xz").args(["--decompress", "--stdout"]).arg(&path).output().expect("xz");
    assert!(unpacked.status.success(), "{}", path.display());
    unpacked.stdout
}

fn radios(packages: &Path) -> Addition {
    let own = format!(
        "network={{\nssid=\"Attic\"\nmode=2\nfrequency=2412\nkey_mgmt=WPA-PSK\nproto=RSN\npairwise=CCMP\n\
         psk=\"{PASSWORD}\"\n}}\n"
    );
    let addition = Addition::default()
        .file("simulated/access-point.conf", own)
        .file("systemd/system/skywave-wifi@wlan0.service.d/access-point.conf", ACCESS_POINT)
        .file("systemd/network/00-access-point.network", NETWORK)
        .unit("simulated-radios.service", SIMULATED);
    MODULES.iter().fold(addition, |addition, name| {
        let file = name.rsplit('/').next().expect("a name");
        addition.file(&format!("simulated/{file}.ko"), module(packages, name))
    })
}

fn wifi(password: &str) -> String {
    format!("[[network]]\nssid = \"Attic\"\npassword = \"{password}\"\n")
}

#[test]
fn wifi_is_joined_by_wifi_toml_and_what_is_wrong_with_it_is_told_on_the_card() {
    let Some(image) = image() else { return };
    let Some(packages) = packages() else {
        assert!(!is_required(), "the packages of the image are not in its cache");
        return eprintln!("SKIPPED: the packages of the image are not in its cache: no simulated radios");
    };
    let setup = Setup { addition: Some(radios(&packages)), ..Setup::default() };
    let card = Card::started(&image).card;
    let error = |text: &str| card.read("wifi-error.txt").filter(|said| said.contains(text));

    card.put("wifi.toml", "[[network]]\nssid = \"Attic\"\npassword = \"short\"\n");
    let mut board = Board::start(&card, &setup);
    board.wait_for("the mistake on the card", |_| error("wifi.toml:3: "));
    board.cut();

    card.put("wifi.toml", wifi("wrong horse"));
    let mut board = Board::start(&card, &setup);
    let said = board.wait_for("the refused password on the card", |_| error("refuses the password"));
    assert!(said.contains("Attic") && !said.contains("horse"), "{said}");
    let notices = board.wait_for("health", |board| Some(board.json("/health")?["notices"].clone()));
    assert!(notices["wifi"].is_string(), "{notices}");
    board.cut();

    card.put("wifi.toml", wifi(PASSWORD));
    let mut board = Board::start(&card, &setup);
    board.wait_for("a connection", |board| {
        board.serial().contains("wlan1: CTRL-EVENT-CONNECTED").then_some(())
    });
    eprintln!("on Wi-Fi {:.1?} after power-on", board.since.elapsed());
    board.wait_for("a card without wifi-error.txt", |_| card.read("wifi-error.txt").is_none().then_some(()));
    let health = board.wait_for("health", |board| board.json("/health"));
    assert!(health["notices"].get("wifi").is_none(), "{health}");
}
