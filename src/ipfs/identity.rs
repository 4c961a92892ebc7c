//! The station's key: peer id of the node and name of the station in one.

use std::fs;
use std::path::Path;

use rust_ipfs::{Keypair, PeerId};

use super::IpfsError;
use super::ipns::Name;
use crate::state::{self, Durability};

/// An Ed25519 key pair and its names.
#[derive(Clone)]
pub struct Identity {
    keypair: Keypair,
}

impl Identity {
    /// A fresh random key, in memory only.
    pub fn generate() -> Self {
        Self { keypair: Keypair::generate_ed25519() }
    }

    /// Reads the key at `path`, or makes one there (mode 0600) where there is none.
    ///
    /// # Errors
    /// [`IpfsError::Identity`] names the file. A damaged key is never replaced: the station's name hangs on it.
    pub fn load_or_create(path: &Path) -> Result<Self, IpfsError> {
        let failed = |reason: String| IpfsError::Identity { path: path.to_owned(), reason };
        match fs::read(path) {
            Ok(bytes) => {
                let keypair = Keypair::from_protobuf_encoding(&bytes);
                Ok(Self { keypair: keypair.map_err(|e| failed(format!("damaged private key ({e})")))? })
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let identity = Self::generate();
                identity.write(path).map_err(failed)?;
                Ok(identity)
            }
            Err(e) => Err(failed(e.to_string())),
        }
    }

    fn write(&self, path: &Path) -> Result<(), String> {
        let bytes = self.keypair.to_protobuf_encoding().map_err(|e| e.to_string())?;
        state::replace(path, &bytes, Durability::Power, state::PRIVATE).map_err(|e| e.to_string())
    }

    /// The key pair, for the node and for signing.
    pub fn keypair(&self) -> &Keypair {
        &self.keypair
    }

    /// Peer id of the key.
    pub fn peer_id(&self) -> PeerId {
        self.keypair.public().to_peer_id()
    }

    /// Signs `message`.
    ///
    /// # Errors
    /// [`IpfsError::Sign`].
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, IpfsError> {
        self.keypair.sign(message).map_err(|error| IpfsError::Sign(error.to_string()))
    }

    /// The public key, as protobuf `PublicKey` (libp2p specification, "Peer Ids and Keys").
    pub fn public_key(&self) -> Vec<u8> {
        self.keypair.public().encode_protobuf()
    }

    /// The IPNS name: CIDv1 with codec libp2p-key in base36, `k51...` (IPNS specification, "IPNS Keys").
    pub fn ipns_name(&self) -> String {
        self.name().to_string()
    }

    /// The IPNS name.
    pub fn name(&self) -> Name {
        Name::from(*self.peer_id().as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_name_survives_a_restart_and_the_key_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.key");
        let first = Identity::load_or_create(&path).unwrap();
        let second = Identity::load_or_create(&path).unwrap();
        assert_eq!(first.ipns_name(), second.ipns_name());
        assert!(first.ipns_name().starts_with("k51"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_key_is_an_error_that_names_the_file_and_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.key");
        fs::write(&path, b"not a key").unwrap();
        let error = Identity::load_or_create(&path).err().unwrap().to_string();
        assert!(error.contains("identity.key"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"not a key");
    }
}
