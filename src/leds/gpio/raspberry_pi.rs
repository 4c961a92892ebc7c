//! A Raspberry Pi's registers, through rppal. The registers know no owner, so who uses a line is asked of the kernel.

use gpiocdev::chip::{Chip, chips};
use rppal::gpio::{Error, Gpio as Registers, InputPin, Mode, OutputPin, Pin};

use super::{Button, Gpio, Led, LedsError};

/// How the errors call the chip.
const CHIP: &str = "the Raspberry Pi's header";
/// BCM lines 0 to 27 lead to the header; those above drive the SD card, the network and the like.
const ON_HEADER: u32 = 28;
/// Labels of the header's chip in the kernel, up to the Pi 5.
const LABELS: [&str; 4] = ["pinctrl-bcm2835", "pinctrl-bcm2836", "pinctrl-bcm2711", "pinctrl-rp1"];

/// The lines of the header by their BCM numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct RaspberryPi;

impl RaspberryPi {
    fn take(line: u32) -> Result<Pin, LedsError> {
        let busy = |owner: String| LedsError::Busy { chip: CHIP.to_owned(), line, owner };
        let absent = || LedsError::NoLine { chip: CHIP.to_owned(), line, last: ON_HEADER - 1 };
        let number =
            u8::try_from(line).ok().filter(|number| u32::from(*number) < ON_HEADER).ok_or_else(absent)?;
        let registers = Registers::new().map_err(unusable)?;
        if let Some(owner) = owner_in_kernel(line) {
            return Err(busy(owner));
        }
        let pin = registers.get(number).map_err(|error| match error {
            Error::PinUsed(_) => busy("this program".to_owned()),
            Error::PinNotAvailable(_) => absent(),
            error => unusable(error),
        })?;
        match pin.mode() {
            Mode::Input | Mode::Output | Mode::Null => Ok(pin),
            function => Err(busy(format!("the chip's function {function}"))),
        }
    }
}

fn unusable(error: Error) -> LedsError {
    match error {
        Error::UnknownModel => LedsError::NoChip { chip: CHIP.to_owned() },
        error => LedsError::Chip { chip: CHIP.to_owned(), source: Box::new(error) },
    }
}

/// Who has the line by the kernel's account, where the kernel can be asked.
fn owner_in_kernel(line: u32) -> Option<String> {
    let of_header = |chip: &Chip| chip.info().is_ok_and(|info| LABELS.contains(&&*info.label));
    let chip = chips().ok()?.into_iter().filter_map(|path| Chip::from_path(path).ok()).find(of_header)?;
    let info = chip.line_info(line).ok().filter(|info| info.used)?;
    Some(if info.consumer.is_empty() { "the kernel".to_owned() } else { info.consumer })
}

struct Light {
    pin: OutputPin,
    active_low: bool,
}

impl Led for Light {
    fn set(&mut self, lit: bool) -> Result<(), LedsError> {
        self.pin.write((lit != self.active_low).into());
        Ok(())
    }

    fn is_lit(&self) -> Result<bool, LedsError> {
        Ok(self.pin.is_set_high() != self.active_low)
    }
}

impl Drop for Light {
    /// The pin's own drop then gives it its former direction.
    fn drop(&mut self) {
        self.pin.write(self.active_low.into());
    }
}

struct Key {
    pin: InputPin,
    active_low: bool,
}

impl Button for Key {
    fn is_pressed(&self) -> Result<bool, LedsError> {
        Ok(self.pin.is_high() != self.active_low)
    }
}

impl Gpio for RaspberryPi {
    fn led(&self, line: u32, active_low: bool) -> Result<Box<dyn Led>, LedsError> {
        let pin = Self::take(line)?;
        let pin = if active_low { pin.into_output_high() } else { pin.into_output_low() };
        Ok(Box::new(Light { pin, active_low }))
    }

    fn button(&self, line: u32, active_low: bool) -> Result<Box<dyn Button>, LedsError> {
        let pin = Self::take(line)?;
        let pin = if active_low { pin.into_input_pullup() } else { pin.into_input_pulldown() };
        Ok(Box::new(Key { pin, active_low }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_do_not_lead_to_the_header_are_refused_before_anything_is_touched() {
        for line in [28, 48, 255, 256, u32::MAX] {
            let refused = RaspberryPi.led(line, false).err().expect("not on the header");
            assert!(matches!(&refused, LedsError::NoLine { last: 27, .. }), "{refused}");
        }
    }
}
