//! What relays cost their origin: its bytes, and how long a relay waits for a block, by the number of relays. Figures and
//! method: docs/scale.md.
//!
//! `cargo bench --bench relays -- [one] [relays ...]`, as root, prints a Markdown table; with `one`, of a station that has one
//! rendition, for more relays than the machine carries with three. Every node is a program of its own in a
//! network namespace of its own, and the bytes are those of IP packets on its line. The lines neither delay nor lose.
//! SKYWAVE_BIN names another build to be measured.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench talks to whoever runs it"
)]

#[path = "../tests/support"]
#[allow(unused_imports, reason = "their unit tests run with the tests, not here")]
mod support {
    pub(crate) mod checker;
    pub(crate) mod http_client;
    pub(crate) mod lab;
    pub(crate) mod station;
}

use std::time::{Duration, Instant};

use support::lab::figures::{Figures, observed, quantile};
use support::lab::fleet::{Fleet, ORIGIN, Plan, SEGMENT};
use support::lab::wire::Traffic;
use support::lab::{self, Lab};

const RELAYS: [usize; 3] = [5, 20, 50];
const LEAD: Duration = Duration::from_secs(60);
/// Relays that are started at once.
const AT_ONCE: usize = 3;
/// Segments that are measured.
const SEGMENTS: u32 = 12;
/// Of the default configuration; the last one is the one.
const RENDITIONS: [(&str, u32); 3] = [("lofi", 64_000), ("midfi", 96_000), ("hifi", 192_000)];

fn main() {
    if !lab::available() {
        return;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let one = arguments.iter().any(|argument| argument == "one");
    let renditions = &RENDITIONS[if one { RENDITIONS.len() - 1 } else { 0 }..];
    let mut counts: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    if counts.is_empty() {
        counts = RELAYS.to_vec();
    }
    counts.sort_unstable();
    let most = *counts.last().unwrap();
    let plan = Plan { renditions: renditions.to_vec(), ..Plan::new(most, LEAD) };
    let mut fleet = Fleet::start_origin(Lab::new(1 + most), &plan);
    println!(
        "| relays | held after, p50 | p99 | least lead | the origin sends | of it media | trees | \
         copies of a segment | a relay sends | receives | load |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for count in counts {
        // A few at a time: one machine is to carry all of them.
        for running in (fleet.running().count()..count).step_by(AT_ONCE) {
            fleet.start_relays(count.min(running + AT_ONCE));
            fleet.wait_for_lead(LEAD / 2);
        }
        // Connections among relays come with the state messages.
        settle(&fleet, 5);
        let before = Reading::of(&fleet);
        settle(&fleet, SEGMENTS);
        let rate = renditions.iter().map(|(_, rate)| rate).sum();
        print(count, rate, &before, &Reading::of(&fleet), &fleet);
    }
}

fn settle(fleet: &Fleet, segments: u32) {
    let began = Instant::now();
    fleet.wait("the time", SEGMENT * (segments + 8), |_| began.elapsed() >= SEGMENT * segments);
}

struct Reading {
    at: Instant,
    origin: (Traffic, Figures),
    relays: Vec<(Traffic, Figures)>,
}

impl Reading {
    fn of(fleet: &Fleet) -> Self {
        let traffic = |place| fleet.lab.wire.traffic(place);
        Self {
            at: Instant::now(),
            origin: (traffic(ORIGIN), fleet.origin.figures()),
            relays: fleet.running().map(|relay| (traffic(relay.place), relay.figures())).collect(),
        }
    }

    fn figures(&self) -> Vec<Figures> {
        self.relays.iter().map(|(_, figures)| figures.clone()).collect()
    }

    fn bytes(&self, of: fn(&Traffic) -> u64) -> f64 {
        self.relays.iter().map(|(traffic, _)| of(traffic) as f64).sum()
    }
}

fn print(count: usize, rate: u32, before: &Reading, after: &Reading, fleet: &Fleet) {
    let seconds = (after.at - before.at).as_secs_f64();
    let held = observed("relay_held_after_seconds", &before.figures(), &after.figures());
    let kilobytes = |bytes: f64| format!("{:.0} kB/s", bytes / seconds / 1_000.0);
    let each = |of: fn(&Traffic) -> u64| kilobytes((after.bytes(of) - before.bytes(of)) / count as f64);
    let sent = kilobytes((after.origin.0.sent - before.origin.0.sent) as f64);
    let [large, small] = blocks(before, after);
    let copies = large / (seconds * f64::from(rate) / 8.0);
    let [large, small] = [large, small].map(kilobytes);
    let lead = fleet.running().map(|relay| relay.lead().as_secs_f64()).fold(f64::INFINITY, f64::min);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    let load = load.split(' ').next().unwrap();
    let [p50, p99] = [0.5, 0.99].map(|share| quantile(&held, share));
    println!(
        "| {count} | {p50:.2} s | {p99:.2} s | {lead:.0} s | {sent} | {large} | {small} | {copies:.1} | {} | {} | {load} |",
        each(|traffic| traffic.sent),
        each(|traffic| traffic.received),
    );
}

/// Bytes of blocks that the origin sent between two readings: of media, and of trees. What else it sent is talk, and what
/// networks add.
fn blocks(before: &Reading, after: &Reading) -> [f64; 2] {
    let event = |event: &str| {
        let of =
            |reading: &Reading| reading.origin.1.sum("network_events_total", &format!("event=\"{event}\""));
        of(after) - of(before)
    };
    let media = event("large_block_bytes_sent");
    [media, event("block_bytes_sent") - media]
}
