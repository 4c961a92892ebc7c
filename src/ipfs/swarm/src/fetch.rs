//! `/libp2p/fetch/0.0.1`: asks a peer for the newest value of a key (libp2p fetch specification), as IPNS over pubsub
//! does with every peer that joins a record's topic.

use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;

use super::protobuf::{Fields, Value, field, malformed, varint};

/// Name of the protocol.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/libp2p/fetch/0.0.1");
/// Longest key, framing included.
const MAX_REQUEST: usize = 1024;
/// Longest answer: an IPNS record of 10 KiB and its framing.
const MAX_RESPONSE: usize = 10 * 1024 + 64;

/// `FetchResponse`: the value, or `None` for NOT_FOUND.
pub type Answer = Option<Bytes>;

#[derive(Clone, Default)]
pub(crate) struct FetchCodec;

/// `FetchRequest { identifier = 1 }`, without its length.
pub fn encode_request(key: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(key.len() + 4);
    field(&mut message, 1, key);
    message
}

/// The identifier of a `FetchRequest`.
///
/// # Errors
/// `InvalidData` for anything else.
pub fn decode_request(message: &[u8]) -> io::Result<Vec<u8>> {
    let mut key = None;
    for field in Fields::new(message) {
        if let (1, Value::Bytes(bytes)) = field? {
            key = Some(bytes.to_vec());
        }
    }
    key.ok_or_else(|| malformed("no identifier"))
}

/// `FetchResponse { status = 1, data = 2 }`, without its length.
pub fn encode_answer(answer: &Answer) -> Vec<u8> {
    let mut message = Vec::new();
    match answer {
        Some(value) => field(&mut message, 2, value),
        // status = NOT_FOUND (1).
        None => message.extend([0x08, 1]),
    }
    message
}

/// What a `FetchResponse` says.
///
/// # Errors
/// `InvalidData` for anything else, and for the status ERROR.
pub fn decode_answer(message: &[u8]) -> io::Result<Answer> {
    let (mut status, mut data) = (0, Bytes::new());
    for field in Fields::new(message) {
        match field? {
            (1, Value::Number(number)) => status = number,
            (2, Value::Bytes(bytes)) => data = Bytes::copy_from_slice(bytes),
            _ => {}
        }
    }
    match status {
        0 => Ok(Some(data)),
        1 => Ok(None),
        _ => Err(malformed("the peer failed")),
    }
}

/// One message behind its length, an unsigned varint.
async fn read_message<T: AsyncRead + Unpin + Send>(io: &mut T, longest: usize) -> io::Result<Vec<u8>> {
    let mut length = 0_usize;
    for shift in [0, 7, 14] {
        let mut byte = [0];
        io.read_exact(&mut byte).await?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            if length > longest {
                break;
            }
            let mut message = vec![0; length];
            io.read_exact(&mut message).await?;
            return Ok(message);
        }
    }
    Err(malformed("a message of more than its largest size"))
}

async fn write_message<T: AsyncWrite + Unpin + Send>(io: &mut T, message: &[u8]) -> io::Result<()> {
    let mut framed = Vec::with_capacity(message.len() + 3);
    varint(&mut framed, message.len() as u64);
    framed.extend_from_slice(message);
    io.write_all(&framed).await?;
    io.flush().await
}

#[async_trait]
impl Codec for FetchCodec {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Answer;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        decode_request(&read_message(io, MAX_REQUEST).await?)
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Answer>
    where
        T: AsyncRead + Unpin + Send,
    {
        decode_answer(&read_message(io, MAX_RESPONSE).await?)
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, key: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_message(io, &encode_request(&key)).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, answer: Answer) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_message(io, &encode_answer(&answer)).await
    }
}
