//! What the network did and refused, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counts since the start.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counts {
            /// Every count under its name.
            pub fn each(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }

        #[derive(Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        impl Counters {
            pub(crate) fn read(&self) -> Counts {
                Counts { $($name: self.$name.0.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Connections that were opened, by either side.
    connections,
    /// Connections of others that a limit refused or whose handshake failed.
    connections_refused,
    /// Addresses or peers that were dialled.
    dials,
    /// Dials that reached nobody.
    dials_failed,
    /// Peers whose connections were closed because nothing came from them.
    peers_silent,
    /// Queries that were sent into a DHT.
    queries,
    /// Records of others that were stored.
    records_stored,
    /// Records of others that were forged, too old, too large or not ours to keep.
    records_refused,
    /// Provider records of others that were stored.
    providers_stored,
    /// Provider records of others that were malformed.
    providers_refused,
    /// Pubsub messages that were valid.
    messages,
    /// Pubsub messages that were invalid or too large; none of them is forwarded.
    messages_refused,
    /// Pubsub messages that were neither: nothing new, or of no topic that is followed.
    messages_ignored,
    /// Valid pubsub messages that were dropped because nobody took them in time.
    messages_dropped,
    /// Fetch requests of others that were answered.
    fetches,
    /// Wants of others, and ends of wants, that were taken in over bitswap.
    wants,
    /// Wants of others beyond what one peer may have waiting.
    wants_refused,
    /// Blocks that were sent to others.
    blocks_sent,
    /// Bytes of these blocks.
    block_bytes_sent,
    /// Bytes of those among them that are larger than 16 KiB: media, not trees.
    large_block_bytes_sent,
    /// Blocks that came and were asked for.
    blocks_received,
    /// Blocks that came and nobody asked for, or any more.
    blocks_refused,
    /// Bitswap streams beyond what one peer may have open, and messages that were malformed or too large.
    bitswap_refused,
    /// Bitswap streams on which a peer took no byte of its answer for too long.
    readers_refused,
}

#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.add_many(1);
    }

    pub(crate) fn add_many(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }
}
