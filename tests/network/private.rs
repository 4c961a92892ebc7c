//! Private networks.

use skywave::ipfs::{Identity, IpfsConfig, Node};

use crate::swarm::{Peer, client, server, start_in};

async fn with_key(config: &IpfsConfig, key: Option<u8>) -> Peer {
    let folder = tempfile::tempdir().unwrap();
    if let Some(byte) = key {
        let text = format!("/key/swarm/psk/1.0.0/\n/base16/\n{}\n", format!("{byte:02x}").repeat(32));
        std::fs::write(folder.path().join("swarm.key"), text).unwrap();
    }
    let node = start_in(config, Identity::generate(), folder.path()).await;
    Peer { node, folder }
}

/// Notes on rust-ipfs, 13: a private network is TCP alone and knows no public peer.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_the_key_gets_in_and_nobody_else() {
    let inside = with_key(&server(), Some(0x11)).await;
    let friend = with_key(&client(), Some(0x11)).await;
    let address = inside.address().await;
    assert_eq!(friend.network().dial(&address).await, Ok(inside.id()));
    for stranger in [with_key(&client(), Some(0x12)).await, with_key(&client(), None).await] {
        assert!(stranger.network().dial(&address).await.is_err());
        assert!(stranger.network().connected().is_empty());
        let own = stranger.address().await;
        assert!(inside.network().dial(&own).await.is_err());
    }
    assert_eq!(inside.network().connected_ids(), [friend.id()].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_network_begins_with_no_public_peer() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("swarm.key"), "x").unwrap();
    let public = IpfsConfig::default();
    assert_eq!(public.in_folder(tempfile::tempdir().unwrap().path()).unwrap().bootstrap_peers().len(), 4);
    let own = "/ip4/192.0.2.1/tcp/4001/p2p/12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5";
    let mut private = public.in_folder(folder.path()).unwrap();
    assert!(private.bootstrap_peers().is_empty());
    private.bootstrap.push(own.into());
    assert_eq!(private.bootstrap_peers(), [own.parse().unwrap()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_or_missing_key_stops_the_start_and_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("swarm.key");
    for content in ["", "garbage", "/key/swarm/psk/1.0.0/\n/base16/\nabcd\n"] {
        std::fs::write(&path, content).unwrap();
        for offline in [false, true] {
            let config = IpfsConfig { offline, ..client() }.in_folder(folder.path()).unwrap();
            let error =
                Node::start(&config, Identity::generate(), &folder.path().join("ipfs")).await.err().unwrap();
            assert!(error.to_string().contains("swarm.key: "), "{error}");
        }
    }
    let config = IpfsConfig { swarm_key: Some("/nowhere/other.key".into()), ..client() };
    let error = Node::start(&config, Identity::generate(), &folder.path().join("ipfs")).await.err().unwrap();
    assert!(error.to_string().contains("/nowhere/other.key: "), "{error}");
}
