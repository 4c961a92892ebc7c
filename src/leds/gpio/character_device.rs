//! The kernel's GPIO character device, `/dev/gpiochipN`: any board.

use std::path::PathBuf;

use gpiocdev::chip::{Chip, chips};
use gpiocdev::line::{Bias, Value};
use gpiocdev::request::Request;

use super::{Button, Gpio, Led, LedsError};

/// Under this name the lines are listed by `gpioinfo`.
const CONSUMER: &str = "skywave";

/// The lines of one chip.
#[derive(Debug, Clone)]
pub struct CharacterDevice {
    /// Path of the device, which begins with a slash, or else the chip's label, such as `pinctrl-bcm2711`.
    pub chip: String,
    /// How many lines lead to the header, from 0; those above are the board's own. `None`: all.
    pub on_header: Option<u32>,
}

impl CharacterDevice {
    fn open(&self) -> Result<Chip, LedsError> {
        if self.chip.starts_with('/') {
            if !std::fs::exists(&self.chip).unwrap_or(true) {
                return Err(LedsError::NoChip { chip: self.chip.clone() });
            }
            return Chip::from_path(&self.chip).map_err(|error| self.unusable(error));
        }
        labelled(&self.chip)
            .map_err(|error| self.unusable(error))?
            .ok_or(LedsError::NoChip { chip: self.chip.clone() })
    }

    fn unusable(&self, error: gpiocdev::Error) -> LedsError {
        LedsError::Chip { chip: self.chip.clone(), source: Box::new(error) }
    }

    /// The path of the chip, once it is known that the line can be had.
    fn find(&self, line: u32) -> Result<PathBuf, LedsError> {
        let chip = self.open()?;
        let lines = chip.info().map_err(|error| self.unusable(error))?.num_lines;
        let lines = lines.min(self.on_header.unwrap_or(lines));
        if line >= lines {
            return Err(LedsError::NoLine { chip: self.chip.clone(), line, last: lines.saturating_sub(1) });
        }
        let info = chip.line_info(line).map_err(|error| self.unusable(error))?;
        if info.used {
            let owner = if info.consumer.is_empty() { "the kernel".to_owned() } else { info.consumer };
            return Err(LedsError::Busy { chip: self.chip.clone(), line, owner });
        }
        Ok(chip.path().to_owned())
    }

    fn request(&self, line: u32, active_low: bool, of: Direction) -> Result<Line, LedsError> {
        let path = self.find(line)?;
        let request = |bias: Option<Bias>| {
            let mut builder = Request::builder();
            builder.on_chip(&path).with_consumer(CONSUMER).with_line(line);
            match of {
                Direction::Out => builder.as_output(Value::Inactive),
                Direction::In => builder.as_input().with_bias(bias),
            };
            if active_low {
                builder.as_active_low();
            }
            builder.request()
        };
        let idle = if active_low { Bias::PullUp } else { Bias::PullDown };
        // Not every chip has resistors of its own.
        let request =
            request(Some(idle)).or_else(|_| request(None)).map_err(|error| self.silent(line, error))?;
        Ok(Line { chip: self.clone(), line, request })
    }

    fn silent(&self, line: u32, error: gpiocdev::Error) -> LedsError {
        LedsError::Line { chip: self.chip.clone(), line, source: Box::new(error) }
    }
}

/// The path and handle of the chip of that label.
fn labelled(label: &str) -> Result<Option<Chip>, gpiocdev::Error> {
    let mut refused = None;
    for path in chips()? {
        let found = Chip::from_path(path).and_then(|chip| Ok((chip.info()?.label == label).then_some(chip)));
        match found {
            Ok(Some(chip)) => return Ok(Some(chip)),
            Ok(None) => {}
            Err(error) => refused = Some(error),
        }
    }
    // One that could not be opened may be the one.
    refused.map_or(Ok(None), Err)
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    In,
    Out,
}

/// A line that is ours until it is dropped.
#[derive(Debug)]
struct Line {
    chip: CharacterDevice,
    line: u32,
    request: Request,
}

impl Line {
    fn is_active(&self) -> Result<bool, LedsError> {
        let value = self.request.lone_value().map_err(|error| self.chip.silent(self.line, error))?;
        Ok(value == Value::Active)
    }
}

struct Light(Line);

impl Led for Light {
    fn set(&mut self, lit: bool) -> Result<(), LedsError> {
        let Line { chip, line, request } = &self.0;
        request.set_lone_value(Value::from(lit)).map_err(|error| chip.silent(*line, error))
    }

    fn is_lit(&self) -> Result<bool, LedsError> {
        self.0.is_active()
    }
}

impl Drop for Light {
    fn drop(&mut self) {
        if let Err(error) = self.set(false) {
            tracing::debug!(%error, "a light that is given back may stay lit");
        }
    }
}

struct Key(Line);

impl Button for Key {
    fn is_pressed(&self) -> Result<bool, LedsError> {
        self.0.is_active()
    }
}

impl Gpio for CharacterDevice {
    fn led(&self, line: u32, active_low: bool) -> Result<Box<dyn Led>, LedsError> {
        Ok(Box::new(Light(self.request(line, active_low, Direction::Out)?)))
    }

    fn button(&self, line: u32, active_low: bool) -> Result<Box<dyn Button>, LedsError> {
        Ok(Box::new(Key(self.request(line, active_low, Direction::In)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(chip: &str) -> LedsError {
        let device = CharacterDevice { chip: chip.to_owned(), on_header: None };
        device.led(0, false).err().expect("there is no such chip")
    }

    #[test]
    fn a_chip_that_is_not_there_and_a_file_that_is_no_chip_are_told_apart() {
        for absent in ["/dev/gpiochip-of-nobody", "label-of-nobody"] {
            assert!(matches!(refusal(absent), LedsError::NoChip { .. }), "{absent}");
        }
        let null = refusal("/dev/null");
        assert!(matches!(&null, LedsError::Chip { .. }), "{null}");
        assert!(null.to_string().contains("/dev/null"));
    }
}
