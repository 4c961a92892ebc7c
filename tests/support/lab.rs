//! A network of its own in one machine: a network namespace for every node and an IP network between them that delays,
//! loses and cuts as a test says, and counts bytes.
//!
//! It is made of a TUN device in each namespace and a thread that carries the packets, so the kernels at both ends meet
//! real loss and real delay, as with netem, which not every kernel has. Nothing of it has a name in the system:
//! namespaces and devices end with the threads and descriptors that hold them, programs with the thread that started
//! them, so also where the test is killed. Needs root, `/dev/net/tun`, ip and setpriv.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support modules")]

pub mod figures;
pub mod fleet;
pub mod namespace;
pub mod watch;
pub mod wire;

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;

use wire::Wire;

/// Where the test itself is: its line is outside of the experiment, without delay, loss and cuts.
pub const LISTENER: usize = 0;

/// Whether a lab can be made here. Without it a test skips aloud, unless SKYWAVE_PEERS=required: then it fails.
pub fn available() -> bool {
    let reason = [
        (!runs("ip", &["-V"]), "ip (iproute2) is missing"),
        (!runs("setpriv", &["--version"]), "setpriv (util-linux) is missing"),
        // On a thread of its own: what is unshared stays unshared.
        (
            std::thread::spawn(namespace::probe).join().is_err(),
            "no right to make network namespaces and TUN devices",
        ),
    ];
    let Some((_, reason)) = reason.into_iter().find(|(missing, _)| *missing) else { return true };
    let required = std::env::var("SKYWAVE_PEERS").is_ok_and(|value| value == "required");
    assert!(!required, "SKYWAVE_PEERS=required, but {reason}");
    eprintln!("SKIPPED: {reason}");
    false
}

/// Whether the lengths that take minutes are asked for.
pub fn long() -> bool {
    std::env::var("SKYWAVE_LONG").is_ok_and(|value| value == "1")
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

/// The address of a place; [`LISTENER`] is the test's.
pub fn address(place: usize) -> Ipv4Addr {
    let [high, low] = u16::try_from(place + 1).expect("a few places").to_be_bytes();
    Ipv4Addr::new(10, 77, high, low)
}

type Job = Box<dyn FnOnce() + Send>;

/// A namespace with one line to the network.
pub struct Place {
    /// Its address.
    pub address: Ipv4Addr,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Place {
    fn make(place: usize) -> (Self, std::fs::File) {
        let (jobs, todo) = mpsc::channel::<Job>();
        let (made, device) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            made.send(namespace::enter_new(address(place))).expect("somebody waits");
            todo.into_iter().for_each(|job| job());
        });
        let device = device.recv().expect("the thread says what it made").expect("available() was asked");
        (Self { address: address(place), jobs: Some(jobs), thread: Some(thread) }, device)
    }

    /// Runs something there. Programs that it starts live as long as the place.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, done) = mpsc::channel();
        let job = Box::new(move || _ = sender.send(work()));
        self.jobs.as_ref().expect("taken at the end alone").send(job).expect("the place's thread lives");
        done.recv().expect("what ran there did not panic")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.jobs.take();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(
            std::thread::panicking() || ended.is_none_or(|ended| ended.is_ok()),
            "the place's thread panicked"
        );
    }
}

/// The network. The thread that makes it is in a namespace of the network from then on, as are the threads that it starts.
pub struct Lab {
    /// By number, from 1 on; the first entry is number 1.
    places: Vec<Place>,
    /// What is between them.
    pub wire: Wire,
}

impl Lab {
    /// So many places beside the test's own.
    pub fn new(places: usize) -> Self {
        let own = namespace::enter_new(address(LISTENER)).expect("available() was asked");
        let (places, devices): (Vec<_>, Vec<_>) = (1..=places).map(Place::make).unzip();
        let devices = std::iter::once(own).chain(devices).collect();
        Self { places, wire: Wire::start(devices) }
    }

    /// A place by its number, from 1 on.
    pub fn place(&self, number: usize) -> &Place {
        &self.places[number - 1]
    }
}
