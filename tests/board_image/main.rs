//! The card image on an emulated board: it boots, is on the air, lights its LEDs, takes a stick, and outlives power cuts.
//!
//! Runs where `SKYWAVE_IMAGE` names an image (`board/image/build` makes one) and QEMU is installed; skips aloud elsewhere.
//! Two boards run at a time (`SKYWAVE_BOARDS`), each with ports, sockets and folders of its own, and none that reaches
//! another or this machine unless its test asks for it. `SKYWAVE_CUTS` changes the number of power cuts, `SKYWAVE_SEED`
//! repeats their moments, `SKYWAVE_PI=1` adds a second Raspberry Pi 3, which takes minutes, and `SKYWAVE_LEDS_TEST` names the
//! program of tests/leds.rs for the board.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "modules of one test binary")]

/// Helpers shared by the test binaries.
#[path = "../support"]
mod support {
    pub(crate) mod checker;
    pub(crate) mod http_client;
    pub(crate) mod media;
}

mod addition;
mod air;
mod board;
mod button;
mod card;
mod clock;
mod contract;
mod crash;
mod data;
mod image;
mod lights;
mod mdns;
mod power;
mod qmp;
mod sntp;
mod stick;
mod wifi;
