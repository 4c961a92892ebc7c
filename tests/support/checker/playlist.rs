//! The lexical layer that both kinds of playlist share: lines, tags, attribute lists, dates (RFC 8216bis section 4).

use super::rules::{self, Violation, ensure};
use std::collections::BTreeMap;

/// One line that carries meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'a> {
    /// `#EXT...`, split at the first colon; no colon gives no value.
    Tag(&'a str, Option<&'a str>),
    /// Anything that does not start with `#`.
    Uri(&'a str),
}

/// Splits a playlist; blank lines and comments carry no meaning. The first line must be `#EXTM3U`, and every line
/// must be terminated, the last one too.
pub fn lines(text: &str) -> Result<Vec<Line<'_>>, Violation> {
    let syntax = |found: String, wanted: &str| Violation::new(rules::PLAYLIST_SYNTAX, found, wanted);
    let stripped = text.strip_suffix('\n').ok_or_else(|| syntax(tail(text), "a terminated last line"))?;
    let mut lines = Vec::new();
    for (number, line) in stripped.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.contains(|c: char| c.is_control() || c == '\u{feff}') || line.trim() != line {
            return Err(syntax(
                format!("line {} is {line:?}", number + 1),
                "no control character, no padding",
            ));
        }
        match (number, line) {
            (0, "#EXTM3U") => {}
            (0, _) => return Err(syntax(format!("{line:?} first"), "#EXTM3U")),
            (_, "#EXTM3U") => return Err(syntax(format!("#EXTM3U in line {}", number + 1), "it first only")),
            (_, "") => {}
            (_, tag) if tag.starts_with("#EXT") => lines.push(match tag.split_once(':') {
                Some((name, value)) => Line::Tag(name, Some(value)),
                None => Line::Tag(tag, None),
            }),
            (_, comment) if comment.starts_with('#') => {}
            (_, uri) => lines.push(Line::Uri(uri)),
        }
    }
    Ok(lines)
}

fn tail(text: &str) -> String {
    let start = text.char_indices().rev().nth(20).map_or(0, |(index, _)| index);
    format!("the end {:?}", &text[start..])
}

/// Refuses the second of a tag that may stand once.
#[derive(Debug, Default)]
pub struct Once<'a>(Vec<&'a str>);

impl<'a> Once<'a> {
    /// Notes the tag.
    pub fn note(&mut self, name: &'a str) -> Result<(), Violation> {
        ensure(!self.0.contains(&name), rules::PLAYLIST_TAG, format!("a second {name}"), "one")?;
        self.0.push(name);
        Ok(())
    }

    /// Whether it has stood.
    pub fn seen(&self, name: &str) -> bool {
        self.0.contains(&name)
    }
}

/// A tag that takes no value.
pub fn no_value(name: &str, value: Option<&str>) -> Result<(), Violation> {
    ensure(value.is_none(), rules::PLAYLIST_SYNTAX, format!("{name} with a value"), "none")
}

/// A decimal-integer: digits only, at most 20 of them (section 4.2).
pub fn decimal(name: &str, value: Option<&str>) -> Result<u64, Violation> {
    let text = value.unwrap_or_default();
    let digits = !text.is_empty() && text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = if digits { text.parse().ok() } else { None };
    parsed.ok_or_else(|| {
        Violation::new(rules::PLAYLIST_SYNTAX, format!("{name} {text:?}"), "a decimal-integer below 2^64")
    })
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Between double quotes; the quotes are taken off.
    Quoted(String),
    /// A number, resolution or enumerated string.
    Plain(String),
}

/// An attribute list, every name at most once (section 4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    tag: String,
    values: BTreeMap<String, Value>,
}

impl Attributes {
    /// Reads the list that follows a tag.
    pub fn parse(tag: &str, list: Option<&str>) -> Result<Self, Violation> {
        let bad = |rest: &str, wanted: &str| {
            Violation::new(rules::PLAYLIST_SYNTAX, format!("{tag} attributes at {rest:?}"), wanted)
        };
        let mut rest = list.unwrap_or_default();
        let mut values = BTreeMap::new();
        loop {
            let (name, after) = rest.split_once('=').ok_or_else(|| bad(rest, "NAME=value"))?;
            let legal = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-';
            if name.is_empty() || !name.bytes().all(legal) {
                return Err(bad(rest, "a name of [A-Z0-9-]"));
            }
            let (value, after) = attribute_value(after).ok_or_else(|| bad(after, "a value"))?;
            if values.insert(name.to_owned(), value).is_some() {
                return Err(bad(rest, "each name once"));
            }
            match after.strip_prefix(',') {
                Some(next) => rest = next,
                None if after.is_empty() => return Ok(Self { tag: tag.to_owned(), values }),
                None => return Err(bad(after, "a comma")),
            }
        }
    }

    /// A quoted-string attribute that must be there.
    pub fn quoted(&self, name: &str) -> Result<&str, Violation> {
        match self.values.get(name) {
            Some(Value::Quoted(text)) if !text.is_empty() => Ok(text),
            other => Err(self.bad(name, other, "a quoted-string")),
        }
    }

    /// A decimal-integer attribute that must be there.
    pub fn decimal(&self, name: &str) -> Result<u64, Violation> {
        match self.values.get(name) {
            Some(Value::Plain(text)) => decimal(&format!("{} {name}", self.tag), Some(text)),
            other => Err(self.bad(name, other, "a decimal-integer")),
        }
    }

