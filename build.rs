//! Puts hls.js into the binary: from `web/node_modules` when it is there, else through npm into `OUT_DIR`.
//!
//! Without either the build goes on and the page uses the browser's own HLS. `SKYWAVE_NO_NPM=1` keeps npm
//! from being asked. A build that went on without hls.js asks again once something in `web/` is touched.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

/// The light build as an ES module: audio-only CMAF and ID3 in `emsg` are in it, captions and DRM are not.
const HLS_JS: &str = "node_modules/hls.js/dist/hls.light.min.mjs";

/// Bounds how long a network that swallows packets can hold up a build.
const NPM_PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=web");
    println!("cargo:rerun-if-env-changed=SKYWAVE_NO_NPM");
    println!("cargo:rustc-check-cfg=cfg(has_hls_js)");
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let found = find_hls_js(&out_dir).and_then(|source| {
        fs::copy(&source, out_dir.join("hls.js")).map_err(|error| format!("{}: {error}", source.display()))
    });
    match found {
        Ok(_) => println!("cargo:rustc-cfg=has_hls_js"),
        Err(reason) => {
            println!("cargo:warning=the page is built without hls.js, browsers use their own HLS ({reason})");
        }
    }
}

/// The path of hls.js, fetched if need be; the reason in words when there is none.
fn find_hls_js(out_dir: &Path) -> Result<PathBuf, String> {
    let installed = Path::new("web").join(HLS_JS);
    if installed.is_file() {
        return Ok(installed);
    }
    if env::var_os("SKYWAVE_NO_NPM").is_some_and(|value| !value.is_empty() && value != "0") {
        return Err("SKYWAVE_NO_NPM is set".into());
    }
    let work = out_dir.join("npm");
    let fetched = work.join(HLS_JS);
    if fetched.is_file() && same_lock(&work) {
        return Ok(fetched);
    }
    prepare(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    npm_ci(&work)?;
    if fetched.is_file() { Ok(fetched) } else { Err(format!("npm brought no {HLS_JS}")) }
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
        .args(["--fetch-retries=1", "--fetch-retry-maxtimeout=5000", "--fetch-timeout=20000"])
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
