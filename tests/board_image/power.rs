//! Power cuts at random moments: the board comes back by itself, with the same name and above every number.

use crate::board::{Board, Setup, image};
use crate::card::Card;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const CUTS: usize = 20;
/// How many of the cuts hit a card that has never been started.
const FIRST_BOOTS: usize = 5;

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

#[test]
fn twenty_power_cuts_at_random_moments_leave_a_station_with_its_name_and_clean_file_systems() {
    let Some(image) = image() else { return };
    let seed = number("SKYWAVE_SEED")
        .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs());
    let cuts = number("SKYWAVE_CUTS").map_or(CUTS, |cuts| cuts as usize);
    eprintln!("SKYWAVE_SEED={seed}");
    let mut random = Random(seed);

    let mut card = Card::flashed(&image);
    let mut known = Known::default();
    let mut board = Board::start(&card, &Setup::default());
    known.meet(&mut board, 0);
    // A cut may come at any moment of a start, and some seconds into the programme.
    let start = board.since.elapsed();
    board.cut();
    card.check();
    for cut in 1..=cuts {
        if cut <= FIRST_BOOTS {
            card = Card::flashed(&image);
            known = Known::default();
        }
        let moment = start.mul_f64(0.05 + 1.25 * random.next());
        let mut board = Board::start(&card, &Setup::default());
        let deadline = board.since + moment;
        let mut met = false;
        while Instant::now() < deadline {
            if !met && board.newest().is_some() {
                known.meet(&mut board, cut);
                met = true;
            }
            // Only then: what this very start brings on air is new to whom it meets.
            if met {
                known.see(&board);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        board.cut();
        eprintln!("cut {cut} after {moment:.1?}, {}", if met { "on the air" } else { "starting" });
        card.check();
        // Cards that are thrown away must show at once that they came back.
        if cut <= FIRST_BOOTS || cut == cuts {
            let mut board = Board::start(&card, &Setup::default());
            known.meet(&mut board, cut);
            board.cut();
            card.check();
        }
    }
}
