//! Names in addresses, asked of the system's resolver before a dial: the swarm's transport knows none.

use std::net::IpAddr;

use hickory_resolver::TokioResolver;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use tracing::debug;

/// How deep `/dnsaddr` may point at `/dnsaddr` (multiaddr specification, "dnsaddr").
const MAX_DEPTH: usize = 4;
/// Addresses of one name.
const MAX_ADDRESSES: usize = 32;

/// The addresses behind `address`: itself, unless it begins with a name. None where the name is unknown.
pub async fn resolve(address: &Multiaddr) -> Vec<Multiaddr> {
    let mut found = Vec::new();
    let mut names = vec![address.clone()];
    for _ in 0..=MAX_DEPTH {
        let mut deeper = Vec::new();
        for address in names {
            match address.iter().next() {
                Some(Protocol::Dnsaddr(name)) => deeper.extend(by_text(&name, &address).await),
                Some(Protocol::Dns(name)) => found.extend(by_host(&name, &address, |_| true).await),
                Some(Protocol::Dns4(name)) => found.extend(by_host(&name, &address, |ip| ip.is_ipv4()).await),
                Some(Protocol::Dns6(name)) => found.extend(by_host(&name, &address, |ip| ip.is_ipv6()).await),
                _ => found.push(address),
            }
        }
        deeper.truncate(MAX_ADDRESSES);
        names = deeper;
    }
    found.truncate(MAX_ADDRESSES);
    found
}

/// `_dnsaddr.<name>` holds lines of `dnsaddr=<address>`; those count that end as the address asked for.
async fn by_text(name: &str, address: &Multiaddr) -> Vec<Multiaddr> {
    let resolver = match TokioResolver::builder_tokio() {
        Ok(builder) => builder.build(),
        Err(error) => {
            debug!(%error, "the system names no resolver");
            return Vec::new();
        }
    };
    let lines = match resolver.txt_lookup(format!("_dnsaddr.{name}.")).await {
        Ok(lines) => lines,
        Err(error) => {
            debug!(name, %error, "no such name");
            return Vec::new();
        }
    };
    let end: Multiaddr = address.iter().skip(1).collect();
    let parse = |line: String| line.strip_prefix("dnsaddr=")?.parse::<Multiaddr>().ok();
    lines.iter().filter_map(|line| parse(line.to_string())).filter(|found| found.ends_with(&end)).collect()
}

async fn by_host(name: &str, address: &Multiaddr, wanted: impl Fn(IpAddr) -> bool) -> Vec<Multiaddr> {
    let hosts = match tokio::net::lookup_host((name, 0)).await {
        Ok(hosts) => hosts.map(|socket| socket.ip()).filter(|ip| wanted(*ip)).collect::<Vec<_>>(),
        Err(error) => {
            debug!(name, %error, "no such host");
            return Vec::new();
        }
    };
    let with = |ip: IpAddr| std::iter::once(Protocol::from(ip)).chain(address.iter().skip(1)).collect();
    hosts.into_iter().map(with).collect()
}
