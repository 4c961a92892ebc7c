//! DNSLink: content paths in the TXT records of domains (<https://dnslink.dev>).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FutureExt};
use hickory_resolver::TokioResolver;
use thiserror::Error;

use super::cache::{LONGEST_TTL, SHORTEST_TTL};
use super::content_path::ContentPath;

/// Domains that are remembered.
const MOST_DOMAINS: usize = 256;
/// How long it is remembered that a domain has no DNSLink.
const NO_LINK_FOR: Duration = Duration::from_secs(30);

/// The TXT records of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    /// One line per record; none where there is no such name.
    pub lines: Vec<String>,
    /// How long they may be kept.
    pub ttl: Duration,
}

/// Asks for TXT records.
pub trait Dns: Send + Sync + 'static {
    /// The TXT records of `name`, which ends with a dot. The error is what stands in the way, in words.
    fn texts(&self, name: String) -> BoxFuture<'static, Result<Texts, String>>;
}

/// The resolver that the system names, read anew for each question, as networks come and go.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDns;

impl Dns for SystemDns {
    fn texts(&self, name: String) -> BoxFuture<'static, Result<Texts, String>> {
        async move {
            let builder = TokioResolver::builder_tokio().map_err(|error| error.to_string())?;
            match builder.build().txt_lookup(name).await {
                Ok(found) => {
                    let lines = found.iter().map(ToString::to_string).collect();
                    let ttl = found.valid_until().saturating_duration_since(Instant::now());
                    Ok(Texts { lines, ttl })
                }
                Err(error) if error.is_no_records_found() => {
                    Ok(Texts { lines: Vec::new(), ttl: NO_LINK_FOR })
                }
                Err(error) => Err(error.to_string()),
            }
        }
        .boxed()
    }
}

/// Why a domain leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DnsLinkError {
    /// It has no TXT record that is a DNSLink of IPFS.
    #[error("{domain} has no DNSLink: no TXT record of _dnslink.{domain} is dnslink=/ipfs/... or /ipns/...")]
    NoLink {
        /// The domain.
        domain: String,
    },
    /// It has several, and nothing says which one counts.
    #[error("_dnslink.{domain} has several DNSLinks, so nobody knows which one counts")]
    Several {
        /// The domain.
        domain: String,
    },
    /// The DNS did not answer.
    #[error("the DNS gives no answer about _dnslink.{domain}: {reason}")]
    Failed {
        /// The domain.
        domain: String,
        /// What the resolver says.
        reason: String,
    },
}

/// Where a domain leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsLink {
    /// The path that its record names.
    pub path: ContentPath,
    /// How long that may still be kept.
    pub fresh_for: Duration,
}

/// Looks DNSLinks up and remembers them for their TTL. Clones share what they remember.
#[derive(Clone)]
pub struct DnsLinks {
    dns: Arc<dyn Dns>,
    known: Arc<Mutex<HashMap<String, Known>>>,
}

#[derive(Debug)]
struct Known {
    answer: Result<ContentPath, DnsLinkError>,
    until: Instant,
}

impl DnsLinks {
    /// Links by `dns`, none of them known yet.
    pub fn new(dns: Arc<dyn Dns>) -> DnsLinks {
        DnsLinks { dns, known: Arc::default() }
    }

    /// What is known of a domain and fresh; asks nobody.
    pub fn known(&self, domain: &str) -> Option<Result<DnsLink, DnsLinkError>> {
        let (known, now) = (self.lock(), now());
        let known = known.get(domain).filter(|known| now < known.until)?;
        let fresh_for = known.until - now;
        Some(known.answer.clone().map(|path| DnsLink { path, fresh_for }))
    }

    /// Where `domain`, in lower case, leads; asks the DNS where that is not known.
    ///
    /// # Errors
    /// [`DnsLinkError`].
    pub async fn look_up(&self, domain: &str) -> Result<DnsLink, DnsLinkError> {
        if let Some(known) = self.known(domain) {
            return known;
        }
        let texts = self.dns.texts(format!("_dnslink.{domain}.")).await;
        let texts = texts.map_err(|reason| DnsLinkError::Failed { domain: domain.to_owned(), reason })?;
        let answer = link(domain, &texts.lines);
        let fresh_for = texts.ttl.clamp(SHORTEST_TTL, LONGEST_TTL);
        let kept_for = if answer.is_ok() { fresh_for } else { fresh_for.min(NO_LINK_FOR) };
        self.remember(domain, answer.clone(), now() + kept_for);
        answer.map(|path| DnsLink { path, fresh_for })
    }

