//! A kubo as a mirror sees it: the calls `dag/import`, `pin/add`, `pin/ls` and `pin/rm`, and the ways in which they fail.
//!
//! As the real one does, it checks every block, pins a root only when every block under it is there, and filters pins by
//! names that contain the one asked for.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support modules")]

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cid::Cid;
use cid::multibase::Base;
use futures::future::{BoxFuture, pending};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::json;
use skywave::http_client::{Connect, Pipe};
use skywave::ipfs::car::Reader;
use skywave::ipfs::traversal;

/// How it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Works,
    /// Connections are refused.
    Away,
    /// Connections are never made.
    ConnectHangs,
    /// Reads a little and says nothing.
    Hangs,
    /// Status 500.
    Fails,
    /// Status 403.
    Refuses,
    /// Closes in the middle of the request.
    BreaksOff,
    /// Status 200, and no JSON.
    Babbles,
    /// Imports, and cannot pin.
    FailsToPin,
    /// Imports, and does not tell of the root.
    SaysNothing,
    /// Imports and pins, and lets nobody name a pin.
    RefusesNames,
}

#[derive(Default)]
struct State {
    blocks: HashMap<Cid, Bytes>,
    /// Root and name, in the order of pinning.
    pins: Vec<(Cid, String)>,
    pinned_in_order: Vec<Cid>,
    imports: Vec<Vec<Cid>>,
}

/// The mirror.
pub struct FakeKubo {
    mode: Mutex<Mode>,
    authorization: String,
    state: Mutex<State>,
}

impl FakeKubo {
    /// An empty one that lets in whoever has `authorization`, in kubo's notation.
    pub fn new(authorization: &str) -> Arc<Self> {
        let authorization = match authorization.split_once(':').unwrap() {
            ("bearer", token) => format!("Bearer {token}"),
            (_, login) => format!("Basic {}", Base::Base64Pad.encode(login)),
        };
        Arc::new(Self { mode: Mutex::new(Mode::Works), authorization, state: Mutex::default() })
    }

