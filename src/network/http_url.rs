//! URLs under which a node is reached by HTTP: scheme, host and port, and nothing behind them. Pure.

// Addresses without sockets.
use core::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The longest URL that is taken.
pub const MAX_BYTES: usize = 200;
/// The most that one node tells.
pub const MAX_URLS: usize = 4;

/// Checks the form `http://host`, `https://host`, each with or without a port.
///
/// # Errors
/// Says in words what is wrong with it.
pub fn check(url: &str) -> Result<(), &'static str> {
    if url.len() > MAX_BYTES {
        return Err("must have 200 characters at most");
    }
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let rest = rest.ok_or("must begin with http:// or https://")?;
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or("has a [ without its ]")?;
            address.parse::<Ipv6Addr>().map_err(|_| "has no IPv6 address between [ and ]")?;
            (address, port)
        }
        None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
    };
    let of_a_host = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if host.is_empty() || !host.chars().all(of_a_host) {
        return Err("must be a host, with or without a port, and nothing behind it");
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok(()),
        Some(port) if is_port(port) => Ok(()),
        _ => Err("must be a host, with or without a port, and nothing behind it"),
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|c| c.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port != 0)
}

/// The URLs of a server that listens on `listen`, on a machine with these addresses, [`MAX_URLS`] at most: none of one
/// that loopback alone reaches, nor of addresses that mean something on one link only. IPv4 comes first.
pub fn of_listener(listen: SocketAddr, machine: &[IpAddr]) -> Vec<String> {
    let same_family = |address: &IpAddr| address.is_ipv4() || listen.is_ipv6();
    let mut addresses: Vec<IpAddr> = match listen.ip().is_unspecified() {
        true => machine.iter().filter(|address| same_family(address)).copied().collect(),
        false => vec![listen.ip()],
    };
    addresses.retain(|address| match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local() && !v6.is_unspecified(),
    });
    addresses.sort();
    addresses.dedup();
    let url = |address: IpAddr| match listen.port() {
        80 if address.is_ipv6() => format!("http://[{address}]"),
        80 => format!("http://{address}"),
        port => format!("http://{}", SocketAddr::new(address, port)),
    };
    addresses.into_iter().take(MAX_URLS).map(url).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_url_is_scheme_host_and_port_and_nothing_else() {
        for good in [
            "http://192.168.1.20:8080",
            "http://skywave.local",
            "https://radio.example.org",
            "http://[fd00::20]:8080",
            "http://[2001:db8::20]",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "http://",
            "ftp://host",
            "http://host/",
            "http://host/path",
            "http://host?query",
            "http://user@host",
            "http://host:",
            "http://host:0",
            "http://host:65536",
            "http://host:+80",
            "http://host:8080:1",
            "http://[::1",
            "http://[host]",
            "http://[::1]x",
            "http://ho st",
            "http://höst",
            "javascript://host",
            "http://host\n",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(check(&format!("http://{}", "a".repeat(MAX_BYTES))).is_err());
    }

    #[test]
    fn a_listener_is_reached_where_others_can_reach_the_machine() {
        let machine: Vec<IpAddr> = ["127.0.0.1", "::1", "fe80::1", "169.254.1.1", "fd00::20", "192.168.1.20"]
            .map(|address| address.parse().unwrap())
            .to_vec();
        let urls = |listen: &str| of_listener(listen.parse().unwrap(), &machine);
        assert_eq!(urls("0.0.0.0:8080"), ["http://192.168.1.20:8080"]);
        assert_eq!(urls("[::]:8080"), ["http://192.168.1.20:8080", "http://[fd00::20]:8080"]);
        assert_eq!(urls("0.0.0.0:80"), ["http://192.168.1.20"]);
        assert_eq!(urls("[::]:80"), ["http://192.168.1.20", "http://[fd00::20]"]);
        assert_eq!(urls("10.0.0.7:8080"), ["http://10.0.0.7:8080"]);
        assert!(urls("127.0.0.1:8080").is_empty());
        assert!(urls("[::1]:8080").is_empty());
        assert_eq!(of_listener("0.0.0.0:80".parse().unwrap(), &[]), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn what_is_told_of_a_listener_is_a_url_and_there_are_few(
            listen: SocketAddr, machine in prop::collection::vec(any::<IpAddr>(), 0..20),
        ) {
            let urls = of_listener(listen, &machine);
            prop_assert!(urls.len() <= MAX_URLS);
            for url in urls {
                prop_assert!(listen.port() == 0 || check(&url).is_ok(), "{}", url);
            }
        }

        #[test]
        fn foreign_text_never_panics(text: String) {
            let _ = check(&format!("http://{text}"));
        }
    }
}
