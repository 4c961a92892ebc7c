//! Holds the Yocto layer to the rest of the repository: one card, one set of files, one set of users, for both images.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const LAYER: &str = "yocto/meta-skywave";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// All plain files and links below a folder, by their path in it.
fn files_below(folder: &Path) -> BTreeSet<PathBuf> {
    let (mut files, mut folders) = (BTreeSet::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap_or_else(|error| panic!("{}: {error}", next.display())) {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                files.insert(entry.path().strip_prefix(folder).unwrap().to_owned());
            }
        }
    }
    files
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// The value behind `name` and a separator, on the first line that has it.
fn value_of<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.split(['\n', ' ']).find(|word| word.starts_with(&format!("{name}=")));
    line.unwrap_or_else(|| panic!("no {name}")).split_once('=').unwrap().1
}

/// A setting of the layer's card, quotes taken off.
fn card(name: &str) -> String {
    let settings = read(&format!("{LAYER}/conf/distro/include/skywave-card.inc"));
    let line = settings.lines().find(|line| line.starts_with(&format!("{name} = ")));
    line.unwrap_or_else(|| panic!("no {name}")).split('"').nth(1).unwrap().to_owned()
}

fn installed() -> tempfile::TempDir {
    let destination = tempfile::tempdir().unwrap();
    let status = Command::new(root().join("board/install")).arg(destination.path()).status().unwrap();
    assert!(status.success());
    destination
}

#[test]
fn both_images_install_by_the_one_script() {
    assert!(
        read("board/image/rootfs").contains("/install\" \"$root\""),
        "board/image/rootfs has a list of its own"
    );
    let recipe = read(&format!("{LAYER}/recipes-skywave/skywave/skywave-board_0.1.0.bb"));
    assert!(recipe.contains("${S}/board/install ${D}"));
}

/// Where the script puts a file of a folder of the repository; `None` for what is not installed as it stands.
fn place_of(folder: &str, file: &Path) -> Option<PathBuf> {
    let (name, text) = (file_name(file), file.to_str().unwrap());
    if folder == "board/image/root" {
        // What every root file system has: here it is Yocto's own recipes that bring it.
        let base =
            ["etc/group", "etc/hostname", "etc/hosts", "etc/machine-id", "etc/nsswitch.conf", "etc/passwd"];
        let others = base.contains(&text) || text == "usr/sbin/nologin";
        return (!others).then(|| PathBuf::from(text.replace("etc/udev/", "usr/lib/udev/")));
    }
    assert_eq!(folder, "board/systemd");
    // The console is for development; the check is none of the board's.
    if ["check", "skywave-console.service"].contains(&text) {
        return None;
    }
    Some(match text.split_once('/') {
        None if text == "skywave-crash-report" => "usr/lib/skywave/crash-report".into(),
        None => Path::new("usr/lib/systemd/system").join(name),
        Some(("udev", _)) => Path::new("usr/lib/udev/rules.d").join(name),
        Some(_) => Path::new("usr/lib").join(text),
    })
}

#[test]
fn the_script_installs_every_file_of_the_board() {
    let destination = installed();
    let mut found = 0;
    for folder in ["board/systemd", "board/image/root"] {
        for file in files_below(&root().join(folder)) {
            let Some(place) = place_of(folder, &file) else { continue };
            let copy = fs::read(destination.path().join(&place));
            let copy = copy.unwrap_or_else(|_| panic!("{folder}/{} is not installed", file.display()));
            assert_eq!(copy, fs::read(root().join(folder).join(&file)).unwrap(), "{}", place.display());
            found += 1;
        }
    }
    assert!(found > 25, "found {found} files only");
    let console = "usr/lib/systemd/system/skywave-console.service";
    assert!(!destination.path().join(console).exists(), "a release has a shell");
}

#[test]
fn both_images_start_the_same_units() {
    // Our own: the script enables what the quick image's list names, so that both have the same links.
    let destination = installed();
    let list = read("board/image/units.list");
    let wanted = list.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(' '));
    let wanted: Vec<_> = wanted.map(|(target, unit)| (target.trim(), unit.trim())).collect();
    let (mut ours, mut theirs) = (0, BTreeSet::new());
    for (target, unit) in wanted {
        if unit == "var.mount" || unit.starts_with("skywave") {
            let link = format!("usr/lib/systemd/system/{target}.wants/{unit}");
            assert!(destination.path().join(&link).exists(), "{link}");
            ours += 1;
        } else {
            theirs.insert(unit.rsplit_once('.').unwrap().0);
        }
    }
    assert!(ours > 6, "found {ours} only");
    // systemd's own: without an option they are always built and started; the others are options of its recipe.
    let always = ["systemd-journald", "systemd-journald-dev-log", "systemd-udevd", "systemd-udev-trigger"];
    let always = always.iter().chain(&["systemd-udevd-control", "systemd-udevd-kernel", "tmp"]);
    let always: BTreeSet<_> = always.chain(&["systemd-tmpfiles-setup"]).copied().collect();
    let features = read(&format!("{LAYER}/conf/distro/include/skywave-features.inc"));
    let options = features.split("PACKAGECONFIG:pn-systemd = \"").nth(1).unwrap().split('"').next().unwrap();
    for unit in &theirs - &always {
        let option = unit.trim_start_matches("systemd-");
        assert!(options.split_whitespace().any(|word| word == option), "{unit} is not built by Yocto");
    }
}

