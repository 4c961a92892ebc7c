//! Judges every task exit and restarts what failed, while the others go on.

pub mod backoff;

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument, Span, error, warn};

use crate::health::{Health, StageHealth};
use crate::metrics::{Metrics, StageLabel};
use backoff::Backoff;

const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Well within the lead, so that a stage which recovers is never heard.
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// A run of this length counts as a success: the next failure starts with a short delay again.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// How often hanging stages are looked for.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How often a waiting stage says that it is alive.
const REPORT_EVERY: Duration = Duration::from_secs(4);

/// What a supervised stage needs around it.
#[derive(Clone)]
pub struct Supervisor {
    /// Every stage's reports; tells which one hangs.
    pub health: Health,
    /// Counts the restarts.
    pub metrics: Metrics,
}

impl Supervisor {
    /// Runs `stage` until it ends well or `cancel` fires. A run that fails, panics or makes no progress is started
    /// again after a jittered, capped backoff.
    pub async fn keep_running<F, R, E>(
        &self,
        name: &'static str,
        report: StageHealth,
        cancel: CancellationToken,
        stage: F,
    ) where
        F: Fn(CancellationToken) -> R,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Error + Send + 'static,
    {
        let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
        loop {
            let began = Instant::now();
            report.running();
            let attempt = cancel.child_token();
            let failure = self
                .judge(
                    name,
                    AbortOnDropHandle::new(tokio::spawn(stage(attempt.clone()).in_current_span())),
                    &attempt,
                )
                .await;
            let Some(failure) = failure else {
                report.stopped();
                return;
            };
            error!(error = %failure, "stage failed; restarting it");
            report.failed(&failure);
            self.metrics.stage_restarts.get_or_create(&StageLabel { stage: name }).inc();
            if began.elapsed() >= HEALTHY_AFTER {
                backoff.reset();
            }
            tokio::select! {
                () = cancel.cancelled() => return report.stopped(),
                () = tokio::time::sleep(backoff.next(fastrand::f64())) => {}
            }
        }
    }

    /// Waits for the end of one run; `None` when it ended well.
    async fn judge<E: Error>(
        &self,
        name: &'static str,
        mut run: AbortOnDropHandle<Result<(), E>>,
        attempt: &CancellationToken,
    ) -> Option<String> {
        loop {
            tokio::select! {
                ended = &mut run => return match ended {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(chain(&error)),
                    Err(join) if join.is_panic() => Some(format!("panic: {}", panic_text(join.into_panic()))),
                    Err(_) => Some("aborted".into()),
                },
                () = tokio::time::sleep(WATCH_EVERY) => {
                    if self.health.stalled().contains(&name) && !attempt.is_cancelled() {
                        warn!("stage makes no progress; ending it");
                        run.abort();
                        // Waits for the end, so that the stage's channels are free for the next run.
                        let _ = run.await;
                        return Some("no progress".into());
                    }
                }
            }
        }
    }
}

/// `work` for a thread of its own, whose log lines name the stage that they belong to.
pub fn in_span<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let span = Span::current();
    move || span.in_scope(work)
}

/// Awaits `future` and reports progress meanwhile: for a stage that waits for its neighbours or for airtime, and so
/// does not hang.
pub async fn waiting<T>(report: &StageHealth, future: impl Future<Output = T>) -> T {
    tokio::pin!(future);
    loop {
        tokio::select! {
            done = &mut future => return done,
            () = tokio::time::sleep(REPORT_EVERY) => report.progress(),
        }
    }
}

/// An error and its causes in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn panic_text(panic: Box<dyn std::any::Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(other) => other.downcast_ref::<&str>().map_or("unknown", |text| text).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[derive(Debug, thiserror::Error)]
    #[error("broken")]
    struct Broken;

    fn supervisor() -> Supervisor {
        Supervisor { health: Health::new(), metrics: Metrics::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn errors_and_panics_are_restarted_until_the_stage_ends_well() {
        let (supervisor, runs) = (supervisor(), Arc::new(AtomicU32::new(0)));
        let report = supervisor.health.stage("player", None);
        let stage = |_cancel| {
            let run = runs.fetch_add(1, Ordering::SeqCst);
            async move {
                match run {
                    0 => Err(Broken),
                    1 => panic!("boom"),
                    _ => Ok(()),
                }
            }
        };
        supervisor.keep_running("player", report, CancellationToken::new(), stage).await;
        assert_eq!(runs.load(Ordering::SeqCst), 3);
        let text = serde_json::to_string(&supervisor.health.report()).unwrap();
        assert!(text.contains("panic: boom"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stage_that_hangs_is_noticed_and_replaced() {
        let (supervisor, runs) = (supervisor(), Arc::new(AtomicU32::new(0)));
        let report = supervisor.health.stage("encoder", Some(Duration::from_secs(5)));
        let stage = |_cancel| {
            let run = runs.fetch_add(1, Ordering::SeqCst);
            async move {
                if run == 0 {
                    std::future::pending::<()>().await;
                }
                Ok::<(), Broken>(())
            }
        };
        let began = Instant::now();
        supervisor.keep_running("encoder", report, CancellationToken::new(), stage).await;
        assert_eq!(runs.load(Ordering::SeqCst), 2);
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn cancelling_ends_the_wait_for_the_next_attempt() {
        let supervisor = supervisor();
        let report = supervisor.health.stage("hls", None);
        let cancel = CancellationToken::new();
        let stage = |_cancel| async { Err::<(), _>(Broken) };
        let running = supervisor.keep_running("hls", report, cancel.clone(), stage);
        tokio::select! {
            () = running => {}
            () = async { tokio::time::sleep(Duration::from_secs(600)).await; cancel.cancel(); std::future::pending::<()>().await } => {}
        }
    }
}
