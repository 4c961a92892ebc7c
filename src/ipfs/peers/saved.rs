//! Good peers of the run before: one small file, so that a board finds the network again without anybody's help.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rust_ipfs::{Multiaddr, PeerId};
use serde::{Deserialize, Serialize};
use skywave_swarm::KnownPeer;

use crate::state::{Durability, StateError, StateFile};

/// Peers that are kept; those who answered last stay.
pub const MAX_SAVED: usize = 200;

#[derive(Serialize, Deserialize)]
struct Line {
    peer: String,
    address: String,
    /// Unix time in seconds.
    answered: u64,
}

/// The file and what it holds.
pub struct Saved {
    file: StateFile,
    peers: BTreeMap<PeerId, KnownPeer>,
    written: BTreeMap<PeerId, KnownPeer>,
}

impl Saved {
    /// Reads the file: `peers.json`, or `private-peers.json` for a private network, whose peers are others.
    ///
    /// # Errors
    /// [`StateError`] when it is there and cannot be read. A line that means nothing is left out.
    pub fn load(data: &Path, private: bool) -> Result<Self, StateError> {
        let name = if private { "private-peers.json" } else { "peers.json" };
        let file = StateFile::new(data.join(name), Durability::Process);
        let lines: Vec<Line> = file.load()?.unwrap_or_default();
        let known = lines.into_iter().take(MAX_SAVED).filter_map(|line| {
            let (peer, address) = (line.peer.parse().ok()?, line.address.parse().ok()?);
            let answered = UNIX_EPOCH.checked_add(Duration::from_secs(line.answered))?;
            Some((peer, KnownPeer { peer, address, answered }))
        });
        let peers: BTreeMap<_, _> = known.collect();
        Ok(Self { file, written: peers.clone(), peers })
    }

    /// Who was reached before, and where.
    pub fn peers(&self) -> impl Iterator<Item = (PeerId, Multiaddr)> + '_ {
        self.peers.values().map(|known| (known.peer, known.address.clone()))
    }

    /// Takes in who was reached, and writes the file if that changed who is kept or where they are.
    ///
    /// # Errors
    /// [`StateError`]; the old file still stands.
    pub fn save(&mut self, reached: Vec<KnownPeer>) -> Result<(), StateError> {
        self.peers.extend(reached.into_iter().map(|known| (known.peer, known)));
        while self.peers.len() > MAX_SAVED {
            let oldest = self.peers.values().min_by_key(|known| known.answered).map(|known| known.peer);
            oldest.and_then(|peer| self.peers.remove(&peer));
        }
        let places = |of: &BTreeMap<PeerId, KnownPeer>| -> Vec<_> {
            of.values().map(|known| (known.peer, known.address.clone())).collect()
        };
        if places(&self.peers) == places(&self.written) {
            return Ok(());
        }
        let seconds = |at: SystemTime| at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let line = |known: &KnownPeer| Line {
            peer: known.peer.to_string(),
            address: known.address.to_string(),
            answered: seconds(known.answered),
        };
        self.file.save(&self.peers.values().map(line).collect::<Vec<_>>())?;
        self.written = self.peers.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(seconds: u64) -> KnownPeer {
        let address = format!("/ip4/192.0.2.1/tcp/{}", seconds % 60_000 + 1).parse().unwrap();
        KnownPeer { peer: PeerId::random(), address, answered: UNIX_EPOCH + Duration::from_secs(seconds) }
    }

    #[test]
    fn the_last_two_hundred_outlive_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let all: Vec<_> = (0..300).map(known).collect();
        let mut saved = Saved::load(folder.path(), false).unwrap();
        saved.save(all[..150].to_vec()).unwrap();
        saved.save(all[150..].to_vec()).unwrap();
        let read: BTreeMap<_, _> = Saved::load(folder.path(), false).unwrap().peers().collect();
        assert_eq!(read, all[100..].iter().map(|known| (known.peer, known.address.clone())).collect());
        assert_eq!(Saved::load(folder.path(), true).unwrap().peers().count(), 0, "a private network's own");
    }

    #[test]
    fn nothing_new_writes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut saved = Saved::load(folder.path(), false).unwrap();
        let peer = known(7);
        saved.save(vec![peer.clone()]).unwrap();
        std::fs::remove_file(folder.path().join("peers.json")).unwrap();
        saved.save(vec![KnownPeer { answered: SystemTime::now(), ..peer }]).unwrap();
        assert!(!folder.path().join("peers.json").exists());
    }

    #[test]
    fn a_damaged_file_costs_the_list_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("peers.json"), b"[{\"peer\": 1").unwrap();
        assert_eq!(Saved::load(folder.path(), false).unwrap().peers().count(), 0);
        let line = "[{\"peer\":\"x\",\"address\":\"y\",\"answered\":18446744073709551615}]";
        std::fs::write(folder.path().join("peers.json"), line).unwrap();
        assert_eq!(Saved::load(folder.path(), false).unwrap().peers().count(), 0);
    }
}