    /// Refuses every attribute but those named.
    pub fn only(&self, names: &[&str]) -> Result<(), Violation> {
        match self.values.keys().find(|name| !names.contains(&name.as_str())) {
            Some(name) => Err(self.bad(name, self.values.get(name), "no such attribute here")),
            None => Ok(()),
        }
    }

    fn bad(&self, name: &str, found: Option<&Value>, wanted: &str) -> Violation {
        Violation::new(rules::PLAYLIST_SYNTAX, format!("{} {name} {found:?}", self.tag), wanted)
    }
}

/// Splits a value off the front of what is left of a list.
fn attribute_value(text: &str) -> Option<(Value, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (value, rest) = quoted.split_once('"')?;
        return Some((Value::Quoted(value.to_owned()), rest));
    }
    let end = text.find(',').unwrap_or(text.len());
    let (value, rest) = text.split_at(end);
    let legal = !value.is_empty() && !value.contains(|c: char| c == '"' || c.is_whitespace());
    legal.then(|| (Value::Plain(value.to_owned()), rest))
}

/// A reference that stays below the directory of the playlist: no scheme, no root, no parent, no query.
pub fn relative_uri(uri: &str) -> Result<(), Violation> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let parts = uri.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    ensure(
        uri.bytes().all(plain) && parts,
        rules::RELATIVE_URI,
        format!("{uri:?}"),
        "a relative path of unreserved characters",
    )
}

/// Microseconds since 1970-01-01T00:00:00Z of an ISO 8601 date with a time zone, as PROGRAM-DATE-TIME has it:
/// `2026-11-22T16:31:01.040Z`.
pub fn date_time(text: &str) -> Option<i64> {
    let (date, rest) = text.split_once('T')?;
    let zone_at = rest.find(['Z', '+', '-'])?;
    let (time, zone) = rest.split_at(zone_at);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let days_in_month = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let day_limit = *days_in_month.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
    if !(1..=day_limit).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    if fraction.is_empty() || fraction.len() > 6 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let micros: i64 = format!("{fraction:0<6}").parse().ok()?;
    let seconds =
        ((days_before(year, month, day) * 24 + hour) * 60 + minute) * 60 + second - zone_seconds(zone)?;
    Some(seconds * 1_000_000 + micros)
}

fn numbers(text: &str, separator: char, widths: [usize; 3]) -> Option<[i64; 3]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; 3];
    for (number, width) in numbers.iter_mut().zip(widths) {
        let part = parts.next().filter(|part| part.len() == width)?;
        *number = part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())??;
    }
    parts.next().is_none().then_some(numbers)
}

fn zone_seconds(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let [hours, minutes, _] = numbers(&format!("{}:00", &zone[1..]), ':', [2, 2, 2])?;
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes) * 60)
}

fn leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Days from 1970-01-01 to a day of the Gregorian calendar.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let whole_years: i64 = if year >= 1970 {
        (1970..year).map(|year| 365 + i64::from(leap(year))).sum()
    } else {
        -(year..1970).map(|year| 365 + i64::from(leap(year))).sum::<i64>()
    };
    let lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let whole_months: i64 = lengths[..month as usize - 1].iter().sum();
    whole_years + whole_months + i64::from(month > 2 && leap(year)) + day - 1
}

/// Writes microseconds since 1970 as PROGRAM-DATE-TIME has them, in milliseconds, cut off below.
pub fn format_date_time(micros: i64) -> String {
    let seconds = micros.div_euclid(1_000_000);
    let (mut days, second_of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (mut year, mut month) = (1970, 1);
    while days >= 365 + i64::from(leap(year)) {
        days -= 365 + i64::from(leap(year));
        year += 1;
    }
    while month < 12 && days_before(year, month + 1, 1) - days_before(year, 1, 1) <= days {
        month += 1;
    }
    let day = days - (days_before(year, month, 1) - days_before(year, 1, 1)) + 1;
    let (hour, minute, second) = (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    let millis = micros.rem_euclid(1_000_000) / 1000;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_to_the_microsecond_and_in_any_zone() {
        assert_eq!(date_time("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(date_time("2000-03-01T00:00:00.5Z"), Some(951_868_800_500_000));
        assert_eq!(date_time("2026-11-22T16:31:01.040Z"), Some(1_795_365_061_040_000));
        assert_eq!(date_time("2026-11-22T18:01:01.040+01:30"), Some(1_795_365_061_040_000));
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in [
            "",
            "2026-11-22",
            "2026-02-29T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T16:31:01.040",
            "2026-11-22 16:31:01Z",
            "2026-1-22T16:31:01Z",
            "2026-11-22T16:31:01.Z",
        ] {
            assert_eq!(date_time(text), None, "{text}");
        }
    }

    #[test]
    fn dates_survive_writing_and_reading() {
        for days in (0..40_000).step_by(13) {
            let micros = days * 86_400_000_000 + 12_345_678_000 + days * 1000;
            assert_eq!(date_time(&format_date_time(micros)), Some(micros), "{}", format_date_time(micros));
        }
    }

    #[test]
    fn attribute_lists_are_read_strictly() {
        let list = Attributes::parse("#X", Some("A=1,B-2=\"x,y=z\",C=1x2")).expect("a good list");
        assert_eq!((list.decimal("A"), list.quoted("B-2")), (Ok(1), Ok("x,y=z")));
        for text in ["", "A", "A=", "a=1", "A=1,", "A=1,,B=2", "A=1,A=2", "A=\"x", "A=\"x\"y", "A=1, B=2"] {
            assert!(Attributes::parse("#X", Some(text)).is_err(), "{text}");
        }
    }
}
