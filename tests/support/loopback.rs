//! A node that keeps to this machine.

use skywave::ipfs::{Dht, IpfsConfig};

/// A node on a free port of loopback that looks for nobody.
pub(crate) fn loopback() -> IpfsConfig {
    IpfsConfig {
        listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
        dht: Dht::Off,
        bootstrap: Vec::new(),
        mdns: false,
        hole_punching: false,
        upnp: false,
        ..IpfsConfig::default()
    }
}
