//! Questions to the DHTs on their way, and the keys that this node provides.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use libp2p::kad::{
    GetProvidersOk, GetRecordOk, PutRecordError, QueryId, QueryResult, Quorum, Record, RecordKey,
};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot};

use crate::NetworkError;
use crate::scope::Scope;
use crate::store::MAX_PROVIDED;
use crate::table::{REPLICATION, Table};

/// Questions that may be on their way at once.
const MAX_QUERIES: usize = 64;
/// Values of one key that are handed on; the query ends then.
const MAX_VALUES: usize = 32;
/// Providers of one key that are handed on.
const MAX_PROVIDERS: usize = 64;
/// Keys that are told to a DHT at once.
const MAX_PROVIDING: usize = 4;
/// A key is told again well before the 48 h are over that others keep it for.
const PROVIDE_AGAIN: Duration = Duration::from_secs(12 * 3600);
/// In a DHT of fewer peers than hold a key, where each new one is to know of it.
const PROVIDE_AGAIN_SMALL: Duration = Duration::from_secs(5 * 60);
/// When nobody was there to be told.
const PROVIDE_RETRY: Duration = Duration::from_secs(10);

/// A provider and where it is said to be.
pub type Provider = (PeerId, Vec<Multiaddr>);

struct Put {
    waiting: usize,
    took: HashSet<PeerId>,
    uncounted: usize,
    reply: oneshot::Sender<Result<usize, NetworkError>>,
}

enum Pending {
    Values { output: mpsc::Sender<Bytes>, found: usize },
    Providers { output: mpsc::Sender<Provider>, found: HashSet<PeerId> },
    Put(u64),
    Provide,
}

#[derive(Default)]
pub(crate) struct Queries {
    pending: HashMap<(Scope, QueryId), Pending>,
    puts: HashMap<u64, Put>,
    next_put: u64,
    /// Keys that this node provides, and when each is told next.
    provided: BTreeMap<Vec<u8>, Instant>,
}

impl Queries {
    fn room(&self) -> Result<(), NetworkError> {
        if self.pending.len() < MAX_QUERIES { Ok(()) } else { Err(NetworkError::Busy) }
    }

    /// Asks for every value of `key`; the receiver ends with the question.
    pub(crate) fn values(
        &mut self,
        tables: [&mut Table; 2],
        key: &[u8],
    ) -> Result<mpsc::Receiver<Bytes>, NetworkError> {
        self.room()?;
        let (output, input) = mpsc::channel(2 * MAX_VALUES);
        for table in tables {
            if table.len() > 0 {
                let id = table.kad().get_record(RecordKey::from(key.to_vec()));
                self.pending.insert((table.scope, id), Pending::Values { output: output.clone(), found: 0 });
            }
        }
        Ok(input)
    }

    /// Asks who provides `key`; the receiver ends with the question.
    pub(crate) fn providers(
        &mut self,
        tables: [&mut Table; 2],
        key: &[u8],
    ) -> Result<mpsc::Receiver<Provider>, NetworkError> {
        self.room()?;
        let (output, input) = mpsc::channel(2 * MAX_PROVIDERS);
        for table in tables {
            if table.len() > 0 {
                let id = table.kad().get_providers(RecordKey::from(key.to_vec()));
                let pending = Pending::Providers { output: output.clone(), found: HashSet::new() };
                self.pending.insert((table.scope, id), pending);
            }
        }
        Ok(input)
    }

    /// Puts a value to the peers nearest to its key; the reply is how many took it.
    pub(crate) fn put(
        &mut self,
        tables: [&mut Table; 2],
        key: Vec<u8>,
        value: &Bytes,
        reply: oneshot::Sender<Result<usize, NetworkError>>,
    ) {
        if let Err(busy) = self.room() {
            _ = reply.send(Err(busy));
            return;
        }
        let (number, mut waiting) = (self.next_put, 0);
        self.next_put += 1;
        for table in tables {
            if table.len() == 0 {
                continue;
            }
            let record = Record::new(key.clone(), value.to_vec());
            // All of them are asked whatever the quorum says; this one makes the failure tell who took it.
            match table.kad().put_record(record, Quorum::All) {
                Ok(id) => {
                    self.pending.insert((table.scope, id), Pending::Put(number));
                    waiting += 1;
                }
                Err(_) => {
                    _ = reply.send(Err(NetworkError::TooLarge(value.len())));
                    return;
                }
            }
        }
        if waiting == 0 {
            _ = reply.send(Ok(0));
        } else {
            self.puts.insert(number, Put { waiting, took: HashSet::new(), uncounted: 0, reply });
        }
    }

