//! What is between the places of a lab: each has a line, and a packet meets the line of who sends it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{LISTENER, namespace};

/// Longest wait for a packet: bounds how long an end takes.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Packets that are taken of one device in a row.
const IN_A_ROW: usize = 64;
/// More than any packet of an interface with an MTU of 1,500.
const LARGEST: usize = 2_048;
/// What is lost is chosen by chance, and by the same chance in each run.
const SEED: u64 = 7;

/// The line of one place.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// How long each packet takes that the place sends.
    pub delay: Duration,
    /// The share of packets that it sends in vain.
    pub loss: f64,
    /// Nothing comes or goes where it is not connected.
    pub connected: bool,
}

const CLEAN: Line = Line { delay: Duration::ZERO, loss: 0.0, connected: true };

/// Bytes of IP packets of one place, those from and to the test left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traffic {
    /// That it sent.
    pub sent: u64,
    /// That came to it.
    pub received: u64,
    /// Packets of its that were lost by chance.
    pub lost: u64,
}

#[derive(Debug)]
struct State {
    lines: Vec<Line>,
    traffic: Vec<Traffic>,
}

/// The network; packets travel until it is dropped.
#[derive(Debug)]
pub struct Wire {
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// Carries packets between these devices; the place of each is its number.
    pub fn start(devices: Vec<File>) -> Self {
        let count = devices.len();
        let state = State { lines: vec![CLEAN; count], traffic: vec![Traffic::default(); count] };
        let (state, stop) = (Arc::new(Mutex::new(state)), Arc::new(AtomicBool::new(false)));
        let carrier = Carrier {
            devices,
            state: state.clone(),
            on_the_way: BinaryHeap::new(),
            packets: 0,
            chance: fastrand::Rng::with_seed(SEED),
        };
        let ends = stop.clone();
        let thread = std::thread::spawn(move || carrier.run(&ends));
        Self { state, stop, thread: Some(thread) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the carrier did not panic")
    }

    /// Changes the line of a place.
    pub fn set(&self, place: usize, change: impl FnOnce(&mut Line)) {
        change(&mut self.state().lines[place]);
    }

    /// Changes every line but the test's.
    pub fn set_all(&self, change: impl Fn(&mut Line)) {
        self.state().lines.iter_mut().skip(1).for_each(change);
    }

    /// What has travelled from and to a place.
    pub fn traffic(&self, place: usize) -> Traffic {
        self.state().traffic[place]
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        _ = self.thread.take().map(JoinHandle::join);
    }
}

/// When it comes, a number that keeps the order, to whom, and the packet.
type Sent = Reverse<(Instant, u64, usize, Vec<u8>)>;

struct Carrier {
    devices: Vec<File>,
    state: Arc<Mutex<State>>,
    on_the_way: BinaryHeap<Sent>,
    packets: u64,
    chance: fastrand::Rng,
}

impl Carrier {
    fn run(mut self, stop: &AtomicBool) {
        let mut packet = vec![0; LARGEST];
        while !stop.load(Ordering::Relaxed) {
            let next =
                self.on_the_way.peek().map(|Reverse((at, ..))| at.saturating_duration_since(Instant::now()));
            for from in namespace::readable(&self.devices, next.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)) {
                for _ in 0..IN_A_ROW {
                    match self.devices[from].read(&mut packet) {
                        Ok(length) if length > 0 => self.take(from, &packet[..length]),
                        _ => break,
                    }
                }
            }
            self.deliver();
        }
    }

    fn take(&mut self, from: usize, packet: &[u8]) {
        let Some(to) = destination(packet).filter(|to| *to < self.devices.len() && *to != from) else {
            return;
        };
        let length = packet.len() as u64;
        let mut state = self.state.lock().expect("no holder of the lock panics");
        let mut line = CLEAN;
        if from != LISTENER && to != LISTENER {
            line = Line { connected: state.lines[to].connected, ..state.lines[from] };
            line.connected &= state.lines[from].connected;
            state.traffic[from].sent += length;
            if line.connected && self.chance.f64() < line.loss {
                state.traffic[from].lost += 1;
                line.connected = false;
            }
            if line.connected {
                state.traffic[to].received += length;
            }
        }
        drop(state);
        if !line.connected {
            return;
        }
        self.packets += 1;
        self.on_the_way.push(Reverse((Instant::now() + line.delay, self.packets, to, packet.to_vec())));
    }

    fn deliver(&mut self) {
        while let Some(Reverse((at, ..))) = self.on_the_way.peek()
            && *at <= Instant::now()
        {
            let Some(Reverse((_, _, to, packet))) = self.on_the_way.pop() else { return };
            // A full queue at the other end drops packets, as everywhere.
            _ = self.devices[to].write(&packet);
        }
    }
}

/// The place that an IPv4 packet goes to (RFC 791 section 3.1).
fn destination(packet: &[u8]) -> Option<usize> {
    let address = packet.get(16..20).filter(|_| packet[0] >> 4 == 4)?;
    let number = usize::from(u16::from_be_bytes([address[2], address[3]]));
    (address[..2] == [10, 77]).then_some(number)?.checked_sub(1)
}
