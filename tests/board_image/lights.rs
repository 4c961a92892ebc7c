//! LEDs, seen from outside: the lines of the emulated machines' GPIO controllers.

use crate::addition::Addition;
use crate::board::{Board, Setup};
use crate::card::{Card, LIGHT};
use crate::contract::Contract;
use crate::image::image;
use crate::qmp::Qmp;
use crate::support::media::{Depth, sines, wav};
use std::time::{Duration, Instant};

/// PL061 of QEMU's virt: GPIODATA with all eight lines selected (ARM DDI 0190, section 3.3.1).
const PL061_DATA: u64 = 0x0903_03fc;
/// GPLEV0 of a BCM2837: the level of lines 0 to 31 (BCM2835 ARM Peripherals, section 6.1).
const GPLEV0: u64 = 0x3f20_0034;
/// Longer than every pattern of the lights is dark or lit.
const WATCH: Duration = Duration::from_secs(4);
/// Names of the lights, in the order of their lines here.
const LIGHTS: [&str; 3] = ["power", "network", "on air"];

/// What a light does while it is watched (docs/operating.md).
#[derive(Debug, PartialEq, Eq)]
enum Shown {
    Dark,
    Steady,
    /// Lit for a tenth of the time.
    Heartbeat,
    /// Lit for more of it.
    Changing,
}

/// The lines that board/pins.toml gives a board: power, network, on air.
fn pins(board: &str) -> [u32; 3] {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/board/pins.toml");
    let Ok(text) = std::fs::read_to_string(path) else { panic!("{path} is missing") };
    let table: toml::Table = text.parse().expect("TOML");
    let boards = table["board"].as_array().expect("boards");
    let entry = boards.iter().find(|entry| entry.to_string().contains(board)).expect("the board");
    ["power", "network", "on_air"].map(|led| entry[led].as_integer().expect("a line") as u32)
}

/// A board's lights, as the machine's monitor sees their lines.
struct Lights {
    monitor: Qmp,
    address: u64,
    pins: [u32; 3],
}

impl Lights {
    /// Power, network, on air.
    fn lit(&mut self) -> [bool; 3] {
        let word = self.monitor.word(self.address);
        self.pins.map(|pin| word >> pin & 1 == 1)
    }

    /// Each light is lit within the patience, and there is something to hear.
    fn come_on(&mut self, board: &mut Board) {
        board.wait_for("the light for power", |_| self.lit()[0].then_some(()));
        board.wait_for("the light for the air", |_| self.lit()[2].then_some(()));
        board.wait_on_air();
        board.wait_for("the light for the network", |_| self.lit()[1].then_some(()));
    }

    /// What each light does for some seconds.
    fn watch(&mut self, board: &mut Board) -> [Shown; 3] {
        let (began, mut looks, mut lit) = (Instant::now(), 0, [0; 3]);
        board.wait_for("an end to the watch", |_| {
            looks += 1;
            for (lit, now) in lit.iter_mut().zip(self.lit()) {
                *lit += u32::from(now);
            }
            (began.elapsed() > WATCH).then_some(())
        });
        lit.map(|lit| match lit {
            0 => Shown::Dark,
            lit if lit == looks => Shown::Steady,
            lit if lit * 10 <= looks * 3 => Shown::Heartbeat,
            _ => Shown::Changing,
        })
    }
}

/// The lights show what they are to show in the end; a board may have more to do at first.
fn show(board: &mut Board, lights: &mut Lights, wanted: [Shown; 3]) {
    let until = Instant::now() + 15 * WATCH;
    loop {
        let shown = lights.watch(board);
        if shown == wanted {
            return;
        }
        assert!(Instant::now() < until, "{LIGHTS:?}: {shown:?} instead of {wanted:?}");
    }
}

#[test]
fn the_lights_of_the_virtual_board_show_its_state_and_its_chip_keeps_the_contract() {
    let Some(image) = image() else { return };
    let card = Card::started(&image).card;
    let tone = sines(8_000, 0, 60 * 8_000, &[(440.0, 0.3)]);
    card.put("music/Tone.wav", wav(8_000, 1, None, Depth::U8, &tone));
    let contract = Contract::of(&["gpiochip:/dev/gpiochip0:0,1"]);
    let addition = contract.add_to(Addition::default());
    let mut board = Board::start(&card, &Setup { addition: Some(addition), ..Setup::default() });
    let monitor = board.monitor();
    let mut lights = Lights { monitor, address: PL061_DATA, pins: pins("dummy-virt") };
    lights.come_on(&mut board);
    // No time server is reached.
    show(&mut board, &mut lights, [Shown::Steady, Shown::Heartbeat, Shown::Steady]);
    contract.is_kept(&mut board);
}

/// Whether a second Raspberry Pi 3 is asked for; if not, that is said.
fn second_pi_is_wanted() -> bool {
    let is_wanted = std::env::var_os("SKYWAVE_PI").is_some();
    if !is_wanted {
        eprintln!("SKIPPED: SKYWAVE_PI=1 asks for the Raspberry Pi 3 without rppal too, which takes minutes");
    }
    is_wanted
}

/// A Raspberry Pi 3 is on the air, without music, and its lights say so.
fn pi_lights(card: &Card, addition: Option<Addition>) -> Board {
    let mut board = Board::start(card, &Setup { pi: true, addition, ..Setup::default() });
    let monitor = board.monitor();
    let mut lights = Lights { monitor, address: GPLEV0, pins: pins("raspberrypi,3-model-b") };
    lights.come_on(&mut board);
    eprintln!("the lights of a Raspberry Pi 3 are lit {:.1?} after power-on", board.since.elapsed());
    show(&mut board, &mut lights, [Shown::Steady, Shown::Heartbeat, Shown::Heartbeat]);
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
fn rppal_drives_the_lines_of_a_raspberry_pi_3_and_keeps_the_contract() {
    let Some(image) = image() else { return };
    let card = Card::flashed(&image);
    // Without a fallback: what is lit is lit by rppal.
    card.put("station.toml", format!("[leds]\nbackend = \"rppal\"\n{LIGHT}"));
    let contract = Contract::of(&["rppal::5,6", "gpiochip:pinctrl-bcm2835:5,6"]);
    let addition = Addition::default().file("systemd/system/skywave.service.d/memory.conf", MEMORY);
    let mut board = pi_lights(&card, Some(contract.add_to(addition)));
    let health = board.json("/health").expect("the station's health");
    assert_eq!(health["stages"]["leds"]["state"], "running", "{health}");
    contract.is_kept(&mut board);
    board.cut();
    card.check();
}
