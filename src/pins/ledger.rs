//! What a pinning service has under our names, and what is to be asked of it next. Pure.
//!
//! Under every name one pin is wanted. The one that counts is the first that is known; all others of the name are
//! surplus and are deleted once that one is pinned, so that the service is never left without a whole tree by us.

use std::collections::BTreeMap;
use std::time::Duration;

use cid::Cid;

use super::pin_status::{PinStatus, Status};

/// How long a service may take for a root before it gets a newer one: a little less than its playlists are held here.
pub(super) const PATIENCE: Duration = Duration::from_secs(180);
/// How often everything of ours is listed anew.
const LIST_EVERY: Duration = Duration::from_secs(3_600);
/// Time to the first look at a pin that was asked for; it doubles with each look.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// The longest pause after a pin failed or was refused.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Days that a service fetches at the same time.
const DAYS_AT_ONCE: usize = 2;
/// Pins of one name that may wait to be deleted while another is put beside them.
const SURPLUS: usize = 2;
/// Names that are kept in mind: ten years of days. Bounds memory, whatever a service lists.
pub(super) const MAX_NAMES: usize = 4_000;

/// One request to the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// List everything of ours.
    List,
    /// List what is there under exactly this name.
    LookUp {
        /// The name.
        name: String,
    },
    /// Pin.
    Add {
        /// The name.
        name: String,
        /// What to pin.
        cid: Cid,
    },
    /// Pin in the place of another pin.
    Replace {
        /// The name.
        name: String,
        /// What to pin.
        cid: Cid,
        /// What it replaces.
        requestid: String,
    },
    /// Ask how a pin does.
    Look {
        /// The name.
        name: String,
        /// The pin.
        requestid: String,
    },
    /// Delete a pin.
    Remove {
        /// The name.
        name: String,
        /// The pin.
        requestid: String,
    },
}

