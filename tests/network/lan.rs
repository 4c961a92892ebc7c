//! Neighbours on a LAN: in a network namespace with a network of its own, so that nothing leaves the machine.

use std::process::Command;

use skywave::ipfs::{Dht, IpfsConfig};

use crate::peers::Life;
use crate::swarm::{client, server, start, wait};

/// Runs the test `name` of this program in a namespace with one network card; `false` when the system allows none.
fn in_a_namespace(name: &str) -> bool {
    let program = std::env::current_exe().unwrap();
    let script = "ip link set lo up && ip link add lan type dummy && ip addr add 10.77.0.1/24 dev lan \
        && ip link set lan up multicast on || exit 77; exec \"$0\" --exact \"$1\" --ignored --nocapture";
    let run = Command::new("unshare").args(["-rn", "sh", "-c", script]).arg(program).arg(name).output();
    let Ok(run) = run else { return false };
    let said = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    if said.contains("1 passed") {
        return true;
    }
    let began = said.contains("running 1 test");
    assert!(!began, "{said}");
    false
}

/// Notes on rust-ipfs, 7: mDNS finds neighbours and nobody dials them.
#[test]
fn neighbours_are_found_and_connected() {
    if !in_a_namespace("lan::neighbours_in_the_namespace") {
        eprintln!("skipped: no network namespace here");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs in the namespace that the test above makes"]
async fn neighbours_in_the_namespace() {
    let listen = vec!["/ip4/0.0.0.0/tcp/0".to_owned()];
    let first = start(&IpfsConfig { mdns: true, listen: listen.clone(), ..server() }).await;
    let second = start(&IpfsConfig { mdns: true, listen: listen.clone(), ..client() }).await;
    let deaf = start(&IpfsConfig { listen, ..client() }).await;
    let life = Life::begin(second.network(), &client(), second.folder.path()).await;
    wait("the neighbour is connected", || second.network().connected_ids().contains(&first.id())).await;
    assert!(deaf.network().neighbours().is_empty(), "mDNS can be switched off");
    assert!(first.network().neighbours().iter().all(|(peer, _)| *peer == second.id()));
    life.end().await;
}

#[test]
fn a_node_with_every_default_starts_and_is_told_by_its_neighbours() {
    if !in_a_namespace("lan::defaults_in_the_namespace") {
        eprintln!("skipped: no network namespace here");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs in the namespace that the test above makes"]
async fn defaults_in_the_namespace() {
    let listen = vec!["/ip4/10.77.0.1/tcp/0".to_owned()];
    let plain = start(&IpfsConfig { listen: listen.clone(), ..IpfsConfig::default() }).await;
    let other = start(&IpfsConfig { listen, dht: Dht::Server, ..IpfsConfig::default() }).await;
    let config = IpfsConfig::default();
    // The public bootstrap peers cannot be reached here; nothing may wait for them.
    let life = Life::begin(plain.network(), &config, plain.folder.path()).await;
    wait("the neighbour is connected", || plain.network().connected_ids().contains(&other.id())).await;
    life.end().await;
}
