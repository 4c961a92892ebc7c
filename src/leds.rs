//! LEDs stage: takes health, gives light on three GPIO lines, and the state in words where there are none.
//!
//! Whatever happens here, the air goes on: a line that cannot be had is told once, shows in health, and is tried again.
//! A crash leaves the lights dark until the stage has been started again; nothing else is lost.

pub mod board;
pub mod button;
pub mod gpio;
pub mod panel;
pub mod pattern;
pub mod press;
pub mod request;
pub mod state;

use std::convert::Infallible;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::health::{Health, StageHealth};
use crate::supervisor::backoff::Backoff;
use crate::supervisor::chain;
pub use button::{ButtonConfig, ButtonStage};
use gpio::Led;
pub use gpio::LedsError;
use panel::Panel;
use pattern::Pattern;
use state::BoardState;

/// How often health is looked at; bounds how late a light is.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the light for power flickers when a press was understood.
const ACKNOWLEDGEMENT: Duration = Duration::from_millis(750);
/// Before the second attempt at a line.
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// Between two attempts, at most.
const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// How the lights are reached.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// By the board's entry in `board/pins.toml`; no lights where it has none.
    #[default]
    Auto,
    /// A Raspberry Pi's registers.
    Rppal,
    /// The kernel's GPIO character device.
    Gpiochip,
    /// No lights.
    None,
}

/// `[leds]`: where the lights are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LedsConfig {
    /// How they are reached.
    pub backend: Backend,
    /// Chip of the character device: a path, or its label; the board's where it is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chip: Option<String>,
    /// Line of the light for power; the board's where it is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power: Option<u32>,
    /// Line of the light for the network; the board's where it is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<u32>,
    /// Line of the light for the air; the board's where it is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_air: Option<u32>,
    /// Whether a light is lit at the low level.
    pub active_low: bool,
}

impl LedsConfig {
    /// Checks that no line that is given, the button's included, is given twice. The error is the key and what is
    /// wrong with it.
    pub fn validate(&self, button: &ButtonConfig) -> Result<(), (&'static str, String)> {
        let lines = [
            ("leds.power", self.power),
            ("leds.network", self.network),
            ("leds.on_air", self.on_air),
            ("button.pin", button.pin),
        ];
        for (index, (key, line)) in lines.iter().enumerate() {
            let Some(line) = line else { continue };
            if let Some((other, _)) = lines[..index].iter().find(|(_, other)| *other == Some(*line)) {
                return Err((key, format!("line {line} is that of {other}")));
            }
        }
        if self.chip.as_deref() == Some("") {
            return Err(("leds.chip", "must be a path or a label".into()));
        }
        Ok(())
    }
}

/// The stage's ends; survives a restart of the stage.
pub struct Leds {
    /// The lights; `None` where there are none. An error is what is wrong with the configuration.
    pub panel: Result<Option<Panel>, LedsError>,
    /// What the lights show.
    pub overall: Health,
    /// Where the stage reports.
    pub health: StageHealth,
    /// Grows with each press of the button that was understood.
    pub understood: watch::Receiver<u64>,
}

