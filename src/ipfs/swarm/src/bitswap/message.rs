//! Messages of bitswap 1.2.0 as they travel (Bitswap specification, "Wire Format"). Pure.

use std::io;

use cid::{Cid, Version};
use multihash_codetable::{Code, MultihashDigest};

use super::super::protobuf::{Fields, Value, field, malformed, number, read_varint, varint};

/// `Message.wantlist`, `payload` and `blockPresences`.
const WANTLIST: u64 = 1;
const PAYLOAD: u64 = 3;
const PRESENCES: u64 = 4;

/// `Wantlist.Entry`: what a peer asks for, or no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Which block.
    pub cid: Cid,
    /// The block itself (`Block`), not only whether it is there (`Have`).
    pub block: bool,
    /// To be told when it is not there (`sendDontHave`).
    pub dont_have: bool,
    /// No longer wanted.
    pub cancel: bool,
}

/// One statement of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// An entry of the wantlist.
    Want(Entry),
    /// A block, under the CID that its bytes have.
    Block(Cid, &'a [u8]),
    /// The peer has a block, or has it not.
    Presence(Cid, bool),
}

/// Whether the wantlist is all that the peer wants (`Wantlist.full`), not an addition.
pub fn is_full(message: &[u8]) -> bool {
    let lists = Fields::new(message).filter_map(|field| match field {
        Ok((WANTLIST, Value::Bytes(list))) => Some(list),
        _ => None,
    });
    lists.flat_map(Fields::new).any(|field| matches!(field, Ok((2, Value::Number(1)))))
}

/// The statements of a message, in order; ends after the first that is malformed. What later versions may add is
/// left out.
pub fn parts(message: &[u8]) -> impl Iterator<Item = io::Result<Part<'_>>> {
    Parts { message: Fields::new(message), wantlist: Fields::new(&[]), ended: false }
}

struct Parts<'a> {
    message: Fields<'a>,
    wantlist: Fields<'a>,
    ended: bool,
}

impl<'a> Parts<'a> {
    fn read(&mut self) -> io::Result<Option<Part<'a>>> {
        loop {
            for field in self.wantlist.by_ref() {
                if let (1, Value::Bytes(entry)) = field? {
                    return entry_of(entry).map(|entry| Some(Part::Want(entry)));
                }
            }
            match self.message.next().transpose()? {
                None => return Ok(None),
                Some((WANTLIST, Value::Bytes(list))) => self.wantlist = Fields::new(list),
                Some((PAYLOAD, Value::Bytes(block))) => return block_of(block).map(Some),
                Some((PRESENCES, Value::Bytes(presence))) => return presence_of(presence).map(Some),
                Some(_) => {}
            }
        }
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = io::Result<Part<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let read = self.read().transpose();
        self.ended = !matches!(read, Some(Ok(_)));
        read
    }
}

fn cid_of(bytes: &[u8]) -> io::Result<Cid> {
    Cid::try_from(bytes).map_err(|_| malformed("no CID"))
}

fn entry_of(message: &[u8]) -> io::Result<Entry> {
    let (mut cid, mut block, mut dont_have, mut cancel) = (None, true, false, false);
    for field in Fields::new(message) {
        match field? {
            (1, Value::Bytes(bytes)) => cid = Some(cid_of(bytes)?),
            (3, Value::Number(is)) => cancel = is != 0,
            (4, Value::Number(kind)) => block = kind == 0,
            (5, Value::Number(is)) => dont_have = is != 0,
            _ => {}
        }
    }
    let cid = cid.ok_or_else(|| malformed("a want of nothing"))?;
    Ok(Entry { cid, block, dont_have, cancel })
}

fn presence_of(message: &[u8]) -> io::Result<Part<'_>> {
    let (mut cid, mut have) = (None, true);
    for field in Fields::new(message) {
        match field? {
            (1, Value::Bytes(bytes)) => cid = Some(cid_of(bytes)?),
            (2, Value::Number(kind)) => have = kind == 0,
            _ => {}
        }
    }
    Ok(Part::Presence(cid.ok_or_else(|| malformed("the presence of nothing"))?, have))
}

/// The CID is made of the prefix (version, codec, hash function, length of the hash) and the bytes.
fn block_of(message: &[u8]) -> io::Result<Part<'_>> {
    let (mut prefix, mut data): (&[u8], &[u8]) = (&[], &[]);
    for field in Fields::new(message) {
        match field? {
            (1, Value::Bytes(bytes)) => prefix = bytes,
            (2, Value::Bytes(bytes)) => data = bytes,
            _ => {}
        }
    }
    let mut next = || read_varint(&mut prefix);
    let (version, codec, function, length) = (next()?, next()?, next()?, next()?);
    let hash = Code::try_from(function).map_err(|_| malformed("an unknown hash function"))?.digest(data);
    if usize::try_from(length).ok() != Some(hash.digest().len()) {
        return Err(malformed("a hash of another length"));
    }
    let version = Version::try_from(version).map_err(|_| malformed("an unknown version of CID"))?;
    let cid = Cid::new(version, codec, hash).map_err(|_| malformed("no CID"))?;
    Ok(Part::Block(cid, data))
}

