//! The panel: which lines the lights and the button are on, and how they are reached.

use std::sync::Arc;

use super::board::{Access, Board, DeviceTree};
use super::button::ButtonConfig;
use super::gpio::{Button, Gpio, Led, LedsError, WithFallback};
use super::{Backend, LedsConfig};

/// How and where the lights are.
#[derive(Clone)]
pub struct Panel {
    /// Lines of the lights for power, network and air; `None` where one has none.
    pub lines: [Option<u32>; 3],
    /// Whether a light is lit at the low level.
    pub active_low: bool,
    reach: Reach,
}

/// Where the button is.
#[derive(Clone)]
pub struct ButtonLine {
    line: u32,
    active_low: bool,
    reach: Reach,
}

/// A back end, and whether the owner asked for it.
#[derive(Clone)]
struct Reach {
    gpio: Arc<dyn Gpio>,
    /// Found by the device tree alone: that the chip is missing, as in a container, is no fault.
    is_guess: bool,
}

impl Reach {
    fn is_absent(&self, failure: &LedsError) -> bool {
        self.is_guess && matches!(failure, LedsError::NoChip { .. })
    }
}

impl Panel {
    /// Lights on these lines of a chip.
    pub fn new(gpio: Arc<dyn Gpio>, lines: [Option<u32>; 3], active_low: bool) -> Self {
        Self { lines, active_low, reach: Reach { gpio, is_guess: false } }
    }

    /// The panel that the configuration names, the board's table filling in what it leaves open. `None`: no lights.
    ///
    /// # Errors
    /// [`LedsError::UnknownBoard`] where lights are asked for and nobody knows where they are.
    pub fn find(config: &LedsConfig, tree: &DeviceTree) -> Result<Option<Self>, LedsError> {
        let board = tree.board();
        let Some(reach) = reach(config, tree, board.as_ref())? else { return Ok(None) };
        let line = |own: Option<u32>, of: fn(&Board) -> u32| own.or(board.as_ref().map(of));
        let lines = [
            line(config.power, |board| board.power),
            line(config.network, |board| board.network),
            line(config.on_air, |board| board.on_air),
        ];
        if lines == [None; 3] {
            return Err(unknown(tree));
        }
        Ok(Some(Self { lines, active_low: config.active_low, reach }))
    }

    /// Takes the line of a light.
    ///
    /// # Errors
    /// As [`Gpio::led`].
    pub fn open(&self, line: u32) -> Result<Box<dyn Led>, LedsError> {
        self.reach.gpio.led(line, self.active_low)
    }

    /// Whether the failure only says that this machine has no lights.
    pub fn is_absent(&self, failure: &LedsError) -> bool {
        self.reach.is_absent(failure)
    }
}

impl ButtonLine {
    /// A button on this line of a chip.
    pub fn new(gpio: Arc<dyn Gpio>, line: u32, active_low: bool) -> Self {
        Self { line, active_low, reach: Reach { gpio, is_guess: false } }
    }

    /// The button that the configuration names. `None`: no button.
    ///
    /// # Errors
    /// [`LedsError::UnknownBoard`] where one is asked for and nobody knows where it is.
    pub fn find(
        leds: &LedsConfig,
        config: &ButtonConfig,
        tree: &DeviceTree,
    ) -> Result<Option<Self>, LedsError> {
        if !config.enabled {
            return Ok(None);
        }
        let board = tree.board();
        let Some(reach) = reach(leds, tree, board.as_ref())? else { return Ok(None) };
        let line = config.pin.or(board.as_ref().map(|board| board.button)).ok_or_else(|| unknown(tree))?;
        let of_board = board.as_ref().map(|board| board.button_active_low);
        let active_low = config.active_low.or(of_board).unwrap_or(true);
        Ok(Some(Self { line, active_low, reach }))
    }

    /// Takes the line.
    ///
    /// # Errors
    /// As [`Gpio::button`].
    pub fn open(&self) -> Result<Box<dyn Button>, LedsError> {
        self.reach.gpio.button(self.line, self.active_low)
    }

    /// Whether the failure only says that this machine has no button.
    pub fn is_absent(&self, failure: &LedsError) -> bool {
        self.reach.is_absent(failure)
    }
}

fn unknown(tree: &DeviceTree) -> LedsError {
    LedsError::UnknownBoard { board: tree.name().to_owned() }
}

fn reach(config: &LedsConfig, tree: &DeviceTree, board: Option<&Board>) -> Result<Option<Reach>, LedsError> {
    let asked = |gpio: Box<dyn Gpio>| Ok(Some(Reach { gpio: gpio.into(), is_guess: false }));
    let on_header = board.map(|board| board.on_header);
    let own_chip = config.chip.as_ref();
    match (config.backend, own_chip, board) {
        (Backend::None, ..) => Ok(None),
        (Backend::Rppal, ..) => asked(registers()),
        (Backend::Auto | Backend::Gpiochip, Some(chip), _) => asked(character_device(chip, None)),
        (Backend::Gpiochip, None, Some(board)) => asked(character_device(&board.chip, on_header)),
        (Backend::Gpiochip, None, None) => Err(unknown(tree)),
        (Backend::Auto, None, None) => match [config.power, config.network, config.on_air] {
            [None, None, None] => Ok(None),
            _ => Err(unknown(tree)),
        },
        (Backend::Auto, None, Some(board)) => {
            let second = character_device(&board.chip, on_header);
            let gpio: Arc<dyn Gpio> = match board.backend {
                Access::Gpiochip => second.into(),
                Access::Rppal => Arc::new(WithFallback { first: registers(), second }),
            };
            Ok(Some(Reach { gpio, is_guess: true }))
        }
    }
}

