//! The contract of every GPIO back end: one suite for the recording chip, and for hardware where the environment names it.
//!
//! `SKYWAVE_GPIO` lists back ends with a chip and two free lines each, such as
//! `gpiochip:/dev/gpiochip0:5,6 rppal::17,27`. QEMU has such hardware; a workstation has not, and says so.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use skywave::leds::LedsError;
use skywave::leds::gpio::recording::Recording;
use skywave::leds::gpio::{Button, Gpio, Led, WithFallback};

/// A chip with two lines that nobody uses.
struct Bench {
    name: String,
    gpio: Box<dyn Gpio>,
    lines: [u32; 2],
}

impl Bench {
    fn led(&self, line: u32, active_low: bool) -> Box<dyn Led> {
        self.gpio.led(line, active_low).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    fn button(&self, line: u32, active_low: bool) -> Box<dyn Button> {
        self.gpio.button(line, active_low).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

/// Every back end that there is to test on this machine.
fn benches() -> Vec<Bench> {
    let recording = |name: &str, gpio: Box<dyn Gpio>| Bench { name: name.to_owned(), gpio, lines: [0, 3] };
    let fallback = WithFallback { first: Box::new(Absent), second: Box::new(Recording::new(4)) };
    let mut benches = vec![
        recording("recording", Box::new(Recording::new(4))),
        recording("recording, as the second choice", Box::new(fallback)),
    ];
    match std::env::var("SKYWAVE_GPIO") {
        Ok(list) => benches.extend(list.split_whitespace().map(hardware)),
        Err(_) => eprintln!("skipped: no GPIO hardware to test, as SKYWAVE_GPIO is not set"),
    }
    benches
}

#[cfg(target_os = "linux")]
fn hardware(entry: &str) -> Bench {
    use skywave::leds::gpio::character_device::CharacterDevice;
    use skywave::leds::gpio::raspberry_pi::RaspberryPi;

    let [backend, chip, lines] = entry.split(':').collect::<Vec<_>>().try_into().expect("backend:chip:lines");
    let lines: Vec<u32> = lines.split(',').map(|line| line.parse().expect("a number")).collect();
    let gpio: Box<dyn Gpio> = match backend {
        "gpiochip" => Box::new(CharacterDevice { chip: chip.to_owned(), on_header: None }),
        "rppal" => Box::new(RaspberryPi),
        other => panic!("{other} is no back end"),
    };
    Bench { name: entry.to_owned(), gpio, lines: lines.try_into().expect("two lines") }
}

#[cfg(not(target_os = "linux"))]
fn hardware(entry: &str) -> Bench {
    panic!("{entry}: no GPIO hardware on this system");
}

/// A chip that is not there.
struct Absent;

impl Gpio for Absent {
    fn led(&self, _line: u32, _active_low: bool) -> Result<Box<dyn Led>, LedsError> {
        Err(LedsError::NoChip { chip: "absent".to_owned() })
    }

    fn button(&self, _line: u32, _active_low: bool) -> Result<Box<dyn Button>, LedsError> {
        Err(LedsError::NoChip { chip: "absent".to_owned() })
    }
}

// One test for all of it: the lines of one chip cannot be tested side by side.
#[test]
fn every_back_end_keeps_the_contract() {
    for bench in benches() {
        eprintln!("contract of {}", bench.name);
        lights_show_what_they_are_set_to(&bench);
        lines_have_one_owner_at_a_time(&bench);
        lines_that_are_not_there_are_named(&bench);
        a_released_line_is_dark(&bench);
    }
}

fn lights_show_what_they_are_set_to(bench: &Bench) {
    for active_low in [false, true] {
        let [mut first, mut second] = bench.lines.map(|line| bench.led(line, active_low));
        let lit = |leds: [&dyn Led; 2]| leds.map(|led| led.is_lit().unwrap());
        assert_eq!(lit([first.as_ref(), second.as_ref()]), [false; 2], "{}: dark at first", bench.name);
        first.set(true).unwrap();
        assert_eq!(lit([first.as_ref(), second.as_ref()]), [true, false], "{}: each by itself", bench.name);
        second.set(true).unwrap();
        second.set(true).unwrap();
        first.set(false).unwrap();
        assert_eq!(lit([first.as_ref(), second.as_ref()]), [false, true], "{}", bench.name);
    }
}

fn lines_have_one_owner_at_a_time(bench: &Bench) {
    let [line, other] = bench.lines;
    let held = bench.led(line, false);
    for refused in [bench.gpio.led(line, false).err(), bench.gpio.button(line, true).err()] {
        let refused = refused.unwrap_or_else(|| panic!("{}: line {line} was given out twice", bench.name));
        assert!(
            matches!(refused, LedsError::Busy { line: of, .. } if of == line),
            "{}: {refused}",
            bench.name
        );
    }
    drop(bench.led(other, false));
    drop(held);
    // A refusal has not left anything taken either.
    drop(bench.button(line, true));
    drop(bench.led(line, false));
}

fn lines_that_are_not_there_are_named(bench: &Bench) {
    for line in [1_000, u32::MAX] {
        for refused in [bench.gpio.led(line, false).err(), bench.gpio.button(line, false).err()] {
            let refused = refused.unwrap_or_else(|| panic!("{}: there is a line {line}", bench.name));
            assert!(
                matches!(refused, LedsError::NoLine { line: of, .. } if of == line),
                "{}: {refused}",
                bench.name
            );
            assert!(refused.to_string().contains(&format!("no line {line}")), "{refused}");
        }
    }
}

fn a_released_line_is_dark(bench: &Bench) {
    let line = bench.lines[0];
    for active_low in [false, true] {
        let mut led = bench.led(line, active_low);
        led.set(true).unwrap();
        drop(led);
        let led = bench.led(line, active_low);
        assert!(!led.is_lit().unwrap(), "{}: lit again without being set", bench.name);
    }
}

#[test]
fn the_second_choice_stands_in_for_a_missing_chip_and_for_nothing_else() {
    let (first, second) = (Recording::new(4), Recording::new(8));
    first.occupy(1, Some("a fan"));
    let both = WithFallback { first: Box::new(first.clone()), second: Box::new(second.clone()) };
    assert!(matches!(both.led(1, false), Err(LedsError::Busy { .. })));
    assert!(matches!(both.led(6, false), Err(LedsError::NoLine { last: 3, .. })));
    let _led = both.led(2, false).unwrap();
    assert_eq!((first.owner(2).as_deref(), second.owner(2)), (Some("skywave"), None));
}