/// A message in the making.
#[derive(Debug, Default)]
pub struct Builder {
    wantlist: Vec<u8>,
    answers: Vec<u8>,
}

impl Builder {
    /// Adds an entry to the wantlist.
    pub fn want(&mut self, entry: &Entry) {
        let mut message = Vec::with_capacity(48);
        field(&mut message, 1, &entry.cid.to_bytes());
        number(&mut message, 2, 1);
        number(&mut message, 3, entry.cancel.into());
        number(&mut message, 4, (!entry.block).into());
        number(&mut message, 5, entry.dont_have.into());
        field(&mut self.wantlist, 1, &message);
    }

    /// Adds a block.
    pub fn block(&mut self, cid: &Cid, data: &[u8]) {
        let mut prefix = Vec::with_capacity(8);
        let hash = cid.hash();
        let length = hash.digest().len() as u64;
        for number in [u64::from(cid.version()), cid.codec(), hash.code(), length] {
            varint(&mut prefix, number);
        }
        let mut head = Vec::with_capacity(16);
        field(&mut head, 1, &prefix);
        varint(&mut head, 2 << 3 | 2);
        varint(&mut head, data.len() as u64);
        varint(&mut self.answers, PAYLOAD << 3 | 2);
        varint(&mut self.answers, (head.len() + data.len()) as u64);
        self.answers.extend_from_slice(&head);
        self.answers.extend_from_slice(data);
    }

    /// Says whether a block is here.
    pub fn presence(&mut self, cid: &Cid, have: bool) {
        let mut message = Vec::with_capacity(48);
        field(&mut message, 1, &cid.to_bytes());
        number(&mut message, 2, (!have).into());
        field(&mut self.answers, PRESENCES, &message);
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.wantlist.len() + self.answers.len()
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The message behind its length, as it is sent.
    pub fn framed(self) -> Vec<u8> {
        let mut list = Vec::with_capacity(self.wantlist.len() + 8);
        if !self.wantlist.is_empty() {
            field(&mut list, WANTLIST, &self.wantlist);
        }
        let length = list.len() + self.answers.len();
        let mut framed = Vec::with_capacity(length + 5);
        varint(&mut framed, length as u64);
        framed.extend(list);
        framed.extend(self.answers);
        framed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cid(text: &str) -> Cid {
        Cid::new_v1(0x55, Code::Sha2_256.digest(text.as_bytes()))
    }

    /// Without its length.
    fn message(builder: Builder) -> Vec<u8> {
        let framed = builder.framed();
        let mut rest = framed.as_slice();
        assert_eq!(read_varint(&mut rest).unwrap(), rest.len() as u64);
        rest.to_vec()
    }

    #[test]
    fn what_is_said_is_understood() {
        let wants = [(true, false, false), (false, true, false), (true, false, true)]
            .map(|(block, dont_have, cancel)| Entry { cid: cid("a"), block, dont_have, cancel });
        let mut builder = Builder::default();
        wants.iter().for_each(|want| builder.want(want));
        builder.block(&cid("data"), b"data");
        builder.presence(&cid("b"), true);
        builder.presence(&cid("c"), false);
        let message = message(builder);
        let said: Vec<_> = parts(&message).map(Result::unwrap).collect();
        let [first, second, third] = wants.map(Part::Want);
        let answers = [
            Part::Block(cid("data"), b"data"),
            Part::Presence(cid("b"), true),
            Part::Presence(cid("c"), false),
        ];
        assert_eq!(said, [first, second, third].into_iter().chain(answers).collect::<Vec<_>>());
        assert!(!is_full(&message));
    }

    #[test]
    fn a_full_wantlist_says_so_behind_its_entries() {
        // { wantlist: { entries: [], full: true } }
        assert!(is_full(&[0x0a, 2, 0x10, 1]) && !is_full(&[0x0a, 2, 0x10, 0]) && !is_full(&[]));
    }

    #[test]
    fn a_block_has_the_cid_of_its_bytes_whatever_was_meant() {
        let mut builder = Builder::default();
        builder.block(&cid("asked for"), b"forged");
        let message = message(builder);
        assert_eq!(parts(&message).next().unwrap().unwrap(), Part::Block(cid("forged"), b"forged"));
    }

    #[test]
    fn cut_off_at_any_byte_it_ends_in_an_error_or_an_earlier_part_and_never_panics() {
        let mut builder = Builder::default();
        builder.want(&Entry { cid: cid("a"), block: true, dont_have: true, cancel: false });
        builder.block(&cid("data"), b"data");
        let message = message(builder);
        for end in 0..message.len() {
            let said: Vec<_> = parts(&message[..end]).collect();
            assert!(said.len() <= 2);
            assert!(said.iter().rev().skip(1).all(Result::is_ok), "{end}");
        }
    }
}
