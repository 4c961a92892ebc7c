//! What else an owner should know: one line each, from the program and from the system around it.

use std::collections::BTreeMap;

use super::{Health, bounded};

/// Bounds how many there are; more are not shown.
const MAX_NOTICES: usize = 32;

/// Notices by their keys, and whether the system is being updated.
#[derive(Debug, Default)]
pub(super) struct NoticeState {
    pub(super) texts: BTreeMap<String, String>,
    pub(super) updating: bool,
}

impl Health {
    /// Shows one line of `text` under `key` until it is cleared; an on-air station is degraded meanwhile. `true` when that
    /// is news.
    pub fn set_notice(&self, key: &str, text: &str) -> bool {
        let text = bounded(text.lines().next().unwrap_or("").trim());
        let texts = &mut self.lock().notices.texts;
        if texts.len() >= MAX_NOTICES && !texts.contains_key(key) {
            return false;
        }
        texts.insert(bounded(key), text.clone()) != Some(text)
    }

    /// Takes back what was said under `key`. `true` when there was something.
    pub fn clear_notice(&self, key: &str) -> bool {
        self.lock().notices.texts.remove(key).is_some()
    }

    /// Whether the system is being updated.
    pub fn set_updating(&self, updating: bool) {
        self.lock().notices.updating = updating;
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn a_station_with_a_notice_is_degraded_and_says_why() {
        let health = Health::new();
        assert!(health.set_notice("data", "in memory\nuntil the card is replaced"));
        assert!(!health.set_notice("data", "in memory"), "said before");
        assert_eq!(health.report().status, Status::Starting);
        health.set_on_air(1);
        assert_eq!(health.report().status, Status::Degraded);
        assert!(health.ready(), "it is heard nevertheless");
        let json = serde_json::to_value(health.report()).unwrap();
        assert_eq!(json["notices"], serde_json::json!({ "data": "in memory" }));
        assert!(health.clear_notice("data"));
        assert!(!health.clear_notice("data"));
        assert_eq!(health.report().status, Status::OnAir);
        let json = serde_json::to_value(health.report()).unwrap();
        assert_eq!(json["notices"], serde_json::json!({}));
    }

    #[test]
    fn notices_are_bounded_in_number_and_length() {
        let health = Health::new();
        for n in 0..2 * MAX_NOTICES {
            health.set_notice(&n.to_string(), &"x".repeat(10_000));
        }
        let notices = health.report().notices;
        assert_eq!(notices.len(), MAX_NOTICES);
        assert!(notices.values().all(|text| text.len() <= 500));
        assert!(health.set_notice("0", "an old one can change"));
    }

    #[test]
    fn an_update_is_no_fault() {
        let health = Health::new();
        health.set_on_air(1);
        health.set_updating(true);
        let report = health.report();
        assert!(report.updating);
        assert_eq!(report.status, Status::OnAir);
    }
}
