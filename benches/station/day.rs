//! A day of broadcasting in minutes: every stage for real but the clock, which runs as fast as the encoders can.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use skywave::appliance::Appliance;
use skywave::clock::SteppedClock;
use skywave::config::Config;

use crate::process::resident_megabytes;

/// Segments of 3.84 s in a day.
const DAY: u64 = 22_500;

pub(crate) fn run(folder: &Path) {
    println!("day: resident memory over a simulated day, three default renditions, 10 min window");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(simulate(folder));
}

async fn simulate(folder: &Path) {
    let mut config = Config::default();
    config.station.data = folder.join("day");
    // In memory, as on a board.
    let repo = tempfile::tempdir_in("/dev/shm").unwrap();
    config.ipfs.repo = Some(repo.path().into());
    config.ipfs.offline = true;
    config.library.music = vec![folder.join("music")];
    config.http.listen = "127.0.0.1:0".parse().unwrap();
    let station = Appliance::start(&config, SteppedClock::starting_at(1_795_000_000_000)).await.unwrap();
    let (mut tree, began) = (station.tree(), Instant::now());
    let (mut first, mut hour) = (None, 0);
    while tree.changed().await.is_ok() {
        let newest = tree.borrow_and_update().as_ref().map_or(0, |tree: &Arc<_>| tree.newest);
        let passed = newest - *first.get_or_insert(newest);
        if passed >= hour * DAY / 24 {
            let megabytes = resident_megabytes(std::process::id());
            println!("  hour {hour:2}: {megabytes:5.1} MB   ({:.0} s)", began.elapsed().as_secs_f64());
            hour += 1;
        }
        if passed >= DAY {
            break;
        }
    }
    let stopped = tokio::time::timeout(Duration::from_secs(10), station.stop()).await;
    println!("  stopped in time: {}", stopped.is_ok());
}
