//! UnixFS blocks to nodes (pure).
//!
//! The outer DAG-PB comes from `ipld-dagpb`; the protobuf message `Data` inside it is small enough to be read here,
//! field by field, with unknown fields skipped as protobuf asks.

use bytes::Bytes;
use cid::Cid;
use ipld_dagpb::PbNode;

use super::{File, Link, MAX_FILE_BYTES, Node, Shard, UnixFsError};

/// `Data.Type` in the UnixFS specification.
mod data_type {
    pub(super) const RAW: u64 = 0;
    pub(super) const DIRECTORY: u64 = 1;
    pub(super) const FILE: u64 = 2;
    pub(super) const SYMLINK: u64 = 4;
    pub(super) const HAMT_SHARD: u64 = 5;
}

/// Protobuf wire types.
mod wire_type {
    pub(super) const VARINT: u64 = 0;
    pub(super) const FIXED64: u64 = 1;
    pub(super) const LENGTH_DELIMITED: u64 = 2;
    pub(super) const FIXED32: u64 = 5;
}

/// The fields of `Data` that reading needs, named as in the specification.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Data {
    pub(super) data_type: Option<u64>,
    pub(super) data: Bytes,
    pub(super) filesize: Option<u64>,
    pub(super) blocksizes: Vec<u64>,
    pub(super) hash_type: Option<u64>,
    pub(super) fanout: Option<u64>,
}

pub(super) fn parse_dag_pb(cid: Cid, bytes: Bytes) -> Result<Node, UnixFsError> {
    let invalid = |reason| UnixFsError::Invalid { cid, reason };
    let outer = PbNode::from_bytes(bytes).map_err(|source| UnixFsError::DagPb { cid, source })?;
    let inner = outer.data.as_ref().ok_or_else(|| invalid("it holds no UnixFS data"))?;
    let data = parse_data(inner).ok_or_else(|| invalid("its UnixFS data is damaged"))?;
    match data.data_type.ok_or_else(|| invalid("its UnixFS data has no type"))? {
        data_type::RAW | data_type::FILE => file(outer, data).map(Node::File).map_err(invalid),
        data_type::DIRECTORY => Ok(Node::Directory(directory(outer))),
        data_type::SYMLINK => match String::from_utf8(data.data.to_vec()) {
            Ok(target) => Ok(Node::Symlink(target)),
            Err(_) => Err(invalid("its link target is not UTF-8")),
        },
        data_type::HAMT_SHARD => {
            let (hash_type, fanout) = (data.hash_type, data.fanout);
            Shard::new(hash_type, fanout, directory(outer)).map(Node::Shard).map_err(invalid)
        }
        _ => Err(invalid("its UnixFS type is unknown")),
    }
}

fn file(outer: PbNode, data: Data) -> Result<File, &'static str> {
    if outer.links.len() != data.blocksizes.len() {
        return Err("it has not one block size for each link");
    }
    let inline_len = data.data.len() as u64;
    let sum = data.blocksizes.iter().try_fold(inline_len, |sum, size| sum.checked_add(*size));
    let size = sum.filter(|size| *size <= MAX_FILE_BYTES).ok_or("its file is too large")?;
    if data.filesize.is_some_and(|filesize| filesize != size) {
        return Err("its file size is not the sum of its block sizes");
    }
    let blocks = outer.links.iter().map(|link| link.cid).zip(data.blocksizes).collect();
    Ok(File { size, inline: data.data, blocks })
}

fn directory(outer: PbNode) -> Vec<Link> {
    let entry = |link: ipld_dagpb::PbLink| Link {
        name: link.name.unwrap_or_default(),
        cid: link.cid,
        size: link.size.unwrap_or(0),
    };
    outer.links.into_iter().map(entry).collect()
}

/// `None` for bytes that are not a protobuf message.
pub(super) fn parse_data(bytes: &Bytes) -> Option<Data> {
    let mut data = Data::default();
    let mut fields = Fields { rest: bytes.clone() };
    while !fields.rest.is_empty() {
        match fields.next()? {
            (1, Value::Number(number)) => data.data_type = Some(number),
            (2, Value::Bytes(bytes)) => data.data = bytes,
            (3, Value::Number(number)) => data.filesize = Some(number),
            (4, Value::Number(number)) => data.blocksizes.push(number),
            (4, Value::Bytes(bytes)) => data.blocksizes.extend(packed(bytes)?),
            (5, Value::Number(number)) => data.hash_type = Some(number),
            (6, Value::Number(number)) => data.fanout = Some(number),
            _ => {}
        }
    }
    Some(data)
}

fn packed(bytes: Bytes) -> Option<Vec<u64>> {
    let mut fields = Fields { rest: bytes };
    let mut numbers = Vec::new();
    while !fields.rest.is_empty() {
        numbers.push(fields.varint()?);
    }
    Some(numbers)
}

/// A field's value; fixed-width ones are skipped.
pub(in crate::ipfs) enum Value {
    Number(u64),
    Bytes(Bytes),
    Fixed,
}

/// The fields of one protobuf message, front to back.
pub(in crate::ipfs) struct Fields {
    pub(in crate::ipfs) rest: Bytes,
}

impl Fields {
    /// The next field's number and value; `None` for bytes that are no protobuf message.
    pub(in crate::ipfs) fn next(&mut self) -> Option<(u64, Value)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            wire_type::VARINT => Value::Number(self.varint()?),
            wire_type::LENGTH_DELIMITED => {
                let len = self.varint()?;
                Value::Bytes(self.take(len)?)
            }
            wire_type::FIXED64 => self.take(8).map(|_| Value::Fixed)?,
            wire_type::FIXED32 => self.take(4).map(|_| Value::Fixed)?,
            _ => return None,
        };
        Some((tag >> 3, value))
    }

    fn take(&mut self, len: u64) -> Option<Bytes> {
        let len = usize::try_from(len).ok().filter(|len| *len <= self.rest.len())?;
        Some(self.rest.split_to(len))
    }

    /// At most ten bytes of seven bits, least significant first.
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}
