//! A line that goes dead: nothing comes any more, and nobody is told.

use bytes::Bytes;
use rust_ipfs::Multiaddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::swarm::{Peer, client, everything, start, until, wait};

const TOPIC: &str = "/skywave/state/1/test";
/// `test` is base64url.
const RECORDS: &str = "/record/test";
const KEY: &[u8] = &[0xb5, 0xeb, 0x2d];

/// A line to a node that can be cut: what travels on it then is lost, and neither end hears of it.
struct Line {
    address: Multiaddr,
    connected: watch::Sender<bool>,
}

impl Line {
    async fn to(peer: &Peer) -> Self {
        let there = peer.address().await.to_string();
        let (there, id) = there.rsplit_once("/p2p/").unwrap();
        let port: u16 = there.rsplit_once('/').unwrap().1.parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap().port();
        let (connected, line) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
                tokio::spawn(carry(from_near, to_far, line.clone()));
                tokio::spawn(carry(from_far, to_near, line.clone()));
            }
        });
        let address = format!("/ip4/127.0.0.1/tcp/{here}/p2p/{id}").parse().unwrap();
        Self { address, connected }
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, line: watch::Receiver<bool>) {
    let mut bytes = vec![0; 4096];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        let connected = *line.borrow();
        if !connected || to.write_all(&bytes[..length]).await.is_err() {
            break;
        }
    }
    // An end that closes a dead line tells the other end nothing.
    std::future::pending::<()>().await;
}

fn connected(one: &Peer, other: &Peer) -> bool {
    one.network().connected_ids().contains(&other.id())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_whose_line_is_dead_is_let_go_by_both_ends_and_one_that_has_nothing_to_say_stays() {
    let (station, cut, quiet) = (start(&client()).await, start(&client()).await, start(&client()).await);
    let mut topics = Vec::new();
    for peer in [&station, &cut, &quiet] {
        topics.push(peer.network().subscribe(TOPIC, everything()).await.unwrap());
    }
    let line = Line::to(&cut).await;
    station.network().dial(&line.address).await.unwrap();
    quiet.network().dial(&station.address().await).await.unwrap();
    // Each end must know of the other, or the cut comes before there is anything to let go of.
    let followers = async |peer: &Peer| {
        peer.network().publish(TOPIC, Bytes::from_static(b"here")).await.unwrap_or_default()
    };
    until("the station has two followers", || async { (followers(&station).await == 2).then_some(()) }).await;
    until("the cut one has one", || async { (followers(&cut).await >= 1).then_some(()) }).await;
    line.connected.send_replace(false);
    wait("both ends let go", || !connected(&station, &cut) && !connected(&cut, &station)).await;
    assert!(connected(&station, &quiet) && connected(&quiet, &station));
    // It was asked meanwhile, and said that it has nothing: that is enough.
    let asked = || station.network().counts().fetches + quiet.network().counts().fetches;
    wait("one of them is asked", || asked() > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_dies_as_soon_as_it_is_there_is_let_go_by_both_ends() {
    let (station, cut) = (start(&client()).await, start(&client()).await);
    let line = Line::to(&cut).await;
    station.network().dial(&line.address).await.unwrap();
    wait("both ends are there", || connected(&cut, &station)).await;
    // Before either knows what the other follows, or even who it is.
    line.connected.send_replace(false);
    wait("both ends let go", || !connected(&station, &cut) && !connected(&cut, &station)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_the_topic_of_a_record_gives_it_though_nobody_gossips_it_again() {
    let (station, relay) = (start(&client()).await, start(&client()).await);
    let _at_station = station.network().subscribe(RECORDS, everything()).await.unwrap();
    let value = Bytes::from_static(b"the newest record");
    station.network().set_fetched(KEY.to_vec(), Some(value.clone())).await.unwrap();
    let mut at_relay = relay.network().subscribe(RECORDS, everything()).await.unwrap();
    relay.network().dial(&station.address().await).await.unwrap();
    let got = tokio::time::timeout(crate::swarm::LIMIT, at_relay.recv()).await.unwrap();
    assert_eq!(got, Some((station.id(), value)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dial_that_nobody_answers_ends_in_time_and_the_next_one_reaches_who_is_there_by_then() {
    let (station, relay) = (start(&client()).await, start(&client()).await);
    // It takes the connection and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nowhere: Multiaddr =
        format!("/ip4/127.0.0.1/tcp/{}", silent.local_addr().unwrap().port()).parse().unwrap();
    let began = std::time::Instant::now();
    let brief = std::time::Duration::from_millis(300);
    let dialled = relay.network().dial_within(station.id(), &[nowhere], brief).await;
    assert!(dialled.is_err() && began.elapsed() < 10 * brief, "{dialled:?} after {:?}", began.elapsed());
    let there = [station.address().await];
    // The attempt that was given up may still be ending.
    until("it is reached", || async { relay.network().dial_any(Some(station.id()), &there).await.ok() })
        .await;
}
