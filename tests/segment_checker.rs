//! The stream checker's reading of single files under test: which rule names a damage, and how much of it is seen.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

/// Helpers shared by the test binaries.
mod support {
    pub(crate) mod checker;
    pub(crate) mod http_client;
}

use proptest::prelude::*;
use support::checker::boxes::Fields;
use support::checker::init_segment::InitSegment;
use support::checker::rules::{self, Rule};
use support::checker::{init_segment, media_playlist, media_segment, synth};

const FIRST: u64 = 466_900_000;
const SAMPLES: u64 = 184_320;

fn init() -> InitSegment {
    init_segment::parse(&synth::init_segment(), 48_000).unwrap_or_else(|violation| panic!("{violation}"))
}

/// Judges segment FIRST as the checker would behind segment FIRST - 1: bytes alone, then number and neighbour.
fn passes(bytes: &[u8], init: &InitSegment, chunks: u32) -> bool {
    media_segment::parse(bytes, init, 48_000, SAMPLES).is_ok_and(|segment| {
        segment.decode_time() == FIRST * SAMPLES
            && segment.chunks[0].sequence_number == (FIRST as u32).wrapping_mul(chunks)
    })
}

/// Offset and size of a top-level box.
fn top_level_box(bytes: &[u8], name: &str) -> (usize, usize) {
    let mut fields = Fields::of_file(bytes);
    while let Some(next) = fields.next_box().expect("a correct file") {
        if next.name == name {
            return (next.offset, next.size);
        }
    }
    panic!("no {name}");
}

/// Offset of a box name in a file; the fields of a FullBox begin eight bytes further on.
fn place(bytes: &[u8], name: &[u8; 4]) -> usize {
    bytes.windows(4).position(|window| window == name).expect("the box is there")
}

#[test]
fn damaged_segments_break_the_rule_that_covers_them() {
    // Box, offset from its name, what to put there.
    let cases: [(Rule, &[u8; 4], usize, &[u8]); 15] = [
        (rules::BRANDS, b"styp", 12, b"xxxxyyyy"),
        (rules::EMSG_FIELD, b"emsg", 4, &[0]),
        (rules::EMSG_FIELD, b"emsg", 8, &[0, 1, 0x5f, 0x90]),
        (rules::EMSG_FIELD, b"emsg", 28, b"i"),
        (rules::ID3, b"TIT2", 0, b"TPE1"),
        (rules::ID3, b"TIT2", 0, b"tit2"),
        (rules::ID3, b"TIT2", 10, &[3, 0xff]),
        (rules::BOX_UNKNOWN, b"mfhd", 0, b"mfxx"),
        (rules::TFHD, b"tfhd", 5, &[0]),
        (rules::TFHD, b"tfhd", 8, &[0, 0, 0, 2]),
        (rules::BOX_FIELD, b"tfdt", 4, &[0]),
        (rules::TRUN, b"trun", 12, &[0, 0, 0, 0]),
        (rules::TRUN, b"trun", 8, &[0, 0, 0, 179]),
        (rules::TRUN_SIZES, b"trun", 16, &[0, 0, 0, 0]),
        (rules::BOX_UNKNOWN, b"styp", 0, b"free"),
    ];
    for (rule, name, offset, change) in cases {
        let mut bytes = synth::segment(FIRST, 256, 1);
        let at = place(&bytes, name) + offset;
        bytes[at..at + change.len()].copy_from_slice(change);
        let violation = media_segment::parse(&bytes, &init(), 48_000, SAMPLES).expect_err(rule.name);
        assert_eq!(violation.rule, rule, "{violation}");
    }
}

#[test]
fn segments_of_a_wrong_make_break_the_rule_that_covers_them() {
    let judge = |bytes: &[u8], init: &InitSegment| media_segment::parse(bytes, init, 48_000, SAMPLES);
    let good = synth::segment(FIRST, 256, 1);
    let (moof, mdat) = (top_level_box(&good, "moof"), top_level_box(&good, "mdat"));
    let with_moof_only = &good[..moof.0 + moof.1];
    let without_moof = [&good[..moof.0], &good[mdat.0..]].concat();
    let two_segments = [good.as_slice(), &synth::segment(FIRST + 1, 256, 1)[24..]].concat();
    let mut empty_unit = good.clone();
    let sizes = place(&good, b"trun") + 16;
    let first = u32::from_be_bytes(good[sizes..sizes + 4].try_into().expect("four bytes"));
    let second = u32::from_be_bytes(good[sizes + 4..sizes + 8].try_into().expect("four bytes"));
    empty_unit[sizes..sizes + 8].copy_from_slice(&[[0; 4], (first + second).to_be_bytes()].concat());
    let cases: [(Rule, &[u8]); 5] = [
        (rules::BOX_COUNT, with_moof_only),
        (rules::BOX_COUNT, &without_moof),
        (rules::SEGMENT_DURATION, &two_segments),
        (rules::ACCESS_UNIT, &empty_unit),
        (rules::BOX_SYNTAX, &good[..good.len() - 1]),
    ];
    for (rule, bytes) in cases {
        let violation = judge(bytes, &init()).expect_err(rule.name);
        assert_eq!(violation.rule, rule, "{violation}");
    }
    let long_frames = InitSegment { default_duration: 2048, ..init() };
    assert_eq!(judge(&good, &long_frames).expect_err("SBR frames").rule, rules::SEGMENT_DURATION);
    let not_sync = InitSegment { default_flags: 0x1_0000, ..init() };
    assert_eq!(judge(&good, &not_sync).expect_err("non-sync samples").rule, rules::SAMPLE_FLAGS);
}

