//! What a node says of itself and of its station, in as many bytes as there may be. Pure.

use crate::ipfs::ipns::Name;
use crate::publisher::Announced;

use super::message::{
    self, MAX_INDEX, MAX_NODE_BYTES, MAX_STATION_BYTES, MAX_SWARM, NodeFacts, Playing, StationFacts,
};

/// Bytes of a title, an artist or an album; longer ones are cut.
const MAX_TEXT_BYTES: usize = 256;
/// Program and version.
pub(super) const SOFTWARE: &str = concat!("skywave/", env!("CARGO_PKG_VERSION"));

/// The encoded facts of a node; the last addresses are left out where there are too many bytes.
pub(super) fn encode_node(mut facts: NodeFacts) -> Box<[u8]> {
    facts.keep_to_bounds();
    loop {
        let bytes = message::encode(&facts);
        if bytes.len() <= MAX_NODE_BYTES || (facts.swarm.pop().is_none() && facts.http.pop().is_none()) {
            return bytes;
        }
    }
}

/// The facts of a station with what it announced, and their encoding; the farthest groups are left out where there are
/// too many bytes.
pub(super) fn station(
    name: &Name,
    seq: u64,
    time_ms: i64,
    announced: &Announced,
    relays: usize,
) -> (StationFacts, Box<[u8]>) {
    let playing = announced.now_playing.as_ref().map(|(playing, position_ms)| Playing {
        title: cut(&playing.title),
        artist: cut(&playing.artist),
        album: cut(&playing.album),
        position_ms: *position_ms,
    });
    let mut facts = StationFacts {
        name: name.to_string(),
        seq,
        time_ms,
        newest: Some(announced.newest),
        ahead: Some(announced.ahead),
        index: announced.index.iter().take(MAX_INDEX).copied().collect(),
        now_playing: playing,
        relays_known: relays as u64,
    };
    loop {
        let bytes = message::encode(&facts);
        if bytes.len() <= MAX_STATION_BYTES || facts.index.pop().is_none() {
            return (facts, bytes);
        }
    }
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT_BYTES)].to_owned()
}

/// The addresses that others can dial, [`MAX_SWARM`] at most; those of loopback only where there are no others.
pub(super) fn dialled(addresses: &[String]) -> Vec<String> {
    let loopback = |address: &String| address.starts_with("/ip4/127.") || address.starts_with("/ip6/::1/");
    let (near, far): (Vec<&String>, Vec<&String>) = addresses.iter().partition(|address| loopback(address));
    let chosen = if far.is_empty() { near } else { far };
    chosen.into_iter().take(MAX_SWARM).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hls::NowPlaying;
    use crate::ipfs::{Block, Identity};
    use crate::player::Source;

    #[test]
    fn the_largest_facts_fit_a_message() {
        let (name, long) = (Identity::generate().name(), "ü".repeat(4_000));
        let address = format!("/ip4/203.0.113.200/tcp/65535/p2p/{}", name.peer_id());
        let url = format!("http://{}:65535", "a".repeat(180));
        let facts = NodeFacts {
            name: name.to_string(),
            seq: u64::MAX,
            time_ms: i64::MAX,
            role: "relay".into(),
            software: SOFTWARE.into(),
            newest: Some(u64::MAX),
            held_until: Some(u64::MAX),
            http: vec![url; 9],
            swarm: vec![address; 9],
            listeners: u64::MAX,
        };
        let bytes = encode_node(facts);
        assert!(bytes.len() <= MAX_NODE_BYTES, "{}", bytes.len());
        let read = NodeFacts::parse(&bytes).unwrap();
        assert!(!read.http.is_empty(), "addresses for listeners are the last to go");
        let now_playing = NowPlaying {
            title: long.clone(),
            artist: long.clone(),
            album: long,
            duration: None,
            source: Source::Library,
        };
        let announced = Announced {
            newest: u64::MAX - 2_000,
            ahead: u64::MAX,
            index: (0..200).map(|n| Block::raw(n.to_string()).cid).collect(),
            now_playing: Some((now_playing, u64::MAX)),
        };
        let (facts, bytes) = station(&name, u64::MAX, i64::MAX, &announced, usize::MAX);
        assert!(bytes.len() <= MAX_STATION_BYTES, "{}", bytes.len());
        assert_eq!(facts.index, announced.index[..MAX_INDEX]);
    }

    #[test]
    fn loopback_is_told_only_where_there_is_nothing_else() {
        let here = ["/ip4/127.0.0.1/tcp/1/p2p/x", "/ip6/::1/tcp/1/p2p/x"].map(str::to_owned);
        let there = ["/ip4/192.168.1.20/tcp/1/p2p/x", "/ip6/fd00::1/tcp/1/p2p/x"].map(str::to_owned);
        assert_eq!(dialled(&here), here);
        assert_eq!(dialled(&[here, there.clone()].concat()), there);
        assert_eq!(dialled(&vec![there[0].clone(); 9]).len(), MAX_SWARM);
    }
}
