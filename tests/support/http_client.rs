//! A blocking HTTP/1.1 client for tests: one request, one connection, one answer (RFC 9110, RFC 9112).
//!
//! Every call ends by its deadline, so a server that hangs fails the test instead of hanging it. A body that is
//! shorter or longer than announced is an error: what a test judges is what the server meant to send.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of the support modules")]

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// Bounds the head of an answer; a longer one is a server gone wrong.
const MAX_HEAD: usize = 64 * 1024;
/// Bounds the body of an answer; the largest thing the station serves whole is a segment of well under 1 MB.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// What the server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Status code, 100 to 599.
    pub status: u16,
    /// Header fields in the order sent; names as sent.
    pub headers: Vec<(String, String)>,
    /// The content, with the transfer coding removed; empty for HEAD, 204 and 304.
    pub body: Vec<u8>,
}

impl Response {
    /// The first field of that name, in any case (RFC 9110 section 5.1).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as text; an error when it is not UTF-8.
    pub fn text(&self) -> Result<&str, String> {
        std::str::from_utf8(&self.body).map_err(|error| format!("body is not UTF-8: {error}"))
    }
}

/// GET of an `http://host:port/path` address.
pub fn get(url: &str, timeout: Duration) -> Result<Response, String> {
    request("GET", url, &[], timeout)
}

/// Any method without a body. Fields are sent besides Host and Connection.
pub fn request(
    method: &str,
    url: &str,
    fields: &[(&str, &str)],
    timeout: Duration,
) -> Result<Response, String> {
    let deadline = Instant::now() + timeout;
    let (authority, path) = split_url(url)?;
    let mut stream = connect(authority, deadline).map_err(|error| format!("{url}: {error}"))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n");
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.set_write_timeout(Some(remaining(deadline)?)).map_err(|error| error.to_string())?;
    stream.write_all(head.as_bytes()).map_err(|error| format!("{method} {url}: write: {error}"))?;
    let raw = read_to_end(&mut stream, deadline).map_err(|error| format!("{method} {url}: {error}"))?;
    parse(&raw, method == "HEAD").map_err(|error| format!("{method} {url}: {error}"))
}

fn split_url(url: &str) -> Result<(&str, &str), String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("not an http:// address: {url}"))?;
    match rest.find('/') {
        Some(slash) => Ok((&rest[..slash], &rest[slash..])),
        None => Ok((rest, "/")),
    }
}

fn connect(authority: &str, deadline: Instant) -> Result<TcpStream, String> {
    let host = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
    let addresses = host.to_socket_addrs().map_err(|error| format!("{host}: {error}"))?;
    let mut last = format!("{host}: no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, remaining(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    Err(last)
}

fn remaining(deadline: Instant) -> Result<Duration, String> {
    match deadline.checked_duration_since(Instant::now()) {
        Some(left) if !left.is_zero() => Ok(left),
        _ => Err("deadline passed".to_owned()),
    }
}

/// Reads until the server closes: `Connection: close` was asked for.
fn read_to_end(stream: &mut TcpStream, deadline: Instant) -> Result<Vec<u8>, String> {
    let mut raw = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        stream.set_read_timeout(Some(remaining(deadline)?)).map_err(|error| error.to_string())?;
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(raw),
            Ok(read) => raw.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("read after {} bytes: {error}", raw.len())),
        }
        if raw.len() > MAX_HEAD + MAX_BODY {
            return Err(format!("more than {MAX_BODY} bytes"));
        }
    }
}

/// Splits a raw answer; interim 1xx answers are passed over.
fn parse(raw: &[u8], head_only: bool) -> Result<Response, String> {
    let end = find(raw, b"\r\n\r\n").filter(|end| *end <= MAX_HEAD).ok_or("no end of the head")?;
    let head = std::str::from_utf8(&raw[..end]).map_err(|error| format!("head is not UTF-8: {error}"))?;
    let mut lines = head.split("\r\n");
    let status = status_code(lines.next().unwrap_or_default())?;
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| format!("bad header field {line:?}"))?;
        if name.is_empty() || name.contains(|c: char| c.is_ascii_whitespace()) {
            return Err(format!("bad header name {name:?}"));
        }
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let rest = &raw[end + 4..];
    if (100..200).contains(&status) {
        return parse(rest, head_only);
    }
    let mut response = Response { status, headers, body: Vec::new() };
    response.body = match head_only || status == 204 || status == 304 {
        true if rest.is_empty() => Vec::new(),
        true => return Err(format!("{} bytes of body where none may be", rest.len())),
        false => body(&response, rest)?,
    };
    Ok(response)
}

fn status_code(line: &str) -> Result<u16, String> {
    let mut words = line.split(' ');
    let version = words.next().unwrap_or_default();
    let code = words.next().unwrap_or_default();
    if !matches!(version, "HTTP/1.1" | "HTTP/1.0") || code.len() != 3 {
        return Err(format!("bad status line {line:?}"));
    }
    code.parse().map_err(|_| format!("bad status line {line:?}"))
}

fn body(response: &Response, rest: &[u8]) -> Result<Vec<u8>, String> {
    if response.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return dechunk(rest);
    }
    if let Some(length) = response.header("content-length") {
        let length: usize = length.parse().map_err(|_| format!("bad Content-Length {length:?}"))?;
        if rest.len() != length {
            return Err(format!("Content-Length is {length}, body has {} bytes", rest.len()));
        }
    }
    Ok(rest.to_vec())
}

/// The chunked transfer coding, RFC 9112 section 7.1.
fn dechunk(mut rest: &[u8]) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        let line = find(rest, b"\r\n").ok_or("chunk size missing")?;
        let size = std::str::from_utf8(&rest[..line]).map_err(|error| error.to_string())?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| format!("bad chunk size {size:?}"))?;
        rest = &rest[line + 2..];
        if size == 0 {
            return Ok(body);
        }
        if rest.len() < size.saturating_add(2) || &rest[size..size + 2] != b"\r\n" {
            return Err(format!("chunk of {size} bytes cut short"));
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn reads_a_body_by_its_content_length() {
        let response = parse(b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\ncontent-length: 3\r\n\r\nabc", false)
            .expect("a whole answer");
        assert_eq!((response.status, response.body.as_slice()), (200, b"abc".as_slice()));
        assert_eq!(response.header("content-type"), Some("a/b"));
    }

    #[test]
    fn reads_a_chunked_body_and_passes_over_interim_answers() {
        let raw = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                    3\r\nabc\r\nA;x=1\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(parse(raw, false).expect("a whole answer").body, b"abc0123456789");
    }

    #[test]
    fn refuses_bodies_that_are_cut_short_or_too_long() {
        for raw in [
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc".as_slice(),
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabc",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        ] {
            assert!(parse(raw, false).is_err());
        }
        assert!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", true).is_err(), "HEAD with a body");
    }

    #[test]
    fn a_silent_server_costs_no_more_than_the_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/x", listener.local_addr().expect("bound"));
        let begun = Instant::now();
        assert!(get(&url, Duration::from_millis(200)).is_err());
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
