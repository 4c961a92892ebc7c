//! How long a service asks to be left alone: `Retry-After` (RFC 9110, section 10.2.3). Pure.

use std::time::Duration;

use chrono::DateTime;

/// The longest that is heeded: a mistake of a service must not end its pins.
const LONGEST: Duration = Duration::from_secs(3_600);

/// The delay that `value` asks for, in seconds or as a date; a date counts from the answer's own `date`, whatever the
/// clock here says. `None` for anything else.
pub(super) fn delay(value: &str, date: Option<&str>) -> Option<Duration> {
    let value = value.trim();
    let seconds = match value.parse::<u64>() {
        Ok(seconds) => seconds,
        Err(_) => {
            let moment = |text: &str| Some(DateTime::parse_from_rfc2822(text.trim()).ok()?.timestamp());
            u64::try_from(moment(value)?.checked_sub(moment(date?)?)?).unwrap_or(0)
        }
    };
    Some(Duration::from_secs(seconds).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_become_a_delay_and_nothing_else_does() {
        let date = Some("Wed, 21 Oct 2026 07:28:00 GMT");
        let seconds = |value, date| delay(value, date).map(|delay| delay.as_secs());
        assert_eq!(seconds("120", None), Some(120));
        assert_eq!(seconds(" 0 ", date), Some(0));
        assert_eq!(seconds("Wed, 21 Oct 2026 07:30:05 GMT", date), Some(125));
        assert_eq!(seconds("Wed, 21 Oct 2026 07:00:00 GMT", date), Some(0), "a date that is over");
        assert_eq!(seconds("Wed, 21 Oct 2026 07:30:05 GMT", None), None);
        assert_eq!(seconds("99999999999", None), Some(3_600));
        assert_eq!(seconds("Wed, 21 Oct 2099 07:30:05 GMT", date), Some(3_600));
        for odd in ["", "-1", "soon", "1.5", "99999999999999999999999999"] {
            assert_eq!(seconds(odd, date), None, "{odd:?}");
        }
    }
}
