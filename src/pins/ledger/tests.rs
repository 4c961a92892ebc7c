use super::*;
use crate::ipfs::Block;
use proptest::prelude::*;
use std::collections::VecDeque;

const STATION: &str = "skywave/k51";
const EVERY: Duration = Duration::from_secs(60);

fn root(n: u64) -> Cid {
    Block::raw(format!("root {n}")).cid
}

fn day(n: u32) -> (String, Cid) {
    (format!("2026-11-{n:02}"), Block::raw(format!("day {n}")).cid)
}

/// A service that does what the API says. One that is as `cluster` gives a pin its CID as the request's id.
struct Model {
    cluster: bool,
    pins: Vec<PinStatus>,
    next: u64,
    /// Whether it matches parts of names.
    partial: bool,
    /// What becomes of pins, over and over.
    fates: VecDeque<Status>,
    /// Whether pins that took the place of others fail, as in a cluster.
    cannot_replace: bool,
    replaced: usize,
}

impl Model {
    fn new(cluster: bool, partial: bool, fates: Vec<Status>) -> Self {
        let (pins, fates) = (Vec::new(), fates.into());
        Self { cluster, partial, pins, next: 0, fates, cannot_replace: cluster, replaced: 0 }
    }

    fn add(&mut self, name: &str, cid: Cid) -> PinStatus {
        self.next += 1;
        let requestid = if self.cluster { cid.to_string() } else { self.next.to_string() };
        self.pins.retain(|pin| pin.requestid != requestid);
        let created = format!("2026-11-22T00:00:00.{:06}Z", self.next);
        let (origins, delegates) = (Vec::new(), Vec::new());
        let (status, name, details) = (Status::Queued, name.to_owned(), None);
        let pin = PinStatus { requestid, status, created, cid, name, origins, delegates, details };
        self.pins.push(pin.clone());
        pin
    }

    fn of(&self, name: &str) -> Vec<PinStatus> {
        self.pins.iter().filter(|pin| pin.name == name).cloned().collect()
    }

    fn remove(&mut self, requestid: &str) -> bool {
        let before = self.pins.len();
        self.pins.retain(|pin| pin.requestid != requestid);
        self.pins.len() < before
    }

    /// A pending pin meets its fate when it is looked at.
    fn look(&mut self, requestid: &str) -> Option<PinStatus> {
        let pin = self.pins.iter_mut().find(|pin| pin.requestid == requestid)?;
        if pin.status.is_pending() {
            self.fates.rotate_left(1);
            pin.status = self.fates[0];
        }
        Some(pin.clone())
    }

    /// Does a step. `heard` is false where the answer is lost on its way.
    fn perform(&mut self, ledger: &mut Ledger, step: &Step, now: Duration, heard: bool) {
        match step {
            Step::List => {
                let found = if self.partial { self.pins.clone() } else { self.of(STATION) };
                ledger.listed(found, now);
            }
            Step::LookUp { name } => ledger.looked_up(name, self.of(name), now),
            Step::Add { name, cid } => {
                let pin = self.add(name, *cid);
                if heard { ledger.taken(name, None, pin, now) } else { ledger.doubt(name) }
            }
            Step::Replace { name, cid, requestid } => {
                assert_ne!(requestid, &cid.to_string(), "a pin in its own place would be gone");
                if !self.remove(requestid) {
                    return ledger.gone(name, requestid);
                }
                let pin = self.add(name, *cid);
                self.replaced += 1;
                if self.cannot_replace {
                    self.pins.last_mut().unwrap().status = Status::Failed;
                }
                if heard { ledger.taken(name, Some(requestid), pin, now) } else { ledger.doubt(name) }
            }
            Step::Look { name, requestid } => match self.look(requestid) {
                Some(pin) => ledger.seen(name, pin, now),
                None => ledger.gone(name, requestid),
            },
            Step::Remove { name, requestid } => {
                self.remove(requestid);
                if heard { ledger.gone(name, requestid) } else { ledger.doubt(name) }
            }
        }
    }
}

