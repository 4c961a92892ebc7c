//! Where a kubo is and how to get in. Pure.

use cid::multibase::Base;
use hyper::http::request::Builder;
use hyper::{Request, Uri, header};

/// An RPC address.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    /// Path before `/api/v0`, without a slash at the end.
    path: String,
    /// Value of the field `Authorization`.
    authorization: Option<String>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}{}", self.host, self.path)
    }
}

impl Endpoint {
    /// Reads `http://host:port` and, in kubo's own notation, `bearer:<token>` or `basic:<user>:<password>`.
    ///
    /// # Errors
    /// Says in words what is wrong, and never shows the authorization.
    pub fn parse(url: &str, authorization: Option<&str>) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("url {url:?} is no URL ({error})"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(format!(
                    "url {url:?}: https is not spoken here; use http in a trusted network or a tunnel"
                ));
            }
            _ => return Err(format!("url {url:?} must have the form http://host:5001")),
        }
        let authority = uri.authority().ok_or_else(|| format!("url {url:?} names no host"))?;
        if authority.as_str().contains('@') {
            return Err("url holds a password: it belongs into `authorization`".into());
        }
        if uri.query().is_some() || url.contains('#') {
            return Err(format!("url {url:?} must have no query and no fragment"));
        }
        let host = match authority.port_u16() {
            Some(_) => authority.as_str().to_owned(),
            None => format!("{}:80", authority.host()),
        };
        let path = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { host, path, authorization: authorization.map(header_value).transpose()? })
    }

    /// Host and port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether both lead to the same RPC, whatever the authorization.
    pub fn is_same_node(&self, other: &Self) -> bool {
        self.host == other.host && self.path == other.path
    }

    /// The beginning of a call: every one is a POST.
    pub(super) fn request(&self, operation: &str, query: &str) -> Builder {
        let request = Request::post(format!("{}/api/v0/{operation}{query}", self.path))
            .header(header::HOST, &self.host)
            .header(header::USER_AGENT, concat!("skywave/", env!("CARGO_PKG_VERSION")))
            .header(header::CONNECTION, "close");
        match &self.authorization {
            Some(value) => request.header(header::AUTHORIZATION, value),
            None => request,
        }
    }
}

fn header_value(text: &str) -> Result<String, String> {
    let value = match text.split_once(':') {
        Some(("bearer", token)) if !token.is_empty() => format!("Bearer {token}"),
        Some(("basic", login)) if login.contains(':') => format!("Basic {}", Base::Base64Pad.encode(login)),
        _ => return Err("authorization must be bearer:<token> or basic:<user>:<password>".into()),
    };
    match value.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        true => Ok(value),
        false => Err("authorization: a token is of printable ASCII characters".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_paths_of_the_rpc() {
        let path = |url: &str| {
            let endpoint = Endpoint::parse(url, None).unwrap();
            let request = endpoint.request("pin/rm", "?arg=x").body(()).unwrap();
            (endpoint.host().to_owned(), request.uri().to_string())
        };
        let plain = (String::from("nas.local:5001"), String::from("/api/v0/pin/rm?arg=x"));
        assert_eq!(path("http://nas.local:5001"), plain);
        assert_eq!(path("http://nas.local:5001/"), plain);
        assert_eq!(path("http://[::1]/kubo/"), ("[::1]:80".into(), "/kubo/api/v0/pin/rm?arg=x".into()));
    }

    #[test]
    fn what_is_no_plain_address_is_refused_in_words() {
        for (url, word) in [
            ("https://x:5001", "https"),
            ("ftp://x", "form"),
            ("nas.local", "form"),
            ("/ip4/127.0.0.1/tcp/5001", "form"),
            ("http://me:secret@x:5001", "authorization"),
            ("http://x:5001/?a=b", "query"),
            ("http://x:5001/#a", "fragment"),
            ("http://", "no URL"),
        ] {
            let reason = Endpoint::parse(url, None).unwrap_err();
            assert!(reason.contains(word) && !reason.contains("secret"), "{url}: {reason}");
        }
    }

    #[test]
    fn authorizations_are_those_of_kubo() {
        let value = |text| {
            let endpoint = Endpoint::parse("http://x:1", Some(text)).unwrap();
            let request = endpoint.request("id", "").body(()).unwrap();
            request.headers()[header::AUTHORIZATION].to_str().unwrap().to_owned()
        };
        assert_eq!(value("bearer:abc"), "Bearer abc");
        // RFC 7617, section 2.
        assert_eq!(value("basic:Aladdin:open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        for bad in ["", "hush", "bearer:", "basic:hush", "digest:hush:a", "bearer:hu\nsh"] {
            let reason = Endpoint::parse("http://x:1", Some(bad)).unwrap_err();
            assert!(!reason.contains("hush") && reason.contains("authorization"), "{reason}");
        }
    }
}
