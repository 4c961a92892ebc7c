//! LEDs, seen from outside: the lines of the emulated machines' GPIO controllers.

use crate::addition::Addition;
use crate::board::{Board, Setup};
use crate::card::{Card, LIGHT};
use crate::image::image;
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
    let card = Card::started(&image).card;
    let mut board = Board::start(&card, &Setup::default());
    let mut monitor = board.monitor();
    let pins = pins("dummy-virt");
    assert_eq!(monitor.word(PL061_DATA) >> pins[2] & 1, 0, "on air before the start");
    lit(&mut board, &mut monitor, PL061_DATA, pins);
}

/// Whether a second Raspberry Pi 3 is asked for; if not, that is said.
fn second_pi_is_wanted() -> bool {
    let is_wanted = std::env::var_os("SKYWAVE_PI").is_some();
    if !is_wanted {
        eprintln!("SKIPPED: SKYWAVE_PI=1 asks for the Raspberry Pi 3 without rppal too, which takes minutes");
    }
    is_wanted
}

/// A Raspberry Pi 3 is on the air and lights its LEDs.
fn pi_lights(card: &Card, addition: Option<Addition>) -> Board {
    let mut board = Board::start(card, &Setup { pi: true, addition, ..Setup::default() });
    let mut monitor = board.monitor();
    lit(&mut board, &mut monitor, GPLEV0, pins("raspberrypi,3-model-b"));
    eprintln!("the lights of a Raspberry Pi 3 are lit {:.1?} after power-on", board.since.elapsed());
    board
}

#[test]
fn a_raspberry_pi_3_is_on_the_air_and_lights_its_leds() {
    let Some(image) = image().filter(|_| second_pi_is_wanted()) else { return };
    let card = Card::flashed(&image);
    card.put("station.toml", LIGHT);
    pi_lights(&card, None).cut();
    card.check();
}

/// Debian's kernel has no /dev/gpiomem, and /dev/mem is root's: the registers need more than the image's own service may do.
const MEMORY: &str = "[Service]
DeviceAllow=/dev/mem rw
AmbientCapabilities=CAP_SYS_RAWIO CAP_DAC_OVERRIDE
CapabilityBoundingSet=CAP_SYS_RAWIO CAP_DAC_OVERRIDE
";

#[test]
fn rppal_drives_the_lines_of_a_raspberry_pi_3() {
    let Some(image) = image() else { return };
    let card = Card::flashed(&image);
    // Without a fallback: what is lit is lit by rppal.
    card.put("station.toml", format!("[leds]\nbackend = \"rppal\"\n{LIGHT}"));
    let addition = Addition::default().file("systemd/system/skywave.service.d/memory.conf", MEMORY);
    let board = pi_lights(&card, Some(addition));
    let health = board.json("/health").expect("the station's health");
    assert_eq!(health["stages"]["leds"]["state"], "running", "{health}");
    board.cut();
    card.check();
}
