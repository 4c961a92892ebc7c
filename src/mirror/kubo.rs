//! The part of kubo's RPC that a mirror needs (<https://docs.ipfs.tech/reference/kubo/rpc/>).

use bytes::Bytes;
use cid::Cid;
use futures::StreamExt;
use futures::stream::{self, Stream};
use serde_json::Value;

use super::MirrorError;
use crate::http_client::{Answer, Body, Client, Method, Request, empty, escaped, streamed};

/// A kubo, one connection a call.
#[derive(Clone)]
pub struct Kubo {
    client: Client,
}

impl Kubo {
    /// The kubo that `client` reaches.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Imports a CAR and pins `root`, which kubo does only when it has every block under it. It never asks the network
    /// for one that is missing.
    ///
    /// # Errors
    /// [`MirrorError::Incomplete`] when blocks are missing; any error of a call.
    pub async fn import<S>(&self, root: Cid, car: S) -> Result<(), MirrorError>
    where
        S: Stream<Item = Result<Bytes, MirrorError>> + Send + 'static,
    {
        const OPERATION: &str = "dag/import";
        let (content_type, body) = multipart(car);
        let answer = self.call(OPERATION, "?pin-roots=true&stats=false", Some(content_type), body).await?;
        for line in lines(OPERATION, &answer)? {
            let line = &line["Root"];
            if line["Cid"]["/"].as_str().and_then(|cid| cid.parse().ok()) == Some(root) {
                return match line["PinErrorMsg"].as_str().unwrap_or_default() {
                    "" => Ok(()),
                    message => Err(MirrorError::Incomplete { root, message: shortened(message) }),
                };
            }
        }
        Err(MirrorError::Answer {
            operation: OPERATION,
            reason: "it does not say whether the root is pinned".into(),
        })
    }

    /// Gives the pin of `root` a name.
    ///
    /// # Errors
    /// Any error of a call.
    pub async fn name_pin(&self, root: Cid, name: &str) -> Result<(), MirrorError> {
        let query = format!("?arg={root}&name={}", escaped(name));
        self.call("pin/add", &query, None, empty()).await.map(drop)
    }

    /// The roots that are pinned under a name.
    ///
    /// # Errors
    /// Any error of a call.
    pub async fn pinned(&self, name: &str) -> Result<Vec<Cid>, MirrorError> {
        const OPERATION: &str = "pin/ls";
        let query = format!("?type=recursive&names=true&name={}", escaped(name));
        let answer = self.call(OPERATION, &query, None, empty()).await?;
        let mut roots = Vec::new();
        for line in lines(OPERATION, &answer)? {
            // The filter is for names that contain the one asked for.
            let pins = line["Keys"].as_object().into_iter().flatten();
            let ours = pins.filter(|(_, pin)| pin["Name"] == name);
            roots.extend(ours.filter_map(|(cid, _)| cid.parse::<Cid>().ok()));
        }
        Ok(roots)
    }

    /// Removes the pin of `root`, if there is one.
    ///
    /// # Errors
    /// Any error of a call.
    pub async fn unpin(&self, root: Cid) -> Result<(), MirrorError> {
        match self.call("pin/rm", &format!("?arg={root}"), None, empty()).await {
            Err(MirrorError::Refused { message, .. }) if message.contains("not pinned") => Ok(()),
            other => other.map(drop),
        }
    }

    /// Every call is a POST.
    async fn call(
        &self,
        operation: &'static str,
        query: &str,
        content_type: Option<String>,
        body: Body,
    ) -> Result<Answer, MirrorError> {
        let target = format!("/api/v0/{operation}{query}");
        let request = Request { method: Method::Post, target, content_type, body };
        let answer = self.client.send(request).await;
        judge(operation, answer.map_err(|source| MirrorError::Exchange { operation, source })?)
    }
}

fn judge(operation: &'static str, answer: Answer) -> Result<Answer, MirrorError> {
    match answer.status {
        200 => Ok(answer),
        status @ (401 | 403) => Err(MirrorError::Unauthorized { operation, status }),
        status => Err(MirrorError::Refused { operation, status, message: message(&answer) }),
    }
}

/// The JSON documents of the body, one after another.
fn lines(operation: &'static str, answer: &Answer) -> Result<Vec<Value>, MirrorError> {
    let lines = serde_json::Deserializer::from_slice(&answer.body).into_iter::<Value>();
    let lines: Result<Vec<_>, _> = lines.collect();
    lines.map_err(|error| MirrorError::Answer { operation, reason: format!("no JSON ({error})") })
}

fn message(answer: &Answer) -> String {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let json = serde_json::from_str::<Value>(&text).ok();
    let message = json.and_then(|json| json["Message"].as_str().map(str::to_owned));
    shortened(message.as_deref().unwrap_or(text.trim()))
}

fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(200)].to_owned()
}

/// A file upload (RFC 7578). The boundary is random: the bytes of a block may come from anywhere.
fn multipart<S>(car: S) -> (String, Body)
where
    S: Stream<Item = Result<Bytes, MirrorError>> + Send + 'static,
{
    let boundary = format!("skywave-{:032x}", fastrand::u128(..));
    let begin = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"tick.car\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    let end = format!("\r\n--{boundary}--\r\n");
    let parts = stream::iter([Ok(Bytes::from(begin))]).chain(car).chain(stream::iter([Ok(Bytes::from(end))]));
    (format!("multipart/form-data; boundary={boundary}"), streamed(parts))
}
