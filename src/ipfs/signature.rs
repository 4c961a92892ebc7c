//! Signatures by the keys of nodes and stations (libp2p specification, "Peer Ids and Keys"). Pure.

use libp2p_identity::PublicKey;

use super::ipns::Name;

/// Multihash code of a key that stands in its name as a whole.
const IDENTITY: u64 = 0;

/// The name of a public key, given as protobuf `PublicKey`; `None` for a damaged one.
pub fn name_of(key: &[u8]) -> Option<Name> {
    let key = PublicKey::try_decode_protobuf(key).ok()?;
    Some(Name::from(*key.to_peer_id().as_ref()))
}

/// Whether `key`, given as protobuf `PublicKey`, signed `message`.
pub fn verify(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    PublicKey::try_decode_protobuf(key).is_ok_and(|key| key.verify(message, signature))
}

/// Whether the key of `name` signed `message`. `false` also for a name that holds only the hash of its key, as that of
/// an RSA key does; stations have none of these.
pub fn verify_by_name(name: &Name, message: &[u8], signature: &[u8]) -> bool {
    let hash = name.multihash();
    hash.code() == IDENTITY && verify(hash.digest(), message, signature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipfs::Identity;

    #[test]
    fn a_signature_is_that_of_one_key_on_one_message() {
        let (ours, other) = (Identity::generate(), Identity::generate());
        let signature = ours.sign(b"message").unwrap();
        assert_eq!(name_of(&ours.public_key()), Some(ours.name()));
        assert!(verify(&ours.public_key(), b"message", &signature));
        assert!(verify_by_name(&ours.name(), b"message", &signature));
        assert!(!verify(&other.public_key(), b"message", &signature));
        assert!(!verify_by_name(&other.name(), b"message", &signature));
        assert!(!verify_by_name(&ours.name(), b"another", &signature));
        assert!(!verify(b"no key", b"message", &signature));
        assert_eq!(name_of(b"no key"), None);
    }

    #[test]
    fn a_name_that_is_a_hash_of_its_key_verifies_nothing() {
        let rsa = Name::parse("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N").unwrap();
        assert!(!verify_by_name(&rsa, b"message", b"signature"));
    }
}