/// What is next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// This, now.
    Do(Step),
    /// Nothing before this time, unless something else is wanted.
    Wait(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Want {
    /// Let it be.
    #[default]
    Nothing,
    Pin(Cid),
    /// No pin of the name.
    Gone,
}

#[derive(Debug, Default)]
struct Slot {
    want: Want,
    /// The one that counts first.
    held: Vec<PinStatus>,
    /// Whether the service was asked for exactly this name, or listed it.
    known: bool,
    /// Whether the first took the place of another.
    replaced: bool,
    /// When the first was asked for; `None` for one that was found.
    asked: Option<Duration>,
    /// When the first was looked at last.
    looked: Duration,
    looks: u32,
    /// Failures and refusals without a success in between.
    failures: u32,
    not_before: Duration,
    /// The same for deletions, so that one that fails does not stand in the way of a newer root.
    no_removal_before: Duration,
}

/// How things are asked for.
#[derive(Debug)]
struct Terms {
    every: Duration,
    /// Where this node is.
    origins: Vec<String>,
    /// Whether a pin that took the place of another failed: from then on, new ones are put beside the old.
    replacing_fails: bool,
}

/// What is known of one service. Times count from any one moment.
#[derive(Debug)]
pub(super) struct Ledger {
    station: String,
    terms: Terms,
    unpin_days: bool,
    listed: Option<Duration>,
    slots: BTreeMap<String, Slot>,
    /// Name of the oldest day of the archive.
    oldest: Option<String>,
    /// The newest root, and its newest segment.
    newest: Option<(Cid, u64)>,
    /// The same of the root that was asked for last.
    asked: Option<(Cid, u64)>,
}

impl Ledger {
    /// Nothing is known. `station` is the name of the rolling root's pin, that of a day begins with it; a root is
    /// replaced once in `every`. With `unpin_days`, days that left the archive are unpinned.
    pub(super) fn new(station: String, every: Duration, unpin_days: bool) -> Self {
        let slots = BTreeMap::from([(station.clone(), Slot { known: true, ..Slot::default() })]);
        let terms = Terms { every, origins: Vec::new(), replacing_fails: false };
        Self { station, terms, unpin_days, listed: None, slots, oldest: None, newest: None, asked: None }
    }

    /// Whether a pin of this name is ours.
    pub(super) fn is_ours(station: &str, name: &str) -> bool {
        name == station
            || name.strip_prefix(station).is_some_and(|rest| rest.strip_prefix('/').is_some_and(is_day))
    }

    /// Where this node is, for the requests to come.
    pub(super) fn set_origins(&mut self, origins: Vec<String>) {
        self.terms.origins = origins;
    }

    /// Where this node is.
    pub(super) fn origins(&self) -> &[String] {
        &self.terms.origins
    }

    /// The newest root, and its newest segment.
    pub(super) fn want_root(&mut self, root: Cid, newest: u64) {
        self.newest = Some((root, newest));
        if let Some(slot) = self.slots.get_mut(&self.station) {
            slot.want = Want::Pin(root);
        }
    }

    /// The days of the archive that are over. Older ones have left it. Where there are none, nothing has left: an archive
    /// that is lost is no reason to lose the copies.
    pub(super) fn want_days(&mut self, days: &BTreeMap<String, Cid>) {
        let name_of = |day: &String| format!("{}/{day}", self.station);
        let Some(oldest) = days.keys().next() else { return };
        self.oldest = Some(name_of(oldest));
        let wanted: Vec<_> =
            days.iter().rev().take(MAX_NAMES - 1).map(|(day, cid)| (name_of(day), *cid)).collect();
        for (name, cid) in wanted {
            self.slots.entry(name).or_default().want = Want::Pin(cid);
        }
        self.let_go();
    }

    /// Turns away from days that left the archive, and forgets the names that nothing is wanted of.
    fn let_go(&mut self) {
        let left = if self.unpin_days { Want::Gone } else { Want::Nothing };
        let (station, oldest) = (&self.station, &self.oldest);
        self.slots.retain(|name, slot| {
            if name != station && oldest.as_ref().is_some_and(|oldest| name < oldest) {
                slot.want = left;
            }
            let idle = slot.want == Want::Nothing || (slot.want == Want::Gone && slot.held.is_empty());
            name == station || !idle
        });
    }

    /// What to do now, the rolling root first.
    pub(super) fn next(&self, now: Duration) -> Next {
        let Some(listed) = self.listed else { return Next::Do(Step::List) };
        let mut wait = listed + LIST_EVERY;
        if wait <= now {
            return Next::Do(Step::List);
        }
        let pending = |slot: &&Slot| slot.held.first().is_some_and(|kept| kept.status.is_pending());
        let open = self.days().filter(pending).count();
        for (name, slot) in &self.slots {
            let is_new = slot.held.is_empty() && matches!(slot.want, Want::Pin(_));
            if *name != self.station && is_new && open >= DAYS_AT_ONCE {
                continue;
            }
            match slot.step(name, &self.terms) {
                Some((at, step)) if at <= now => return Next::Do(step),
                Some((at, _)) => wait = wait.min(at),
                None => {}
            }
        }
        Next::Wait(wait)
    }

    /// Everything of ours that the service listed.
    pub(super) fn listed(&mut self, found: Vec<PinStatus>, now: Duration) {
        self.listed = Some(now);
        let mut by_name: BTreeMap<String, Vec<PinStatus>> = BTreeMap::new();
        for pin in found {
            by_name.entry(pin.name.clone()).or_default().push(pin);
        }
        let known: Vec<String> = self.slots.keys().cloned().collect();
        for name in known {
            let found = by_name.remove(&name).unwrap_or_default();
            let exact = name == self.station || !found.is_empty();
            self.found(&name, found, now, exact);
        }
        // Days that were pinned by an earlier run.
        for (name, found) in by_name {
            if self.slots.len() < MAX_NAMES && Self::is_ours(&self.station, &name) {
                self.found(&name, found, now, true);
            }
        }
        self.let_go();
    }

    /// What the service has under exactly this name.
    pub(super) fn looked_up(&mut self, name: &str, found: Vec<PinStatus>, now: Duration) {
        self.found(name, found, now, true);
    }

    fn found(&mut self, name: &str, mut found: Vec<PinStatus>, now: Duration, known: bool) {
        let slot = self.slots.entry(name.to_owned()).or_default();
        let rank = |pin: &PinStatus| (slot.want == Want::Pin(pin.cid), pin.status == Status::Pinned);
        found.sort_by(|a, b| (rank(b), &b.created).cmp(&(rank(a), &a.created)));
        found.dedup_by(|a, b| a.requestid == b.requestid);
        let first = found.first().map(|pin| (pin.requestid.clone(), pin.status));
        let same = slot.held.first().map(|pin| &pin.requestid) == first.as_ref().map(|(id, _)| id);
        if !same {
            slot.asked = first.filter(|(_, status)| status.is_pending()).map(|_| now);
            (slot.looks, slot.replaced) = (0, false);
        }
        slot.held = found;
        slot.looked = now;
        slot.known = known;
    }

    /// The service took a pin; with `replaced`, in the place of that one.
    pub(super) fn taken(&mut self, name: &str, replaced: Option<&str>, pin: PinStatus, now: Duration) {
        if name == self.station {
            self.asked = self.newest.filter(|(root, _)| *root == pin.cid);
        }
        let Some(slot) = self.slots.get_mut(name) else { return };
        slot.held.retain(|held| Some(held.requestid.as_str()) != replaced && held.requestid != pin.requestid);
        slot.asked = Some(now);
        (slot.looked, slot.looks, slot.replaced) = (now, 0, replaced.is_some());
        slot.judge(&pin, now, &mut self.terms);
        slot.held.insert(0, pin);
    }

    /// How a pin does.
    pub(super) fn seen(&mut self, name: &str, pin: PinStatus, now: Duration) {
        let Some(slot) = self.slots.get_mut(name) else { return };
        (slot.looked, slot.looks) = (now, slot.looks.saturating_add(1));
        slot.judge(&pin, now, &mut self.terms);
        if let Some(held) = slot.held.iter_mut().find(|held| held.requestid == pin.requestid) {
            *held = pin;
        }
    }

    /// The service has no such pin, or none any more.
    pub(super) fn gone(&mut self, name: &str, requestid: &str) {
        if let Some(slot) = self.slots.get_mut(name) {
            if slot.held.first().is_some_and(|kept| kept.requestid == requestid) {
                slot.asked = None;
            }
            slot.held.retain(|held| held.requestid != requestid);
        }
        self.let_go();
    }

    /// The service will not do it, this time.
    pub(super) fn refused(&mut self, name: &str, now: Duration) {
        if let Some(slot) = self.slots.get_mut(name) {
            slot.pause(now, self.terms.every);
        }
    }

    /// The service will not delete a pin, this time.
    pub(super) fn not_removed(&mut self, name: &str, now: Duration) {
        if let Some(slot) = self.slots.get_mut(name) {
            slot.no_removal_before = now + LONGEST_PAUSE;
        }
    }

    /// Nobody knows whether the last request was heard: everything is listed anew.
    pub(super) fn doubt(&mut self, name: &str) {
        self.listed = None;
        if let Some(slot) = self.slots.get_mut(name).filter(|_| name != self.station) {
            slot.known = false;
        }
    }

    /// Newest segment of the root that is pinned, where it was asked for by this run.
    pub(super) fn pinned_root(&self) -> Option<u64> {
        let kept = self.slots.get(&self.station)?.held.first()?;
        let (_, newest) =
            self.asked.filter(|(root, _)| kept.status == Status::Pinned && kept.cid == *root)?;
        Some(newest)
    }

    /// Days that are pinned, and days that are wanted.
    pub(super) fn day_counts(&self) -> (usize, usize) {
        let wanted = || self.days().filter(|slot| matches!(slot.want, Want::Pin(_)));
        let pinned = |slot: &&Slot| {
            slot.held.iter().any(|pin| pin.status == Status::Pinned && slot.want == Want::Pin(pin.cid))
        };
        (wanted().filter(pinned).count(), wanted().count())
    }

    fn days(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|(name, _)| **name != self.station).map(|(_, slot)| slot)
    }
}

