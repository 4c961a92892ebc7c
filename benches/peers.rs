//! How long a segment takes from the encoder to others: from the moment that hls hands it on until a second node of
//! ours, and a kubo that follows the name, have it whole. Figures and method: docs/benchmarks.md.
//!
//! `cargo bench --bench peers -- [segments]`. Publisher, name and node are the real ones, with the live window of ten
//! minutes filled; the bench takes the place of hls and has no lead, so every segment is due at once. kubo is what
//! `SKYWAVE_KUBO` names, else `ipfs` on the PATH.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench talks to whoever runs it"
)]

#[path = "peers/followers.rs"]
mod followers;
#[path = "peers/origin.rs"]
mod origin;
#[path = "../tests/support"]
#[allow(unused_imports, reason = "their unit tests run with the tests, not here")]
mod support {
    pub(crate) mod http_client;
    pub(crate) mod kubo;
    pub(crate) mod publisher_stage;
    pub(crate) mod station;
}

use std::time::Duration;

use followers::{KuboFollower, NodeFollower};
use origin::{Origin, WINDOW};
use support::kubo;
use tokio::time::Instant;

/// Segments that are measured.
const SEGMENTS: usize = 250;
/// Between two segments: others have seen one before the next is there, and it is no burst.
const PAUSE: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let segments: usize = numbers.next_back().unwrap_or(SEGMENTS);
    let mut origin = Origin::start().await;
    for _ in 0..WINDOW {
        origin.send().await;
    }
    let node = NodeFollower::start(&origin).await;
    let kubo = match kubo::available() {
        true => Some(KuboFollower::start(&origin).await),
        false => None,
    };
    let (mut to_node, mut to_kubo, mut to_air) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..segments {
        tokio::time::sleep(PAUSE).await;
        let began = Instant::now();
        let (number, media) = origin.send().await;
        to_air.push(began.elapsed());
        let at_node = node.has(number, &media);
        let at_kubo = async {
            match &kubo {
                Some(kubo) => kubo.has(number, &media).await,
                None => Instant::now(),
            }
        };
        let (at_node, at_kubo) = tokio::join!(at_node, at_kubo);
        to_node.push(at_node - began);
        to_kubo.push(at_kubo - began);
    }
    println!("peers: {segments} segments of three renditions, window of {WINDOW}, from hls");
    report("on our own gateway", &mut to_air);
    report("at a second node of ours", &mut to_node);
    match kubo {
        Some(_) => report("at a kubo that follows the name", &mut to_kubo),
        None => println!("  no kubo: not measured"),
    }
    origin.stop().await;
}

fn report(what: &str, took: &mut [Duration]) {
    took.sort();
    let at = |share: f64| took[((took.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1000.0;
    println!(
        "  {what:32} p50 {:6.1} ms, p90 {:6.1} ms, p99 {:6.1} ms, slowest {:6.1} ms",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
}
