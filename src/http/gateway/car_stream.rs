//! The blocks of a CAR, one after the other, while they are sent.
//!
//! The walk holds one block, the links beside the way to it and, without duplicates, the CIDs that were sent; each of
//! them is bounded. A block that is missing ends the stream early, which a client sees by the cut-off transfer.

use std::collections::HashSet;
use std::ops::Range;

use bytes::Bytes;
use cid::Cid;

use super::car_request::{CarRequest, EntityBytes, Scope};
use crate::ipfs::unixfs::{self, BlockReader, MAX_FILE_DEPTH, Node, UnixFsError};
use crate::ipfs::{car, ipld};

/// Links that may wait for their turn.
const MAX_PENDING: usize = 64 * 1024;

/// Blocks of which it is remembered that they were sent.
const MAX_SENT: usize = 64 * 1024;

/// Why a CAR ends early.
#[derive(Debug, thiserror::Error)]
pub(super) enum WalkError {
    #[error(transparent)]
    UnixFs(#[from] UnixFsError),
    #[error("block {0} breaks its codec, so its links are not known")]
    Broken(Cid),
    #[error("the DAG has more than {MAX_PENDING} links beside each other, or {MAX_SENT} different blocks")]
    TooLarge,
}

/// What of a subtree is sent.
#[derive(Debug, Clone)]
enum Part {
    /// The one block.
    Block,
    /// Everything.
    All,
    /// What it takes to read the file or list the directory.
    Entity { bytes: Option<EntityBytes> },
    /// A part of a file, which covers `span` of it, as far as it overlaps `wanted`.
    File { span: Range<u64>, wanted: Range<u64>, depth: usize },
}

/// A walk in progress.
#[derive(Debug)]
pub(super) struct Walk<S> {
    source: S,
    /// What is to be visited, next last.
    pending: Vec<(Cid, Part)>,
    /// `None` where duplicates are sent.
    sent: Option<HashSet<Cid>>,
}

impl<S: BlockReader> Walk<S> {
    /// The blocks on the way, and then those of `cid` in the scope.
    pub(super) fn new(source: S, visited: &[Cid], cid: Cid, request: &CarRequest) -> Walk<S> {
        let part = match request.scope {
            Scope::Block => Part::Block,
            Scope::Entity(bytes) => Part::Entity { bytes },
            Scope::All => Part::All,
        };
        let mut pending = vec![(cid, part)];
        pending.extend(visited.iter().rev().map(|cid| (*cid, Part::Block)));
        Walk { source, pending, sent: (!request.duplicates).then(HashSet::new) }
    }

    /// The next section; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, WalkError> {
        while let Some((cid, part)) = self.pending.pop() {
            let first = self.sent.as_mut().is_none_or(|sent| sent.insert(cid));
            if self.sent.as_ref().is_some_and(|sent| sent.len() > MAX_SENT) {
                return Err(WalkError::TooLarge);
            }
            // Below a block that was sent in full, everything was. The blocks of a path are above all others.
            if !first && (cid.codec() == unixfs::RAW || !matches!(part, Part::File { .. })) {
                continue;
            }
            let bytes = unixfs::block(&self.source, &cid).await?;
            self.queue(cid, &bytes, part)?;
            // The specification bars blocks that their CIDs hold already.
            if first && !unixfs::is_identity(&cid) {
                return Ok(Some(car::section(&cid, &bytes)));
            }
        }
        Ok(None)
    }

    fn queue(&mut self, cid: Cid, bytes: &Bytes, part: Part) -> Result<(), WalkError> {
        let before = self.pending.len();
        match part {
            Part::Block => {}
            Part::All => {
                let links = ipld::links(&cid, bytes).ok_or(WalkError::Broken(cid))?;
                self.pending.extend(links.into_iter().map(|cid| (cid, Part::All)));
            }
            Part::Entity { bytes: range } => match unixfs::parse(cid, bytes.clone())? {
                Node::File(file) => {
                    // A range that lies outside was refused before; here it takes no part of the file.
                    let wanted = range.map_or(Ok(0..file.size), |range| range.of(file.size)).unwrap_or(0..0);
                    self.queue_file(cid, &file, 0..file.size, &wanted, 0)?;
                }
                Node::Shard(shard) => {
                    self.pending.extend(shard.shards().map(|cid| (cid, Part::Entity { bytes: None })));
                }
                Node::Raw(_) | Node::Directory(_) | Node::Symlink(_) | Node::Other(_) => {}
            },
            Part::File { span, wanted, depth } => {
                if let Node::File(file) = unixfs::parse(cid, bytes.clone())? {
                    self.queue_file(cid, &file, span, &wanted, depth)?;
                }
            }
        }
        self.pending[before..].reverse();
        if self.pending.len() > MAX_PENDING { Err(WalkError::TooLarge) } else { Ok(()) }
    }

    fn queue_file(
        &mut self,
        cid: Cid,
        file: &unixfs::File,
        span: Range<u64>,
        wanted: &Range<u64>,
        depth: usize,
    ) -> Result<(), WalkError> {
        let invalid = |reason| Err(WalkError::UnixFs(UnixFsError::Invalid { cid, reason }));
        if depth > MAX_FILE_DEPTH {
            return invalid("its file is nested too deeply");
        }
        if file.size != span.end - span.start {
            return invalid("its size is not what its parent says");
        }
        let mut offset = span.start + file.inline.len() as u64;
        for (cid, size) in &file.blocks {
            let span = offset..offset + size;
            offset = span.end;
            if !wanted.is_empty() && span.start < wanted.end && span.end > wanted.start {
                let part = Part::File { span, wanted: wanted.clone(), depth: depth + 1 };
                self.pending.push((*cid, part));
            }
        }
        Ok(())
    }
}
