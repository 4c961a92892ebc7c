//! A UnixFS tree as a TAR (IPIP-288), piece by piece, while it is sent.
//!
//! The walk holds one block and the entries beside the way to it. What cannot be read ends the stream early, which a
//! client sees by the cut-off transfer.

use bytes::Bytes;
use cid::Cid;

use super::tar::{self, Entry};
use crate::ipfs::unixfs::{self, BlockReader, FileReader, Node, UnixFsError};

/// Entries that may wait for their turn.
const MAX_PENDING: usize = 64 * 1024;

/// The longest path.
const MAX_PATH: usize = 4096;

/// Why a TAR ends early.
#[derive(Debug, thiserror::Error)]
pub(super) enum TarError {
    #[error(transparent)]
    UnixFs(#[from] UnixFsError),
    #[error("{cid} is no UnixFS, so no file can be made of it")]
    NoFile { cid: Cid },
    #[error("the name {name:?} leads out of the content")]
    Outside { name: String },
    #[error(
        "more than {MAX_PENDING} entries lie beside each other, or a path is longer than {MAX_PATH} bytes"
    )]
    TooLarge,
}

/// A walk in progress.
#[derive(Debug)]
pub(super) struct TarWalk<S> {
    source: S,
    /// What is to be visited, next last.
    pending: Vec<(String, Cid)>,
    /// Pieces of the entry at hand that are made already, last first.
    ready: Vec<Bytes>,
    /// The file at hand, and the padding behind it.
    file: Option<(FileReader<S>, usize)>,
    ended: bool,
}

impl<S: BlockReader> TarWalk<S> {
    /// The tree under `cid`, whose root is called `name`.
    pub(super) fn new(source: S, name: String, cid: Cid) -> TarWalk<S> {
        TarWalk { source, pending: vec![(name, cid)], ready: Vec::new(), file: None, ended: false }
    }

    /// The next bytes; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, TarError> {
        loop {
            if let Some(bytes) = self.ready.pop() {
                return Ok(Some(bytes));
            }
            if let Some((reader, padding)) = &mut self.file {
                if let Some(bytes) = reader.next().await? {
                    return Ok(Some(bytes));
                }
                self.ready.extend(pad(*padding));
                self.file = None;
                continue;
            }
            match self.pending.pop() {
                Some((name, cid)) => self.visit(name, cid).await?,
                None if self.ended => return Ok(None),
                None => {
                    self.ended = true;
                    self.ready.push(tar::end());
                }
            }
        }
    }

    async fn visit(&mut self, name: String, cid: Cid) -> Result<(), TarError> {
        let node = unixfs::load(&self.source, &cid).await?;
        match &node {
            Node::Raw(bytes) => {
                let size = bytes.len() as u64;
                self.ready.extend(pad(tar::padding(size)));
                self.ready.extend((size > 0).then(|| bytes.clone()));
                self.ready.push(tar::header(&name, Entry::File { size }));
            }
            Node::File(file) => {
                let reader = FileReader::new(self.source.clone(), file, 0..file.size);
                self.file = Some((reader, tar::padding(file.size)));
                self.ready.push(tar::header(&name, Entry::File { size: file.size }));
            }
            Node::Symlink(target) => self.ready.push(tar::header(&name, Entry::Symlink { target })),
            Node::Directory(_) | Node::Shard(_) => {
                let entries = unixfs::list(&self.source, cid, &node, MAX_PENDING).await?;
                if entries.more || self.pending.len() + entries.links.len() > MAX_PENDING {
                    return Err(TarError::TooLarge);
                }
                for link in entries.links.into_iter().rev() {
                    let path = tar::inside(&name, &link.name).ok_or(TarError::Outside { name: link.name })?;
                    if path.len() > MAX_PATH {
                        return Err(TarError::TooLarge);
                    }
                    self.pending.push((path, link.cid));
                }
                self.ready.push(tar::header(&name, Entry::Directory));
            }
            Node::Other(_) => return Err(TarError::NoFile { cid }),
        }
        Ok(())
    }
}

fn pad(length: usize) -> Option<Bytes> {
    (length > 0).then(|| Bytes::from_static(&[0; tar::BLOCK]).slice(..length))
}
