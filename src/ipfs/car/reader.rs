//! Reads CARv1 and CARv2 from bytes that come in pieces. Pure.

use bytes::{Buf, Bytes, BytesMut};
use cid::Cid;

use super::super::Block;
use super::{CarError, Header, MAX_BLOCK_BYTES, MAX_HEADER_BYTES, MAX_SECTION_BYTES, varint, verify};

/// Bytes of the CARv2 header behind the pragma: characteristics (16), data offset, data size, index offset.
const ENVELOPE_BYTES: usize = 40;
/// Where a CARv2's data can begin at the earliest.
const FIRST_DATA_OFFSET: u64 = 51;
/// A CID of the largest digest that is read, 64 bytes, is shorter.
const MAX_CID_BYTES: u64 = 128;

/// Takes a CAR in pieces and gives its blocks, each checked against its CID.
///
/// Memory is bounded by one section and one piece, as long as the blocks are taken out after each [`Reader::push`].
/// After an error, every call gives that error again.
#[derive(Debug)]
pub struct Reader {
    buffer: BytesMut,
    /// Where the buffer begins in the file.
    offset: u64,
    state: State,
    version: u64,
    roots: Vec<Cid>,
    /// Where the sections end; `u64::MAX` in a CARv1, which ends where its bytes end.
    data_end: u64,
    /// Where the index of a CARv2 begins; 0 where it has none.
    index_offset: u64,
    failed: Option<CarError>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Before a header: of the file, or of the data in a CARv2.
    Header,
    /// In a CARv2, behind the pragma.
    Envelope,
    /// In a CARv2, before the data.
    Padding { until: u64 },
    /// Between two sections.
    Section,
    /// Behind the length of a section.
    Cid { begin: u64, length: u64 },
    /// Before the bytes of a block.
    Body { begin: u64, cid: Cid, length: u64 },
    /// In a CARv2, behind the data.
    Tail,
}

