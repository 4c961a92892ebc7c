//! What the Host of a request asks for (pure). Subdomain gateway specification, "Host".

use cid::Cid;
use cid::multibase::Base;

use crate::ipfs::ipns::name as ipns_name;

/// The longest label of a host name, RFC 1035 section 2.3.4.
const MAX_LABEL: usize = 63;

/// The first part of a content path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Namespace {
    Ipfs,
    Ipns,
}

impl Namespace {
    pub(super) fn name(self) -> &'static str {
        match self {
            Namespace::Ipfs => "ipfs",
            Namespace::Ipns => "ipns",
        }
    }
}

/// What a host stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Site<'a> {
    /// The station under an address without subdomains.
    Station,
    /// The station under a domain that has an origin for each content root; with its port.
    Domain(&'a str),
    /// One content root: `<label>.ipfs.<domain>`.
    Content { namespace: Namespace, label: &'a str, domain: &'a str },
    /// The content of a DNSLink, whose domain is the host; with its port.
    DnsLink(&'a str),
}

/// The host as a site, where it is one of `hosts`, which are in lower case.
pub(in crate::http) fn dnslink<'a>(host: &'a str, hosts: &[String]) -> Option<Site<'a>> {
    let name = without_port(host);
    hosts.iter().any(|listed| listed.eq_ignore_ascii_case(name)).then_some(Site::DnsLink(host))
}

pub(super) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Finds out what `host` stands for; `domains` are in lower case.
pub(in crate::http) fn site<'a>(host: &'a str, domains: &[String]) -> Site<'a> {
    let name = without_port(host);
    for domain in domains {
        let Some(start) = name.len().checked_sub(domain.len()) else { continue };
        if !name.is_char_boundary(start) || !name[start..].eq_ignore_ascii_case(domain) {
            continue;
        }
        if start == 0 {
            return Site::Domain(host);
        }
        let Some(prefix) = name[..start].strip_suffix('.') else { continue };
        let Some((label, namespace)) = prefix.rsplit_once('.') else { continue };
        let namespace = match namespace {
            _ if namespace.eq_ignore_ascii_case("ipfs") => Namespace::Ipfs,
            _ if namespace.eq_ignore_ascii_case("ipns") => Namespace::Ipns,
            _ => continue,
        };
        return Site::Content { namespace, label, domain: &host[start..] };
    }
    Site::Station
}

/// Why a root has no host name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum LabelError {
    #[error("CID incompatible with DNS label length limit of {MAX_LABEL}")]
    TooLong,
    #[error("DNSLink name incompatible with DNS label length limit of {MAX_LABEL}")]
    LongDomain,
    #[error("what follows is no CID")]
    NoCid,
    #[error("what follows is no IPNS name of a key")]
    NoKey,
}

/// The label of a root, which says the same in any case: a CID of version 1 in base 32, a name in base 36.
pub(super) fn label(namespace: Namespace, root: &str) -> Result<String, LabelError> {
    let (cid, base) = match namespace {
        Namespace::Ipfs => {
            let cid = parse(root).ok_or(LabelError::NoCid)?;
            (Cid::new_v1(cid.codec(), *cid.hash()), Base::Base32Lower)
        }
        Namespace::Ipns => (name(root).ok_or(LabelError::NoKey)?, Base::Base36Lower),
    };
    let label = cid.to_string_of_base(base).map_err(|_| LabelError::NoCid)?;
    if label.len() > MAX_LABEL { Err(LabelError::TooLong) } else { Ok(label) }
}

/// The label of a domain (subdomain gateway specification, "DNSLink label encoding").
pub(super) fn inlined(domain: &str) -> Result<String, LabelError> {
    let label = domain.replace('-', "--").replace('.', "-");
    if label.len() > MAX_LABEL { Err(LabelError::LongDomain) } else { Ok(label) }
}

/// The domain of a label; one with dots is a domain already.
pub(super) fn uninlined(label: &str) -> String {
    if label.contains('.') {
        return label.to_owned();
    }
    label.split("--").map(|part| part.replace('-', ".")).collect::<Vec<_>>().join("-")
}

/// A CID in any spelling that the URL of a path can hold.
pub(super) fn parse(text: &str) -> Option<Cid> {
    if text.len() > ipns_name::MAX_LEN { None } else { Cid::try_from(text).ok() }
}

