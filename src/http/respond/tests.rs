use proptest::prelude::*;

use super::*;
use crate::http::request_path;

const TAG: &str = "bafy,1";

fn call(get: bool, headers: &[(HeaderName, &str)]) -> Call {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name, HeaderValue::from_str(value).unwrap());
    }
    Call {
        get,
        headers: map,
        path: request_path::parse("/").unwrap(),
        raw_path: "/".to_owned(),
        query: String::new(),
        gateway: false,
    }
}

fn selected(headers: &[(HeaderName, &str)], len: u64) -> Selection {
    select(&call(true, headers), TAG, len)
}

fn range(value: &str, len: u64) -> Selection {
    selected(&[(header::RANGE, value)], len)
}

#[test]
fn single_ranges_select_their_bytes() {
    assert_eq!(range("bytes=0-0", 10), Selection::Part(0..1));
    assert_eq!(range("bytes=2-5", 10), Selection::Part(2..6));
    assert_eq!(range("bytes=2-", 10), Selection::Part(2..10));
    assert_eq!(range("bytes=-3", 10), Selection::Part(7..10));
    assert_eq!(range("bytes=-30", 10), Selection::Part(0..10));
    assert_eq!(range("bytes=2-99999999999999999999999", 10), Selection::Part(2..10));
    assert_eq!(range("BYTES = 2-5", 10), Selection::Part(2..6));
}

#[test]
fn of_several_ranges_the_gateway_sends_the_first_that_there_is() {
    let of = |value: &str| {
        let call = Call { gateway: true, ..call(true, &[(header::RANGE, value)]) };
        select(&call, TAG, 10)
    };
    assert_eq!(of("bytes=6-7,0-4"), Selection::Part(6..8));
    assert_eq!(of("bytes=12-13, -3 ,0-4"), Selection::Part(7..10));
    assert_eq!(of("bytes=12-13,99-"), Selection::Unsatisfiable);
    let many = format!("bytes=20-{}", ",20-".repeat(4_000));
    assert_eq!(of(&many), Selection::Unsatisfiable);
    for whole in ["bytes=0-1,x-y", "bytes=0-1,3-2", "bytes=,", "bytes= , ,"] {
        assert_eq!(of(whole), Selection::Whole, "{whole}");
    }
}

#[test]
fn ranges_past_the_end_are_unsatisfiable() {
    for value in ["bytes=10-", "bytes=10-12", "bytes=99999999999999999999999-", "bytes=-0"] {
        assert_eq!(range(value, 10), Selection::Unsatisfiable, "{value}");
    }
    assert_eq!(range("bytes=0-", 0), Selection::Unsatisfiable);
}

#[test]
fn ranges_that_cannot_be_read_or_are_several_give_the_whole() {
    let values = [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=5-2",
        "bytes=a-b",
        "bytes=1-x",
        "bytes=12-x",
        "bytes=+1-2",
        "bytes=1--2",
        "items=0-1",
        "bytes=0-1,4-5",
        "bytes=0-1, 4-5",
    ];
    for value in values {
        assert_eq!(range(value, 10), Selection::Whole, "{value}");
    }
    assert_eq!(range("bytes=-5", 0), Selection::Whole);
}

#[test]
fn head_ignores_ranges() {
    let call = call(false, &[(header::RANGE, "bytes=0-1")]);
    assert_eq!(select(&call, TAG, 10), Selection::Whole);
}

#[test]
fn if_range_needs_the_same_strong_tag() {
    let with = |tag| selected(&[(header::RANGE, "bytes=0-1"), (header::IF_RANGE, tag)], 10);
    assert_eq!(with("\"bafy,1\""), Selection::Part(0..2));
    assert_eq!(with("W/\"bafy,1\""), Selection::Whole);
    assert_eq!(with("\"other\""), Selection::Whole);
    assert_eq!(with("Sun, 06 Nov 1994 08:49:37 GMT"), Selection::Whole);
}

#[test]
fn if_none_match_compares_weakly_over_lists_and_lines() {
    for value in ["*", "\"bafy,1\"", "W/\"bafy,1\"", "\"a\", \"b,c\" ,W/\"bafy,1\"", ",,\"bafy,1\""] {
        assert_eq!(selected(&[(header::IF_NONE_MATCH, value)], 10), Selection::NotModified, "{value}");
    }
    for value in ["", "\"a\"", "bafy,1", "\"bafy\",\"1\"", "\"bafy,1", "w/\"bafy,1\"", "\"x\", *"] {
        assert_eq!(selected(&[(header::IF_NONE_MATCH, value)], 10), Selection::Whole, "{value}");
    }
    let lines = [(header::IF_NONE_MATCH, "\"a\""), (header::IF_NONE_MATCH, "\"bafy,1\"")];
    assert_eq!(selected(&lines, 10), Selection::NotModified);
}

#[test]
fn if_match_compares_strongly_and_comes_first() {
    assert_eq!(selected(&[(header::IF_MATCH, "W/\"bafy,1\"")], 10), Selection::PreconditionFailed);
    assert_eq!(selected(&[(header::IF_MATCH, "\"a\", \"bafy,1\"")], 10), Selection::Whole);
    let both = [(header::IF_MATCH, "\"a\""), (header::IF_NONE_MATCH, "*")];
    assert_eq!(selected(&both, 10), Selection::PreconditionFailed);
}

#[test]
fn not_modified_comes_before_the_range() {
    let both = [(header::IF_NONE_MATCH, "*"), (header::RANGE, "bytes=99-")];
    assert_eq!(selected(&both, 10), Selection::NotModified);
}

proptest! {
    #[test]
    fn a_part_is_never_empty_and_never_past_the_end(value in "(bytes)?=?[-0-9, x]{0,12}", len in 0_u64..300) {
        if let Selection::Part(part) = range(&value, len) {
            prop_assert!(part.start < part.end && part.end <= len);
        }
    }

    #[test]
    fn a_well_formed_range_selects_what_it_says(first in 0_u64..300, last in 0_u64..300, len in 0_u64..300) {
        let expected = if first > last {
            Selection::Whole
        } else if first >= len {
            Selection::Unsatisfiable
        } else {
            Selection::Part(first..(last + 1).min(len))
        };
        prop_assert_eq!(range(&format!("bytes={first}-{last}"), len), expected);
    }

    #[test]
    fn any_bytes_in_a_condition_are_survived(value in prop::collection::vec(any::<u8>(), 0..40)) {
        value_lists(&value, TAG.as_bytes(), Comparison::Weak);
    }
}
