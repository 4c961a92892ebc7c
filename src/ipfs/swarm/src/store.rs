//! What a DHT server keeps for others, bounded; and the keys that this node provides.
//!
//! rust-libp2p's own store counts our keys and those of strangers in one limit, so that a stranger can keep us from
//! providing, and it stores what we put, which kad then sends out again at its own pace.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use libp2p::PeerId;
use libp2p::kad::store::{Error, RecordStore, Result};
use libp2p::kad::{ProviderRecord, Record, RecordKey};

/// Largest value: an IPNS record (IPNS specification, "Record Size Limit": 10 KiB).
pub(crate) const MAX_VALUE: usize = 10 * 1024;
/// Records of others.
const MAX_RECORDS: usize = 1024;
/// Keys that others provide; the oldest goes.
const MAX_PROVIDER_KEYS: usize = 4096;
/// Providers of one key: the replication factor.
const MAX_PROVIDERS: usize = 20;
/// Addresses of one provider.
const MAX_ADDRESSES: usize = 8;
/// Keys that this node provides.
pub(crate) const MAX_PROVIDED: usize = 4096;

pub(crate) struct Store {
    own: PeerId,
    records: HashMap<RecordKey, Record>,
    oldest_records: VecDeque<RecordKey>,
    providers: HashMap<RecordKey, Vec<ProviderRecord>>,
    oldest_keys: VecDeque<RecordKey>,
    provided: HashMap<RecordKey, ProviderRecord>,
}

impl Store {
    pub(crate) fn new(own: PeerId) -> Self {
        Self {
            own,
            records: HashMap::new(),
            oldest_records: VecDeque::new(),
            providers: HashMap::new(),
            oldest_keys: VecDeque::new(),
            provided: HashMap::new(),
        }
    }

    /// Keeps a record that was checked; the oldest makes room.
    pub(crate) fn admit(&mut self, record: Record) {
        if !self.records.contains_key(&record.key) {
            self.oldest_records.push_back(record.key.clone());
        }
        self.records.insert(record.key.clone(), record);
        while self.records.len() > MAX_RECORDS {
            let Some(oldest) = self.oldest_records.pop_front() else { break };
            self.records.remove(&oldest);
        }
    }

    /// Keeps what another peer says that it provides.
    pub(crate) fn admit_provider(&mut self, mut record: ProviderRecord) {
        record.addresses.truncate(MAX_ADDRESSES);
        if !self.providers.contains_key(&record.key) {
            self.oldest_keys.push_back(record.key.clone());
        }
        let of_key = self.providers.entry(record.key.clone()).or_default();
        // A full list stays: a flood of made-up peers must not push the real ones out.
        match of_key.iter().position(|known| known.provider == record.provider) {
            Some(place) => of_key[place] = record,
            None if of_key.len() < MAX_PROVIDERS => of_key.push(record),
            None => {}
        }
        while self.providers.len() > MAX_PROVIDER_KEYS {
            let Some(oldest) = self.oldest_keys.pop_front() else { break };
            self.providers.remove(&oldest);
        }
    }

    /// Forgets what has expired.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.records.retain(|_, record| !record.is_expired(now));
        self.oldest_records.retain(|key| self.records.contains_key(key));
        self.providers.retain(|_, of_key| {
            of_key.retain(|record| !record.is_expired(now));
            !of_key.is_empty()
        });
        self.oldest_keys.retain(|key| self.providers.contains_key(key));
    }
}

impl RecordStore for Store {
    type RecordsIter<'a> = std::iter::Empty<Cow<'a, Record>>;
    type ProvidedIter<'a> = std::iter::Empty<Cow<'a, ProviderRecord>>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        self.records.get(key).filter(|record| !record.is_expired(Instant::now())).map(Cow::Borrowed)
    }

    /// Keeps nothing: kad calls this with what this node puts, and a copy would be sent out again behind our back.
    fn put(&mut self, record: Record) -> Result<()> {
        if record.value.len() > MAX_VALUE { Err(Error::ValueTooLarge) } else { Ok(()) }
    }

    fn remove(&mut self, key: &RecordKey) {
        self.records.remove(key);
        self.oldest_records.retain(|known| known != key);
    }

    /// None: nothing is replicated behind our back.
    fn records(&self) -> Self::RecordsIter<'_> {
        std::iter::empty()
    }

    fn add_provider(&mut self, record: ProviderRecord) -> Result<()> {
        if record.provider != self.own {
            self.admit_provider(record);
            return Ok(());
        }
        if self.provided.len() >= MAX_PROVIDED && !self.provided.contains_key(&record.key) {
            return Err(Error::MaxProvidedKeys);
        }
        self.provided.insert(record.key.clone(), record);
        Ok(())
    }

    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        let now = Instant::now();
        let others = self.providers.get(key).into_iter().flatten().filter(|record| !record.is_expired(now));
        self.provided.get(key).into_iter().chain(others).cloned().collect()
    }

    /// None: the network provides again at its own pace.
    fn provided(&self) -> Self::ProvidedIter<'_> {
        std::iter::empty()
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) {
        if *provider == self.own {
            self.provided.remove(key);
        } else if let Some(of_key) = self.providers.get_mut(key) {
            of_key.retain(|record| record.provider != *provider);
            if of_key.is_empty() {
                self.providers.remove(key);
                self.oldest_keys.retain(|known| known != key);
            }
        }
    }
}
