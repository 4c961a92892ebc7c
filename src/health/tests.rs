use super::*;

fn second(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn state(health: &Health, name: &str) -> StageState {
    health.report().stages.iter().find(|stage| stage.name == name).unwrap().state
}

#[tokio::test(start_paused = true)]
async fn a_running_stage_stalls_only_after_its_limit() {
    let health = Health::new();
    let encoder = health.stage("encoder", Some(second(5)));
    encoder.running();
    tokio::time::advance(second(5)).await;
    assert!(health.stalled().is_empty());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(health.stalled(), ["encoder"]);
    assert_eq!(state(&health, "encoder"), StageState::Stalled);
    encoder.progress();
    assert!(health.stalled().is_empty());
    assert_eq!(state(&health, "encoder"), StageState::Running);
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_hangs_while_starting_stalls_too() {
    let health = Health::new();
    let _node = health.stage("ipfs", Some(second(30)));
    tokio::time::advance(second(31)).await;
    assert_eq!(health.stalled(), ["ipfs"]);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_stage_is_measured_from_its_restart() {
    let health = Health::new();
    let player = health.stage("player", Some(second(5)));
    player.progress();
    tokio::time::advance(second(60)).await;
    player.running();
    assert!(health.stalled().is_empty());
}

#[tokio::test(start_paused = true)]
async fn stages_without_a_limit_failed_and_stopped_ones_never_stall() {
    let health = Health::new();
    health.stage("leds", None).running();
    health.stage("library", Some(second(1))).failed("folder is gone");
    health.stage("http", Some(second(1))).stopped();
    tokio::time::advance(second(3600)).await;
    assert!(health.stalled().is_empty());
}

#[tokio::test(start_paused = true)]
async fn failures_are_counted_and_the_newest_error_outlives_the_recovery() {
    let health = Health::new();
    let player = health.stage("player", None);
    player.failed("first");
    tokio::time::advance(second(10)).await;
    player.failed("second");
    player.running();
    let report = health.report();
    let stage = &report.stages[0];
    assert_eq!((stage.state, stage.restarts), (StageState::Running, 2));
    assert_eq!(stage.last_error.as_ref().unwrap().message, "second");
}

#[tokio::test(start_paused = true)]
async fn the_status_follows_the_air_and_the_stages() {
    let health = Health::new();
    let encoder = health.stage("encoder", Some(second(5)));
    assert_eq!(health.report().status, Status::Starting);
    assert!(!health.ready());
    encoder.progress();
    health.set_on_air(466_900_000);
    assert_eq!(health.report().status, Status::OnAir);
    assert!(health.ready());
    tokio::time::advance(second(6)).await;
    assert_eq!(health.report().status, Status::Degraded);
    encoder.failed("boom");
    assert_eq!(health.report().status, Status::Degraded);
    encoder.progress();
    assert_eq!(health.report().status, Status::OnAir);
    health.set_off_air("the encoder is silent");
    let report = health.report();
    assert_eq!(report.status, Status::OffAir);
    assert_eq!(report.off_air_reason.as_deref(), Some("the encoder is silent"));
    assert_eq!(report.newest, Some(466_900_000));
    assert!(!health.ready());
}

#[tokio::test(start_paused = true)]
async fn registering_a_name_again_keeps_its_history() {
    let health = Health::new();
    health.stage("player", None).failed("once");
    health.stage("player", Some(second(1))).running();
    assert_eq!(health.report().stages.len(), 1);
    assert_eq!(health.report().stages[0].restarts, 1);
    tokio::time::advance(second(2)).await;
    assert_eq!(health.stalled(), ["player"]);
}

#[tokio::test(start_paused = true)]
async fn unplayable_files_are_all_counted_and_a_hundred_shown() {
    let health = Health::new();
    let unplayable = (0..1234).map(|n| (format!("{n}.mp3"), "not audio".to_owned())).collect();
    health.set_library(LibraryHealth { tracks: 3, found: 1237, scanned: 1237, scanning: false, unplayable });
    let library = health.report().library;
    assert_eq!(library.unplayable_count, 1234);
    assert_eq!(library.unplayable.len(), MAX_UNPLAYABLE_SHOWN);
    assert_eq!(library.unplayable[0].path, "0.mp3");
}

#[tokio::test(start_paused = true)]
async fn the_report_is_the_documented_json() {
    let health = Health::new();
    health.stage("player", None).progress();
    health.stage("encoder", None).failed("no memory");
    health.set_on_air(7);
    health.set_lead(Duration::from_millis(57_600));
    tokio::time::advance(second(90)).await;
    let json = serde_json::to_value(health.report()).unwrap();
    assert_eq!(json["status"], "degraded");
    assert_eq!(json["on_air"], true);
    assert_eq!(json["newest"], 7);
    assert_eq!(json["lead_seconds"], 57.6);
    assert_eq!(json["uptime_seconds"], 90);
    assert_eq!(json["library"]["tracks"], 0);
    let player = &json["stages"]["player"];
    assert_eq!(player["state"], "running");
    assert_eq!(player["restarts"], 0);
    assert!(player["last_error"].is_null());
    let encoder = &json["stages"]["encoder"];
    assert_eq!(encoder["last_error"]["message"], "no memory");
    let at = humantime::parse_rfc3339(encoder["last_error"]["at"].as_str().unwrap()).unwrap();
    let ago = SystemTime::now().duration_since(at).unwrap();
    assert!((89..=95).contains(&ago.as_secs()), "{ago:?}");
}

#[test]
fn long_error_texts_are_cut_at_a_character() {
    let health = Health::new();
    health.stage("library", None).failed(&"ü".repeat(10_000));
    let report = health.report();
    let message = &report.stages[0].last_error.as_ref().unwrap().message;
    assert_eq!(message.len(), 500);
    assert!(message.chars().all(|letter| letter == 'ü'));
}

#[test]
fn a_moment_before_1970_does_not_break_the_report() {
    let now = Instant::now();
    let text = rfc3339(now, now + second(5), SystemTime::UNIX_EPOCH + second(1));
    assert_eq!(text, "1970-01-01T00:00:00.000Z");
}
