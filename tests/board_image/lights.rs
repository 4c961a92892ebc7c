//! LEDs, seen from outside: the lines of the emulated machines' GPIO controllers.

use crate::board::{Board, Setup, image};
use crate::card::Card;
use crate::qmp::Qmp;

/// PL061 of QEMU's virt: GPIODATA with all eight lines selected (ARM DDI 0190, section 3.3.1).
const PL061_DATA: u64 = 0x0903_03fc;
/// GPLEV0 of a BCM2837: the level of lines 0 to 31 (BCM2835 ARM Peripherals, section 6.1).
const GPLEV0: u64 = 0x3f20_0034;

/// The lines that board/pins.toml gives a board: power, network, on air.
fn pins(board: &str) -> [u32; 3] {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/board/pins.toml");
    let Ok(text) = std::fs::read_to_string(path) else { panic!("{path} is missing") };
    let table: toml::Table = text.parse().expect("TOML");
    let boards = table["board"].as_array().expect("boards");
    let entry = boards.iter().find(|entry| entry.to_string().contains(board)).expect("the board");
    ["power", "network", "on_air"].map(|led| entry[led].as_integer().expect("a line") as u32)
}

/// Each LED is lit within the patience, and the on-air LED is not lit before the air.
fn lit(board: &mut Board, monitor: &mut Qmp, address: u64, pins: [u32; 3]) {
    board.wait_on_air();
    for (led, pin) in ["power", "network", "on air"].into_iter().zip(pins) {
        board.wait_for(&format!("the {led} LED, line {pin}"), |_| {
            (monitor.word(address) >> pin & 1 == 1).then_some(())
        });
    }
}

#[test]
fn the_leds_of_the_virtual_board_are_lit_on_the_air() {
    let Some(image) = image() else { return };
    let card = Card::flashed(&image);
    let mut board = Board::start(&card, &Setup::default());
    let mut monitor = board.monitor();
    let pins = pins("dummy-virt");
    assert_eq!(monitor.word(PL061_DATA) >> pins[2] & 1, 0, "on air before the start");
    lit(&mut board, &mut monitor, PL061_DATA, pins);
}

#[test]
fn a_raspberry_pi_3_is_on_the_air_and_lights_its_leds() {
    let Some(image) = image() else { return };
    if std::env::var_os("SKYWAVE_PI").is_none() {
        eprintln!("SKIPPED: SKYWAVE_PI=1 asks for the Raspberry Pi 3, which takes minutes");
        return;
    }
    let card = Card::flashed(&image);
    let mut board = Board::start(&card, &Setup { pi: true, ..Setup::default() });
    let mut monitor = board.monitor();
    lit(&mut board, &mut monitor, GPLEV0, pins("raspberrypi"));
}
