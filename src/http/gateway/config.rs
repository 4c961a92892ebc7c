//! The `[http.gateway]` section.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

/// What the gateway does beyond serving what the station holds.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    /// Fetches content that is not here and resolves the names of others, for whoever asks. Off, a stranger can't make
    /// the station download.
    pub fetch: bool,
    /// Bounds the time that one request may wait for the network, in sum.
    #[serde(with = "crate::http::positive_duration")]
    pub fetch_timeout: Duration,
    /// Bounds the bytes that one request may fetch.
    pub fetch_max_bytes: NonZeroU64,
    /// Bounds the requests that fetch at the same time; further ones are answered 503.
    pub fetch_concurrent: NonZeroUsize,
    /// Hosts under which each CID and name has an origin of its own: `<cid>.ipfs.<domain>`.
    pub domains: Vec<String>,
    /// Hosts that stand for the content of their own DNSLink, which is looked up also where nothing is fetched.
    pub dnslink_hosts: Vec<String>,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            fetch: false,
            fetch_timeout: Duration::from_secs(30),
            fetch_max_bytes: NonZeroU64::new(64 * 1024 * 1024).expect("64 MiB is not zero"),
            fetch_concurrent: NonZeroUsize::new(8).expect("8 is not zero"),
            domains: vec!["localhost".into()],
            dnslink_hosts: Vec::new(),
        }
    }
}

impl GatewayConfig {
    /// Checks what types cannot say. The error is the key's name and what is wrong with it.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        let keys = [
            ("http.gateway.domains", &self.domains, "localhost"),
            ("http.gateway.dnslink_hosts", &self.dnslink_hosts, "radio.example.org"),
        ];
        for (key, hosts, such_as) in keys {
            if let Some(host) = hosts.iter().find(|host| !is_host(host)) {
                let form = "no host name in lower case without a port";
                return Err((key, format!("{host:?} is {form}, such as {such_as:?}")));
            }
        }
        match self.dnslink_hosts.iter().find(|host| self.domains.contains(host) || !host.contains('.')) {
            Some(host) => Err((
                "http.gateway.dnslink_hosts",
                format!("{host:?} has to be a domain with a dot, and none of http.gateway.domains"),
            )),
            None => Ok(()),
        }
    }
}

/// Letters, digits and hyphens in labels of 1 to 63 characters (RFC 1123 section 2.1); no IP address, below which
/// there are no names.
fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.len() <= 253 && text.split('.').all(label) && text.parse::<std::net::IpAddr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_host_names() {
        let of = |domain: &str| GatewayConfig { domains: vec![domain.into()], ..GatewayConfig::default() };
        for good in ["localhost", "gateway.example.org", "board-1.local"] {
            assert_eq!(of(good).validate(), Ok(()), "{good}");
        }
        for bad in ["", ".", "localhost:8080", "http://x", "Board.local", "a..b", "10.0.0.1", "*.x"] {
            assert_eq!(of(bad).validate().unwrap_err().0, "http.gateway.domains", "{bad}");
        }
        let link = |host: &str| GatewayConfig { dnslink_hosts: vec![host.into()], ..of("gw.example.org") };
        assert_eq!(link("radio.example.org").validate(), Ok(()));
        for bad in ["", "radio", "gw.example.org", "Radio.example.org", "radio.example.org:80"] {
            assert_eq!(link(bad).validate().unwrap_err().0, "http.gateway.dnslink_hosts", "{bad}");
        }
    }
}