enum Step {
    Block(Block),
    Moved,
    NeedsMore,
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

impl Reader {
    /// At the beginning of a CAR.
    pub fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            offset: 0,
            state: State::Header,
            version: 1,
            roots: Vec::new(),
            data_end: u64::MAX,
            index_offset: 0,
            failed: None,
        }
    }

    /// The next bytes of the file.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next block; `None` while more bytes are needed, or at the end.
    ///
    /// # Errors
    /// [`CarError`], with the place of the mistake.
    pub fn next_block(&mut self) -> Result<Option<Block>, CarError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        loop {
            match self.step() {
                Ok(Step::Block(block)) => return Ok(Some(block)),
                Ok(Step::Moved) => {}
                Ok(Step::NeedsMore) => return Ok(None),
                Err(error) => return Err(self.fail(error)),
            }
        }
    }

    /// Says that no more bytes come. To be called when [`Reader::next_block`] has given `None`.
    ///
    /// # Errors
    /// [`CarError::Truncated`] in the middle of something, or an error from before.
    pub fn finish(&mut self) -> Result<(), CarError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let part = match self.state {
            State::Section if self.buffer.is_empty() && self.data_end == u64::MAX => return Ok(()),
            State::Tail if self.index_offset == 0 || self.offset > self.index_offset => return Ok(()),
            State::Header => "the header".into(),
            State::Envelope => "the CARv2 header".into(),
            State::Padding { .. } => "the padding before the data".into(),
            State::Section => "the data: a section is missing".into(),
            State::Cid { begin, .. } => format!("the CID of the section at byte {begin}"),
            State::Body { begin, cid, .. } => format!("block {cid}, whose section begins at byte {begin}"),
            State::Tail => "what stands before the index".into(),
        };
        Err(self.fail(CarError::Truncated { offset: self.offset + self.buffer.len() as u64, part }))
    }

    /// The version of the file, 1 or 2; 1 until the header is read.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The roots that the header names; none until it is read.
    pub fn roots(&self) -> &[Cid] {
        &self.roots
    }

    /// Bytes that were pushed and not given out yet: never more than one section and the newest piece.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    fn fail(&mut self, error: CarError) -> CarError {
        self.buffer = BytesMut::new();
        self.failed = Some(error.clone());
        error
    }

    fn step(&mut self) -> Result<Step, CarError> {
        match self.state {
            State::Header => self.header(),
            State::Envelope => self.envelope(),
            State::Padding { until } => Ok(self.padding(until)),
            State::Section => self.section(),
            State::Cid { begin, length } => self.cid(begin, length),
            State::Body { begin, cid, length } => self.body(begin, cid, length),
            State::Tail => self.tail(),
        }
    }

    fn consume(&mut self, bytes: usize) {
        self.buffer.advance(bytes);
        self.offset += bytes as u64;
    }

    /// The length at the front and how many bytes it takes itself; nothing is consumed.
    fn length(&self) -> Result<Option<(u64, usize)>, CarError> {
        varint::get(&self.buffer).map_err(|reason| CarError::Varint { offset: self.offset, reason })
    }

    fn header(&mut self) -> Result<Step, CarError> {
        let offset = self.offset;
        let invalid = |reason: String| CarError::Header { offset, reason };
        let Some((length, prefix)) = self.length()? else { return Ok(Step::NeedsMore) };
        if length == 0 || length > MAX_HEADER_BYTES {
            return Err(invalid(format!("has {length} bytes, not 1 to {MAX_HEADER_BYTES}")));
        }
        if offset.saturating_add(prefix as u64 + length) > self.data_end {
            return Err(invalid(format!("of {length} bytes is longer than the data")));
        }
        let end = prefix + length as usize;
        let Some(block) = self.buffer.get(prefix..end) else { return Ok(Step::NeedsMore) };
        let header: Header = serde_ipld_dagcbor::from_slice(block)
            .map_err(|error| invalid(format!("is not valid DAG-CBOR of a CAR ({error})")))?;
        let outermost = self.version == 1;
        self.state = match header {
            Header { version: 1, roots: Some(roots) } => {
                self.roots = roots;
                State::Section
            }
            Header { version: 1, roots: None } => return Err(invalid("names no roots".into())),
            Header { version: 2, roots: None } if outermost => {
                self.version = 2;
                State::Envelope
            }
            Header { version: 2, roots: Some(_) } if outermost => {
                return Err(invalid("of a CARv2 names roots before the data".into()));
            }
            Header { version, .. } => return Err(CarError::Version { offset, version }),
        };
        self.consume(end);
        Ok(Step::Moved)
    }

    fn envelope(&mut self) -> Result<Step, CarError> {
        let offset = self.offset;
        let invalid = |reason| CarError::Envelope { offset, reason };
        if self.buffer.len() < ENVELOPE_BYTES {
            return Ok(Step::NeedsMore);
        }
        let mut fields = &self.buffer[16..ENVELOPE_BYTES];
        let (data, size, index) = (fields.get_u64_le(), fields.get_u64_le(), fields.get_u64_le());
        if data < FIRST_DATA_OFFSET {
            return Err(invalid("lets the data begin inside itself"));
        }
        if size == 0 {
            return Err(invalid("says that there are no data; was the file never finished?"));
        }
        let end = data.checked_add(size).filter(|end| *end < u64::MAX);
        self.data_end = end.ok_or_else(|| invalid("gives the data an end past all numbers"))?;
        if index != 0 && index < self.data_end {
            return Err(invalid("lets the index begin inside the data"));
        }
        self.index_offset = index;
        self.consume(ENVELOPE_BYTES);
        self.state = State::Padding { until: data };
        Ok(Step::Moved)
    }

    fn padding(&mut self, until: u64) -> Step {
        let left = usize::try_from(until - self.offset).unwrap_or(usize::MAX);
        self.consume(left.min(self.buffer.len()));
        if self.offset < until {
            return Step::NeedsMore;
        }
        self.state = State::Header;
        Step::Moved
    }

    fn section(&mut self) -> Result<Step, CarError> {
        let offset = self.offset;
        if offset == self.data_end {
            self.state = State::Tail;
            return Ok(Step::Moved);
        }
        let Some((length, prefix)) = self.length()? else { return Ok(Step::NeedsMore) };
        if length == 0 {
            return Err(CarError::EmptySection { offset });
        }
        let limit = self.data_end.saturating_sub(offset + prefix as u64).min(MAX_SECTION_BYTES);
        if length > limit {
            return Err(CarError::SectionTooLong { offset, length, limit });
        }
        self.consume(prefix);
        self.state = State::Cid { begin: offset, length };
        Ok(Step::Moved)
    }

    fn cid(&mut self, begin: u64, length: u64) -> Result<Step, CarError> {
        let invalid = |reason: String| CarError::Cid { offset: begin, reason };
        let most = length.min(MAX_CID_BYTES) as usize;
        let bytes = &self.buffer[..most.min(self.buffer.len())];
        let mut rest = bytes;
        let cid = match Cid::read_bytes(&mut rest) {
            Ok(cid) => cid,
            Err(_) if bytes.len() < most => return Ok(Step::NeedsMore),
            Err(error) => return Err(invalid(error.to_string())),
        };
        let read = bytes.len() - rest.len();
        if cid.to_bytes() != bytes[..read] {
            return Err(invalid("a number in it is not minimal".into()));
        }
        let length = length - read as u64;
        if length > MAX_BLOCK_BYTES {
            return Err(CarError::BlockTooLarge { offset: begin, cid, length });
        }
        self.consume(read);
        self.state = State::Body { begin, cid, length };
        Ok(Step::Moved)
    }

    fn body(&mut self, begin: u64, cid: Cid, length: u64) -> Result<Step, CarError> {
        let Some(data) = self.buffer.get(..length as usize) else { return Ok(Step::NeedsMore) };
        verify(&cid, data).map_err(|function| match function {
            Some(function) => CarError::HashFunction { offset: begin, cid, function },
            None => CarError::Hash { offset: begin, cid },
        })?;
        // A copy of its own, so that a small block does not hold the whole buffer.
        let data = Bytes::copy_from_slice(data);
        self.consume(length as usize);
        self.state = State::Section;
        Ok(Step::Block(Block { cid, data }))
    }

    /// The index is not read; without one, only padding may follow.
    fn tail(&mut self) -> Result<Step, CarError> {
        let garbage = self.buffer.iter().position(|byte| *byte != 0).filter(|_| self.index_offset == 0);
        if let Some(index) = garbage {
            return Err(CarError::TrailingBytes { offset: self.offset + index as u64 });
        }
        self.consume(self.buffer.len());
        Ok(Step::NeedsMore)
    }
}
