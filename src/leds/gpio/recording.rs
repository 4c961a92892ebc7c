//! Lines in memory: what the lights showed is remembered, and buttons are pressed by whoever holds the other end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::{Button, Gpio, Led, LedsError};

/// How the errors call the chip.
const CHIP: &str = "the recording chip";

/// A chip with lines from 0; clones share them.
#[derive(Debug, Clone)]
pub struct Recording {
    lines: u32,
    shared: Arc<Mutex<BTreeMap<u32, Line>>>,
}

#[derive(Debug, Default)]
struct Line {
    owner: Option<String>,
    broken: bool,
    /// Electrical level.
    high: bool,
    /// Each time that a light's level was set to another one.
    changes: Vec<(Instant, bool)>,
}

impl Recording {
    /// A chip with so many lines, all low and free.
    pub fn new(lines: u32) -> Self {
        Self { lines, shared: Arc::default() }
    }

    /// The electrical level of a line.
    pub fn is_high(&self, line: u32) -> bool {
        self.lock().get(&line).is_some_and(|line| line.high)
    }

    /// Puts a line to a level from outside, as a finger on a button does.
    pub fn put(&self, line: u32, high: bool) {
        self.lock().entry(line).or_default().high = high;
    }

    /// Gives a line to somebody else, or takes it back.
    pub fn occupy(&self, line: u32, owner: Option<&str>) {
        self.lock().entry(line).or_default().owner = owner.map(str::to_owned);
    }

    /// From now on the line answers no more, or does again.
    pub fn set_broken(&self, line: u32, broken: bool) {
        self.lock().entry(line).or_default().broken = broken;
    }

    /// Who has a line.
    pub fn owner(&self, line: u32) -> Option<String> {
        self.lock().get(&line)?.owner.clone()
    }

    /// The changes of a light's level since the last call: when, and to high or low.
    pub fn take_changes(&self, line: u32) -> Vec<(Instant, bool)> {
        self.lock().get_mut(&line).map(|line| std::mem::take(&mut line.changes)).unwrap_or_default()
    }

    fn take(&self, line: u32) -> Result<Taken, LedsError> {
        if line >= self.lines {
            let last = self.lines.saturating_sub(1);
            return Err(LedsError::NoLine { chip: CHIP.to_owned(), line, last });
        }
        let mut lines = self.lock();
        let entry = lines.entry(line).or_default();
        if let Some(owner) = &entry.owner {
            return Err(LedsError::Busy { chip: CHIP.to_owned(), line, owner: owner.clone() });
        }
        entry.owner = Some("skywave".to_owned());
        drop(lines);
        Ok(Taken { chip: self.clone(), line })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Line>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line that is ours until it is dropped.
#[derive(Debug)]
struct Taken {
    chip: Recording,
    line: u32,
}

impl Taken {
    fn with<T>(&self, act: impl FnOnce(&mut Line) -> T) -> Result<T, LedsError> {
        let mut lines = self.chip.lock();
        let line = lines.entry(self.line).or_default();
        if line.broken {
            return Err(LedsError::Line {
                chip: CHIP.to_owned(),
                line: self.line,
                source: "it is broken".into(),
            });
        }
        Ok(act(line))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.chip.lock().entry(self.line).or_default().owner = None;
    }
}

struct Light {
    taken: Taken,
    active_low: bool,
}

impl Led for Light {
    fn set(&mut self, lit: bool) -> Result<(), LedsError> {
        let high = lit != self.active_low;
        self.taken.with(|line| {
            if std::mem::replace(&mut line.high, high) != high {
                line.changes.push((Instant::now(), high));
            }
        })
    }

    fn is_lit(&self) -> Result<bool, LedsError> {
        self.taken.with(|line| line.high != self.active_low)
    }
}

impl Drop for Light {
    fn drop(&mut self) {
        // A broken line keeps its level.
        let _ = self.set(false);
    }
}

struct Key {
    taken: Taken,
    active_low: bool,
}

impl Button for Key {
    fn is_pressed(&self) -> Result<bool, LedsError> {
        self.taken.with(|line| line.high != self.active_low)
    }
}

impl Gpio for Recording {
    fn led(&self, line: u32, active_low: bool) -> Result<Box<dyn Led>, LedsError> {
        let mut light = Light { taken: self.take(line)?, active_low };
        light.set(false)?;
        Ok(Box::new(light))
    }

    fn button(&self, line: u32, active_low: bool) -> Result<Box<dyn Button>, LedsError> {
        Ok(Box::new(Key { taken: self.take(line)?, active_low }))
    }
}
