//! HTTP stage: the page, HLS, gateway, health and metrics.
//!
//! In: the newest stream tree, the blocks held, what health and metrics say. Out: answers to GET and HEAD. It keeps
//! nothing, so a crash loses only the answers on their way.
//!
//! One server bounds what strangers can cost: a fixed number of connections, a time to send a request head in, a
//! time to take the next byte of an answer in, and no content fetched on request unless the owner allows it.

mod body;
mod call;
mod connection;
mod content_type;
mod gateway;
mod health;
mod metrics;
mod player_page;
mod request_path;
mod respond;
mod router;
mod weighted;

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::network::{self, http_url};
use connection::Limits;
use gateway::Gateway;
pub use gateway::{Content, GatewayConfig, Upstream};

/// How long open answers may go on once the server is asked to stop.
pub const SHUTDOWN_LIMIT: Duration = Duration::from_secs(1);

/// Connections above the limit that are told so; further ones are closed without a word.
const MAX_REFUSALS: usize = 64;

/// Accepts that may fail in a row before the listener counts as broken.
const MAX_ACCEPT_FAILURES: u32 = 100;

/// How long accepting rests after a failure, mostly for want of file descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// The `[http]` section.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// URLs under which listeners reach this node, for the station's other nodes; made from `listen` and the machine's
    /// addresses where there are none.
    pub public: Vec<String>,
    /// Address and port to listen on. `0.0.0.0:8080` serves the whole LAN.
    pub listen: SocketAddr,
    /// Bounds open connections, and with them memory; further ones are answered 503.
    pub max_connections: NonZeroUsize,
    /// Bounds how long a connection may take to send a request head, and how long it may idle between two.
    #[serde(with = "positive_duration")]
    pub header_timeout: Duration,
    /// Bounds how long a listener may take no byte of an answer before the connection is closed.
    #[serde(with = "positive_duration")]
    pub write_timeout: Duration,
    /// Content by its CID and name.
    pub gateway: GatewayConfig,
}

impl HttpConfig {
    /// Checks what types cannot say. The error is the key's name and what is wrong with it.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        if self.public.len() > http_url::MAX_URLS {
            return Err(("http.public", format!("must be {} URLs at most", http_url::MAX_URLS)));
        }
        let wrong = self.public.iter().find_map(|url| Some((url, http_url::check(url).err()?)));
        if let Some((url, why)) = wrong {
            return Err(("http.public", format!("{url:?} {why}")));
        }
        self.gateway.validate()
    }

    /// The URLs under which listeners reach a server that listens on `address`: those of the configuration, or the
    /// machine's as they are now.
    pub fn public_urls(&self, address: SocketAddr) -> Vec<String> {
        match self.public.is_empty() {
            true => http_url::of_listener(address, &network::addresses()),
            false => self.public.clone(),
        }
    }
}