/// The name of a key as a CID; any codec, as names were once written with others.
pub(super) fn name(text: &str) -> Option<Cid> {
    let hash = ipns_name::key(text).or_else(|| parse(text).map(|cid| *cid.hash()))?;
    Some(Cid::new_v1(ipns_name::LIBP2P_KEY, hash))
}

/// The root that a label stands for. Browsers send hosts in lower case.
pub(super) fn root_of_label(label: &str) -> Result<Cid, LabelError> {
    let cid = parse(label).or_else(|| parse(&label.to_ascii_lowercase())).ok_or(LabelError::NoCid)?;
    if label.len() > MAX_LABEL { Err(LabelError::TooLong) } else { Ok(cid) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V0: &str = "QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR";
    const V1: &str = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi";

    fn domains() -> Vec<String> {
        ["localhost", "example.org"].map(str::to_owned).into()
    }

    #[test]
    fn hosts_are_the_station_a_domain_or_a_content_root() {
        let domains = domains();
        for host in
            ["", "station", "127.0.0.1:8080", "[::1]:8080", "notlocalhost", "x.localhost", "ipfs.localhost"]
        {
            assert_eq!(site(host, &domains), Site::Station, "{host}");
        }
        assert_eq!(site("LocalHost:80", &domains), Site::Domain("LocalHost:80"));
        let content = |namespace, label, domain| Site::Content { namespace, label, domain };
        assert_eq!(
            site("bafy.ipfs.localhost:80", &domains),
            content(Namespace::Ipfs, "bafy", "localhost:80")
        );
        assert_eq!(site("k51.IPNS.example.org", &domains), content(Namespace::Ipns, "k51", "example.org"));
        assert_eq!(site("a.b.ipns.localhost", &domains), content(Namespace::Ipns, "a.b", "localhost"));
    }

    #[test]
    fn domains_become_labels_and_labels_domains() {
        for (domain, label) in [
            ("en.wikipedia-on-ipfs.org", "en-wikipedia--on--ipfs-org"),
            ("example.org", "example-org"),
            ("a--b.c", "a----b-c"),
        ] {
            assert_eq!(inlined(domain).as_deref(), Ok(label));
            assert_eq!(uninlined(label), domain);
        }
        assert_eq!(uninlined("docs.ipfs-x.tech"), "docs.ipfs-x.tech");
        assert_eq!(inlined(&format!("{}.org", "a".repeat(60))), Err(LabelError::LongDomain));
    }

    #[test]
    fn only_hosts_that_are_listed_are_dnslinks() {
        let hosts = ["radio.example.org".to_owned()];
        assert_eq!(dnslink("Radio.example.org:80", &hosts), Some(Site::DnsLink("Radio.example.org:80")));
        for host in ["", "example.org", "x.radio.example.org", "radio.example.org.", "[::1]:80"] {
            assert_eq!(dnslink(host, &hosts), None, "{host}");
        }
    }

    #[test]
    fn labels_survive_the_lower_case_and_the_length_of_host_names() {
        assert_eq!(label(Namespace::Ipfs, V0).as_deref(), Ok(V1));
        assert_eq!(label(Namespace::Ipfs, V1).as_deref(), Ok(V1));
        let key = label(Namespace::Ipns, "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA").unwrap();
        assert!(key.starts_with("k51") && key.len() <= MAX_LABEL, "{key}");
        assert_eq!(label(Namespace::Ipns, &key), Ok(key.clone()));
        assert_eq!(label(Namespace::Ipns, "example.org"), Err(LabelError::NoKey));
        assert_eq!(label(Namespace::Ipfs, "QmNot"), Err(LabelError::NoCid));
        let long = Cid::new_v1(0x55, cid::multihash::Multihash::wrap(0x13, &[7; 64]).unwrap()).to_string();
        assert_eq!(label(Namespace::Ipfs, &long), Err(LabelError::TooLong));
        assert_eq!(root_of_label(&long), Err(LabelError::TooLong));
        assert_eq!(root_of_label(&V1.to_uppercase()).map(|cid| cid.to_string()).as_deref(), Ok(V1));
    }
}
