//! Paths to nodes: through directories by name, through DAG-CBOR and DAG-JSON by their links.

use cid::Cid;

use super::{BlockReader, Node, UnixFsError, load, sharded_directory};
use crate::ipfs::ipld::{self, Walk};

/// Where a path leads.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The node's CID.
    pub cid: Cid,
    /// The node.
    pub node: Node,
    /// The segments left over, when the path goes on inside a block that is no UnixFS and meets no link.
    pub remainder: Vec<String>,
    /// The root and the CID that each segment led to: the value of `X-Ipfs-Roots`.
    pub roots: Vec<Cid>,
    /// Every block on the way, shards included, without the node's own.
    pub visited: Vec<Cid>,
}

impl Resolved {
    async fn enter<S: BlockReader>(&mut self, source: &S, cid: Cid) -> Result<(), UnixFsError> {
        self.node = load(source, &cid).await?;
        self.cid = cid;
        self.roots.push(cid);
        Ok(())
    }
}

/// Follows `path` from `root`, one directory per segment.
///
/// # Errors
/// As [`load`]; [`UnixFsError::NoSuchEntry`] and [`UnixFsError::NotADirectory`] where the path ends early.
pub async fn resolve<S: BlockReader>(
    source: &S,
    root: Cid,
    path: &[String],
) -> Result<Resolved, UnixFsError> {
    let node = load(source, &root).await?;
    let mut place =
        Resolved { cid: root, node, remainder: Vec::new(), roots: vec![root], visited: Vec::new() };
    let mut rest = path;
    while let [name, after @ ..] = rest {
        let cid = place.cid;
        let missing = |name: &str| UnixFsError::NoSuchEntry { directory: cid, name: name.to_owned() };
        let (next, shards, used) = match &place.node {
            Node::Directory(links) => {
                let link = links.iter().find(|link| link.name == *name).ok_or_else(|| missing(name))?;
                (link.cid, Vec::new(), 1)
            }
            Node::Shard(shard) => {
                let found = sharded_directory::find(source, cid, shard.clone(), name).await?;
                (found.link.cid, found.shards, 1)
            }
            Node::Other(bytes) => match ipld::walk(&cid, bytes, rest) {
                Walk::Link { cid, used } => (cid, Vec::new(), used),
                Walk::Missing { used } => return Err(missing(&rest[used])),
                Walk::Ends => {
                    place.remainder = rest.to_vec();
                    return Ok(place);
                }
            },
            Node::Raw(_) | Node::File(_) | Node::Symlink(_) => {
                return Err(UnixFsError::NotADirectory { cid, name: name.clone() });
            }
        };
        rest = if used == 1 { after } else { &rest[used..] };
        place.visited.push(cid);
        place.visited.extend(shards);
        place.enter(source, next).await?;
    }
    Ok(place)
}
