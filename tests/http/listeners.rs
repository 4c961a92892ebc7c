//! Who counts as a listener.

use super::client::Client;
use super::station::{PLAYLIST, Station, ipns_name};

const HIFI: &str = "/live/hifi/live.m3u8";

/// A proxy's word on whom it asks for.
async fn for_client(station: &Station, path: &str, forwarded: &str) -> u16 {
    station.get_with(path, &[("X-Forwarded-For", forwarded)]).await.status
}

#[tokio::test]
async fn whoever_is_given_a_media_playlist_listens_and_nobody_else() {
    let station = Station::on_air().await;
    let paths = ["/", "/live/stream.m3u8", "/live/hifi/466900000.m4s", "/health", "/live/lofi/live.m3u8"];
    for path in paths {
        station.get(path).await;
    }
    Client::connect(station.address).await.request("HEAD", HIFI, &[]).await;
    assert_eq!(station.health.listeners(), 0);
    assert_eq!(station.get(HIFI).await.body, PLAYLIST);
    assert_eq!(station.health.listeners(), 1);
    assert_eq!(station.get(HIFI).await.status, 200);
    assert_eq!(station.health.listeners(), 1, "the same one");
    let health: serde_json::Value = serde_json::from_str(&station.get("/health").await.text()).unwrap();
    assert_eq!(health["listeners"], 1);
}

#[tokio::test]
async fn a_listener_may_come_by_the_name_and_have_the_playlist_already() {
    let station = Station::on_air().await;
    let path = format!("/ipns/{}/hifi/live.m3u8", ipns_name());
    assert_eq!(for_client(&station, &path, "192.0.2.1").await, 200);
    let tag = station.get_with(HIFI, &[("X-Forwarded-For", "192.0.2.1")]).await.header("etag").to_owned();
    let headers = [("X-Forwarded-For", "192.0.2.2"), ("If-None-Match", &*tag)];
    assert_eq!(station.get_with(HIFI, &headers).await.status, 304);
    assert_eq!(station.health.listeners(), 2);
}

#[tokio::test]
async fn behind_a_proxy_of_this_machine_each_client_counts_by_the_address_that_the_proxy_saw() {
    let station = Station::on_air().await;
    for forwarded in ["192.0.2.1", "198.51.100.7, 192.0.2.1", "made up, 192.0.2.2", "2001:db8::1"] {
        assert_eq!(for_client(&station, HIFI, forwarded).await, 200);
    }
    assert_eq!(station.health.listeners(), 3);
    assert_eq!(for_client(&station, HIFI, "no address").await, 200);
    assert_eq!(station.health.listeners(), 4, "the proxy itself");
}