    pub(crate) fn provide(&mut self, key: Vec<u8>) -> Result<(), NetworkError> {
        if self.provided.len() >= MAX_PROVIDED && !self.provided.contains_key(&key) {
            return Err(NetworkError::TooMany(MAX_PROVIDED));
        }
        self.provided.entry(key).or_insert_with(Instant::now);
        Ok(())
    }

    pub(crate) fn stop_providing(&mut self, tables: [&mut Table; 2], key: &[u8]) {
        self.provided.remove(key);
        for table in tables {
            table.kad().stop_providing(&RecordKey::from(key.to_vec()));
        }
    }

    /// Tells the DHTs of keys that are due, a few at a time; says how many questions that took.
    pub(crate) fn provide_due(&mut self, tables: [&mut Table; 2], now: Instant) -> usize {
        let running = self.pending.values().filter(|pending| matches!(pending, Pending::Provide)).count();
        let room = MAX_PROVIDING.saturating_sub(running.div_ceil(2));
        let due = self.provided.iter().filter(|(_, at)| **at <= now);
        let mut due: Vec<_> = due.map(|(key, at)| (*at, key.clone())).collect();
        // Who waits longest is first: with many keys none is forgotten.
        due.sort();
        due.truncate(room);
        let mut told = 0;
        let mut tables = tables;
        let peers = tables.iter_mut().map(|table| table.len()).max().unwrap_or(0);
        for (_, key) in due {
            for table in &mut tables {
                if table.len() > 0
                    && let Ok(id) = table.kad().start_providing(RecordKey::from(key.clone()))
                {
                    self.pending.insert((table.scope, id), Pending::Provide);
                    told += 1;
                }
            }
            let again = match peers {
                0 => PROVIDE_RETRY,
                1..REPLICATION => PROVIDE_AGAIN_SMALL,
                _ => PROVIDE_AGAIN,
            };
            self.provided.insert(key, now + again);
        }
        told
    }

    pub(crate) fn progressed(&mut self, table: &mut Table, id: QueryId, result: QueryResult, last: bool) {
        let place = (table.scope, id);
        let Some(pending) = self.pending.get_mut(&place) else { return };
        let enough = match (pending, result) {
            (
                Pending::Values { output, found },
                QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(got))),
            ) => {
                *found += 1;
                output.try_send(got.record.value.into()).is_err() || *found >= MAX_VALUES
            }
            (
                Pending::Providers { output, found },
                QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })),
            ) => {
                let new = providers.into_iter().filter(|peer| found.insert(*peer)).collect::<Vec<_>>();
                let gone =
                    new.into_iter().any(|peer| output.try_send((peer, table.addresses(peer))).is_err());
                gone || found.len() >= MAX_PROVIDERS
            }
            (Pending::Put(number), QueryResult::PutRecord(result)) => {
                let number = *number;
                self.put_ended(number, result.err());
                true
            }
            (Pending::Values { output, .. }, _) => output.is_closed(),
            (Pending::Providers { output, .. }, _) => output.is_closed(),
            _ => false,
        };
        if enough
            && !last
            && let Some(mut query) = table.kad().query_mut(&id)
        {
            query.finish();
        }
        if enough || last {
            self.pending.remove(&place);
        }
    }

    fn put_ended(&mut self, number: u64, error: Option<PutRecordError>) {
        let Some(put) = self.puts.get_mut(&number) else { return };
        put.waiting -= 1;
        match error {
            Some(PutRecordError::QuorumFailed { success, .. } | PutRecordError::Timeout { success, .. }) => {
                put.took.extend(success);
            }
            None => put.uncounted += REPLICATION,
        }
        if put.waiting == 0
            && let Some(put) = self.puts.remove(&number)
        {
            _ = put.reply.send(Ok(put.took.len() + put.uncounted));
        }
    }

    /// Ends questions that nobody waits for any more.
    pub(crate) fn end_unheard(&mut self, tables: [&mut Table; 2]) {
        let unheard = |pending: &Pending| match pending {
            Pending::Values { output, .. } => output.is_closed(),
            Pending::Providers { output, .. } => output.is_closed(),
            Pending::Put(_) | Pending::Provide => false,
        };
        for table in tables {
            let ended =
                self.pending.iter().filter(|((scope, _), pending)| *scope == table.scope && unheard(pending));
            for id in ended.map(|((_, id), _)| *id).collect::<Vec<_>>() {
                self.pending.remove(&(table.scope, id));
                if let Some(mut query) = table.kad().query_mut(&id) {
                    query.finish();
                }
            }
        }
    }
}
