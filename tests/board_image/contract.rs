//! The contract suite of the GPIO back ends (tests/leds.rs), run on the board itself.

use crate::addition::Addition;
use crate::board::Board;
use std::path::PathBuf;

/// The suite, compiled for the board, and the back ends that it is run on.
pub struct Contract {
    program: Option<PathBuf>,
    benches: Vec<String>,
}

impl Contract {
    /// Of the program that `SKYWAVE_LEDS_TEST` names; without one the suite is left out, said aloud. `benches` as tests/leds.rs
    /// takes them.
    pub fn of(benches: &[&str]) -> Self {
        let program = std::env::var_os("SKYWAVE_LEDS_TEST").map(PathBuf::from);
        if program.is_none() {
            assert!(!crate::image::is_required(), "SKYWAVE_LEDS_TEST names no program");
            eprintln!("SKIPPED: SKYWAVE_LEDS_TEST names no suite of the back ends' contract for the board");
        }
        Self { program, benches: benches.iter().map(|bench| (*bench).to_owned()).collect() }
    }

    /// The suite is started with the board, and speaks on its console.
    pub fn add_to(&self, addition: Addition) -> Addition {
        let Some(program) = &self.program else { return addition };
        let program = std::fs::read(program).expect("the program that SKYWAVE_LEDS_TEST names");
        let unit = format!(
            "[Service]\nType=oneshot\nEnvironment=\"SKYWAVE_GPIO={}\"\n\
            ExecStart=/run/contract/leds --nocapture --test-threads=1 --color=never\n\
            StandardOutput=tty\nStandardError=tty\nTTYPath=/dev/console\n",
            self.benches.join(" ")
        );
        addition.program("contract/leds", program).unit("contract.service", &unit)
    }

    /// It has met every back end and is content.
    pub fn is_kept(&self, board: &mut Board) {
        if self.program.is_none() {
            return;
        }
        let said = board.wait_for("the contract suite's result", |board| {
            let serial = board.serial();
            // The end of the line that the result begins; it comes word by word.
            serial.contains("; finished in ").then_some(serial)
        });
        for bench in &self.benches {
            assert!(said.contains(&format!("contract of {bench}")), "{said}");
        }
        assert!(said.contains("test result: ok. 2 passed"), "{said}");
    }
}
