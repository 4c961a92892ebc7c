//! What peers and files about peers say. The first byte says which.

use bytes::Bytes;
use cid::multibase::Base;
use futures::executor::block_on;
use futures::io::Cursor;

use super::bitswap::message::{self, Builder, Part};
use super::fetch::{self, FetchCodec, PROTOCOL};
use crate::cut::Cut;
use crate::ipfs::peers::{saved, seeds};
use crate::ipfs::private_network::SwarmKey;
use crate::request_response::Codec;
use crate::state;

pub fn run(input: &[u8]) {
    let mut cut = Cut(input);
    match cut.byte() % 7 {
        0 => request(cut.0),
        1 => answer(cut.0),
        2 => messages(cut.0),
        3 => swarm_key(cut.0),
        4 => seed_list(cut.0),
        5 => saved_peers(cut.0),
        _ => bitswap(cut.0),
    }
}

/// A framed request; what is understood is sent and read again.
fn request(bytes: &[u8]) {
    let Ok(key) = block_on(FetchCodec.read_request(&PROTOCOL, &mut Cursor::new(bytes))) else { return };
    assert!(key.len() <= 1_024);
    let mut sent = Cursor::new(Vec::new());
    block_on(FetchCodec.write_request(&PROTOCOL, &mut sent, key.clone())).expect("memory takes every byte");
    assert_eq!(fetch::decode_request(&fetch::encode_request(&key)).ok(), Some(key));
}

fn answer(bytes: &[u8]) {
    let Ok(answer) = block_on(FetchCodec.read_response(&PROTOCOL, &mut Cursor::new(bytes))) else { return };
    assert!(answer.as_ref().is_none_or(|value| value.len() <= 10 * 1_024 + 64));
    let mut sent = Cursor::new(Vec::new());
    block_on(FetchCodec.write_response(&PROTOCOL, &mut sent, answer.clone()))
        .expect("memory takes every byte");
    assert_eq!(fetch::decode_answer(&fetch::encode_answer(&answer)).ok(), Some(answer));
}

fn messages(bytes: &[u8]) {
    let _ = fetch::decode_request(bytes);
    let _ = fetch::decode_answer(bytes);
    let value = Some(Bytes::copy_from_slice(bytes));
    assert_eq!(fetch::decode_answer(&fetch::encode_answer(&value)).ok(), Some(value));
    assert_eq!(fetch::decode_request(&fetch::encode_request(bytes)).ok().as_deref(), Some(bytes));
}

/// A message; what is understood is said again and read again.
fn bitswap(bytes: &[u8]) {
    let mut again = Builder::default();
    let said: Vec<_> = message::parts(bytes).map_while(Result::ok).collect();
    for part in &said {
        match part {
            Part::Want(entry) => again.want(entry),
            Part::Block(cid, data) => again.block(cid, data),
            Part::Presence(cid, have) => again.presence(cid, *have),
        }
    }
    let _ = message::is_full(bytes);
    let framed = again.framed();
    let length = framed.iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
    let read: Vec<_> = message::parts(&framed[length..]).map(|part| part.expect("our own message")).collect();
    // The wantlist goes first.
    let is_want = |part: &&Part<'_>| matches!(part, Part::Want(_));
    let (wants, others): (Vec<_>, Vec<_>) = said.iter().partition(is_want);
    assert!(read.iter().eq(wants.into_iter().chain(others)));
}

fn swarm_key(bytes: &[u8]) {
    let Ok(key) = SwarmKey::parse(bytes) else { return };
    let written = format!("/key/swarm/psk/1.0.0/\n/base16/\n{}\n", Base::Base16Lower.encode(key.bytes()));
    assert_eq!(SwarmKey::parse(written.as_bytes()).as_ref(), Ok(&key));
}

fn seed_list(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match seeds::parse(&text) {
        Ok(seeds) => assert!(seeds.len() <= 1_000 && seeds.iter().all(|(_, places)| places.len() <= 16)),
        Err((line, reason)) => {
            assert!((1..=text.split('\n').count()).contains(&line), "line {line}: {reason}");
        }
    }
}

fn saved_peers(bytes: &[u8]) {
    state::put(bytes);
    let folder = std::path::Path::new("");
    let Ok(mut saved) = saved::Saved::load(folder, false);
    let before: Vec<_> = saved.peers().collect();
    assert!(before.len() <= saved::MAX_SAVED);
    let key = libp2p_identity::Keypair::ed25519_from_bytes([7; 32]).expect("any 32 bytes are a key");
    let peer = key.public().to_peer_id();
    let address = "/ip4/192.0.2.1/tcp/4001".parse().expect("an address");
    let answered = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(u64::MAX / 4);
    let Ok(()) = saved.save(vec![crate::KnownPeer { peer, address, answered }]);
    let Ok(again) = saved::Saved::load(folder, false);
    assert!(again.peers().any(|(known, _)| known == peer));
    assert!(before.iter().filter(|(old, _)| again.peers().all(|(known, _)| known != *old)).count() <= 1);
}
