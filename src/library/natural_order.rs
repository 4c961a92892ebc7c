//! Natural order of names: "2 x" before "10 x", case of no weight. Pure.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Orders two names as a person would; names that differ only in case or leading zeros still differ.
pub(super) fn compare(left: &OsStr, right: &OsStr) -> Ordering {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    match (std::str::from_utf8(left), std::str::from_utf8(right)) {
        (Ok(a), Ok(b)) => by_people(a.chars(), b.chars()),
        _ => by_people(left.iter().map(|&byte| byte as char), right.iter().map(|&byte| byte as char)),
    }
    .then_with(|| left.cmp(right))
}

fn by_people(left: impl Iterator<Item = char>, right: impl Iterator<Item = char>) -> Ordering {
    let (mut left, mut right) = (left.peekable(), right.peekable());
    loop {
        let order = match (left.peek().copied(), right.peek().copied()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) if a.is_ascii_digit() && b.is_ascii_digit() => {
                number(&mut left).cmp(&number(&mut right))
            }
            (Some(a), Some(b)) => {
                left.next();
                right.next();
                a.to_lowercase().cmp(b.to_lowercase())
            }
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Length without leading zeros, then digits: compares like the number, of any length.
fn number(chars: &mut std::iter::Peekable<impl Iterator<Item = char>>) -> (usize, String) {
    let mut digits = String::new();
    while let Some(digit) = chars.next_if(char::is_ascii_digit) {
        if digit != '0' || !digits.is_empty() {
            digits.push(digit);
        }
    }
    (digits.len(), digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sorted(mut names: Vec<&str>) -> Vec<&str> {
        names.sort_by(|a, b| compare(OsStr::new(a), OsStr::new(b)));
        names
    }

    #[test]
    fn numbers_count_as_numbers() {
        assert_eq!(
            sorted(vec!["10 end", "9 mid", "1 start", "Disc 12", "disc 2"]),
            ["1 start", "9 mid", "10 end", "disc 2", "Disc 12"]
        );
    }

    #[test]
    fn numbers_of_any_length_compare() {
        assert_eq!(
            sorted(vec!["99999999999999999999999", "100000000000000000000000", "07", "7a"]),
            ["07", "7a", "99999999999999999999999", "100000000000000000000000"]
        );
    }

    #[test]
    fn names_outside_utf_8_compare() {
        let bad = OsStr::from_bytes(b"a\xff2");
        assert_eq!(compare(bad, OsStr::from_bytes(b"a\xff10")), Ordering::Less);
        assert_ne!(compare(bad, OsStr::new("a")), Ordering::Equal);
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in "[0-2aAé]{0,6}", b in "[0-2aAé]{0,6}", c in "[0-2aAé]{0,6}") {
            let (a, b, c) = (OsStr::new(&a), OsStr::new(&b), OsStr::new(&c));
            prop_assert_eq!(compare(a, b), compare(b, a).reverse());
            prop_assert_eq!(compare(a, b) == Ordering::Equal, a == b);
            if compare(a, b).is_le() && compare(b, c).is_le() {
                prop_assert!(compare(a, c).is_le());
            }
        }
    }
}
