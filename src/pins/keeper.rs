//! Brings one service to what the ledger asks for, one request at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use cid::Cid;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::ledger::{self, Ledger, Next, Step};
use super::pin_status::{self, PinStatus, Status};
use super::service::{Match, Service};
use super::{PinError, PinService};
use crate::ipfs::unixfs;
use crate::publisher::stream_tree::ARCHIVE;
use crate::supervisor::backoff::Backoff;
use crate::supervisor::chain;

/// Delay after the first failure.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// Longest delay: a service that comes back is noticed within it.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// What is asked when pins are listed.
const LIST: &str = "list";

struct Keeper<'a> {
    pin: &'a PinService,
    service: Service,
    ledger: Ledger,
    origin: Instant,
    backoff: Backoff,
    /// The folder of days that the ledger was told of.
    days: Option<Cid>,
    /// What was asked when something failed last, and what was told of it; `None` once that works.
    told: Option<(&'static str, String)>,
    /// On its way to the service's peers.
    dialling: Option<AbortOnDropHandle<()>>,
}

impl PinService {
    /// Keeps the service current until the publisher has ended.
    pub(super) async fn run(&self) {
        let station = format!("skywave/{}", self.station);
        let mut keeper = Keeper {
            pin: self,
            service: Service::new(self.client.clone()),
            ledger: Ledger::new(station, self.every, self.unpin_days),
            origin: Instant::now(),
            backoff: Backoff::new(FIRST_DELAY, LONGEST_DELAY),
            days: None,
            told: None,
            dialling: None,
        };
        keeper.run().await;
    }
}

