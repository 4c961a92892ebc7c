//! A pinning service: `/pins` of the IPFS Pinning Services API 1.0.0, and the ways in which it fails.
//!
//! Pending pins are pinned when they are looked at twice. Requests are answered over pipes in memory, or over whatever
//! pipe a test brings.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support modules")]

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cid::Cid;
use futures::future::{BoxFuture, pending};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use skywave::http_client::{Connect, Pipe};
use tokio::time::Instant;

/// How it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Works,
    /// Connections are refused.
    Away,
    /// Reads and says nothing.
    Hangs,
    /// Status 500, and words.
    Fails,
    /// Status 500 to whatever would change something, and well otherwise.
    FailsToWrite,
    /// Status 500 to deletions alone.
    KeepsAll,
    /// Status 401.
    Refuses,
    /// Status 409, and words.
    WantsMoney,
    /// Status 429, and how long to wait, in seconds.
    Busy(u64),
    /// Does what it is asked and closes the connection.
    LosesAnswers,
    /// Status 200, and no JSON.
    Babbles,
    /// An answer about another CID.
    MixesUp,
    /// A status that the API does not have.
    Invents,
    /// A redirect.
    Moves,
    /// Takes pins and never fetches them.
    NeverPins,
    /// Takes pins and gives up on them.
    FailsPins,
}

/// What is peculiar about it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    /// The request's id is the CID, as in a cluster; a replaced pin gives its origins to the next, which fails.
    pub cluster: bool,
    /// Names match as a whole only, whatever `match` says.
    pub exact_only: bool,
    /// Pins of a page, where it is less than asked for.
    pub page: Option<usize>,
}

#[derive(Debug, Clone)]
struct Held {
    requestid: String,
    status: &'static str,
    created: usize,
    cid: String,
    name: String,
    origins: Value,
    looks: u32,
}

#[derive(Default)]
struct State {
    pins: Vec<Held>,
    created: usize,
    requests: Vec<(Instant, String)>,
    /// Names of all pins that were ever made.
    made: Vec<String>,
}

/// The service.
pub struct FakeService {
    mode: Mutex<Mode>,
    manner: Manner,
    token: String,
    state: Mutex<State>,
}

impl FakeService {
    /// An empty one that lets in whoever has the token.
    pub fn new(token: &str, manner: Manner) -> Arc<Self> {
        Arc::new(Self { mode: Mutex::new(Mode::Works), manner, token: token.into(), state: Mutex::default() })
    }

    pub fn set_mode(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    fn mode(&self) -> Mode {
        *self.mode.lock().unwrap()
    }

    /// CID and status of every pin of this name.
    pub fn pins(&self, name: &str) -> Vec<(Cid, String)> {
        let state = self.state.lock().unwrap();
        let named = state.pins.iter().filter(|pin| pin.name == name);
        named.map(|pin| (pin.cid.parse().unwrap(), pin.status.to_owned())).collect()
    }

    /// Origins of the first pin of this name.
    pub fn origins(&self, name: &str) -> Value {
        let state = self.state.lock().unwrap();
        state.pins.iter().find(|pin| pin.name == name).map_or(Value::Null, |pin| pin.origins.clone())
    }

    /// How many pins of this name were ever made.
    pub fn made(&self, name: &str) -> usize {
        self.state.lock().unwrap().made.iter().filter(|made| *made == name).count()
    }

    /// Names of all pins, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.state.lock().unwrap().pins.iter().map(|pin| pin.name.clone()).collect();
        names.sort();
        names
    }

    pub fn add_pin(&self, cid: Cid, name: &str) {
        let mut state = self.state.lock().unwrap();
        state.add(self.manner, &cid.to_string(), name, json!([]));
        state.pins.last_mut().unwrap().status = "pinned";
    }

    /// Loses every pin.
    pub fn forget_everything(&self) {
        self.state.lock().unwrap().pins.clear();
    }