impl Leds {
    /// Shows the state until `cancel` fires; then the lights are dark and their lines free.
    ///
    /// # Errors
    /// Never: what fails is in health.
    pub async fn run(&self, cancel: CancellationToken) -> Result<(), Infallible> {
        let mut lights = self.lights();
        let (mut understood, mut shown) = (self.understood.clone(), None);
        let mut flicker_until = None;
        loop {
            let (state, now) = (BoardState::of(&self.overall.report()), Instant::now());
            if shown.replace(state) != Some(state) {
                tracing::info!(%state, "the station's state");
            }
            let mut patterns = state.patterns();
            if flicker_until.is_some_and(|until| now < until) {
                patterns[0] = Pattern::Fast;
            }
            let mut next = now + LOOK_EVERY;
            for light in &mut lights {
                next = next.min(light.show(patterns[light.index], now));
            }
            self.tell(&mut lights);
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = sleep_until(next) => {}
                Ok(()) = understood.changed() => flicker_until = Some(Instant::now() + ACKNOWLEDGEMENT),
            }
        }
    }

    fn lights(&self) -> Vec<Light<'_>> {
        match &self.panel {
            Ok(Some(panel)) => {
                let lines = panel.lines.iter().enumerate();
                lines.filter_map(|(index, line)| Some(Light::new(panel, index, (*line)?))).collect()
            }
            Ok(None) => Vec::new(),
            Err(failure) => {
                complain("leds", failure);
                self.health.failed(&chain(failure));
                Vec::new()
            }
        }
    }

    /// Says what is new about lines that fail, and when all of them work again.
    fn tell(&self, lights: &mut [Light<'_>]) {
        let mut has_recovered = false;
        for light in lights.iter_mut() {
            match light.news.take() {
                Some(Err(failure)) => {
                    complain("leds", &failure);
                    self.health.failed(&chain(&failure));
                }
                Some(Ok(())) => has_recovered = true,
                None => {}
            }
        }
        if has_recovered && lights.iter().all(|light| light.said.is_none()) {
            tracing::info!("all lights work again");
            self.health.running();
        }
    }
}

fn complain(what: &str, failure: &LedsError) {
    tracing::error!(
        stage = what,
        error = failure as &dyn std::error::Error,
        "a GPIO line cannot be used; the air goes on"
    );
}

/// One light, whether its line could be had or not.
struct Light<'a> {
    panel: &'a Panel,
    /// Its place among power, network and air.
    index: usize,
    line: u32,
    led: Option<Box<dyn Led>>,
    lit: bool,
    pattern: Pattern,
    /// When the pattern began.
    since: Instant,
    backoff: Backoff,
    retry_at: Instant,
    /// The failure that has been told, until the light works again.
    said: Option<String>,
    /// What is to be told.
    news: Option<Result<(), LedsError>>,
}

impl<'a> Light<'a> {
    fn new(panel: &'a Panel, index: usize, line: u32) -> Self {
        let now = Instant::now();
        Self {
            panel,
            index,
            line,
            led: None,
            lit: false,
            pattern: Pattern::Off,
            since: now,
            backoff: Backoff::new(FIRST_RETRY, LONGEST_RETRY),
            retry_at: now,
            said: None,
            news: None,
        }
    }

    /// Brings the light to where its pattern is, and tells when it is to be called again.
    fn show(&mut self, pattern: Pattern, now: Instant) -> Instant {
        if self.pattern != pattern {
            (self.pattern, self.since) = (pattern, now);
        }
        let (lit, stays) = pattern.at(now - self.since);
        if let Err(failure) = self.set(lit, now) {
            self.led = None;
            self.retry_at = now + self.backoff.next(fastrand::f64());
            let text = failure.to_string();
            if !self.panel.is_absent(&failure) && self.said.as_ref() != Some(&text) {
                self.said = Some(text);
                self.news = Some(Err(failure));
            }
        }
        match (&self.led, stays) {
            (None, _) => self.retry_at,
            (Some(_), Some(stays)) => now + stays,
            (Some(_), None) => now + LOOK_EVERY,
        }
    }

    fn set(&mut self, lit: bool, now: Instant) -> Result<(), LedsError> {
        if self.led.is_none() {
            if now < self.retry_at {
                return Ok(());
            }
            // Set at once, so that a line that opens and does not answer is not taken for a good one.
            (self.led, self.lit) = (Some(self.panel.open(self.line)?), !lit);
        }
        if let Some(led) = self.led.as_mut().filter(|_| self.lit != lit) {
            led.set(lit)?;
            self.lit = lit;
        }
        if self.said.take().is_some() {
            self.backoff.reset();
            self.news = Some(Ok(()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
