//! IPNS records between the station and the network: ours out by gossip and DHT, those of others in, the best one wins.
//!
//! Takes the signed records of the publisher by a watch, so that nothing here can ever hold up a tick; a slow or dead
//! network costs the newest record its way out, never a queue. A crash loses the caches of foreign names and DNSLinks.

mod cache;
pub mod content_path;
pub mod dnslink;
mod follow;
mod network;
pub mod publisher;
pub mod resolver;
pub mod routing;
mod search;

pub use content_path::{ContentPath, Root};
pub use dnslink::{DnsLink, DnsLinkError, DnsLinks};
pub use follow::Newest;
pub use publisher::NamePublisher;
pub use resolver::{Fresh, ResolveError, Resolver};
pub use routing::{Judge, Routing, RoutingError, Verdict};
