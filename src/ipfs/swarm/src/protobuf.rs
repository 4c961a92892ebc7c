//! The little of protobuf that the network's own protocols need (protobuf encoding). Pure.

use std::io;

/// What stands in a field.
pub(crate) enum Value<'a> {
    /// A varint.
    Number(u64),
    /// Anything of a length: text, bytes, a message; also fixed numbers.
    Bytes(&'a [u8]),
}

pub(crate) fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

pub(crate) fn varint(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push(number as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

/// Appends a field of bytes.
pub(crate) fn field(message: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint(message, number << 3 | 2);
    varint(message, bytes.len() as u64);
    message.extend_from_slice(bytes);
}

/// Appends a field of a number; zero is what a missing one means.
pub(crate) fn number(message: &mut Vec<u8>, number: u64, value: u64) {
    if value != 0 {
        varint(message, number << 3);
        varint(message, value);
    }
}

pub(crate) fn read_varint(rest: &mut &[u8]) -> io::Result<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, tail) = rest.split_first().ok_or_else(|| malformed("ends in a number"))?;
        *rest = tail;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(malformed("a number of more than 64 bits"))
}

fn take<'a>(rest: &mut &'a [u8], length: u64) -> io::Result<&'a [u8]> {
    let length = usize::try_from(length).ok().filter(|length| *length <= rest.len());
    let (bytes, tail) = rest.split_at(length.ok_or_else(|| malformed("ends in a field"))?);
    *rest = tail;
    Ok(bytes)
}

/// Fields of a message, in order, each with its number; ends after the first that is malformed. Nothing is allocated,
/// so a message costs no more memory than its bytes.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn read(&mut self) -> io::Result<(u64, Value<'a>)> {
        let rest = &mut self.0;
        let tag = read_varint(rest)?;
        let value = match tag & 7 {
            0 => Value::Number(read_varint(rest)?),
            1 => Value::Bytes(take(rest, 8)?),
            2 => {
                let length = read_varint(rest)?;
                Value::Bytes(take(rest, length)?)
            }
            5 => Value::Bytes(take(rest, 4)?),
            _ => return Err(malformed("a field of unknown type")),
        };
        Ok((tag >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = io::Result<(u64, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.0 = &[];
        }
        Some(read)
    }
}