    /// Every request so far: when, and its method and target.
    pub fn requests(&self) -> Vec<(Instant, String)> {
        self.state.lock().unwrap().requests.clone()
    }

    /// Answers one connection.
    pub async fn serve(self: Arc<Self>, pipe: impl Pipe + 'static) {
        let service = service_fn(move |request| {
            let service = self.clone();
            async move { service.answer(request).await }
        });
        // A connection that breaks is part of the game.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(pipe), service).await;
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, io::Error> {
        let mode = self.mode();
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let line = format!("{} {}", parts.method, parts.uri);
        self.state.lock().unwrap().requests.push((Instant::now(), line));
        let admitted = parts
            .headers
            .get("authorization")
            .is_some_and(|value| *value == *format!("Bearer {}", self.token));
        match mode {
            Mode::Refuses => return Ok(failure(401, "UNAUTHORIZED", "Access token is missing or invalid")),
            _ if !admitted => return Ok(failure(401, "UNAUTHORIZED", "Access token is missing or invalid")),
            Mode::Hangs => return pending().await,
            Mode::Fails => return Ok(failure(500, "INTERNAL_SERVER_ERROR", "the disk is full")),
            Mode::WantsMoney => return Ok(failure(409, "INSUFFICIENT_FUNDS", "the account is empty")),
            Mode::Babbles => return Ok(reply(200, "<html>")),
            Mode::Moves => return Ok(reply(301, "")),
            Mode::Busy(seconds) => {
                let mut answer = failure(429, "TOO_MANY_REQUESTS", "");
                answer.headers_mut().insert("retry-after", seconds.into());
                return Ok(answer);
            }
            _ => {}
        }
        let writes = mode == Mode::FailsToWrite && parts.method != Method::GET;
        if writes || (mode == Mode::KeepsAll && parts.method == Method::DELETE) {
            return Ok(failure(500, "INTERNAL_SERVER_ERROR", "read-only"));
        }
        let path = parts.uri.path().strip_prefix("/psa/pins").map(|path| path.trim_start_matches('/'));
        let query = query(parts.uri.query().unwrap_or_default());
        let answer = self.perform(mode, &parts.method, path, &query, &body);
        if mode == Mode::LosesAnswers && parts.method != Method::GET {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(answer)
    }

    fn perform(
        &self,
        mode: Mode,
        method: &Method,
        path: Option<&str>,
        query: &HashMap<String, String>,
        body: &[u8],
    ) -> Response<Full<Bytes>> {
        let mut state = self.state.lock().unwrap();
        match (method, path) {
            (&Method::GET, Some("")) => state.list(self.manner, query),
            (&Method::POST, Some(id)) => {
                let pin: Value = serde_json::from_slice(body).unwrap();
                let mut origins = pin["origins"].clone();
                if !id.is_empty() {
                    let Some(old) = state.remove(id) else { return failure(404, "NOT_FOUND", "") };
                    if self.manner.cluster {
                        origins = old.origins;
                    }
                }
                let (cid, name) = (pin["cid"].as_str().unwrap(), pin["name"].as_str().unwrap());
                assert!(origins.as_array().unwrap().len() <= 20 && name.len() <= 255);
                let held = state.add(self.manner, cid, name, origins);
                if self.manner.cluster && !id.is_empty() {
                    state.pins.last_mut().unwrap().status = "failed";
                }
                let mut status = held.json();
                match mode {
                    Mode::MixesUp => status["pin"]["cid"] = json!(Cid::default().to_string()),
                    Mode::Invents => status["status"] = json!("thinking"),
                    _ => {}
                }
                reply(202, &status.to_string())
            }
            (&Method::GET, Some(id)) => match state.pins.iter_mut().find(|pin| pin.requestid == id) {
                Some(pin) => {
                    pin.look(mode);
                    reply(200, &pin.json().to_string())
                }
                None => failure(404, "NOT_FOUND", "The specified resource was not found"),
            },
            (&Method::DELETE, Some(id)) => match state.remove(id) {
                Some(_) => reply(202, ""),
                None => failure(404, "NOT_FOUND", ""),
            },
            _ => failure(404, "NOT_FOUND", ""),
        }
    }
}

impl State {
    fn add(&mut self, manner: Manner, cid: &str, name: &str, origins: Value) -> Held {
        self.created += 1;
        self.made.push(name.to_owned());
        let requestid = if manner.cluster { cid.to_owned() } else { format!("request-{}", self.created) };
        self.pins.retain(|pin| pin.requestid != requestid);
        let (status, created, looks) = ("queued", self.created, 0);
        let (cid, name) = (cid.to_owned(), name.to_owned());
        let held = Held { requestid, status, created, cid, name, origins, looks };
        self.pins.push(held.clone());
        held
    }

    fn remove(&mut self, requestid: &str) -> Option<Held> {
        let index = self.pins.iter().position(|pin| pin.requestid == requestid)?;
        Some(self.pins.remove(index))
    }

    /// Latest first, as the API says.
    fn list(&self, manner: Manner, query: &HashMap<String, String>) -> Response<Full<Bytes>> {
        let (name, partial) = (&query["name"], query["match"] == "partial" && !manner.exact_only);
        let before = query.get("before").map_or(usize::MAX, |time| moment(time));
        let statuses: Vec<_> = query["status"].split(',').collect();
        let named = |pin: &&Held| if partial { pin.name.contains(name.as_str()) } else { pin.name == *name };
        let matches = |pin: &&Held| named(pin) && pin.created < before && statuses.contains(&pin.status);
        let found: Vec<_> = self.pins.iter().rev().filter(matches).map(Held::json).collect();
        let limit = query["limit"].parse().unwrap();
        let limit = manner.page.map_or(limit, |page| page.min(limit));
        let results = &found[..found.len().min(limit)];
        reply(200, &json!({ "count": found.len(), "results": results }).to_string())
    }
}

impl Held {
    fn look(&mut self, mode: Mode) {
        self.looks += 1;
        self.status = match (mode, self.status) {
            (_, "pinned" | "failed") => self.status,
            (Mode::NeverPins, _) => "pinning",
            (Mode::FailsPins, _) => "failed",
            _ if self.looks >= 2 => "pinned",
            _ => "pinning",
        };
    }

    fn json(&self) -> Value {
        json!({
            "requestid": self.requestid, "status": self.status,
            "created": format!("2026-10-27T17:32:28.{:09}Z", self.created),
            "pin": { "cid": self.cid, "name": self.name, "origins": self.origins, "meta": { "app": "skywave" } },
            "delegates": ["/ip4/203.0.113.7/tcp/4001/p2p/12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5"],
            "info": { "status_details": "looked for it everywhere" },
        })
    }
}

fn moment(created: &str) -> usize {
    created.trim_end_matches('Z').rsplit('.').next().unwrap().parse().unwrap()
}

/// Pipes in memory to a service.
pub struct Pipes(pub Arc<FakeService>);

impl Connect for Pipes {
    fn connect<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Pipe>>> {
        Box::pin(async move {
            if self.0.mode() == Mode::Away {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (ours, theirs) = tokio::io::duplex(4 * 1024);
            tokio::spawn(self.0.clone().serve(theirs));
            Ok(Box::new(ours) as Box<dyn Pipe>)
        })
    }
}

fn reply(status: u16, body: &str) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::new(Bytes::from(body.to_owned()))).unwrap()
}

fn failure(status: u16, reason: &str, details: &str) -> Response<Full<Bytes>> {
    reply(status, &json!({ "error": { "reason": reason, "details": details } }).to_string())
}

fn query(text: &str) -> HashMap<String, String> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap();
        (key.to_owned(), value.replace("%2F", "/").replace("%3A", ":"))
    };
    text.split('&').filter(|text| !text.is_empty()).map(pair).collect()
}
