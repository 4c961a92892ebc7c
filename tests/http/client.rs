//! A bare HTTP/1.1 client: it sends what it is told and hides nothing of the answer.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Far above what any step takes; a test that hits it has found a hang.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub async fn patiently<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("no answer for ten seconds")
}

/// Stands at the end of a body that was cut off.
pub const CUT: &[u8] = b"CUT";

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

pub struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Client {
        Client { stream: patiently(TcpStream::connect(address)).await.unwrap(), unread: Vec::new() }
    }

    /// A client whose socket takes in a few kilobytes at most before they are read.
    pub async fn connect_narrow(address: SocketAddr) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 * 1024).unwrap();
        Client { stream: patiently(socket.connect(address)).await.unwrap(), unread: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        patiently(self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    pub async fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            head.push_str("Host: station\r\n");
        }
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        self.send(head + "\r\n").await;
        self.answer(method != "HEAD").await
    }

    /// The status of a GET, or `None` where the server closes without an answer.
    pub async fn status_of(&mut self, path: &str) -> Option<u16> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: station\r\n\r\n");
        // A connection closed already may refuse the bytes; reading tells.
        let _ = patiently(self.stream.write_all(request.as_bytes())).await;
        if self.unread.is_empty() && !self.read_more().await {
            return None;
        }
        Some(self.answer(true).await.status)
    }

    /// Reads one answer; with `has_body`, as much of a body as its length says.
    pub async fn answer(&mut self, has_body: bool) -> Answer {
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            assert!(
                self.read_more().await,
                "closed within the head: {:?}",
                String::from_utf8_lossy(&self.unread)
            );
        };
        let head = String::from_utf8(self.unread.drain(..end + 4).collect()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: HashMap<_, _> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            let body = if has_body { self.chunks().await } else { Vec::new() };
            return Answer { status, headers, body };
        }
        assert!(!headers.contains_key("transfer-encoding"), "{head}");
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let length: usize = if has_body { length } else { 0 };
        while self.unread.len() < length && self.read_more().await {}
        let body = self.unread.drain(..length.min(self.unread.len())).collect();
        Answer { status, headers, body }
    }

    /// A body of chunks; one that is cut off ends with the word `CUT`.
    async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = loop {
                if let Some(end) = self.unread.windows(2).position(|window| window == b"\r\n") {
                    break self.unread.drain(..end + 2).collect::<Vec<_>>();
                }
                if !self.read_more().await {
                    body.extend_from_slice(CUT);
                    return body;
                }
            };
            let length = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
            while self.unread.len() < length + 2 {
                if !self.read_more().await {
                    body.extend_from_slice(CUT);
                    return body;
                }
            }
            body.extend(self.unread.drain(..length));
            self.unread.drain(..2);
            if length == 0 {
                return body;
            }
        }
    }

    /// The number of body bytes that come next; at least one.
    pub async fn some(&mut self) -> usize {
        assert!(!self.unread.is_empty() || self.read_more().await, "closed within the body");
        self.unread.drain(..).count()
    }

    /// The next bytes of a body; fewer where the server closes.
    pub async fn body(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length && self.read_more().await {}
        self.unread.drain(..length.min(self.unread.len())).collect()
    }

    /// Whether the server closes without another byte.
    pub async fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && !self.read_more().await
    }

    /// Reads once; `false` at the end or on a reset.
    async fn read_more(&mut self) -> bool {
        let mut buffer = [0; 64 * 1024];
        match patiently(self.stream.read(&mut buffer)).await {
            Ok(0) | Err(_) => false,
            Ok(length) => {
                self.unread.extend_from_slice(&buffer[..length]);
                true
            }
        }
    }
}