impl Keeper<'_> {
    async fn run(&mut self) {
        let mut tree = self.pin.tree.clone();
        loop {
            let newest = tree.borrow_and_update().clone();
            if let Some(newest) = &newest {
                self.ledger.want_root(newest.root, newest.newest);
                let archive = newest.entries.get(ARCHIVE).map(|entry| entry.cid);
                self.take_days(archive).await;
            }
            self.ledger.set_origins(origins(self.pin.peering.addresses()));
            match self.ledger.next(self.origin.elapsed()) {
                // Before the first tick there is nothing to ask for.
                Next::Do(step) if newest.is_some() => self.perform(step).await,
                Next::Do(_) => {
                    if tree.changed().await.is_err() {
                        return;
                    }
                }
                Next::Wait(until) => tokio::select! {
                    () = tokio::time::sleep_until(self.origin + until) => {}
                    changed = tree.changed() => if changed.is_err() { return },
                },
            }
        }
    }

    /// Tells the ledger which days are over. All but the newest are: that one goes on.
    async fn take_days(&mut self, archive: Option<Cid>) {
        let Some(folder) = archive.filter(|folder| self.pin.archive && self.days != Some(*folder)) else {
            return;
        };
        self.days = Some(folder);
        let listed = async {
            let node = unixfs::load(&self.pin.blocks, &folder).await?;
            unixfs::list(&self.pin.blocks, folder, &node, ledger::MAX_NAMES).await
        };
        match listed.await {
            Ok(days) => {
                let named = days.links.into_iter().filter(|link| ledger::is_day(&link.name));
                let mut days: BTreeMap<_, _> = named.map(|link| (link.name, link.cid)).collect();
                days.pop_last();
                self.ledger.want_days(&days);
                self.tell_days();
            }
            Err(error) => {
                tracing::warn!(pin = self.pin.name, cid = %folder, error = chain(&error), "days cannot be read");
            }
        }
    }

    async fn perform(&mut self, step: Step) {
        let outcome = self.ask(&step).await;
        match outcome {
            Ok(()) => {
                self.count(operation(&step), "ok");
                // That a service can be read says nothing of the rest.
                let told = self.told.as_ref().map(|(operation, _)| *operation);
                if operation(&step) != LIST || told == Some(LIST) {
                    self.backoff.reset();
                    self.told = None;
                }
            }
            Err(PinError::Missing { .. }) if self.is_gone(&step) => self.count(operation(&step), "gone"),
            Err(error) => self.fail(&step, error).await,
        }
        if let Some(newest) = self.ledger.pinned_root() {
            self.pin.health.pinned(newest);
            let label = self.label();
            let newest = i64::try_from(newest).unwrap_or(i64::MAX);
            self.pin.metrics.pins.newest_segment.get_or_create(&label).set(newest);
        }
        self.tell_days();
    }

    /// One request, and what its answer means.
    async fn ask(&mut self, step: &Step) -> Result<(), PinError> {
        let origin = self.origin;
        let now = || origin.elapsed();
        let station = format!("skywave/{}", self.pin.station);
        match step {
            Step::List => {
                let ours = |name: &str| Ledger::is_ours(&station, name);
                let found = self.service.list(&station, Match::Partial, ours).await?;
                self.ledger.listed(found, now());
            }
            Step::LookUp { name } => {
                let found = self.service.list(name, Match::Exact, |other| other == name).await?;
                self.ledger.looked_up(name, found, now());
            }
            Step::Add { name, cid } => self.submit(name, cid, None).await?,
            Step::Replace { name, cid, requestid } => {
                self.submit(name, cid, Some(requestid.as_str())).await?
            }
            Step::Look { name, requestid } => {
                let pin = self.service.look(requestid).await?;
                self.judge(name, &pin);
                self.ledger.seen(name, pin, now());
            }
            Step::Remove { name, requestid } => {
                self.service.remove(requestid).await?;
                self.ledger.gone(name, requestid);
            }
        }
        Ok(())
    }

    async fn submit(&mut self, name: &str, cid: &Cid, replaced: Option<&str>) -> Result<(), PinError> {
        let request = pin_status::request(cid, name, self.ledger.origins(), &self.pin.station);
        let pin = match replaced {
            Some(requestid) => self.service.replace(requestid, &request, cid).await?,
            None => self.service.add(&request, cid).await?,
        };
        self.judge(name, &pin);
        self.ledger.taken(name, replaced, pin, self.origin.elapsed());
        Ok(())
    }

    /// Connects to the service's peers while it fetches, and tells of a pin that failed.
    fn judge(&mut self, name: &str, pin: &PinStatus) {
        let idle = self.dialling.as_ref().is_none_or(AbortOnDropHandle::is_finished);
        if pin.status.is_pending() && idle && !pin.delegates.is_empty() {
            let connecting = self.pin.peering.clone().connect(pin.delegates.clone());
            self.dialling = Some(AbortOnDropHandle::new(tokio::spawn(connecting)));
        }
        if pin.status == Status::Failed {
            let details = pin.details.as_deref().unwrap_or("it says no more");
            let error = format!("the service could not pin {name}: {details}");
            tracing::warn!(pin = self.pin.name, cid = %pin.cid, error, "a pin failed");
            self.pin.health.failed(&error);
        }
    }

    /// Whether a 404 means that the pin of this step is gone; the ledger knows then.
    fn is_gone(&mut self, step: &Step) -> bool {
        match step {
            Step::Replace { name, requestid, .. }
            | Step::Look { name, requestid }
            | Step::Remove { name, requestid } => {
                self.ledger.gone(name, requestid);
                true
            }
            Step::List | Step::LookUp { .. } | Step::Add { .. } => false,
        }
    }

    async fn fail(&mut self, step: &Step, error: PinError) {
        let text = chain(&error);
        if self.told.as_ref().is_none_or(|(_, told)| *told != text) {
            tracing::warn!(pin = self.pin.name, error = text, "a pinning service does not do its work");
        }
        self.pin.health.failed(&text);
        self.told = Some((operation(step), text));
        let delay = self.backoff.next(fastrand::f64());
        let (result, delay) = match &error {
            PinError::Unauthorized { .. } => ("unauthorized", LONGEST_DELAY),
            PinError::Busy { retry_after, .. } => ("busy", delay.max(retry_after.unwrap_or_default())),
            PinError::Refused { .. } => ("refused", delay),
            _ => ("failed", delay),
        };
        self.count(operation(step), result);
        self.learn(step, &error);
        tokio::time::sleep(delay).await;
    }

    /// What a failure tells of the pins.
    fn learn(&mut self, step: &Step, error: &PinError) {
        let now = self.origin.elapsed();
        let (Step::Add { name, .. } | Step::Replace { name, .. } | Step::Remove { name, .. }) = step else {
            return;
        };
        match (step, error) {
            (_, PinError::Unauthorized { .. } | PinError::Busy { .. }) => return,
            (Step::Remove { .. }, _) => self.ledger.not_removed(name, now),
            (_, PinError::Refused { .. }) => self.ledger.refused(name, now),
            _ => {}
        }
        if !matches!(error, PinError::Refused { status: 300..=499, .. }) {
            self.ledger.doubt(name);
        }
    }

    fn label(&self) -> crate::metrics::PinLabel {
        crate::metrics::PinLabel { pin: self.pin.name.clone() }
    }

    fn count(&self, operation: &'static str, result: &'static str) {
        self.pin.metrics.pins.count(&self.pin.name, operation, result);
    }

    fn tell_days(&self) {
        let (pinned, wanted) = self.ledger.day_counts();
        self.pin.health.days(pinned, wanted);
        self.pin.metrics.pins.set_days(&self.pin.name, pinned, wanted);
    }
}

fn operation(step: &Step) -> &'static str {
    match step {
        Step::List | Step::LookUp { .. } => LIST,
        Step::Add { .. } => "add",
        Step::Replace { .. } => "replace",
        Step::Look { .. } => "get",
        Step::Remove { .. } => "remove",
    }
}

/// What a service is told of: addresses that others can reach come first.
fn origins(mut addresses: Vec<String>) -> Vec<String> {
    let own = |address: &String| address.starts_with("/ip4/127.") || address.starts_with("/ip6/::1/");
    addresses.sort_by_key(own);
    addresses.truncate(pin_status::MAX_ADDRESSES);
    addresses
}
