//! Starts what belongs to the machine: the watch on its network and clock, the button, the lights.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tracing::{error, warn};

use super::wiring::{Parts, Wiring};
use crate::leds::board::{DEVICE_TREE, DeviceTree};
use crate::leds::button::{Act, Press};
use crate::leds::panel::{ButtonLine, Panel};
use crate::leds::press::Presses;
use crate::leds::request::Request;
use crate::leds::{ButtonStage, Leds};
use crate::network::{NetworkWatch, SystemNetwork};
use crate::player::PlayerHandle;
use crate::supervisor::chain;

/// How often network and clock are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

impl Wiring {
    /// Carries the states of network and clock to health.
    pub(super) fn follow_conditions(&mut self, parts: &Parts<'_>) {
        let (health, clock, metrics) = (parts.health.clone(), parts.clock.clone(), parts.metrics.clone());
        self.spawn("conditions", |cancel| async move {
            let mut every = tokio::time::interval(LOOK_EVERY);
            loop {
                tokio::select! {
                    () = cancel.cancelled() => return,
                    _ = every.tick() => {
                        health.set_network(SystemNetwork.state());
                        health.set_clock(clock.synchronised().into());
                        metrics.listeners.set(i64::try_from(health.listeners()).unwrap_or(i64::MAX));
                    }
                }
            }
        });
    }

    /// The lights stop last of all, so that they show that the station is ending.
    pub(super) fn button_and_leds(&mut self, parts: &Parts<'_>, player: Option<PlayerHandle>) {
        let tree = DeviceTree::read(&DEVICE_TREE);
        let (understood_sender, understood) = watch::channel(0);
        self.button(parts, player, &tree, understood_sender);
        let report = parts.health.stage("leds", None);
        let leds = Arc::new(Leds {
            panel: Panel::find(&parts.config.leds, &tree),
            overall: parts.health.clone(),
            health: report.clone(),
            understood,
        });
        self.supervise(report, "leds", move |cancel| {
            let leds = leds.clone();
            async move { leds.run(cancel).await }
        });
    }

    fn button(
        &mut self,
        parts: &Parts<'_>,
        player: Option<PlayerHandle>,
        tree: &DeviceTree,
        understood: watch::Sender<u64>,
    ) {
        let line = match ButtonLine::find(&parts.config.leds, &parts.config.button, tree) {
            Ok(Some(line)) => line,
            Ok(None) => return,
            Err(failure) => {
                error!(error = &failure as &dyn std::error::Error, "no button; the air goes on");
                return parts.health.stage("button", None).failed(&chain(&failure));
            }
        };
        let report = parts.health.stage("button", None);
        let button = Arc::new(ButtonStage {
            line,
            act: act(parts, player),
            understood,
            health: report.clone(),
            presses: Mutex::new(Presses::default()),
            origin: parts.origin,
        });
        self.supervise(report, "button", move |cancel| {
            let button = button.clone();
            async move { button.run(cancel).await }
        });
    }
}

/// What each press does.
fn act(parts: &Parts<'_>, player: Option<PlayerHandle>) -> Act {
    let (health, button) = (parts.health.clone(), parts.config.button.clone());
    Arc::new(move |press| {
        if press == Press::Skip {
            // A relay plays what the station plays.
            let Some(player) = &player else { return };
            return player.skip(Duration::from_secs_f64(health.report().lead_seconds));
        }
        let Some(request) = Request::of(press, button.reset_identity) else { return };
        match request.make(button.requests.as_ref()) {
            Ok(()) => warn!(?request, "asked the system"),
            Err(failure) => error!(error = &failure as &dyn std::error::Error, "the button has no effect"),
        }
    })
}
