//! GPIO lines behind one trait: lights that are set and buttons that are read.
//!
//! Every back end keeps the same contract, which tests/leds.rs checks on each: a line has one owner at a time, a light
//! that is dropped is dark and its line free, and no error leaves a line taken.

#[cfg(target_os = "linux")]
pub mod character_device;
#[cfg(target_os = "linux")]
pub mod raspberry_pi;
pub mod recording;

use std::error::Error;

use thiserror::Error;

/// The cause of a GPIO failure, of whichever back end.
pub type Cause = Box<dyn Error + Send + Sync>;

/// Why a line cannot be used.
#[derive(Debug, Error)]
pub enum LedsError {
    /// The chip is not there: no such device, or none of that label.
    #[error("there is no GPIO chip {chip}")]
    NoChip {
        /// Path or label.
        chip: String,
    },
    /// The chip is there and cannot be used, such as for want of permission.
    #[error("cannot use the GPIO chip {chip}")]
    Chip {
        /// Path or label.
        chip: String,
        /// What the system said.
        #[source]
        source: Cause,
    },
    /// The chip has no such line, or it does not lead to the header.
    #[error("{chip} has no line {line}; its lines are 0 to {last}")]
    NoLine {
        /// Path or label.
        chip: String,
        /// The line asked for.
        line: u32,
        /// The highest that there is.
        last: u32,
    },
    /// The line has another owner.
    #[error("line {line} of {chip} is in use by {owner}")]
    Busy {
        /// Path or label.
        chip: String,
        /// The line.
        line: u32,
        /// Who has it, as far as the system tells.
        owner: String,
    },
    /// The line was ours and could not be set or read.
    #[error("line {line} of {chip} does not answer")]
    Line {
        /// Path or label.
        chip: String,
        /// The line.
        line: u32,
        /// What the system said.
        #[source]
        source: Cause,
    },
    /// Nobody said which lines: no entry for this board, and none in the configuration.
    #[error("{board} is not known: name chip and lines in the configuration, or set backend = \"none\"")]
    UnknownBoard {
        /// What the device tree calls the board.
        board: String,
    },
}

/// A light. Dropping it makes it dark and frees its line.
pub trait Led: Send {
    /// Lights it or makes it dark.
    ///
    /// # Errors
    /// [`LedsError::Line`]; the light is then in an unknown state, and best opened anew.
    fn set(&mut self, lit: bool) -> Result<(), LedsError>;

    /// Whether it is lit, read back from the hardware.
    ///
    /// # Errors
    /// [`LedsError::Line`].
    fn is_lit(&self) -> Result<bool, LedsError>;
}

/// A button. Dropping it frees its line.
pub trait Button: Send {
    /// Whether it is held down at this moment; not debounced.
    ///
    /// # Errors
    /// [`LedsError::Line`].
    fn is_pressed(&self) -> Result<bool, LedsError>;
}

/// Gives out lines by their number. None of this blocks for longer than a system call.
pub trait Gpio: Send + Sync {
    /// Takes a line for a light, which is dark at first. `active_low`: the light is lit at the low level.
    ///
    /// # Errors
    /// [`LedsError`] of any kind but [`LedsError::UnknownBoard`].
    fn led(&self, line: u32, active_low: bool) -> Result<Box<dyn Led>, LedsError>;

    /// Takes a line for a button, with the chip's own resistor towards the level of a button that is not pressed,
    /// where the chip has one. `active_low`: pressed at the low level.
    ///
    /// # Errors
    /// [`LedsError`] of any kind but [`LedsError::UnknownBoard`].
    fn button(&self, line: u32, active_low: bool) -> Result<Box<dyn Button>, LedsError>;
}

/// One back end, and another where that one's chip is not there or cannot be used at all.
pub struct WithFallback {
    /// Tried first.
    pub first: Box<dyn Gpio>,
    /// Tried where the first one has no chip.
    pub second: Box<dyn Gpio>,
}

impl WithFallback {
    fn either<T>(&self, open: impl Fn(&dyn Gpio) -> Result<T, LedsError>) -> Result<T, LedsError> {
        match open(self.first.as_ref()) {
            Err(LedsError::NoChip { .. } | LedsError::Chip { .. }) => open(self.second.as_ref()),
            opened => opened,
        }
    }
}

impl Gpio for WithFallback {
    fn led(&self, line: u32, active_low: bool) -> Result<Box<dyn Led>, LedsError> {
        self.either(|gpio| gpio.led(line, active_low))
    }

    fn button(&self, line: u32, active_low: bool) -> Result<Box<dyn Button>, LedsError> {
        self.either(|gpio| gpio.button(line, active_low))
    }
}
