//! Makes what the run before left fit for this one.

use std::collections::HashSet;
use std::path::Path;

use cid::Cid;
use tokio::time::Instant;
use tracing::{info, warn};

use super::StartError;
use crate::clock::SharedClock;
use crate::config::Config;
use crate::encoder::EncoderSet;
use crate::hls::timeline::Last;
use crate::hls::{Hls, cmaf};
use crate::ipfs::block::RAW;
use crate::ipfs::imports::Imports;
use crate::ipfs::ipns::Name;
use crate::ipfs::{Block, Node};
use crate::publisher::catalogue::{Catalogue, Durable};
use crate::publisher::numbers::Numbers;
use crate::publisher::stream_tree::Entry;
use crate::relay::{self, Following};
use crate::retention;
use crate::state::{Durability, StateFile};

/// Where the station goes on.
pub(super) struct Restored {
    pub(super) catalogue: Catalogue,
    pub(super) catalogue_file: StateFile,
    pub(super) numbers: Numbers,
    pub(super) last: Option<Last>,
    pub(super) encoder_delay: u32,
}

/// Reads catalogue and numbers, stores the init segments, and sweeps what a crash left in the repo.
pub(super) async fn restore(
    config: &Config,
    node: &Node,
    clock: &SharedClock,
    origin: Instant,
) -> Result<Restored, StartError> {
    let renditions = &config.encoder.rendition;
    let parameters = EncoderSet::new(renditions)?.parameters(renditions);
    let encoder_delay = parameters.iter().map(|p| p.delay).max().unwrap_or(0);
    let init: Vec<_> = parameters.iter().map(|p| Block::raw(cmaf::init_segment(p))).collect();
    for block in &init {
        node.blocks().put_pinned(block).await?;
    }
    let segment_ms = u64::try_from(config.hls.segment.as_millis()).unwrap_or(u64::MAX);
    let unix_seconds = u64::try_from(clock.unix_millis() / 1_000).unwrap_or(0);
    let numbers_file = StateFile::new(config.station.data.join("numbers.json"), Durability::Power);
    let numbers = Numbers::load(numbers_file, segment_ms, unix_seconds)?;
    let catalogue_file = StateFile::new(config.repo().join("window.json"), Durability::Process);
    let stored = catalogue_file.load::<Catalogue>()?.filter(|c| c.fits(segment_ms, &parameters));
    let mut catalogue = stored.unwrap_or_else(|| {
        let init = init.iter().map(Entry::from).collect();
        Catalogue::new(segment_ms, parameters, init, numbers.discontinuities())
    });
    let now = Hls::reading(clock, origin);
    let durable = Durable { segment: numbers.last_segment(), discontinuities: numbers.discontinuities() };
    // One listing of the store: asking for each block of a window of hours takes seconds.
    let last = catalogue.settle(&node.blocks().list().await, &config.hls, now, durable);
    sweep(config, node, catalogue.needed()).await?;
    remove_empty_folders(&config.repo());
    Ok(Restored { catalogue, catalogue_file, numbers, last, encoder_delay })
}

/// What a relay of the station `name` goes on with; sweeps what a crash left in the repo.
pub(super) async fn restore_relay(
    config: &Config,
    node: &Node,
    clock: &SharedClock,
    name: &Name,
) -> Result<(Following, StateFile), StartError> {
    let file = StateFile::new(config.repo().join("relay.json"), Durability::Process);
    let now = relay::Reading { monotonic_ms: 0, unix_ms: clock.unix_millis() };
    let following = Following::restore(&file, name, node.blocks(), now).await?;
    sweep(config, node, following.needed()).await?;
    remove_empty_folders(&config.repo());
    Ok((following, file))
}

/// Removes what a crash left in the repo: all but what is `needed` and what the owner imported.
async fn sweep(config: &Config, node: &Node, mut needed: HashSet<Cid>) -> Result<(), StartError> {
    let data = &config.station.data;
    let imports = Imports::load(data)?;
    if Imports::damaged(data) {
        warn!("nobody knows what was imported: leftovers stay until imports.json.damaged is taken away");
        return Ok(());
    }
    node.blocks().keep(imports.blocks());
    // The store may list a block under the raw codec, whatever it is.
    needed.extend(imports.blocks().map(|cid| Cid::new_v1(RAW, *cid.hash())));
    let removed = retention::sweep(node.blocks(), &needed).await?;
    if removed > 0 {
        info!(blocks = removed, "removed what the run before left over");
    }
    let mut missing = 0;
    for cid in imports.blocks() {
        missing += usize::from(!node.blocks().contains(cid).await?);
    }
    if missing > 0 {
        warn!(blocks = missing, "imported blocks are not in the repo any more; import them again");
    }
    Ok(())
}

/// Removes the shard folders of the repo that hold no block and no pin any more. Only at the start: a store that is about
/// to write into one must not find it gone.
fn remove_empty_folders(repo: &Path) {
    let stores = ["blockstore", "datastore/pins"].map(|store| repo.join(store));
    let shards = stores.iter().filter_map(|store| std::fs::read_dir(store).ok()).flatten().flatten();
    for shard in shards.filter(|shard| shard.file_type().is_ok_and(|kind| kind.is_dir())) {
        // Refused by the system where the folder holds anything.
        let _ = std::fs::remove_dir(shard.path());
    }
}