impl Slot {
    /// The next request and when it is due; `None` while all is as it should be.
    fn step(&self, name: &str, terms: &Terms) -> Option<(Duration, Step)> {
        let every = terms.every;
        let name = name.to_owned();
        let remove = |pin: &PinStatus| Step::Remove { name: name.clone(), requestid: pin.requestid.clone() };
        let cid = match self.want {
            Want::Nothing => return None,
            Want::Gone => return Some((self.no_removal_before, remove(self.held.last()?))),
            Want::Pin(cid) => cid,
        };
        let Some(kept) = self.held.first() else {
            let step = if self.known { Step::Add { name, cid } } else { Step::LookUp { name } };
            return Some((self.not_before, step));
        };
        let replace = || match self.goes_beside(kept, terms) {
            true => Step::Add { name: name.clone(), cid },
            false => Step::Replace { name: name.clone(), cid, requestid: kept.requestid.clone() },
        };
        let asked = self.asked.unwrap_or(Duration::ZERO);
        let (at, step) = match kept.status {
            Status::Pinned => {
                let due = (kept.cid != cid).then(|| self.asked.map_or(Duration::ZERO, |asked| asked + every));
                let surplus = self.held.get(1).map(|surplus| (self.no_removal_before, remove(surplus)));
                match (surplus, due) {
                    (Some((at, step)), due) if due.is_none_or(|due| at <= due) => return Some((at, step)),
                    (_, due) => (due?, replace()),
                }
            }
            Status::Failed if kept.cid == cid || self.held.len() > 1 => {
                (self.no_removal_before, remove(kept))
            }
            Status::Failed => (self.not_before, replace()),
            Status::Queued | Status::Pinning => {
                let late = asked + every.max(PATIENCE);
                let pause = FIRST_LOOK.saturating_mul(1 << self.looks.min(16)).min(every);
                let look = Step::Look { name: name.clone(), requestid: kept.requestid.clone() };
                match self.looked + pause {
                    at if kept.cid != cid && late < at && self.held.len() > 1 => (late, remove(kept)),
                    at if kept.cid != cid && late < at => (late, replace()),
                    at => (at, look),
                }
            }
        };
        Some((at.max(self.not_before), step))
    }

