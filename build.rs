//! Packs the page (gzip, RFC 1952) into `OUT_DIR/page`, and with it hls.js and @noble: from `web/node_modules` when they are
//! there, else through npm.
//!
//! Without either the build goes on and the page uses the browser's own HLS. `SKYWAVE_NO_NPM=1` keeps npm
//! from being asked. A build that went on without them asks again once something in `web/` is touched.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use flate2::Compression;
use flate2::write::GzEncoder;

/// What the page takes of each package, and under which name. Of hls.js the light build: audio-only CMAF and ID3 in
/// `emsg` are in it, captions and DRM are not.
const MODULES: [(&str, &str); 6] = [
    ("hls.js/dist/hls.light.min.mjs", "hls.js"),
    ("@noble/ed25519/index.js", "noble/ed25519.js"),
    ("@noble/hashes/sha2.js", "noble/sha2.js"),
    ("@noble/hashes/_md.js", "noble/_md.js"),
    ("@noble/hashes/_u64.js", "noble/_u64.js"),
    ("@noble/hashes/utils.js", "noble/utils.js"),
];

/// Bounds how long a network that swallows packets can hold up a build.
const NPM_PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=web");
    println!("cargo:rerun-if-env-changed=SKYWAVE_NO_NPM");
    println!("cargo:rustc-check-cfg=cfg(has_npm_packages)");
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let page = out_dir.join("page");
    pack_page(&page).unwrap_or_else(|error| panic!("web: {error}"));
    let found = find_packages(&out_dir).and_then(|packages| {
        pack_modules(&packages, &page).map_err(|error| format!("{}: {error}", packages.display()))
    });
    match found {
        Ok(()) => println!("cargo:rustc-cfg=has_npm_packages"),
        Err(reason) => {
            println!("cargo:warning=the page is built without hls.js, browsers use their own HLS ({reason})");
        }
    }
}

fn pack_page(page: &Path) -> io::Result<()> {
    fs::create_dir_all(page.join("noble"))?;
    for entry in fs::read_dir("web")? {
        let (file, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        if file
            .extension()
            .is_some_and(|kind| ["html", "css", "svg", "js"].iter().any(|known| kind == *known))
        {
            pack(&file, &page.join(name))?;
        }
    }
    Ok(())
}

fn pack_modules(packages: &Path, page: &Path) -> io::Result<()> {
    MODULES.iter().try_for_each(|(from, to)| pack(&packages.join(from), &page.join(to)))
}

/// The same bytes for the same file: neither name nor time go into the head.
fn pack(from: &Path, to: &Path) -> io::Result<()> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&fs::read(from)?)?;
    fs::write(to, packed.finish()?)
}

/// Whether everything is there.
fn is_whole(packages: &Path) -> bool {
    MODULES.iter().all(|(from, _)| packages.join(from).is_file())
}

/// The folder of the packages, fetched if need be; the reason in words when there is none.
fn find_packages(out_dir: &Path) -> Result<PathBuf, String> {
    let installed = Path::new("web").join("node_modules");
    if is_whole(&installed) {
        return Ok(installed);
    }
    if env::var_os("SKYWAVE_NO_NPM").is_some_and(|value| !value.is_empty() && value != "0") {
        return Err("SKYWAVE_NO_NPM is set".into());
    }
    let work = out_dir.join("npm");
    let fetched = work.join("node_modules");
    if is_whole(&fetched) && same_lock(&work) {
        return Ok(fetched);
    }
    prepare(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    npm_ci(&work)?;
    if is_whole(&fetched) { Ok(fetched) } else { Err("npm brought less than the page takes".into()) }
}

/// Whether what was fetched earlier is still what the lock file asks for.
fn same_lock(work: &Path) -> bool {
    let read = |path: &Path| fs::read(path).ok();
    read(&work.join("package-lock.json")) == read(Path::new("web/package-lock.json"))
}

fn prepare(work: &Path) -> io::Result<()> {
    if work.exists() {
        fs::remove_dir_all(work)?;
    }
    fs::create_dir_all(work)?;
    for name in ["package.json", "package-lock.json"] {
        fs::copy(Path::new("web").join(name), work.join(name))?;
    }
    Ok(())
}

fn npm_ci(work: &Path) -> Result<(), String> {
    let npm = if cfg!(windows) { "npm.cmd" } else { "npm" };
    let log = fs::File::create(work.join("npm.log")).map_err(|error| format!("npm.log: {error}"))?;
    let mut child = Command::new(npm)
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"])
        .args([
            "--fetch-retries=1",
            "--fetch-retry-mintimeout=1000",
            "--fetch-retry-maxtimeout=5000",
            "--fetch-timeout=20000",
        ])
        .current_dir(work)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|error| format!("{npm}: {error}"))?;
    let started = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("npm ci: {status}")),
            Ok(None) if started.elapsed() < NPM_PATIENCE => thread::sleep(Duration::from_millis(50)),
            Ok(None) => {
                // Killed and reaped; nothing better is known should either fail.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("npm ci: no end after {} s", NPM_PATIENCE.as_secs()));
            }
            Err(error) => return Err(format!("npm ci: {error}")),
        }
    }
}
