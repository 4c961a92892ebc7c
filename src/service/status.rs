//! The station's health in one line of words, for `systemctl status`. Pure.

use crate::health::{Report, StageState, Status};

/// The line. It changes only where there is news: it holds no time and no number that grows by itself.
pub(super) fn words(report: &Report) -> String {
    let line = match report.status {
        Status::Starting => "starting".to_owned(),
        Status::OffAir => format!("off air: {}", report.off_air_reason.as_deref().unwrap_or("no audio")),
        Status::OnAir if report.plays_ident() && !report.library.scanning => {
            "on air, without music: the station ident plays".to_owned()
        }
        Status::OnAir => "on air".to_owned(),
        Status::Degraded => format!("on air, and not well: {}", troubles(report)),
    };
    line.replace(['\n', '\r'], " ")
}

/// Each stage that is not well, with its newest error, and each notice.
fn troubles(report: &Report) -> String {
    let unwell =
        |stage: &&crate::health::StageReport| matches!(stage.state, StageState::Failed | StageState::Stalled);
    let stages = report.stages.iter().filter(unwell).map(|stage| match (&stage.last_error, stage.state) {
        (Some(error), StageState::Failed) => format!("{} failed: {}", stage.name, error.message),
        (_, StageState::Failed) => format!("{} failed", stage.name),
        _ => format!("{} makes no progress", stage.name),
    });
    let notices = report.notices.iter().map(|(key, text)| format!("{key}: {text}"));
    stages.chain(notices).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{Health, LibraryHealth};

    #[test]
    fn the_line_tells_the_state_and_what_is_wrong() {
        let health = Health::new();
        let words = || words(&health.report());
        assert_eq!(words(), "starting");
        health.set_on_air(7);
        assert_eq!(words(), "on air, without music: the station ident plays");
        health.set_library(LibraryHealth { tracks: 3, ..LibraryHealth::default() });
        assert_eq!(words(), "on air");
        let player = health.stage("player", None);
        player.failed("the file\nis gone");
        health.set_notice("data", "in memory");
        assert_eq!(words(), "on air, and not well: player failed: the file is gone; data: in memory");
        player.running();
        health.clear_notice("data");
        health.set_off_air("shutting down");
        assert_eq!(words(), "off air: shutting down");
    }
}
