//! Asks DHT and peers for the records of one name and keeps the best.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use tokio::time::{Instant, timeout_at};

use super::Routing;
use crate::ipfs::ipns::{Name, Record, RecordError};
use crate::metrics::NameMetrics;

/// Bounds the signatures that a flood of answers makes us check.
const MOST_ANSWERS: usize = 64;

/// One search.
pub(super) struct Search<'a> {
    pub(super) routing: &'a dyn Routing,
    pub(super) metrics: &'a NameMetrics,
    pub(super) name: Name,
    /// How long to wait for a first valid record.
    pub(super) limit: Duration,
    /// How long to wait for a better one after that.
    pub(super) settle: Duration,
}

impl Search<'_> {
    /// The best record that passes `check`, besides being the name's own.
    pub(super) async fn best(&self, check: impl Fn(&Record) -> Result<(), RecordError>) -> Option<Record> {
        let key = self.name.routing_key();
        let from_dht = self.routing.get_values(key.clone()).map(|value| ("dht", value));
        let from_peers = self.routing.fetch(key).map(|value| ("peer", value));
        let mut answers = stream::select(from_dht, from_peers).take(MOST_ANSWERS);
        let mut deadline = Instant::now() + self.limit;
        let mut best: Option<Record> = None;
        while let Ok(Some((source, value))) = timeout_at(deadline, answers.next()).await {
            match self.verify(&value, &check) {
                Ok(record) if best.as_ref().is_none_or(|best| *best < record) => {
                    deadline = deadline.min(Instant::now() + self.settle);
                    best = Some(record);
                }
                Ok(_) => {}
                Err(why) => self.metrics.refuse(source, why.label()),
            }
        }
        best
    }

    fn verify(
        &self,
        value: &Bytes,
        check: impl Fn(&Record) -> Result<(), RecordError>,
    ) -> Result<Record, RecordError> {
        let record = Record::verify(&self.name, value)?;
        check(&record)?;
        Ok(record)
    }
}