#[test]
fn both_images_begin_with_the_same_repo_settings_and_modules() {
    let recipe = read(&format!("{LAYER}/recipes-skywave/skywave/skywave_0.1.0.bb"));
    let quick = read("board/image/rootfs");
    // Made by the program while the image is built, at the place that the unit copies it from.
    assert!(recipe.contains("/skywave init --repo-only ${B}/repo") && quick.contains(" init --repo-only "));
    assert!(recipe.contains("${D}${datadir}/skywave/ipfs") && quick.contains("/usr/share/skywave/ipfs"));
    assert!(read("board/systemd/tmpfiles.d/skywave.conf").contains(" /usr/share/skywave/ipfs\n"));
    let group = read(&format!("{LAYER}/recipes-core/packagegroups/packagegroup-skywave.bb"));
    assert!(
        group.contains("/board/image/modules.list\"") && read("board/image/kernel").contains("/modules.list")
    );
    // The owner's files on the FAT partition.
    let deploy = read(&format!("{LAYER}/recipes-core/skywave-fat/skywave-fat_1.0.bb"));
    assert!(deploy.contains("${S}/board/fat/*.txt ${S}/board/fat/*.toml ${DEPLOYDIR}/skywave-fat/"));
    let fat = read("board/image/fat");
    for file in files_below(&root().join("board/fat")) {
        let extension = file.extension().and_then(|extension| extension.to_str());
        assert!(matches!(extension, Some("txt" | "toml")), "{} is not deployed", file.display());
        assert!(fat.contains(&file_name(&file)), "{} is not on the quick image's card", file.display());
    }
}

#[test]
fn units_start_what_is_installed() {
    let destination = installed();
    let recipes = ["skywave-card/files/find-card"].map(|name| format!("{LAYER}/recipes-core/{name}"));
    let update = format!("{LAYER}/dynamic-layers/rauc/recipes-core/skywave-update/files/update");
    let brought: BTreeSet<_> =
        recipes.iter().chain([&update]).map(|path| path.rsplit('/').next().unwrap().to_owned()).collect();
    let mut units = files_below(&destination.path().join("usr/lib/systemd/system"));
    units.retain(|path| path.components().count() == 1);
    let mut texts: Vec<_> =
        units.iter().map(|unit| destination.path().join("usr/lib/systemd/system").join(unit)).collect();
    texts.push(root().join(LAYER).join("recipes-core/skywave-card/files/skywave-card.service"));
    let mut seen = 0;
    for unit in texts {
        for line in fs::read_to_string(&unit).unwrap().lines() {
            let Some(name) = line.split("/usr/lib/skywave/").nth(1) else { continue };
            let name = name.split(' ').next().unwrap();
            let there = destination.path().join("usr/lib/skywave").join(name).is_file();
            assert!(there || brought.contains(name), "{}: {name}", unit.display());
            seen += 1;
        }
    }
    assert!(seen > 6, "found {seen} programs only");
}

#[test]
fn the_cards_are_laid_out_alike() {
    let disk = read("board/image/disk");
    assert_eq!(card("SKYWAVE_FAT_START"), value_of(&disk, "FAT_START"));
    assert_eq!(card("SKYWAVE_FAT_SIZE"), value_of(&disk, "FAT_SIZE"));
    assert_eq!(card("SKYWAVE_SLOT_SIZE"), value_of(&disk, "SLOT_SIZE"));
    let signature = card("SKYWAVE_DISK_SIGNATURE");
    assert_eq!(signature, value_of(&read("board/image/environment"), "DISK_SIGNATURE"));
    let limit = value_of(&disk, "ROOTFS_LIMIT");
    assert_eq!(limit, "$((40", "the limit is not written as 40 * 1000 * 1000 any more");
    assert_eq!(card("SKYWAVE_ROOTFS_LIMIT"), "40000000");
    // What an update is written to.
    let slots = read(&format!("{LAYER}/dynamic-layers/rauc/recipes-core/rauc/files/system.conf"));
    for (name, number) in [("A", "02"), ("B", "03")] {
        let slot =
            format!("device=/dev/disk/by-partuuid/@@DISK_SIGNATURE@@-{number}\ntype=raw\nbootname={name}\n");
        assert!(slots.contains(&slot), "{name}");
    }
    let mut sizes = 0;
    for line in
        read(&format!("{LAYER}/files/wic/skywave.wks.in")).lines().filter(|line| line.starts_with("part "))
    {
        assert!(line.contains("--fixed-size ${SKYWAVE_"), "{line}");
        sizes += 1;
    }
    assert_eq!(sizes, 3);
}

