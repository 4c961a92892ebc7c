//! Answers of pinning services. The first byte says what the rest is.

use super::pin_status::{self, MAX_ADDRESSES, PinStatus};
use crate::cut::Cut;
use crate::http_client;

/// What may be kept of one text.
const LONGEST: usize = 512;

pub fn run(input: &[u8]) {
    let mut cut = Cut(input);
    match cut.byte() % 4 {
        0 => {
            if let Ok(pin) = pin_status::parse(cut.0) {
                bounded(&pin);
            }
        }
        1 => {
            if let Ok(page) = pin_status::parse_page(cut.0, |name| name.starts_with("skywave/")) {
                assert!(page.found.iter().all(|pin| pin.name.starts_with("skywave/")));
                page.found.iter().for_each(bounded);
                assert!(page.next.is_none_or(|next| next.len() <= LONGEST));
            }
        }
        2 => assert!(pin_status::failure(cut.0).len() <= LONGEST),
        _ => {
            let value = String::from_utf8_lossy(cut.counted()).into_owned();
            let date = String::from_utf8_lossy(cut.0);
            let delay = http_client::delay(&value, Some(&date));
            assert!(delay.is_none_or(|delay| delay.as_secs() <= 3_600));
        }
    }
}

fn bounded(pin: &PinStatus) {
    assert!((1..=LONGEST).contains(&pin.requestid.len()));
    let texts =
        [&pin.name, &pin.created].into_iter().chain(&pin.details).chain(&pin.origins).chain(&pin.delegates);
    assert!(texts.into_iter().all(|text| text.len() <= LONGEST));
    assert!(pin.origins.len().max(pin.delegates.len()) <= MAX_ADDRESSES);
}
