//! Offers the station's newest record to others: to peers who ask at once, to the DHT once the station is silent.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::ipfs::ipns::{Name, Record};
use crate::ipfs::names::{Newest, Routing, RoutingError};
use crate::metrics::NameMetrics;

/// A station that is silent for so long does not put its record to the DHT itself. Up to twice as long, by chance, so
/// that many relays of one station do not put at once.
const SILENT_FOR: Duration = Duration::from_secs(120);
/// How often it is put while nothing newer comes: the DHT forgets within two days, and its peers come and go.
const AGAIN_AFTER: Duration = Duration::from_secs(4 * 3_600);
/// How long a put may take.
const PUT_LIMIT: Duration = Duration::from_secs(95);

/// The stage's ends.
pub struct Offer {
    /// The station's name.
    pub name: Name,
    /// Its records.
    pub records: Newest,
    /// The network.
    pub routing: Arc<dyn Routing>,
    /// Where puts are counted.
    pub metrics: NameMetrics,
}

impl Offer {
    /// Works until `cancel` fires.
    ///
    /// # Errors
    /// None: a network that fails is tried again with the next record.
    pub async fn run(&self, cancel: CancellationToken) -> Result<(), Infallible> {
        let mut records = self.records.clone();
        records.mark_changed();
        let mut put_at = None;
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = super::changed(&mut records) => {
                    let Some(record) = records.borrow_and_update().clone() else { continue };
                    let key = self.name.routing_key();
                    if let Err(error) = self.routing.set_fetched(key, Some(record.bytes.clone())).await {
                        debug!(%error, "the record is not offered to peers");
                    }
                    put_at = Some(Instant::now() + SILENT_FOR.mul_f64(1.0 + fastrand::f64()));
                }
                () = async { sleep_until(put_at.unwrap_or_else(Instant::now)).await }, if put_at.is_some() => {
                    let record = records.borrow().clone();
                    put_at = match record {
                        Some(record) if self.put(&record).await => Some(Instant::now() + AGAIN_AFTER),
                        _ => None,
                    };
                }
            }
        }
    }

    /// Puts the record; `false` where there is no DHT.
    async fn put(&self, record: &Record) -> bool {
        let put = self.routing.put_value(self.name.routing_key(), record.bytes.clone());
        let outcome = match timeout(PUT_LIMIT, put).await {
            Ok(Ok(0) | Err(RoutingError::NoPeers)) => "no_peers",
            Ok(Ok(_)) => "done",
            Ok(Err(RoutingError::Off)) => return false,
            Ok(Err(RoutingError::Failed(_))) => "failed",
            Err(_) => "timeout",
        };
        NameMetrics::count(&self.metrics.dht_puts, outcome);
        true
    }
}
