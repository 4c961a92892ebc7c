//! Ten thousand connections that say nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use futures::StreamExt;
use skywave::ipfs::{Identity, IpfsConfig, Node};
use tempfile::TempDir;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::support::loopback::loopback;
use crate::support::station::PATIENCE;
use crate::target::Target;

const CONNECTIONS: u32 = 10_000;
/// Hosts that they come from.
const HOSTS: u32 = 200;
/// Connections that are opened at a time.
const AT_ONCE: usize = 64;

/// Runs a test in a process that may have that many files open; skips aloud where the system forbids it.
fn with_many_files(test: &str) {
    let script = "ulimit -n 12000 || exit 99; exec \"$0\" --exact \"$1\" --ignored --nocapture";
    let run =
        Command::new("sh").args(["-c", script]).arg(std::env::current_exe().unwrap()).arg(test).output();
    let run = run.unwrap();
    let told = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    if run.status.code() == Some(99) {
        eprintln!("skipped: no process here may open 12,000 files: {told}");
        return;
    }
    assert!(run.status.success() && told.contains("1 passed"), "{told}");
    told.lines().filter(|line| line.contains("grown")).for_each(|line| eprintln!("{test}: {line}"));
}

/// Ten thousand connections to a port of this machine, open at once as far as the other side lets them.
async fn connections(port: u16) -> Vec<TcpStream> {
    let connect = |n: u32| async move {
        let host = Ipv4Addr::new(127, 0, 1, u8::try_from(1 + n % HOSTS).unwrap());
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((host, 0))).unwrap();
        let connected = timeout(PATIENCE, socket.connect(([127, 0, 0, 1], port).into())).await;
        // Where the other side has closed it by now, that is an answer too.
        connected.expect("the port takes connections").ok()
    };
    let opened = futures::stream::iter(0..CONNECTIONS).map(connect).buffer_unordered(AT_ONCE);
    let opened: Vec<_> = opened.filter_map(std::future::ready).collect().await;
    assert!(opened.len() > CONNECTIONS as usize * 9 / 10, "{} were opened", opened.len());
    opened
}

/// Lets the air go on for three segments.
async fn three_segments(target: &Target, metric: impl Fn() -> f64) {
    let (before, _) = (metric(), target);
    timeout(PATIENCE, async {
        while metric() < before + 3.0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("three segments");
}

#[test]
fn ten_thousand_silent_http_connections_cost_little_and_the_listeners_stay() {
    with_many_files("silent::http_flood");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs in the process that the test above makes"]
async fn http_flood() {
    let target = Target::start();
    let watch = target.watch();
    let sockets = connections(target.station.port()).await;
    // The silent ones have lost their places by then, though they are all still held.
    target.station.wait_on_air();
    let newest = || target.metric("skywave_newest_segment");
    three_segments(&target, newest).await;
    let refused = target.metric("skywave_http_connections_refused_total");
    assert!(refused > f64::from(CONNECTIONS) * 0.8, "{refused} were refused");
    drop(sockets);
    // Twice is not twice as much.
    let sockets = connections(target.station.port()).await;
    target.station.wait_on_air();
    drop(sockets);
    // 64 kB for each of the 512 places and 64 refusals.
    watch.end().assert_unharmed(40);
}

#[test]
fn ten_thousand_silent_swarm_connections_cost_little_and_a_peer_gets_in_afterwards() {
    with_many_files("silent::swarm_flood");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs in the process that the test above makes"]
async fn swarm_flood() {
    let target = Target::start();
    let watch = target.watch();
    let sockets = connections(target.swarm_port()).await;
    let refused = "skywave_network_events_total{event=\"connections_refused\"}";
    target.wait_for_metric(refused, f64::from(CONNECTIONS) * 0.8);
    let (peer, _folder) = honest().await;
    let gets_in = async {
        while peer.network().unwrap().dial(&target.address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(PATIENCE, gets_in).await.expect("handshakes that say nothing are given up");
    three_segments(&target, || target.metric("skywave_newest_segment")).await;
    drop(sockets);
    watch.end().assert_unharmed(48);
}

/// A node that means well.
pub(crate) async fn honest() -> (Node, TempDir) {
    let config = IpfsConfig { listen: Vec::new(), ..loopback() };
    let folder = tempfile::tempdir().unwrap();
    (Node::start(&config, Identity::generate(), folder.path()).await.unwrap(), folder)
}
