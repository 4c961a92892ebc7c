//! wrk as the load: keep-alive connections that ask for a list of paths in turn.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Connections at once; few enough that no server is measured waiting for its queue.
const CONNECTIONS: u32 = 16;

/// What one turn of wrk saw; every answer was well.
pub(crate) struct Load {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    pub(crate) bytes: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

pub(crate) fn available() -> bool {
    Command::new("wrk").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Loads a server for `duration`. Panics when an answer is not 200 or a connection fails.
pub(crate) fn run(folder: &Path, authority: &str, paths: &[String], duration: Duration) -> Load {
    let script = folder.join("load.lua");
    fs::write(&script, lua(paths)).unwrap();
    let output = Command::new("wrk")
        .args(["--threads", "1", "--connections", &CONNECTIONS.to_string()])
        .args(["--duration", &format!("{}s", duration.as_secs()), "--script"])
        .args([script.as_os_str(), format!("http://{authority}").as_ref()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().find_map(|line| line.strip_prefix("RESULT "));
    let line = line.unwrap_or_else(|| panic!("wrk: {said}{}", String::from_utf8_lossy(&output.stderr)));
    let numbers: Vec<f64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
    let [requests, micros, bytes, errors, p50, p99] = numbers[..] else { panic!("wrk: {line}") };
    assert!(
        errors == 0.0 && requests > 0.0,
        "{authority}: wrk counted {errors} errors in {requests} requests"
    );
    Load {
        requests: requests as u64,
        seconds: micros / 1e6,
        bytes: bytes as u64,
        p50_ms: p50 / 1e3,
        p99_ms: p99 / 1e3,
    }
}

fn lua(paths: &[String]) -> String {
    let list: Vec<_> = paths.iter().map(|path| format!("{path:?}")).collect();
    format!(
        "local paths = {{{}}}\nlocal n = 0\n\
         request = function()\n  n = n % #paths + 1\n  return wrk.format('GET', paths[n])\nend\n\
         done = function(summary, latency)\n  local e = summary.errors\n\
         \x20 io.write(string.format('RESULT %d %d %d %d %d %d\\n', summary.requests, summary.duration, summary.bytes,\n\
         \x20   e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99)))\n\
         end\n",
        list.join(", ")
    )
}