#[test]
fn the_boot_loader_and_the_system_keep_the_counts_in_the_same_place() {
    let loader = read(&format!("{LAYER}/recipes-bsp/u-boot/files/skywave.cfg"));
    let script = read(&format!("{LAYER}/recipes-core/skywave-card/files/find-card"));
    let size = value_of(&loader, "CONFIG_ENV_SIZE");
    let gap = card("SKYWAVE_FAT_START").parse::<u64>().unwrap() << 20;
    for name in ["CONFIG_ENV_OFFSET", "CONFIG_ENV_OFFSET_REDUND"] {
        let place = value_of(&loader, name);
        assert!(script.contains(&format!(" {place} {size}\n")), "{name}");
        let end = number(place) + number(size);
        assert!(end <= gap, "{name} ends in the first partition");
    }
}

fn number(hexadecimal: &str) -> u64 {
    u64::from_str_radix(hexadecimal.trim_start_matches("0x"), 16).unwrap()
}

/// Numbers by name, of a passwd or group file.
fn numbers(name: &str) -> BTreeMap<String, String> {
    let text = read(name);
    let fields = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    fields.map(|fields| (fields[0].to_owned(), fields[2].to_owned())).collect()
}

#[test]
fn users_have_the_same_number_in_both_images() {
    for table in ["passwd", "group"] {
        let quick = numbers(&format!("board/image/root/etc/{table}"));
        let yocto = numbers(&format!("{LAYER}/files/{table}"));
        let mut compared = 0;
        for (name, number) in &yocto {
            if let Some(other) = quick.get(name) {
                assert_eq!(number, other, "{table}: {name}");
                compared += 1;
            }
        }
        assert!(compared > 4, "compared {compared} only");
        assert!(yocto.contains_key("skywave") && quick.contains_key("skywave"));
    }
}

#[test]
fn recipes_have_the_version_of_the_program() {
    let version = env!("CARGO_PKG_VERSION");
    for recipe in ["skywave", "skywave-board"] {
        let path = format!("{LAYER}/recipes-skywave/skywave/{recipe}_{version}.bb");
        assert!(root().join(&path).is_file(), "{path}: rename the recipe with the version");
    }
    let distro = read(&format!("{LAYER}/conf/distro/skywave-os.conf"));
    assert!(distro.contains(&format!("DISTRO_VERSION = \"{version}\"")));
}

#[test]
fn recipes_know_the_licences_as_they_stand() {
    for file in ["LICENSE-MIT", "LICENSE-APACHE", "NOTICE"] {
        let output = Command::new("md5sum").arg(root().join(file)).output().unwrap();
        let sum = String::from_utf8(output.stdout).unwrap();
        let wanted = format!("file://{file};md5={}", sum.split(' ').next().unwrap());
        let mut named = 0;
        for path in files_below(&root().join(LAYER)) {
            let text = read(&format!("{LAYER}/{}", path.display()));
            if path.extension().is_some_and(|extension| extension == "bb")
                && text.contains(&format!("file://{file};md5="))
            {
                assert!(text.contains(&wanted), "{}: {wanted}", path.display());
                named += 1;
            }
        }
        assert!(named > 0, "{file}");
    }
}

#[test]
fn public_layers_are_pinned_by_commit() {
    let mut pinned = 0;
    for path in files_below(&root().join("yocto/kas")) {
        let text = read(&format!("yocto/kas/{}", path.display()));
        for repo in text.split("    url: ").skip(1) {
            let commit = repo.lines().find_map(|line| line.trim().strip_prefix("commit: "));
            let commit = commit.unwrap_or_else(|| panic!("{}: no commit", path.display()));
            assert!(commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()), "{commit}");
            pinned += 1;
        }
        let release = text.contains("SKYWAVE_DEVELOPMENT = \"1\"");
        assert_eq!(release, path == Path::new("dev.yml"), "{}", path.display());
    }
    assert!(pinned >= 4, "found {pinned} only");
}

#[test]
fn no_key_lies_in_the_repository() {
    for folder in ["yocto", "board", "docs"] {
        for path in files_below(&root().join(folder)) {
            let bytes = fs::read(root().join(folder).join(&path)).unwrap();
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains(concat!("PRIVATE ", "KEY-----")), "{folder}/{}", path.display());
            assert!(
                path.extension().is_none_or(|extension| extension != "pem"),
                "{folder}/{}",
                path.display()
            );
        }
    }
}
