//! Where a service is and how to get in. Pure.

use cid::multibase::Base;
use hyper::http::request::Builder;
use hyper::{Request, Uri, header};

use super::Method;

/// The address of a service.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether it is `https`.
    secure: bool,
    host: String,
    /// Path before every other, without a slash at the end.
    path: String,
    /// Value of the field `Authorization`.
    authorization: Option<String>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.host, self.path)
    }
}

impl Endpoint {
    /// Reads `http://host:port` or `https://host` and, in kubo's own notation, `bearer:<token>` or
    /// `basic:<user>:<password>`.
    ///
    /// # Errors
    /// Says in words what is wrong, and never shows the authorization.
    pub fn parse(url: &str, authorization: Option<&str>) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error| format!("url {url:?} is no URL ({error})"))?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(format!("url {url:?} must have the form http://host:port or https://host")),
        };
        let authority = uri.authority().ok_or_else(|| format!("url {url:?} names no host"))?;
        if authority.as_str().contains('@') {
            return Err("url holds a password: it belongs into `authorization`".into());
        }
        if uri.query().is_some() || url.contains('#') {
            return Err(format!("url {url:?} must have no query and no fragment"));
        }
        let host = match authority.port_u16() {
            Some(_) => authority.as_str().to_owned(),
            None => format!("{}:{}", authority.host(), if secure { 443 } else { 80 }),
        };
        let path = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { secure, host, path, authorization: authorization.map(header_value).transpose()? })
    }

    /// Whether it is spoken to over TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Host and port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The host alone, an IPv6 address without its brackets.
    pub(super) fn host_name(&self) -> &str {
        let name = self.host.rsplit_once(':').map_or(self.host.as_str(), |(name, _)| name);
        name.trim_start_matches('[').trim_end_matches(']')
    }

    /// Whether both lead to the same service, whatever the authorization.
    pub fn is_same(&self, other: &Self) -> bool {
        self.host == other.host && self.path == other.path
    }

    /// The beginning of a request; `target` is what follows the endpoint's own path, with its query.
    pub(super) fn request(&self, method: Method, target: &str) -> Builder {
        let request = Request::builder()
            .method(method.name())
            .uri(format!("{}{target}", self.path))
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
    fn addresses_become_hosts_and_paths() {
        let path = |url: &str| {
            let endpoint = Endpoint::parse(url, None).unwrap();
            let request = endpoint.request(Method::Post, "/api/v0/pin/rm?arg=x").body(()).unwrap();
            (endpoint.host().to_owned(), request.uri().to_string())
        };
        let plain = (String::from("nas.local:5001"), String::from("/api/v0/pin/rm?arg=x"));
        assert_eq!(path("http://nas.local:5001"), plain);
        assert_eq!(path("http://nas.local:5001/"), plain);
        assert_eq!(path("http://[::1]/kubo/"), ("[::1]:80".into(), "/kubo/api/v0/pin/rm?arg=x".into()));
        assert_eq!(path("https://pins.test/psa").0, "pins.test:443");
    }

    #[test]
    fn a_certificate_is_asked_for_the_host_alone() {
        for (url, name) in [("https://pins.test:9097/x", "pins.test"), ("https://[::1]:9097", "::1")] {
            let endpoint = Endpoint::parse(url, None).unwrap();
            assert_eq!((endpoint.host_name(), endpoint.is_secure()), (name, true));
        }
    }

    #[test]
    fn what_is_no_plain_address_is_refused_in_words() {
        for (url, word) in [
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
            let request = endpoint.request(Method::Get, "/id").body(()).unwrap();
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
