//! IPNS names, their spellings, and where their records are found. Pure.
//!
//! One key has many: a CIDv1 with the codec libp2p-key in any multibase (`k51...`, `bafz...`), or its multihash in
//! base58 without a prefix (`12D3KooW...`, `Qm...`), the old spelling of a peer id. IPNS specification, "Names".

use std::fmt::{self, Display, Formatter};

use cid::Cid;
use cid::multibase::Base;
use cid::multihash::Multihash;

/// Multicodec of a public key of libp2p.
pub const LIBP2P_KEY: u64 = 0x72;

/// Stands before the multihash in a routing key.
const ROUTING_PREFIX: &[u8] = b"/ipns/";

/// Bounds the work on a foreign name; the longest spelling, base 2, takes 8 characters a byte.
pub const MAX_LEN: usize = 512;

/// Whether two names are spellings of the same key.
pub fn same(one: &str, other: &str) -> bool {
    one == other || key(one).is_some_and(|one| key(other) == Some(one))
}

/// The multihash of a key, which is its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Multihash<64>);

impl From<Multihash<64>> for Name {
    fn from(hash: Multihash<64>) -> Self {
        Self(hash)
    }
}

/// `k51...`: the CID in base36, which a host name can hold.
impl Display for Name {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let text = Cid::new_v1(LIBP2P_KEY, self.0).to_string_of_base(Base::Base36Lower);
        f.write_str(&text.map_err(|_| fmt::Error)?)
    }
}

impl Name {
    /// Reads any spelling; `None` for what is no name of a key, such as a domain.
    pub fn parse(text: &str) -> Option<Self> {
        key(text).map(Self)
    }

    /// The multihash of the public key: the bytes of its peer id.
    pub fn multihash(&self) -> &Multihash<64> {
        &self.0
    }

    /// The old spelling, which is that of a peer: `12D3KooW...`.
    pub fn peer_id(&self) -> String {
        Base::Base58Btc.encode(self.0.to_bytes())
    }

    /// Key of the record in the DHT and in libp2p fetch: `/ipns/` and the multihash (IPNS specification, "Routing
    /// Record").
    pub fn routing_key(&self) -> Vec<u8> {
        [ROUTING_PREFIX, &self.0.to_bytes()].concat()
    }

    /// The name of a routing key; `None` for another kind of key.
    pub fn from_routing_key(key: &[u8]) -> Option<Self> {
        Multihash::from_bytes(key.strip_prefix(ROUTING_PREFIX)?).ok().map(Self)
    }

    /// Topic of the record: `/record/` and the routing key in base64url without padding (IPNS PubSub Router
    /// specification, "Topic format").
    pub fn topic(&self) -> String {
        format!("/record/{}", Base::Base64Url.encode(self.routing_key()))
    }
}

/// The multihash a name stands for; `None` for what is no name of a key, such as a domain.
pub fn key(name: &str) -> Option<Multihash<64>> {
    if name.len() > MAX_LEN {
        return None;
    }
    if let Ok(cid) = Cid::try_from(name) {
        let is_key = cid.codec() == LIBP2P_KEY || cid.version() == cid::Version::V0;
        return is_key.then(|| *cid.hash());
    }
    let bytes = Base::Base58Btc.decode(name).ok()?;
    Multihash::from_bytes(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER_ID: &str = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";

    #[test]
    fn every_spelling_of_a_key_is_the_same_name() {
        let hash = key(PEER_ID).unwrap();
        let cid = Cid::new_v1(LIBP2P_KEY, hash);
        let k51 = cid.to_string_of_base(Base::Base36Lower).unwrap();
        assert!(k51.starts_with("k51"), "{k51}");
        for base in [Base::Base32Lower, Base::Base58Btc, Base::Base64Url, Base::Base16Lower, Base::Base2] {
            assert!(same(&k51, &cid.to_string_of_base(base).unwrap()), "{base:?}");
        }
        assert!(same(&k51, PEER_ID));
    }

    #[test]
    fn routing_key_and_topic_are_those_of_the_specifications() {
        let name = Name::parse(PEER_ID).unwrap();
        assert_eq!(Name::parse(&name.to_string()), Some(name));
        let key = name.routing_key();
        assert_eq!(key[..6], *b"/ipns/");
        assert_eq!(Base::Base58Btc.encode(&key[6..]), PEER_ID);
        assert_eq!(Name::from_routing_key(&key), Some(name));
        assert_eq!(Name::from_routing_key(&key[6..]), None);
        assert_eq!(Name::from_routing_key(b"/ipns/x"), None);
        // As `ipfs name pubsub subs` and `ipfs pubsub ls` of kubo pair them.
        let topic = name.topic();
        assert_eq!(Base::Base64Url.decode(topic.strip_prefix("/record/").unwrap()).unwrap(), key);
        assert!(!topic.contains('='), "{topic}");
        // As kubo names it in `/api/v0/pubsub/ls`.
        let kubo = Name::parse("k51qzi5uqu5dks93xac12gzrji4tujqp0stm7pufu2verttk0sqyiyhh1mzogg").unwrap();
        assert_eq!(kubo.topic(), "/record/L2lwbnMvACQIARIguKHzO1CZ7bXfg3U3OUZuYkYJCKwEkHl86TNZn5YkMJA");
    }

    #[test]
    fn other_keys_content_and_domains_are_other_names() {
        let other = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N";
        assert!(key(other).is_some());
        assert!(!same(PEER_ID, other));
        assert_eq!(key("example.org"), None);
        assert_eq!(key("bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"), None);
        assert_eq!(key(&"k".repeat(MAX_LEN + 1)), None);
        assert!(!same("example.org", "example.net"));
    }
}
