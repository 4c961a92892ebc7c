//! Many boards: an origin and its relays as programs, on a network that is cut, slow and lossy, and under which relays
//! die. Needs root and Linux; the lengths are short unless SKYWAVE_LONG=1.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

/// Helpers shared by the test binaries.
#[path = "../support"]
mod support {
    pub(crate) mod checker;
    pub(crate) mod http_client;
    pub(crate) mod lab;
    pub(crate) mod station;
}

mod cut;
mod killed;
mod private;
mod rough_line;
mod shared_load;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Many programs at a time are enough: one test after the other.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}
