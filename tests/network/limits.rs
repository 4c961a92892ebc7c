//! What strangers can cost.

use std::net::TcpStream;

use rust_ipfs::Multiaddr;
use skywave::ipfs::{IpfsConfig, NetworkError};

use crate::swarm::{client, server, start, until, wait};

/// Host and port of `/ip4/<host>/tcp/<port>/p2p/<peer>`.
fn socket(address: &Multiaddr) -> (String, u16) {
    let text = address.to_string();
    let parts: Vec<_> = text.split('/').collect();
    (parts[2].to_owned(), parts[4].parse().unwrap())
}

/// Notes on rust-ipfs, 15: no limits by default.
#[tokio::test(flavor = "multi_thread")]
async fn connections_are_bounded_and_room_is_left_for_those_that_the_node_opens() {
    let node = start(&IpfsConfig { max_connections: 8, ..server() }).await;
    let address = node.address().await;
    let mut strangers = Vec::new();
    for _ in 0..10 {
        let stranger = start(&client()).await;
        _ = stranger.network().dial(&address).await;
        strangers.push(stranger);
    }
    wait("the surplus is refused", || node.network().counts().connections_refused >= 4).await;
    assert_eq!(node.network().connected().len(), 6, "three quarters of eight");
    let own = start(&client()).await;
    assert_eq!(node.network().dial(&own.address().await).await, Ok(own.id()));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_are_bounded_and_leave_no_trace() {
    let node = start(&server()).await;
    let address = node.address().await;
    let silent: Vec<_> = (0..200).map(|_| TcpStream::connect(socket(&address)).unwrap()).collect();
    wait("most are refused", || node.network().counts().connections_refused >= 184).await;
    drop(silent);
    let honest = start(&client()).await;
    until("an honest peer gets in", || async {
        _ = honest.network().dial(&address).await;
        (node.network().connected_ids() == [honest.id()].into()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_memory_limit_no_connection_is_opened() {
    // Any program has more than this.
    let node = start(&IpfsConfig { memory_megabytes: 1, ..server() }).await;
    let stranger = start(&client()).await;
    assert!(stranger.network().dial(&node.address().await).await.is_err());
    let refused = node.network().dial(&stranger.address().await).await;
    assert!(matches!(refused, Err(NetworkError::Unreachable(_))), "{refused:?}");
}

/// Notes on rust-ipfs, 12: names are asked of a public server; and connexa resolves none for TCP at all.
#[tokio::test(flavor = "multi_thread")]
async fn names_are_asked_of_the_system() {
    let node = start(&server()).await;
    let other = start(&client()).await;
    let text = node.address().await.to_string();
    let by_name: Multiaddr = text.replace("/ip4/127.0.0.1/", "/dns4/localhost/").parse().unwrap();
    assert_eq!(other.network().dial(&by_name).await, Ok(node.id()));
    let nobody: Multiaddr = text.replace("/ip4/127.0.0.1/", "/dns4/nobody.invalid/").parse().unwrap();
    let third = start(&client()).await;
    assert!(third.network().dial(&nobody).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_stop_every_call_says_so_at_once() {
    let node = start(&server()).await;
    let network = node.network().clone();
    node.node.stop().await;
    until("it has stopped", || async {
        (network.publish("x", "y".into()).await == Err(NetworkError::Closed)).then_some(())
    })
    .await;
}
