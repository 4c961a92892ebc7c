//! A node that no direct way leads to, met through a relay.

use libp2p::futures::StreamExt;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{SwarmBuilder, identify, noise, relay, tcp, yamux};
use rust_ipfs::{Multiaddr, PeerId};
use skywave::ipfs::IpfsConfig;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::swarm::{LIMIT, client, start, wait};

/// What a relay is made of (libp2p circuit relay v2).
#[derive(NetworkBehaviour)]
struct Parts {
    relay: relay::Behaviour,
    identify: identify::Behaviour,
}

/// A relay on loopback: its address, and who reserved a place with it.
async fn relay() -> (Multiaddr, mpsc::Receiver<PeerId>) {
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|key| Parts {
            relay: relay::Behaviour::new(key.public().to_peer_id(), relay::Config::default()),
            identify: identify::Behaviour::new(identify::Config::new("/test/1".into(), key.public())),
        })
        .unwrap()
        .build();
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    // It gives no place where nobody could come to.
    swarm.add_external_address(address.clone());
    let whole = address.with(Protocol::P2p(*swarm.local_peer_id()));
    let (tell, reserved) = mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            let event = swarm.select_next_some().await;
            if let SwarmEvent::Behaviour(PartsEvent::Relay(relay::Event::ReservationReqAccepted {
                src_peer_id,
                ..
            })) = event
            {
                tell.send(src_peer_id).await.unwrap();
            }
        }
    });
    (whole, reserved)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_reserves_a_place_with_a_relay_and_is_reached_through_it() {
    let (relay, mut reserved) = relay().await;
    let config = IpfsConfig { hole_punching: true, ..client() };
    let (there, other) = (start(&config).await, start(&config).await);
    there.network().dial(&relay).await.unwrap();
    let who = timeout(LIMIT, reserved.recv()).await.expect("a place is reserved").unwrap();
    assert_eq!(who, there.id());

    let through = relay.with(Protocol::P2pCircuit).with(Protocol::P2p(there.id()));
    assert_eq!(other.network().dial(&through).await.unwrap(), there.id());
    wait("who was dialled knows of it", || there.network().connected_ids().contains(&other.id())).await;
    // Its addresses are its own.
    assert!(there.node.addresses().iter().all(|address| !address.contains("p2p-circuit")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_stopped_is_nowhere() {
    let node = start(&client()).await;
    node.address().await;
    node.node.stop().await;
    assert_eq!(node.node.addresses(), Vec::<String>::new());
}