    fn remember(&self, domain: &str, answer: Result<ContentPath, DnsLinkError>, until: Instant) {
        let mut known = self.lock();
        if known.len() >= MOST_DOMAINS {
            let now = now();
            known.retain(|_, known| now < known.until);
        }
        if known.len() >= MOST_DOMAINS {
            let first = known.iter().min_by_key(|(_, known)| known.until).map(|(domain, _)| domain.clone());
            first.and_then(|domain| known.remove(&domain));
        }
        known.insert(domain.to_owned(), Known { answer, until });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        // Whole between any two statements.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one link among the TXT records of a domain. Those of other namespaces don't count.
fn link(domain: &str, lines: &[String]) -> Result<ContentPath, DnsLinkError> {
    let path = |line: &String| ContentPath::parse(line.strip_prefix("dnslink=")?.trim());
    let mut paths = lines.iter().filter_map(path);
    match (paths.next(), paths.next()) {
        (None, _) => Err(DnsLinkError::NoLink { domain: domain.to_owned() }),
        (Some(path), None) => Ok(path),
        (Some(_), Some(_)) => Err(DnsLinkError::Several { domain: domain.to_owned() }),
    }
}

/// Tokio's clock, which tests pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const PATH: &str = "dnslink=/ipfs/bafkqabtimvwgy3yk/a";

    /// Answers with the same lines whatever it is asked, and counts.
    struct Fixed {
        lines: Vec<&'static str>,
        ttl: u64,
        asked: AtomicUsize,
    }

    impl Fixed {
        fn new(lines: &[&'static str], ttl: u64) -> Arc<Fixed> {
            Arc::new(Fixed { lines: lines.to_vec(), ttl, asked: AtomicUsize::new(0) })
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::Relaxed)
        }
    }

    impl Dns for Fixed {
        fn texts(&self, name: String) -> BoxFuture<'static, Result<Texts, String>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let lines = self.lines.iter().map(|line| (*line).to_owned()).collect();
            let texts = Texts { lines, ttl: Duration::from_secs(self.ttl) };
            let broken = name != "_dnslink.example.org." && !name.contains("many");
            async move { if broken { Err("refused".to_owned()) } else { Ok(texts) } }.boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_is_asked_for_once_in_its_ttl_and_says_how_long_it_lasts() {
        let dns = Fixed::new(&["v=spf1 -all", "dnslink=/hyper/x", PATH], 60);
        let links = DnsLinks::new(dns.clone());
        assert_eq!(links.known("example.org"), None);
        let link = links.look_up("example.org").await.unwrap();
        assert_eq!((link.path.rest.as_slice(), link.fresh_for.as_secs()), (&["a".to_owned()][..], 60));
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(links.clone().look_up("example.org").await.unwrap().fresh_for.as_secs(), 1);
        assert_eq!(dns.asked(), 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(links.known("example.org"), None);
        links.look_up("example.org").await.unwrap();
        assert_eq!(dns.asked(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn no_link_is_remembered_for_a_while_and_a_failure_is_not() {
        for lines in [&["dnslink=nothing"][..], &[], &[PATH, PATH]] {
            let dns = Fixed::new(lines, 3_600);
            let links = DnsLinks::new(dns.clone());
            let error = links.look_up("example.org").await.unwrap_err();
            assert_eq!(matches!(error, DnsLinkError::Several { .. }), lines.len() == 2, "{error}");
            assert_eq!(links.look_up("example.org").await, Err(error));
            assert_eq!(dns.asked(), 1);
            tokio::time::advance(NO_LINK_FOR).await;
            assert!(links.known("example.org").is_none());
        }
        let dns = Fixed::new(&[PATH], 60);
        let links = DnsLinks::new(dns.clone());
        for _ in 0..2 {
            let error = links.look_up("other.example").await.unwrap_err();
            assert!(matches!(error, DnsLinkError::Failed { .. }), "{error}");
        }
        assert_eq!(dns.asked(), 2);
    }

    #[tokio::test]
    async fn domains_without_number_cost_bounded_memory() {
        let links = DnsLinks::new(Fixed::new(&[PATH], 60));
        for n in 0..2 * MOST_DOMAINS {
            links.look_up(&format!("many{n}.example.org")).await.unwrap();
        }
        assert_eq!(links.lock().len(), MOST_DOMAINS);
        assert!(links.known(&format!("many{}.example.org", 2 * MOST_DOMAINS - 1)).is_some());
    }
}
