//! Those who hold a copy of the station: mirrors and pinning services.

use std::sync::Arc;

use super::wiring::{Parts, Wiring};
use crate::http::Content;
use crate::http_client::Tcp;
use crate::mirror::{Mirror, MirrorConfig, Mirrors};
use crate::pins::{PinConfig, PinService, Pins};

impl Wiring {
    /// Behind the publisher, and nothing waits for them.
    pub(super) fn mirrors(&mut self, parts: &Parts<'_>, content: &Content) {
        let mirror = |config: &MirrorConfig| {
            let kubo = config.kubo(Arc::new(Tcp)).expect("a configuration is validated before it gets here");
            let name = config.name();
            Mirror {
                kubo,
                pin_name: format!("skywave/{}", content.ipns_name),
                queue: config.queue,
                blocks: content.blocks.clone(),
                tree: content.tree.clone(),
                health: parts.health.mirror(&name),
                metrics: parts.metrics.clone(),
                name,
            }
        };
        let mirrors: Vec<_> = parts.config.mirror.iter().map(mirror).collect();
        if mirrors.is_empty() {
            return;
        }
        let mirrors = Arc::new(Mirrors { mirrors });
        self.supervise(parts.health.stage("mirror", None), "mirror", move |cancel| {
            let mirrors = mirrors.clone();
            async move { mirrors.run(cancel).await }
        });
    }

    /// Behind the publisher, and nothing waits for them.
    pub(super) fn pins(&mut self, parts: &Parts<'_>, content: &Content) {
        let pin = |config: &PinConfig| {
            let name = config.name();
            PinService {
                client: config
                    .client(Arc::new(Tcp))
                    .expect("a configuration is validated before it gets here"),
                station: content.ipns_name.clone(),
                every: config.every,
                archive: config.archive,
                unpin_days: config.unpin_days,
                blocks: content.blocks.clone(),
                tree: content.tree.clone(),
                peering: parts.node.clone(),
                health: parts.health.pin(&name),
                metrics: parts.metrics.clone(),
                name,
            }
        };
        let services: Vec<_> = parts.config.pin.iter().map(pin).collect();
        if services.is_empty() {
            return;
        }
        let pins = Arc::new(Pins { services });
        self.supervise(parts.health.stage("pins", None), "pins", move |cancel| {
            let pins = pins.clone();
            async move { pins.run(cancel).await }
        });
    }
}
