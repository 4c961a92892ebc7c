//! What a relay says of the station that it follows, in words. Pure.

/// How it stands with the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// Unix milliseconds of the last sign of life, where it is due again; `None` while all is well.
    pub(super) silent_since: Option<i64>,
    /// Unix milliseconds at which what is held ends.
    pub(super) lead_ends: Option<i64>,
    /// Unix milliseconds now.
    pub(super) now: i64,
}

impl Condition {
    /// The notice for the owner; `None` while all is well.
    pub(super) fn notice(&self) -> Option<String> {
        let since = clock_time(self.silent_since?);
        Some(match self.lead_ends.filter(|ends| *ends > self.now) {
            Some(ends) => {
                format!("the origin is unreachable since {since}; the lead lasts until {}", clock_time(ends))
            }
            None => format!("the origin is unreachable since {since}; the lead is over"),
        })
    }
}

/// A moment as the owner reads it: to the second, in UTC.
fn clock_time(unix_millis: i64) -> String {
    let seconds = u64::try_from(unix_millis / 1_000).unwrap_or(0);
    let moment = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    let text = humantime::format_rfc3339_seconds(moment).to_string();
    format!("{} UTC", text.trim_end_matches('Z').replace('T', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_reads_since_when_and_how_long() {
        const NOON: i64 = 1_795_377_600_000;
        let well = Condition { silent_since: None, lead_ends: Some(NOON), now: NOON };
        assert_eq!(well.notice(), None);
        let cut = Condition { silent_since: Some(NOON - 20_000), lead_ends: Some(NOON + 280_000), now: NOON };
        let words = cut.notice().unwrap();
        assert_eq!(
            words,
            "the origin is unreachable since 2026-11-22 19:59:40 UTC; the lead lasts until 2026-11-22 20:04:40 UTC"
        );
        let over = Condition { now: NOON + 280_000, ..cut };
        assert!(over.notice().unwrap().ends_with("; the lead is over"));
        assert!(Condition { lead_ends: None, ..cut }.notice().unwrap().ends_with("; the lead is over"));
    }
}