#[test]
fn damaged_init_segments_break_the_rule_that_covers_them() {
    let cases: [(Rule, &[u8; 4], usize, &[u8]); 10] = [
        (rules::BRANDS, b"ftyp", 12, b"mp41mp42"),
        (rules::BOX_FIELD, b"mvhd", 40, &[1]),
        (rules::BOX_FIELD, b"tkhd", 7, &[0]),
        (rules::TIMESCALE, b"mdhd", 16, &[0, 0, 0xac, 0x44]),
        (rules::BOX_FIELD, b"hdlr", 12, b"vide"),
        (rules::BOX_FIELD, b"mp4a", 20, &[0, 1]),
        (rules::BOX_FIELD, b"stts", 8, &[0, 0, 0, 1]),
        (rules::BOX_UNKNOWN, b"smhd", 0, b"vmhd"),
        (rules::BOX_COUNT, b"stco", 0, b"stsc"),
        (rules::BOX_FIELD, b"trex", 8, &[0, 0, 0, 9]),
    ];
    for (rule, name, offset, change) in cases {
        let mut bytes = synth::init_segment();
        let at = place(&bytes, name) + offset;
        bytes[at..at + change.len()].copy_from_slice(change);
        let violation = init_segment::parse(&bytes, 48_000).expect_err(rule.name);
        assert_eq!(violation.rule, rule, "{violation}");
    }
}

/// Detection rate: 100 %, but for the one change that means nothing: trun version 1 differs from 0 in the sign of
/// composition offsets only, and there are none.
#[test]
fn every_change_of_a_single_byte_of_moof_is_detected() {
    let init = init();
    let original = synth::segment(FIRST, 256, 1);
    assert!(passes(&original, &init, 1));
    let (start, size) = top_level_box(&original, "moof");
    let trun = original.windows(4).position(|window| window == b"trun").expect("a trun");
    let mut bytes = original.clone();
    let mut unseen = Vec::new();
    for at in start..start + size {
        for mask in 1..=255 {
            bytes[at] ^= mask;
            if passes(&bytes, &init, 1) {
                unseen.push((at - trun, mask));
            }
            bytes[at] = original[at];
        }
    }
    assert_eq!(unseen, [(4, 1)]);
}

/// Undetected are the hints and the free choices only: times of creation, buffer size and bit rates, minor version,
/// and the like. The bound is the sum of those fields.
#[test]
fn most_changes_of_a_single_byte_of_the_init_segment_are_detected() {
    let original = synth::init_segment();
    let mut bytes = original.clone();
    let mut unseen = 0;
    for at in 0..original.len() {
        bytes[at] ^= 0xff;
        unseen += usize::from(init_segment::parse(&bytes, 48_000).is_ok_and(|found| found == init()));
        bytes[at] = original[at];
    }
    // ftyp major and minor 8, one of two brands each 0; mvhd times 8, timescale 4, next_track_ID 4; tkhd times 8,
    // alternate_group 2; mdhd times 8; esds bufferSizeDB and rates 11; hdlr name (never with UTF-8 broken) 0; and
    // one of the two compatible brands at a time 8.
    assert!(unseen <= 8 + 16 + 10 + 8 + 11 + 8, "{unseen} of {} bytes unseen", original.len());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = init_segment::parse(&bytes, 48_000);
        let _ = media_segment::parse(&bytes, &init(), 48_000, SAMPLES);
        if let Ok(text) = String::from_utf8(bytes) {
            let _ = media_playlist::parse(&text, "lofi");
        }
    }

    #[test]
    fn cutting_or_lengthening_a_segment_anywhere_is_detected(cut in 0_usize..40_000, junk in 1_usize..64) {
        let original = synth::segment(FIRST, 170, 12);
        let init = init();
        prop_assert!(passes(&original, &init, 12));
        let cut = cut % original.len();
        prop_assert!(!passes(&original[..cut], &init, 12));
        let mut longer = original.clone();
        longer.splice(cut..cut, std::iter::repeat_n(0x5a, junk));
        prop_assert!(!passes(&longer, &init, 12));
    }

    #[test]
    fn random_damage_to_the_structure_of_a_moof_is_detected(
        at in any::<prop::sample::Index>(),
        damage in proptest::collection::vec(1_u8.., 1..8),
    ) {
        let mut bytes = synth::segment(FIRST, 256, 1);
        let start = top_level_box(&bytes, "moof").0;
        // Up to the version of trun, which means nothing; behind it two sizes may make up for each other.
        let end = bytes.windows(4).position(|window| window == b"trun").expect("a trun") + 4;
        let at = start + at.index(end - start - damage.len());
        for (offset, mask) in damage.iter().enumerate() {
            bytes[at + offset] ^= mask;
        }
        prop_assert!(!passes(&bytes, &init(), 1));
    }
}
