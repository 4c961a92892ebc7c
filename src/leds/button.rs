//! Button stage: takes the level of one line, gives what was meant by it to whoever acts on it.
//!
//! A crash loses the press under way. Without a button it is not started.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::gpio::{Button as Line, LedsError};
use super::panel::ButtonLine;
pub use super::press::Press;
use super::press::Presses;
use super::{FIRST_RETRY, LONGEST_RETRY, complain};
use crate::health::StageHealth;
use crate::supervisor::backoff::Backoff;
use crate::supervisor::chain;

/// How often the line is looked at: twice within the shortest press of a finger.
const SAMPLE_EVERY: Duration = Duration::from_millis(20);

/// `[button]`: what one button does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ButtonConfig {
    /// Whether there is one.
    pub enabled: bool,
    /// Its line; the board's where it is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<u32>,
    /// Whether it connects its line to ground; the board's, or else yes, where it is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_low: Option<bool>,
    /// Whether the reset takes the station's identity too, and with it the IPNS name.
    pub reset_identity: bool,
    /// Folder of requests to the system, from the command line.
    #[serde(skip)]
    pub requests: Option<PathBuf>,
}

/// Acts on presses; does not block.
pub type Act = Arc<dyn Fn(Press) + Send + Sync>;

/// The stage's ends; survives a restart of the stage.
pub struct ButtonStage {
    /// Where the button is.
    pub line: ButtonLine,
    /// Who acts on it.
    pub act: Act,
    /// Counts what was understood, for the lights to acknowledge.
    pub understood: watch::Sender<u64>,
    /// Where the stage reports.
    pub health: StageHealth,
    /// When the program started, and what was pressed since.
    pub presses: Mutex<Presses>,
    /// When the program started.
    pub origin: Instant,
}

impl ButtonStage {
    /// Follows the button until `cancel` fires; a line that cannot be had is tried again, later and later.
    ///
    /// # Errors
    /// Never: what fails is in health.
    pub async fn run(&self, cancel: CancellationToken) -> Result<(), Infallible> {
        let mut backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
        let mut said = None;
        loop {
            let failure = match self.line.open() {
                Ok(line) => {
                    if said.take().is_some() {
                        tracing::info!("the button works again");
                    }
                    backoff.reset();
                    self.health.running();
                    tokio::select! {
                        () = cancel.cancelled() => return Ok(()),
                        failure = self.follow(line) => failure,
                    }
                }
                Err(failure) => failure,
            };
            if self.line.is_absent(&failure) {
                tracing::debug!(error = %failure, "no button");
            } else if said.as_ref() != Some(&failure.to_string()) {
                complain("button", &failure);
                self.health.failed(&chain(&failure));
                said = Some(failure.to_string());
            }
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = tokio::time::sleep(backoff.next(fastrand::f64())) => {}
            }
        }
    }

    /// Samples the line until it cannot be read.
    async fn follow(&self, line: Box<dyn Line>) -> LedsError {
        let mut every = tokio::time::interval(SAMPLE_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let pressed = match line.is_pressed() {
                Ok(pressed) => pressed,
                Err(failure) => return failure,
            };
            let press = {
                let mut presses = self.presses.lock().unwrap_or_else(PoisonError::into_inner);
                presses.sample(pressed, self.origin.elapsed())
            };
            if let Some(press) = press {
                tracing::info!(?press, "button");
                self.understood.send_modify(|count| *count += 1);
                (self.act)(press);
            }
        }
    }
}