#[cfg(target_os = "linux")]
fn registers() -> Box<dyn Gpio> {
    Box::new(super::gpio::raspberry_pi::RaspberryPi)
}

#[cfg(target_os = "linux")]
fn character_device(chip: &str, on_header: Option<u32>) -> Box<dyn Gpio> {
    Box::new(super::gpio::character_device::CharacterDevice { chip: chip.to_owned(), on_header })
}

#[cfg(not(target_os = "linux"))]
fn registers() -> Box<dyn Gpio> {
    Box::new(super::gpio::recording::Recording::new(0))
}

#[cfg(not(target_os = "linux"))]
fn character_device(_chip: &str, _on_header: Option<u32>) -> Box<dyn Gpio> {
    Box::new(super::gpio::recording::Recording::new(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(name: &str) -> DeviceTree {
        DeviceTree { compatible: vec![name.to_owned()] }
    }

    fn config(backend: Backend) -> LedsConfig {
        LedsConfig { backend, ..LedsConfig::default() }
    }

    fn lines(config: &LedsConfig, tree: &DeviceTree) -> Option<[Option<u32>; 3]> {
        Panel::find(config, tree).unwrap().map(|panel| panel.lines)
    }

    #[test]
    fn a_workstation_has_no_lights_and_a_known_board_has_those_of_the_table() {
        let auto = config(Backend::Auto);
        assert_eq!(lines(&auto, &DeviceTree::default()), None);
        assert_eq!(lines(&auto, &tree("pine64,quartz64-a")), None);
        assert_eq!(lines(&auto, &tree("linux,dummy-virt")), Some([Some(5), Some(6), Some(7)]));
        assert_eq!(lines(&auto, &tree("raspberrypi,4-model-b")), Some([Some(17), Some(27), Some(22)]));
        assert_eq!(lines(&config(Backend::None), &tree("raspberrypi,4-model-b")), None);
    }

    #[test]
    fn the_configuration_wins_over_the_table_line_by_line() {
        let own = LedsConfig { on_air: Some(2), ..config(Backend::Auto) };
        assert_eq!(lines(&own, &tree("linux,dummy-virt")), Some([Some(5), Some(6), Some(2)]));
        let foreign = LedsConfig { chip: Some("/dev/gpiochip1".to_owned()), ..own };
        assert_eq!(lines(&foreign, &DeviceTree::default()), Some([None, None, Some(2)]));
    }

    #[test]
    fn lights_that_are_asked_for_and_are_nowhere_are_a_clear_error() {
        let chip = Some("/dev/gpiochip1".to_owned());
        for asked in [
            config(Backend::Gpiochip),
            config(Backend::Rppal),
            LedsConfig { power: Some(1), ..config(Backend::Auto) },
            LedsConfig { chip, ..config(Backend::Gpiochip) },
        ] {
            let refused = Panel::find(&asked, &tree("pine64,quartz64-a")).err().expect("an error");
            assert!(refused.to_string().contains("pine64,quartz64-a is not known"), "{refused}");
        }
        let button = ButtonConfig { enabled: true, ..ButtonConfig::default() };
        let chip = LedsConfig { chip: Some("/dev/gpiochip1".to_owned()), ..config(Backend::Auto) };
        assert!(ButtonLine::find(&chip, &button, &DeviceTree::default()).is_err());
    }

    #[test]
    fn a_button_is_there_when_it_is_enabled_and_presses_as_its_board_says() {
        let found = |button: &ButtonConfig, name: &str| {
            let found = ButtonLine::find(&config(Backend::Auto), button, &tree(name)).unwrap();
            found.map(|button| (button.line, button.active_low))
        };
        let enabled = ButtonConfig { enabled: true, ..ButtonConfig::default() };
        assert_eq!(found(&ButtonConfig::default(), "linux,dummy-virt"), None);
        assert_eq!(found(&enabled, "linux,dummy-virt"), Some((4, false)));
        assert_eq!(found(&enabled, "raspberrypi,3-model-b"), Some((23, true)));
        assert_eq!(found(&enabled, "pine64,quartz64-a"), None);
        let own = ButtonConfig { pin: Some(2), active_low: Some(true), ..enabled };
        assert_eq!(found(&own, "linux,dummy-virt"), Some((2, true)));
    }

    #[test]
    fn a_chip_that_is_missing_is_a_fault_only_where_it_was_asked_for() {
        let missing = LedsError::NoChip { chip: "/dev/gpiochip0".to_owned() };
        let busy = LedsError::Busy { chip: String::new(), line: 1, owner: String::new() };
        let guessed = Panel::find(&config(Backend::Auto), &tree("linux,dummy-virt")).unwrap().unwrap();
        assert!(guessed.is_absent(&missing) && !guessed.is_absent(&busy));
        let asked = Panel::find(&config(Backend::Gpiochip), &tree("linux,dummy-virt")).unwrap().unwrap();
        assert!(!asked.is_absent(&missing));
    }
}