/// Works until nothing is left to do before `until`; returns how many steps that took.
fn work(model: &mut Model, ledger: &mut Ledger, now: &mut Duration, until: Duration) -> usize {
    for steps in 0..10_000 {
        match ledger.next(*now) {
            Next::Do(step) => model.perform(ledger, &step, *now, true),
            Next::Wait(at) if at > until => return steps,
            Next::Wait(at) => *now = at.max(*now),
        }
    }
    panic!("no end of steps");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn whatever_happens_each_name_ends_with_one_pin_of_what_is_wanted(
        cluster in any::<bool>(),
        partial in any::<bool>(),
        left in prop::collection::vec((0_u64..3, any::<bool>()), 0..5),
        fates in prop::collection::vec(0_u8..4, 1..6),
        events in prop::collection::vec((0_u8..6, any::<bool>()), 0..120),
    ) {
        let fate = |n| [Status::Queued, Status::Pinning, Status::Pinned, Status::Failed][usize::from(n)];
        let mut model = Model::new(cluster, partial, fates.into_iter().map(fate).collect());
        // What a crash left there, and what belongs to others.
        for (n, pinned) in left {
            let pin = model.add(STATION, root(n));
            model.pins.iter_mut().filter(|p| pinned && p.requestid == pin.requestid).for_each(|p| p.status = Status::Pinned);
        }
        for name in ["skywave/k51-of-another", "skywave/k51/notes", "holiday.jpg"] {
            model.add(name, Block::raw(name.as_bytes().to_vec()).cid);
        }
        let mut ledger = Ledger::new(STATION.into(), EVERY, false);
        let (mut now, mut newest) = (Duration::ZERO, 10);
        let days: BTreeMap<_, _> = (1..4).map(day).collect();
        ledger.want_days(&days);
        ledger.want_root(root(newest), newest);
        for (event, heard) in events {
            now += Duration::from_secs(4);
            match event {
                0 => { newest += 1; ledger.want_root(root(newest), newest); }
                1 => { let n = model.pins.len(); if n > 3 { model.pins.remove(3); } }
                2 if heard => ledger.refused(STATION, now),
                2 => ledger.not_removed(STATION, now),
                _ => if let Next::Do(step) = ledger.next(now) { model.perform(&mut ledger, &step, now, heard); },
            }
            prop_assert!(model.of(STATION).len() <= 8);
        }
        // From here on the service works.
        model.fates = VecDeque::from([Status::Pinned]);
        ledger.doubt(STATION);
        let until = now + Duration::from_secs(3_000);
        work(&mut model, &mut ledger, &mut now, until);
        let pinned = |name: &str| model.of(name).into_iter().map(|pin| (pin.cid, pin.status)).collect::<Vec<_>>();
        prop_assert_eq!(pinned(STATION), vec![(root(newest), Status::Pinned)]);
        for (name, cid) in &days {
            prop_assert_eq!(pinned(&format!("{STATION}/{name}")), vec![(*cid, Status::Pinned)], "{}", name);
        }
        for name in ["skywave/k51-of-another", "skywave/k51/notes", "holiday.jpg"] {
            prop_assert!(model.of(name).len() <= 1);
        }
        prop_assert_eq!(ledger.day_counts(), (3, 3));
    }
}

#[test]
fn a_root_is_replaced_once_in_the_interval_and_never_added_again() {
    let (mut model, mut now) =
        (Model::new(false, true, vec![Status::Pinning, Status::Pinned]), Duration::ZERO);
    let mut ledger = Ledger::new(STATION.into(), EVERY, false);
    let mut pinned = None;
    for n in 0..150 {
        ledger.want_root(root(n), n);
        let until = now + Duration::from_secs(4);
        work(&mut model, &mut ledger, &mut now, until);
        now = until;
        pinned = ledger.pinned_root().or(pinned);
    }
    assert!((10..=11).contains(&model.next), "{} pins were made in ten minutes", model.next);
    assert_eq!(model.of(STATION).len(), 1);
    assert!(pinned.is_some_and(|newest| newest >= 130), "{pinned:?}");
}

#[test]
fn a_root_that_the_service_never_gets_is_replaced_before_its_playlists_are_gone() {
    let (mut model, mut now) = (Model::new(false, true, vec![Status::Pinning]), Duration::ZERO);
    let mut ledger = Ledger::new(STATION.into(), EVERY, false);
    for n in 0..150 {
        ledger.want_root(root(n), n);
        let until = now + Duration::from_secs(4);
        work(&mut model, &mut ledger, &mut now, until);
        now = until;
    }
    assert_eq!(model.next, 4, "every three minutes");
    assert_eq!((model.of(STATION).len(), ledger.pinned_root()), (1, None));
}

#[test]
fn what_fails_is_asked_for_less_and_less_often() {
    let (mut model, mut now) = (Model::new(false, true, vec![Status::Failed]), Duration::ZERO);
    let mut ledger = Ledger::new(STATION.into(), EVERY, false);
    for n in 0..900 {
        ledger.want_root(root(n), n);
        let until = now + Duration::from_secs(4);
        work(&mut model, &mut ledger, &mut now, until);
        now = until;
    }
    // An hour: after 1, 2, 4 and 8 minutes, and then every ten.
    assert!((7..=10).contains(&model.next), "{} pins were made in an hour", model.next);
    assert!(model.of(STATION).len() <= 2);
}

