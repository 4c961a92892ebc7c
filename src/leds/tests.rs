use std::sync::{Arc, Mutex};

use tokio::task::JoinHandle;
use tokio::time::advance;

use super::button::{Act, Press};
use super::gpio::recording::Recording;
use super::panel::ButtonLine;
use super::press::Presses;
use super::*;
use crate::health::{ClockState, LibraryHealth, StageState};
use crate::network::NetworkState;

const LINES: [Option<u32>; 3] = [Some(5), Some(6), Some(7)];

fn milliseconds(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A stage with lights on lines 5, 6 and 7 of a chip of eight.
struct Rig {
    chip: Recording,
    health: Health,
    understood: watch::Sender<u64>,
    cancel: CancellationToken,
    running: JoinHandle<Result<(), Infallible>>,
}

impl Rig {
    fn new(chip: Recording, active_low: bool) -> Self {
        let (understood, receiver) = watch::channel(0);
        let health = Health::new();
        let stage = Leds {
            panel: Ok(Some(Panel::new(Arc::new(chip.clone()), LINES, active_low))),
            overall: health.clone(),
            health: health.stage("leds", None),
            understood: receiver,
        };
        stage.health.running();
        let cancel = CancellationToken::new();
        let token = cancel.clone();
        let running = tokio::spawn(async move { stage.run(token).await });
        Self { chip, health, understood, cancel, running }
    }

    fn put_on_air(&self) {
        self.health.set_network(NetworkState::Up);
        self.health.set_clock(ClockState::Synchronised);
        self.health.set_library(LibraryHealth { tracks: 3, ..LibraryHealth::default() });
        self.health.set_on_air(7);
    }

    fn levels(&self) -> [bool; 3] {
        [5, 6, 7].map(|line| self.chip.is_high(line))
    }

    /// Lengths in ms for which line 5 kept each level, over the next `span`.
    async fn rhythm(&self, span: u64) -> Vec<(bool, u64)> {
        self.chip.take_changes(5);
        pass(span).await;
        let changes = self.chip.take_changes(5);
        let lengths = changes.windows(2).map(|two| (two[0].1, (two[1].0 - two[0].0).as_millis() as u64));
        lengths.collect()
    }

    fn state(&self) -> StageState {
        self.health.report().stages[0].state
    }

    async fn stop(self) -> Recording {
        self.cancel.cancel();
        self.running.await.unwrap().unwrap();
        self.chip
    }
}

/// Lets paused time pass in small steps, so that every timer fires at its own moment.
async fn pass(span: u64) {
    for _ in 0..span / 5 {
        advance(milliseconds(5)).await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_lights_follow_health_within_half_a_second() {
    let rig = Rig::new(Recording::new(8), false);
    pass(100).await;
    assert_eq!(rig.levels(), [true, false, false], "booting begins lit");
    rig.put_on_air();
    pass(505).await;
    assert_eq!(rig.levels(), [true; 3]);
    rig.health.set_network(NetworkState::Down);
    pass(1_600).await;
    assert_eq!(rig.levels(), [true, false, true], "a slow blink is dark in its second half");
}

#[tokio::test(start_paused = true)]
async fn a_fault_is_counted_out_on_the_light_for_power() {
    let rig = Rig::new(Recording::new(8), false);
    rig.put_on_air();
    rig.health.stage("encoder", None).failed("no memory");
    pass(1_000).await;
    let rhythm = rig.rhythm(6_500).await;
    let blink = [(true, 250), (false, 250), (true, 250), (false, 250), (true, 250), (false, 1_750)];
    let begin = rhythm.iter().position(|phase| *phase == (false, 1_750)).unwrap() + 1;
    assert_eq!(rhythm[begin..begin + 6], blink, "{rhythm:?}");
}

#[tokio::test(start_paused = true)]
async fn lights_that_are_lit_by_the_low_level_show_the_same() {
    let rig = Rig::new(Recording::new(8), true);
    rig.put_on_air();
    pass(600).await;
    assert_eq!(rig.levels(), [false; 3]);
    let chip = rig.stop().await;
    assert_eq!([5, 6, 7].map(|line| chip.is_high(line)), [true; 3], "dark");
}

#[tokio::test(start_paused = true)]
async fn the_end_is_dark_and_frees_the_lines() {
    let rig = Rig::new(Recording::new(8), false);
    rig.put_on_air();
    pass(600).await;
    rig.health.set_stopping();
    rig.health.set_off_air("shutting down");
    pass(500).await;
    let rhythm = rig.rhythm(4_200).await;
    assert!(rhythm.windows(3).any(|three| three == [(true, 100), (false, 150), (true, 100)]), "{rhythm:?}");
    assert_eq!(rig.chip.owner(5).as_deref(), Some("skywave"));
    let chip = rig.stop().await;
    for line in [5, 6, 7] {
        assert!(!chip.is_high(line) && chip.owner(line).is_none(), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_in_use_is_told_once_shown_in_health_and_taken_when_it_is_free() {
    let chip = Recording::new(8);
    chip.occupy(6, Some("a fan"));
    let rig = Rig::new(chip, false);
    rig.put_on_air();
    pass(600).await;
    assert!(rig.levels()[2], "the other lights work");
    pass(600_000).await;
    let report = rig.health.report();
    let leds = &report.stages[0];
    assert_eq!((leds.state, leds.restarts), (StageState::Failed, 1), "told once in ten minutes");
    assert!(
        leds.last_error.as_ref().unwrap().message.contains("line 6 of the recording chip is in use by a fan")
    );
    assert!(report.on_air);
    rig.chip.occupy(6, None);
    pass(300_000).await;
    assert_eq!(rig.state(), StageState::Running);
    assert_eq!(rig.levels(), [true; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_line_that_the_chip_does_not_have_is_an_error_that_names_it() {
    let rig = Rig::new(Recording::new(7), false);
    pass(100).await;
    let report = rig.health.report();
    let message = &report.stages[0].last_error.as_ref().unwrap().message;
    assert_eq!(message, "the recording chip has no line 7; its lines are 0 to 6");
}

#[tokio::test(start_paused = true)]
async fn a_line_that_stops_to_answer_is_given_back_and_opened_anew() {
    let rig = Rig::new(Recording::new(8), false);
    pass(100).await;
    rig.chip.set_broken(5, true);
    pass(1_000).await;
    assert_eq!(rig.state(), StageState::Failed);
    assert_eq!(rig.chip.owner(5), None);
    pass(20_000).await;
    assert_eq!(
        rig.health.report().stages[0].restarts,
        1,
        "opening it is no recovery while it does not answer"
    );
    rig.chip.set_broken(5, false);
    pass(60_000).await;
    assert_eq!(rig.state(), StageState::Running);
    rig.put_on_air();
    pass(600).await;
    assert_eq!(rig.levels(), [true; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_press_that_was_understood_makes_the_light_for_power_flicker() {
    let rig = Rig::new(Recording::new(8), false);
    rig.put_on_air();
    pass(600).await;
    rig.chip.take_changes(5);
    rig.understood.send_modify(|count| *count += 1);
    pass(700).await;
    assert!(rig.chip.take_changes(5).len() >= 4);
    pass(1_000).await;
    rig.chip.take_changes(5);
    pass(5_000).await;
    assert_eq!(rig.chip.take_changes(5), [], "and is steady again");
    assert!(rig.chip.is_high(5));
}

#[tokio::test(start_paused = true)]
async fn without_lights_the_stage_runs_and_a_mistake_in_the_configuration_is_its_error() {
    for (panel, state) in [
        (Ok(None), StageState::Running),
        (Err(LedsError::UnknownBoard { board: "a toaster".to_owned() }), StageState::Failed),
    ] {
        let health = Health::new();
        let report = health.stage("leds", None);
        report.running();
        let understood = watch::channel(0).1;
        let stage = Leds { panel, overall: health.clone(), health: report, understood };
        let cancel = CancellationToken::new();
        let token = cancel.clone();
        let running = tokio::spawn(async move { stage.run(token).await });
        pass(2_000).await;
        assert_eq!(health.report().stages[0].state, state);
        cancel.cancel();
        running.await.unwrap().unwrap();
    }
}

#[test]
fn no_line_may_be_given_twice() {
    let button = ButtonConfig { pin: Some(2), ..ButtonConfig::default() };
    let fine = LedsConfig { power: Some(1), on_air: Some(3), ..LedsConfig::default() };
    assert_eq!(fine.validate(&button), Ok(()));
    let twice = LedsConfig { network: Some(3), ..fine.clone() };
    assert_eq!(twice.validate(&button).unwrap_err().0, "leds.on_air");
    let taken = LedsConfig { power: Some(2), ..fine.clone() };
    let (key, reason) = taken.validate(&button).unwrap_err();
    assert_eq!((key, &*reason), ("button.pin", "line 2 is that of leds.power"));
    let nameless = LedsConfig { chip: Some(String::new()), ..fine };
    assert_eq!(nameless.validate(&button).unwrap_err().0, "leds.chip");
}

/// A button on line 4, active high, and what was understood of it.
struct Finger {
    chip: Recording,
    health: Health,
    seen: Arc<Mutex<Vec<Press>>>,
    understood: watch::Receiver<u64>,
    cancel: CancellationToken,
}

impl Finger {
    fn new(chip: Recording) -> Self {
        let (health, seen) = (Health::new(), Arc::<Mutex<Vec<Press>>>::default());
        let (understood, receiver) = watch::channel(0);
        let told = seen.clone();
        let act: Act = Arc::new(move |press| told.lock().unwrap().push(press));
        let stage = ButtonStage {
            line: ButtonLine::new(Arc::new(chip.clone()), 4, false),
            act,
            understood,
            health: health.stage("button", None),
            presses: Mutex::new(Presses::default()),
            origin: Instant::now(),
        };
        let cancel = CancellationToken::new();
        let token = cancel.clone();
        tokio::spawn(async move { stage.run(token).await });
        Self { chip, health, seen, understood: receiver, cancel }
    }

    async fn hold(&self, span: u64) {
        self.chip.put(4, true);
        pass(span).await;
        self.chip.put(4, false);
        pass(500).await;
    }

    fn take(&self) -> Vec<Press> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn presses_reach_whoever_acts_on_them_and_are_acknowledged() {
    let finger = Finger::new(Recording::new(8));
    pass(1_000).await;
    finger.hold(200).await;
    assert_eq!(finger.take(), [Press::Skip]);
    assert_eq!(*finger.understood.borrow(), 1);
    finger.hold(3_500).await;
    assert_eq!(finger.take(), [Press::PowerOff]);
    finger.cancel.cancel();
    pass(50).await;
    assert_eq!(finger.chip.owner(4), None);
}

#[tokio::test(start_paused = true)]
async fn a_button_that_is_held_from_the_start_resets() {
    let chip = Recording::new(8);
    chip.put(4, true);
    let finger = Finger::new(chip);
    finger.hold(11_000).await;
    assert_eq!(finger.take(), [Press::ResetReady, Press::Reset]);
}

#[tokio::test(start_paused = true)]
async fn a_button_whose_line_is_in_use_is_told_once_and_works_once_it_is_free() {
    let chip = Recording::new(8);
    chip.occupy(4, Some("a fan"));
    let finger = Finger::new(chip);
    pass(600_000).await;
    let button = &finger.health.report().stages[0];
    assert_eq!((button.state, button.restarts), (StageState::Failed, 1));
    finger.chip.occupy(4, None);
    pass(300_000).await;
    assert_eq!(finger.health.report().stages[0].state, StageState::Running);
    finger.hold(200).await;
    assert_eq!(finger.take(), [Press::Skip]);
}
