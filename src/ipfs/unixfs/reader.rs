//! A file's bytes, block after block.

use std::ops::Range;

use bytes::Bytes;
use cid::Cid;
use futures::stream::{self, BoxStream, StreamExt};

use super::{BlockReader, File, MAX_FILE_DEPTH, Node, UnixFsError, load};

/// Reads a byte range of a file. Holds one block and the links beside the way to it; subtrees outside the range
/// are never loaded.
#[derive(Debug)]
pub struct FileReader<S> {
    blocks: S,
    /// The bytes still wanted, in the file.
    wanted: Range<u64>,
    /// Subtrees not visited yet; the next one is last.
    pending: Vec<Subtree>,
    /// Bytes ready to be given.
    ready: Option<Bytes>,
}

#[derive(Debug)]
struct Subtree {
    cid: Cid,
    /// What it covers of the file, as its parent says.
    span: Range<u64>,
    depth: usize,
}

impl<S: BlockReader> FileReader<S> {
    /// Reads `range` of `file`; what lies past the end of the file is left out.
    pub fn new(blocks: S, file: &File, range: Range<u64>) -> FileReader<S> {
        let wanted = range.start.min(file.size)..range.end.min(file.size);
        let mut reader = FileReader { blocks, wanted, pending: Vec::new(), ready: None };
        reader.visit(file, 0, 0);
        reader
    }

    /// The next bytes, never empty; `None` after the last.
    ///
    /// # Errors
    /// [`UnixFsError`] when a block is missing, broken, or not what its parent says. The reader is of no further
    /// use then.
    pub async fn next(&mut self) -> Result<Option<Bytes>, UnixFsError> {
        loop {
            if let Some(bytes) = self.ready.take() {
                return Ok(Some(bytes));
            }
            let Some(subtree) = self.pending.pop() else { return Ok(None) };
            let expected = subtree.span.end - subtree.span.start;
            let invalid = |reason| UnixFsError::Invalid { cid: subtree.cid, reason };
            match load(&self.blocks, &subtree.cid).await? {
                Node::Raw(bytes) if bytes.len() as u64 == expected => self.give(&bytes, subtree.span.start),
                Node::File(file) if file.size == expected => {
                    if subtree.depth >= MAX_FILE_DEPTH {
                        return Err(invalid("its file is nested too deeply"));
                    }
                    self.visit(&file, subtree.span.start, subtree.depth);
                }
                Node::Raw(_) | Node::File(_) => return Err(invalid("its size is not what its parent says")),
                _ => return Err(invalid("it is part of a file and holds no file data")),
            }
        }
    }

    /// The rest as a stream that ends at the first error.
    pub fn into_stream(self) -> BoxStream<'static, Result<Bytes, UnixFsError>> {
        stream::try_unfold(self, |mut reader| async {
            let next = reader.next().await?;
            Ok(next.map(|bytes| (bytes, reader)))
        })
        .boxed()
    }

    /// Takes the inline bytes and queues the children that overlap the range. `start` is the file offset of `file`.
    fn visit(&mut self, file: &File, start: u64, depth: usize) {
        self.give(&file.inline, start);
        let first = self.pending.len();
        let mut offset = start + file.inline.len() as u64;
        for (cid, size) in &file.blocks {
            let span = offset..offset + size;
            offset = span.end;
            if !span.is_empty() && span.start < self.wanted.end && span.end > self.wanted.start {
                self.pending.push(Subtree { cid: *cid, span, depth: depth + 1 });
            }
        }
        self.pending[first..].reverse();
    }

    /// Keeps what is wanted of `bytes`, which lie at `start` in the file.
    fn give(&mut self, bytes: &Bytes, start: u64) {
        let len = bytes.len() as u64;
        let from = self.wanted.start.saturating_sub(start).min(len);
        let to = self.wanted.end.saturating_sub(start).min(len);
        if from < to {
            // Both fit: they are at most the length of a slice.
            self.ready = Some(bytes.slice(from as usize..to as usize));
        }
    }
}