    pub fn set_mode(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    fn mode(&self) -> Mode {
        *self.mode.lock().unwrap()
    }

    /// Roots pinned under exactly this name.
    pub fn pins(&self, name: &str) -> Vec<Cid> {
        let state = self.state.lock().unwrap();
        state.pins.iter().filter(|(_, known)| known == name).map(|(root, _)| *root).collect()
    }

    pub fn add_pin(&self, root: Cid, name: &str) {
        self.state.lock().unwrap().pins.push((root, name.into()));
    }

    /// Every root that was ever pinned by an import, each once.
    pub fn pinned_in_order(&self) -> Vec<Cid> {
        self.state.lock().unwrap().pinned_in_order.clone()
    }

    /// The blocks of each CAR, in order.
    pub fn imports(&self) -> Vec<Vec<Cid>> {
        self.state.lock().unwrap().imports.clone()
    }

    pub fn block(&self, cid: &Cid) -> Option<Bytes> {
        self.state.lock().unwrap().blocks.get(cid).cloned()
    }

    /// Blocks held.
    pub fn len(&self) -> usize {
        self.state.lock().unwrap().blocks.len()
    }

    /// Removes what no pin holds.
    pub fn collect_garbage(&self) {
        let mut state = self.state.lock().unwrap();
        let roots: Vec<_> = state.pins.iter().map(|(root, _)| *root).collect();
        let held: HashSet<_> =
            roots.iter().flat_map(|root| state.closure(*root).unwrap_or_default()).collect();
        state.blocks.retain(|cid, _| held.contains(cid));
    }

    /// A new disk.
    pub fn forget_everything(&self) {
        let mut state = self.state.lock().unwrap();
        state.blocks.clear();
        state.pins.clear();
    }

    /// Serves on a port of this machine.
    pub async fn listen(self: Arc<Self>) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(self.clone().serve(stream));
            }
        });
        address
    }

    pub async fn serve(self: Arc<Self>, pipe: impl Pipe + 'static) {
        let service = service_fn(move |request| {
            let kubo = self.clone();
            async move { kubo.answer(request).await }
        });
        // A connection that breaks is part of the game.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(pipe), service).await;
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, io::Error> {
        let mode = self.mode();
        let (parts, mut body) = request.into_parts();
        let admitted = parts.headers.get("authorization").is_some_and(|value| *value == *self.authorization);
        match mode {
            Mode::Refuses => return Ok(reply(403, "403 - Forbidden")),
            _ if !admitted || parts.method != "POST" => return Ok(reply(403, "403 - Forbidden")),
            Mode::Hangs => {
                let _ = body.frame().await;
                return pending().await;
            }
            Mode::BreaksOff => {
                let _ = body.frame().await;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            Mode::Fails => {
                let message = json!({"Message": "no space left on device", "Code": 0, "Type": "error"});
                return Ok(reply(500, &message.to_string()));
            }
            Mode::Babbles => return Ok(reply(200, "<html>")),
            _ => {}
        }
        let bytes = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let query: HashMap<String, String> = query(parts.uri.query().unwrap_or_default());
        let mut state = self.state.lock().unwrap();
        Ok(match parts.uri.path() {
            "/api/v0/dag/import" => {
                let boundary = parts.headers["content-type"].to_str().unwrap().rsplit('=').next().unwrap();
                assert_eq!(query["pin-roots"], "true");
                state.import(upload(&bytes, boundary), mode)
            }
            "/api/v0/pin/add" if mode == Mode::RefusesNames => reply(403, "403 - Forbidden"),
            "/api/v0/pin/add" => state.name(query["arg"].parse().unwrap(), &query["name"]),
            "/api/v0/pin/ls" => state.list(&query["name"]),
            "/api/v0/pin/rm" => state.remove(query["arg"].parse().unwrap()),
            _ => reply(404, "404 page not found"),
        })
    }
}

impl State {
    fn import(&mut self, car: &[u8], mode: Mode) -> Response<Full<Bytes>> {
        let (mut reader, mut cids) = (Reader::new(), Vec::new());
        reader.push(car);
        while let Some(block) = reader.next_block().unwrap() {
            cids.push(block.cid);
            self.blocks.insert(block.cid, block.data);
        }
        reader.finish().unwrap();
        let root = reader.roots()[0];
        self.imports.push(cids);
        let error = match (mode, self.closure(root)) {
            (Mode::SaysNothing, _) => return reply(200, ""),
            (Mode::FailsToPin, _) => "block was not found locally (offline)".to_owned(),
            (_, Err(missing)) => {
                format!("block was not found locally (offline): ipld: could not find {missing}")
            }
            (_, Ok(_)) => {
                if !self.pins.iter().any(|(pinned, _)| *pinned == root) {
                    self.pins.push((root, String::new()));
                }
                if !self.pinned_in_order.contains(&root) {
                    self.pinned_in_order.push(root);
                }
                String::new()
            }
        };
        reply(200, &json!({"Root": {"Cid": {"/": root.to_string()}, "PinErrorMsg": error}}).to_string())
    }

    /// Everything under a root, or the first block that is missing.
    fn closure(&self, root: Cid) -> Result<HashSet<Cid>, Cid> {
        let (mut seen, mut pending) = (HashSet::new(), vec![root]);
        while let Some(cid) = pending.pop() {
            let data = self.blocks.get(&cid).ok_or(cid)?;
            if seen.insert(cid) {
                pending.extend(traversal::links(cid, data).unwrap());
            }
        }
        Ok(seen)
    }

    fn name(&mut self, root: Cid, name: &str) -> Response<Full<Bytes>> {
        match self.pins.iter_mut().find(|(pinned, _)| *pinned == root) {
            Some((_, known)) => *known = name.to_owned(),
            None => return reply(500, &json!({"Message": "not pinned here"}).to_string()),
        }
        reply(200, &json!({"Pins": [root.to_string()]}).to_string())
    }

    fn list(&self, name: &str) -> Response<Full<Bytes>> {
        let found = self.pins.iter().filter(|(_, known)| known.contains(name));
        let pin =
            |(root, name): &(Cid, String)| (root.to_string(), json!({"Type": "recursive", "Name": name}));
        let keys: serde_json::Map<_, _> = found.map(pin).collect();
        match keys.is_empty() {
            true => reply(200, "{}\n"),
            false => reply(200, &json!({"Keys": keys}).to_string()),
        }
    }

    fn remove(&mut self, root: Cid) -> Response<Full<Bytes>> {
        let before = self.pins.len();
        self.pins.retain(|(pinned, _)| *pinned != root);
        match self.pins.len() == before {
            true => reply(500, &json!({"Message": "not pinned or pinned indirectly"}).to_string()),
            false => reply(200, &json!({"Pins": [root.to_string()]}).to_string()),
        }
    }
}

/// Pipes in memory to a mirror.
pub struct Pipes(pub Arc<FakeKubo>);

impl Connect for Pipes {
    fn connect<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Pipe>>> {
        assert_eq!(host, "kubo.test:5001");
        Box::pin(async move {
            match self.0.mode() {
                Mode::Away => Err(io::ErrorKind::ConnectionRefused.into()),
                Mode::ConnectHangs => pending().await,
                _ => {
                    let (ours, theirs) = tokio::io::duplex(4 * 1024);
                    tokio::spawn(self.0.clone().serve(theirs));
                    Ok(Box::new(ours) as Box<dyn Pipe>)
                }
            }
        })
    }
}

fn reply(status: u16, body: &str) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::new(Bytes::from(body.to_owned()))).unwrap()
}

fn query(text: &str) -> HashMap<String, String> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap();
        (key.to_owned(), value.replace("%2F", "/"))
    };
    text.split('&').map(pair).collect()
}

/// The one file of a multipart upload.
fn upload<'a>(body: &'a [u8], boundary: &str) -> &'a [u8] {
    let find = |text: &[u8]| body.windows(text.len()).position(|window| window == text).unwrap();
    assert!(body.starts_with(format!("--{boundary}\r\n").as_bytes()));
    &body[find(b"\r\n\r\n") + 4..find(format!("\r\n--{boundary}--\r\n").as_bytes())]
}