#[test]
fn days_are_fetched_two_at_a_time_oldest_first() {
    let (mut model, mut now) = (Model::new(false, true, vec![Status::Pinning]), Duration::ZERO);
    let mut ledger = Ledger::new(STATION.into(), EVERY, false);
    ledger.want_days(&(1..6).map(day).collect());
    let until = Duration::from_secs(30);
    work(&mut model, &mut ledger, &mut now, until);
    let names: Vec<_> = model.pins.iter().map(|pin| pin.name.as_str()).collect();
    assert_eq!(names, ["skywave/k51/2026-11-01", "skywave/k51/2026-11-02"]);
    model.fates = VecDeque::from([Status::Pinned]);
    work(&mut model, &mut ledger, &mut now, Duration::from_secs(3_000));
    assert_eq!(ledger.day_counts(), (5, 5));
}

#[test]
fn days_that_left_the_archive_are_unpinned_only_where_the_owner_wants_it() {
    for unpin_days in [false, true] {
        let (mut model, mut now) = (Model::new(true, true, vec![Status::Pinned]), Duration::ZERO);
        // Of an earlier run, and no day of the archive any more.
        model.add("skywave/k51/2026-10-31", root(0));
        let mut ledger = Ledger::new(STATION.into(), EVERY, unpin_days);
        let mut until = Duration::ZERO;
        for days in [1..4, 3..6] {
            ledger.want_days(&days.map(day).collect());
            until += Duration::from_secs(600);
            work(&mut model, &mut ledger, &mut now, until);
        }
        // An archive that cannot be read has lost nothing.
        ledger.want_days(&BTreeMap::new());
        work(&mut model, &mut ledger, &mut now, until + Duration::from_secs(600));
        let mut names: Vec<_> = model.pins.iter().map(|pin| &pin.name[17..]).collect();
        names.sort();
        let all = ["10-31", "11-01", "11-02", "11-03", "11-04", "11-05"];
        let expected = if unpin_days { &all[3..] } else { &all[..] };
        assert_eq!(names, expected, "unpin_days = {unpin_days}");
        assert_eq!(ledger.day_counts(), (3, 3));
    }
}

#[test]
fn a_pin_is_put_beside_the_old_one_where_replacing_would_not_do() {
    let here = ["/ip4/10.0.0.1/tcp/4001".to_owned()];
    for (cluster, origins, beside) in [
        (false, Vec::new(), false),
        (false, here.to_vec(), false),
        (false, vec!["/ip4/10.0.0.2/tcp/4001".to_owned()], true),
        (true, here.to_vec(), true),
    ] {
        let mut model = Model::new(cluster, true, vec![Status::Pinned]);
        let mut ledger = Ledger::new(STATION.into(), EVERY, false);
        ledger.set_origins(here.to_vec());
        ledger.want_root(root(2), 2);
        let pin = PinStatus { origins, status: Status::Pinned, ..model.add(STATION, root(1)) };
        ledger.listed(vec![pin], Duration::ZERO);
        let next = ledger.next(Duration::ZERO);
        assert_eq!(matches!(next, Next::Do(Step::Add { .. })), beside, "{next:?}");
        assert_eq!(matches!(next, Next::Do(Step::Replace { .. })), !beside, "{next:?}");
    }
}

#[test]
fn after_a_replaced_pin_failed_the_next_ones_are_put_beside() {
    let (mut model, mut now) = (Model::new(false, true, vec![Status::Pinned]), Duration::ZERO);
    model.cannot_replace = true;
    let mut ledger = Ledger::new(STATION.into(), EVERY, false);
    let mut whole = 0;
    for n in 0..150 {
        ledger.want_root(root(n), n);
        let until = now + Duration::from_secs(4);
        work(&mut model, &mut ledger, &mut now, until);
        now = until;
        whole += usize::from(model.of(STATION).iter().any(|pin| pin.status == Status::Pinned));
        assert!(model.of(STATION).len() <= 2);
    }
    assert_eq!(model.replaced, 1);
    assert!(whole > 110, "a whole tree in {whole} of 150 ticks");
}

#[test]
fn the_names_that_are_kept_in_mind_are_bounded() {
    let mut model = Model::new(false, true, vec![Status::Pinned]);
    for n in 0..2 * MAX_NAMES {
        model.add(&format!("{STATION}/{:04}-{:02}-{:02}", n / 300, n / 30 % 12 + 1, n % 30 + 1), root(1));
    }
    let mut ledger = Ledger::new(STATION.into(), EVERY, false);
    ledger.listed(model.pins.clone(), Duration::ZERO);
    assert!(ledger.slots.len() <= MAX_NAMES, "{}", ledger.slots.len());
    let days: BTreeMap<_, _> =
        (0..2 * MAX_NAMES).map(|n| (format!("{n:04}-{:02}-01", n % 12 + 1), root(2))).collect();
    ledger.want_days(&days);
    assert!(ledger.slots.len() <= 2 * MAX_NAMES, "{}", ledger.slots.len());
}
