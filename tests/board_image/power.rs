//! Power cuts at random moments: the board comes back by itself, with the same name and above every number.

use crate::board::{Board, Setup};
use crate::card::{Card, LIGHT};
use crate::image::image;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Of both tests together; a quarter of them hits cards that have never been started.
const CUTS: usize = 20;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// SplitMix64: few lines, and the same moments for the same seed on every machine.
struct Random(u64);

impl Random {
    /// From 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// What listeners know of the station.
#[derive(Default)]
struct Known {
    name: Option<String>,
    newest: u64,
}

impl Known {
    /// The board is on the air as the same station, with numbers that no listener has met.
    fn meet(&mut self, board: &mut Board, cut: usize) {
        board.wait_on_air();
        let name = board.wait_for("the station's name", Board::ipns);
        if let Some(known) = &self.name {
            assert_eq!(*known, name, "before cut {cut} it had another name");
        }
        let first = board.wait_for("a playlist", |board| board.listed().into_iter().min());
        assert!(first > self.newest, "before cut {cut} {} was on air, now {first}", self.newest);
        self.name = Some(name);
        self.see(board);
    }

    fn see(&mut self, board: &Board) {
        self.newest = self.newest.max(board.newest().unwrap_or_default());
    }
}

/// The number of cuts that this part of them makes, and their moments.
fn plan(of_four: usize) -> (usize, Random) {
    let seed = number("SKYWAVE_SEED")
        .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs());
    let cuts = number("SKYWAVE_CUTS").map_or(CUTS, |cuts| cuts as usize);
    eprintln!("SKYWAVE_SEED={seed}");
    (cuts * of_four / 4, Random(seed.wrapping_add(of_four as u64)))
}

/// Starts a board and cuts its power at a moment of its start, or some seconds into the programme. Its file systems are
/// whole then.
fn cut(card: &Card, known: &mut Known, number: usize, moment: Duration) {
    let mut board = Board::start(card, &Setup::default());
    let deadline = board.since + moment;
    let mut met = false;
    while Instant::now() < deadline {
        if !met && board.newest().is_some() {
            known.meet(&mut board, number);
            met = true;
        }
        // Only then: what this very start brings on air is new to whom it meets.
        if met {
            known.see(&board);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    board.cut();
    eprintln!("cut {number} after {moment:.1?}, {}", if met { "on the air" } else { "starting" });
    card.check();
}

/// The card brings its station back.
fn comes_back(card: &Card, known: &mut Known, number: usize) {
    let mut board = Board::start(card, &Setup::default());
    known.meet(&mut board, number);
    board.cut();
    card.check();
}

fn moment(start: Duration, random: &mut Random) -> Duration {
    start.mul_f64(0.05 + 1.25 * random.next())
}

/// How long a first start takes.
fn start(image: &Path) -> Duration {
    Card::started(image).took
}

#[test]
fn power_cuts_at_random_moments_of_first_boots_leave_cards_that_start() {
    let Some(image) = image() else { return };
    let (cuts, mut random) = plan(1);
    for number in 1..=cuts {
        let (card, mut known) = (Card::flashed(&image), Known::default());
        card.put("station.toml", LIGHT);
        cut(&card, &mut known, number, moment(start(&image), &mut random));
        comes_back(&card, &mut known, number);
    }
}

#[test]
fn power_cuts_at_random_moments_leave_one_card_with_its_name_and_numbers_and_clean_file_systems() {
    let Some(image) = image() else { return };
    let (cuts, mut random) = plan(3);
    let started = Card::started(&image);
    let mut known = Known { name: Some(started.name), newest: started.newest };
    for number in 1..=cuts {
        cut(&started.card, &mut known, number, moment(started.took, &mut random));
    }
    comes_back(&started.card, &mut known, cuts);
}
