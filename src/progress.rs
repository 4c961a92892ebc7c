//! How far the library scan is: a bar on a terminal, log lines elsewhere.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use skywave::library::Library;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::info;

/// How often a scan that goes on is logged.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Shows the scan until the library is gone.
pub(crate) async fn show(mut library: watch::Receiver<Arc<Library>>, bars: MultiProgress) {
    let bar = io::stderr().is_terminal().then(|| bars.add(bar()));
    let (mut reported, mut last_log) = (usize::MAX, Instant::now());
    loop {
        let (scanned, found, walking) = {
            let now = library.borrow_and_update();
            (now.scanned, now.found, now.scanning)
        };
        let done = scanned >= found && !walking;
        match &bar {
            Some(bar) if done => bar.finish_and_clear(),
            Some(bar) => {
                bar.set_length(found as u64);
                bar.set_position(scanned as u64);
            }
            None if !done && last_log.elapsed() >= LOG_EVERY => {
                last_log = Instant::now();
                info!(scanned, found, "scanning the library");
            }
            None => {}
        }
        if done && found > 0 && reported != found {
            reported = found;
            info!(tracks = found, "library scanned");
        }
        if library.changed().await.is_err() {
            return;
        }
    }
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("  library {bar:32} {pos}/{len}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