    /// Whether what comes next is put beside the pin, which is deleted once that is pinned, instead of in its place.
    fn goes_beside(&self, kept: &PinStatus, terms: &Terms) -> bool {
        // A cluster lets go of a replaced pin while its peers still build the new one out of it, and both are gone.
        let is_cluster = kept.requestid == kept.cid.to_string();
        // The service would look for us in the wrong place: what it keeps is what the first pin of the name said.
        let told = |known: &String| terms.origins.contains(known);
        let is_misled =
            !terms.origins.is_empty() && !kept.origins.is_empty() && !kept.origins.iter().any(told);
        // Pins that are never deleted must not pile up.
        (is_cluster || is_misled || terms.replacing_fails) && self.held.len() <= SURPLUS
    }

    fn judge(&mut self, pin: &PinStatus, now: Duration, terms: &mut Terms) {
        match pin.status {
            Status::Pinned => self.failures = 0,
            Status::Failed => {
                terms.replacing_fails |= self.replaced;
                self.pause(now, terms.every);
            }
            Status::Queued | Status::Pinning => {}
        }
    }

    /// Nothing is asked for this name for a while, longer each time.
    fn pause(&mut self, now: Duration, every: Duration) {
        let pause = every.saturating_mul(1 << self.failures.min(16));
        self.not_before = now + pause.min(LONGEST_PAUSE.max(every));
        self.failures = self.failures.saturating_add(1);
    }
}

/// `2026-11-22`: nothing else behind the name is ours.
pub(super) fn is_day(name: &str) -> bool {
    let shape = |(index, byte): (usize, u8)| {
        if matches!(index, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() }
    };
    name.len() == 10 && name.bytes().enumerate().all(shape)
}

#[cfg(test)]
mod tests;