impl Default for HttpConfig {
    fn default() -> HttpConfig {
        HttpConfig {
            public: Vec::new(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            max_connections: NonZeroUsize::new(512).expect("512 is not zero"),
            header_timeout: Duration::from_secs(15),
            write_timeout: Duration::from_secs(30),
            gateway: GatewayConfig::default(),
        }
    }
}

/// Why HTTP cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is taken, not ours, or not allowed.
    #[error("cannot listen for HTTP on {address}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The listener accepts nothing any more. Binding again may help.
    #[error("cannot accept HTTP connections on {address}")]
    Accept {
        /// The address listened on.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

/// A server that has its port and answers nobody yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    config: HttpConfig,
}

/// Takes the configured address, so that a port in use is known before anything else starts.
///
/// # Errors
/// [`HttpError::Bind`] with the address.
pub async fn bind(config: &HttpConfig) -> Result<Bound, HttpError> {
    let failed = |source| HttpError::Bind { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(Bound { listener, address, config: config.clone() })
}

impl Bound {
    /// The address listened on, with the real port where the configuration says 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, then lets open answers go on for [`SHUTDOWN_LIMIT`] at most.
    ///
    /// # Errors
    /// [`HttpError::Accept`] when the listener is broken for good.
    pub async fn run(self, content: Content, stop: CancellationToken) -> Result<(), HttpError> {
        let mut server = Server {
            gateway: Arc::new(Gateway::new(content, self.config.gateway)),
            limits: Limits {
                header_timeout: self.config.header_timeout,
                write_timeout: self.config.write_timeout,
            },
            max_connections: self.config.max_connections.get(),
            stop: stop.child_token(),
            connections: JoinSet::new(),
        };
        let result = server.accept_until_stopped(&self.listener, self.address).await;
        drop(self.listener);
        server.drain().await;
        result
    }
}

struct Server {
    gateway: Arc<Gateway>,
    limits: Limits,
    max_connections: usize,
    stop: CancellationToken,
    connections: JoinSet<()>,
}

impl Server {
    async fn accept_until_stopped(
        &mut self,
        listener: &TcpListener,
        address: SocketAddr,
    ) -> Result<(), HttpError> {
        let mut failures = 0;
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                Some(ended) = self.connections.join_next() => self.ended(ended),
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        failures = 0;
                        self.begin(stream);
                    }
                    Err(source) if failures >= MAX_ACCEPT_FAILURES => {
                        return Err(HttpError::Accept { address, source });
                    }
                    Err(error) => {
                        failures += 1;
                        tracing::debug!(%error, "an HTTP connection could not be accepted");
                        tokio::time::sleep(ACCEPT_REST).await;
                    }
                },
            }
        }
    }

    fn begin(&mut self, stream: TcpStream) {
        let open = self.connections.len();
        if open >= self.max_connections {
            self.gateway.content.metrics.http_connections_refused.inc();
        }
        if open >= self.max_connections + MAX_REFUSALS {
            return;
        }
        let (gateway, stop) = (Arc::clone(&self.gateway), self.stop.clone());
        if open < self.max_connections {
            self.connections.spawn(connection::serve(stream, self.limits, gateway, stop));
        } else {
            self.connections.spawn(connection::refuse(stream, gateway, stop));
        }
        self.count();
    }

    fn ended(&self, ended: Result<(), JoinError>) {
        if let Err(error) = ended {
            tracing::error!(%error, "an HTTP connection ended in a panic");
        }
        self.count();
    }

    fn count(&self) {
        // At most max_connections + MAX_REFUSALS.
        self.gateway.content.metrics.http_connections.set(self.connections.len() as i64);
    }

    async fn drain(&mut self) {
        self.stop.cancel();
        let all = async { while self.connections.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_LIMIT, all).await.is_err() {
            tracing::debug!(open = self.connections.len(), "HTTP connections cut off at the end");
        }
        self.connections.shutdown().await;
        self.count();
    }
}

/// A duration in words, longer than nothing.
mod positive_duration {
    use std::time::Duration;

    use serde::de::{Deserializer, Error};

    pub(super) use humantime_serde::serialize;

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let duration: Duration = humantime_serde::deserialize(deserializer)?;
        if duration.is_zero() { Err(D::Error::custom("must be longer than 0s")) } else { Ok(duration) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_section_is_the_default() {
        assert_eq!(toml::from_str::<HttpConfig>("").unwrap(), HttpConfig::default());
    }

    #[test]
    fn the_section_survives_writing_and_reading() {
        let text = toml::to_string(&HttpConfig::default()).unwrap();
        assert_eq!(toml::from_str::<HttpConfig>(&text).unwrap(), HttpConfig::default());
    }

    #[test]
    fn the_documentation_shows_the_defaults() {
        #[derive(serde::Deserialize)]
        struct Section {
            http: HttpConfig,
        }
        let page = include_str!("../docs/http.md");
        let (_, after) = page.split_once("```toml\n").unwrap();
        let (section, _) = after.split_once("```").unwrap();
        assert_eq!(toml::from_str::<Section>(section).unwrap().http, HttpConfig::default());
    }

    #[test]
    fn unknown_keys_and_limits_of_nothing_are_refused() {
        for text in ["port = 80", "max_connections = 0", "header_timeout = '0s'", "write_timeout = '-1s'"] {
            assert!(toml::from_str::<HttpConfig>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn public_urls_are_checked_and_win_over_the_machines_own() {
        let config = |text: &str| toml::from_str::<HttpConfig>(text).unwrap();
        let own = config("public = ['https://radio.example.org']");
        assert_eq!(own.validate(), Ok(()));
        assert_eq!(own.public_urls(([127, 0, 0, 1], 8080).into()), ["https://radio.example.org"]);
        assert!(HttpConfig::default().public_urls(([127, 0, 0, 1], 8080).into()).is_empty());
        for bad in [
            "public = ['radio.example.org']",
            "public = ['http://a','http://b','http://c','http://d','http://e']",
        ] {
            assert_eq!(config(bad).validate().unwrap_err().0, "http.public", "{bad}");
        }
    }

    #[tokio::test]
    async fn a_port_in_use_is_an_error_that_names_the_address() {
        let any = HttpConfig { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ..HttpConfig::default() };
        let first = bind(&any).await.unwrap();
        let taken = HttpConfig { listen: first.address(), ..HttpConfig::default() };
        let error = bind(&taken).await.unwrap_err();
        assert!(error.to_string().contains(&first.address().to_string()), "{error}");
    }
}
