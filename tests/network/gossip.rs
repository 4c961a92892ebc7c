//! Pubsub and fetch.

use std::time::Duration;

use bytes::Bytes;
use skywave::ipfs::NetworkError;

use crate::swarm::{client, everything, good_only, line, server, start, until, wait};

const TOPIC: &str = "/record/test";

#[tokio::test(flavor = "multi_thread")]
async fn a_message_reaches_all_who_follow_and_an_invalid_one_goes_no_further() {
    let peers = line(&[client(), server(), client()]).await;
    let (author, middle, end) = (&peers[0], &peers[1], &peers[2]);
    let mut at_middle = middle.network().subscribe(TOPIC, good_only()).await.unwrap();
    // The end would take anything: what does not get there was stopped on the way.
    let mut at_end = end.network().subscribe(TOPIC, everything()).await.unwrap();
    let publish = |text: &'static str| author.network().publish(TOPIC, Bytes::from_static(text.as_bytes()));
    until("the author sees a follower", || async {
        (publish("good morning").await.unwrap() > 0).then_some(())
    })
    .await;
    assert_eq!(at_middle.recv().await.unwrap(), (author.id(), Bytes::from_static(b"good morning")));
    // The mesh between the middle and the end may need a heartbeat.
    until("it arrives at the end", async || {
        publish("good day").await.unwrap();
        tokio::time::timeout(Duration::from_millis(300), at_end.recv()).await.ok()
    })
    .await;
    publish("bad").await.unwrap();
    wait("the middle refuses it", || middle.network().counts().messages_refused == 1).await;
    publish("good night").await.unwrap();
    loop {
        let (from, message) =
            tokio::time::timeout(Duration::from_secs(30), at_end.recv()).await.unwrap().unwrap();
        assert_eq!(from, middle.id());
        assert!(message.starts_with(b"good"), "{message:?} was passed on");
        if message == "good night" {
            break;
        }
    }
    assert_eq!(end.network().counts().messages_refused, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_dials_at_once_make_one_connection_and_both_are_answered() {
    let (one, other) = (start(&client()).await, start(&client()).await);
    let there = other.address().await;
    let dial = || one.network().dial(&there);
    let (first, second, third) = tokio::join!(dial(), dial(), dial());
    assert_eq!([first, second, third], [Ok(other.id()), Ok(other.id()), Ok(other.id())]);
    let connections = one.network().connected().iter().map(|peer| peer.connections).collect::<Vec<_>>();
    assert_eq!(connections, [1]);
}

/// Notes on rust-ipfs, 9: publishing to nobody is an error, 50 slow messages are lost in silence, and only one listener
/// hears a topic.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_no_error_two_may_listen_and_the_oldest_that_wait_are_dropped_and_counted() {
    let peers = line(&[client(), server()]).await;
    let (author, listener) = (&peers[0], &peers[1]);
    assert_eq!(author.network().publish(TOPIC, Bytes::from_static(b"good")).await, Ok(0));
    let mut slow = listener.network().subscribe(TOPIC, everything()).await.unwrap();
    let mut prompt = listener.network().subscribe(TOPIC, everything()).await.unwrap();
    until("a follower", || async {
        (author.network().publish(TOPIC, Bytes::from_static(b"first")).await.unwrap() == 1).then_some(())
    })
    .await;
    for n in 0..200_u32 {
        author.network().publish(TOPIC, Bytes::from(n.to_string())).await.unwrap();
        while prompt.recv().await.unwrap().1 != n.to_string() {}
    }
    // One is in the channel, 64 behind it.
    assert_eq!(slow.recv().await.unwrap().1, "first");
    let next: u32 = String::from_utf8(slow.recv().await.unwrap().1.to_vec()).unwrap().parse().unwrap();
    assert!((135..=137).contains(&next), "{next}");
    assert!(listener.network().counts().messages_dropped >= 135);
    drop((slow, prompt));
    until("the topic is left", || async {
        (author.network().publish(TOPIC, Bytes::from_static(b"x")).await.unwrap() == 0).then_some(())
    })
    .await;
    let large = Bytes::from(vec![0; 10 * 1024 + 1]);
    assert_eq!(author.network().publish(TOPIC, large).await, Err(NetworkError::TooLarge(10 * 1024 + 1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_gives_the_newest_value_of_a_key_to_whoever_fetches_it() {
    let peers = line(&[client(), server()]).await;
    let (giver, asker) = (&peers[1], &peers[0]);
    let key = b"/ipns/\x00\xff binary".to_vec();
    assert_eq!(asker.network().fetch(giver.id(), key.clone()).await, Ok(None));
    let value = Bytes::from(vec![7; 10 * 1024]);
    giver.network().set_fetched(key.clone(), Some(value.clone())).await.unwrap();
    assert_eq!(asker.network().fetch(giver.id(), key.clone()).await, Ok(Some(value.clone())));
    wait("identify", || asker.network().connected().iter().any(|peer| !peer.protocols.is_empty())).await;
    let mut all = asker.network().fetch_all(key.clone()).await.unwrap();
    assert_eq!(all.recv().await, Some(value));
    assert_eq!(all.recv().await, None);
    giver.network().set_fetched(key.clone(), None).await.unwrap();
    assert_eq!(asker.network().fetch(giver.id(), key.clone()).await, Ok(None));
    let nobody = rust_ipfs::PeerId::random();
    assert!(matches!(asker.network().fetch(nobody, key).await, Err(NetworkError::Unreachable(_))));
}
