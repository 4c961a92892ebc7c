//! Reads the tree that a record names: all of it but media and what others keep below the root.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use cid::Cid;
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::Deserialize;
use thiserror::Error;

use super::window::Signed;
use crate::ipfs::Block;
use crate::ipfs::ipns::Record;
use crate::ipfs::names::{ContentPath, Root};
use crate::ipfs::unixfs::{self, BlockReader, Link, Node, UnixFsError};
use crate::publisher::contents::Contents;
use crate::publisher::index::{Group, INDEX, IndexError};
use crate::publisher::live_window::LiveWindow;
use crate::publisher::stream_tree::{Entry, StreamTree};

/// Entries of the root at most.
const MOST_ENTRIES: usize = 64;
/// Files of the index at most: four hours and the longest lead, in the shortest segments.
const MOST_GROUPS: usize = 1_024;
/// Entries of a rendition's folder at most.
const MOST_FILES: usize = MOST_GROUPS * 16;
/// Largest station.json and multivariant playlist, in bytes.
const MAX_TEXT: usize = 256 * 1024;
/// Blocks that are asked for at a time.
const AT_ONCE: usize = 8;

/// Why a tree is not followed.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The record leads somewhere else.
    #[error("the record leads to {value:?}, which is no tree of a station")]
    Value {
        /// Its value.
        value: String,
    },
    /// A block is missing or broken.
    #[error("cannot read {path} of the station's tree")]
    Block {
        /// Path from the root.
        path: String,
        /// The cause.
        #[source]
        source: UnixFsError,
    },
    /// A file is not what it must be.
    #[error("{path} of the station's tree is not what it must be: {reason}")]
    Form {
        /// Path from the root.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// There is no index: the station's program does not know relays.
    #[error("the station's tree has no index; its program is older than relays")]
    NoIndex,
    /// A file of the index lies.
    #[error("group {group} of the station's index is refused")]
    Index {
        /// Its number.
        group: u64,
        /// What is wrong.
        #[source]
        source: IndexError,
    },
}

impl ReadError {
    /// Whether another try may help: blocks come from others.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Block { .. })
    }
}

/// A tree as it is signed.
#[derive(Debug, Clone)]
pub struct SignedTree {
    /// The record that names it.
    pub record: Arc<Record>,
    /// CID of its root.
    pub root: Cid,
    /// `station.json`.
    pub station: Bytes,
    /// `stream.m3u8`.
    pub multivariant: Bytes,
    /// Entries of the root that are kept elsewhere, such as the archive.
    pub others: HashMap<String, Entry>,
    /// The index.
    pub signed: Signed,
    /// Every block of it that is not media.
    pub blocks: Vec<Block>,
}

/// What is read of station.json.
#[derive(Debug, Deserialize)]
struct Edges {
    oldest: Option<u64>,
    newest: Option<u64>,
}

/// Files of the index that are known by their CIDs.
pub type KnownGroups = HashMap<Cid, (Block, Group)>;

/// Reads the tree of `record`; what is `known` of the index is not read again.
///
/// # Errors
/// [`ReadError`], the first thing that is wrong.
pub async fn read<S: BlockReader>(
    source: &S,
    record: Arc<Record>,
    known: &KnownGroups,
) -> Result<SignedTree, ReadError> {
    let root = root_of(&record)?;
    let source = Recorder { source: source.clone(), read: Arc::default() };
    let top = unixfs::load(&source, &root).await.map_err(|source| at("", source))?;
    let Node::Directory(mut links) = top else { return Err(form("", "it is no plain directory")) };
    if links.len() > MOST_ENTRIES {
        return Err(form("", "it has too many entries"));
    }
    let index = take(&mut links, INDEX).ok_or(ReadError::NoIndex)?;
    let groups = groups(&source, &index, known).await?;
    let station = text(&source, &mut links, "station.json").await?;
    let multivariant = text(&source, &mut links, "stream.m3u8").await?;
    let signed = signed(groups, &station)?;
    let names: BTreeSet<_> = signed.head.renditions.iter().map(|r| r.name.as_str()).collect();
    let (renditions, others): (Vec<_>, Vec<_>) =
        links.into_iter().partition(|link| names.contains(link.name.as_str()));
    let others = others.into_iter().map(|l| (l.name, Entry { cid: l.cid, size: l.size })).collect();
    let mut tree =
        SignedTree { record, root, station, multivariant, others, signed, blocks: Vec::new() };
    let (made, mut blocks) = tree.make();
    if made.root != root {
        // Made by a program that does some of it in another way: its folders are read instead of being made again.
        blocks.clear();
        read_folders(&source, &renditions).await?;
    }
    blocks.extend(source.taken());
    blocks.extend(tree.signed.groups.values().map(|(block, _)| block.clone()));
    tree.blocks = blocks;
    Ok(tree)
}

impl SignedTree {
    /// The tree as this program makes it of the same segments, and its blocks without media.
    fn make(&self) -> (StreamTree, Vec<Block>) {
        let Signed { head, oldest, newest, .. } = &self.signed;
        let window =
            LiveWindow::of_index(self.signed.segments(), *oldest, *newest, head.playlist_segments);
        let contents = Contents {
            head,
            window: &window,
            index: self.signed.groups.iter().map(|(group, (block, _))| (*group, block.clone())).collect(),
            multivariant: self.multivariant.clone(),
            station: self.station.clone(),
            others: self.others.clone(),
        };
        contents.tree()
    }

    /// The files of the index by their CIDs.
    pub fn known_groups(&self) -> KnownGroups {
        self.signed.groups.values().map(|(block, group)| (block.cid, (block.clone(), group.clone()))).collect()
    }
}

fn root_of(record: &Record) -> Result<Cid, ReadError> {
    match ContentPath::parse(&record.value) {
        Some(ContentPath { root: Root::Content(cid), rest }) if rest.is_empty() => Ok(cid),
        _ => Err(ReadError::Value { value: record.value.clone() }),
    }
}

async fn groups<S: BlockReader>(
    source: &S,
    index: &Link,
    known: &KnownGroups,
) -> Result<BTreeMap<u64, (Block, Group)>, ReadError> {
    let failed = |source| at(INDEX, source);
    let node = unixfs::load(source, &index.cid).await.map_err(failed)?;
    let entries = unixfs::list(source, index.cid, &node, MOST_GROUPS).await.map_err(failed)?;
    if entries.more {
        return Err(form(INDEX, "it has too many files"));
    }
    let read = entries.links.into_iter().map(|link| async move {
        let path = format!("{INDEX}/{}", link.name);
        let group = link.name.strip_suffix(".json").and_then(|stem| stem.parse().ok());
        let group: u64 = group.ok_or_else(|| form(&path, "its name is no number"))?;
        if let Some(known) = known.get(&link.cid) {
            return Ok((group, known.clone()));
        }
        let data = file(source, &path, link.cid).await?;
        let read = Group::parse(group, &data).map_err(|source| ReadError::Index { group, source })?;
        Ok((group, (Block { cid: link.cid, data }, read)))
    });
    stream::iter(read).buffer_unordered(AT_ONCE).try_collect().await
}

async fn text<S: BlockReader>(source: &S, links: &mut Vec<Link>, name: &str) -> Result<Bytes, ReadError> {
    let link = take(links, name).ok_or_else(|| form(name, "it is not there"))?;
    let data = file(source, name, link.cid).await?;
    if data.len() > MAX_TEXT { Err(form(name, "it is too large")) } else { Ok(data) }
}

/// The bytes of a file that is one raw block.
async fn file<S: BlockReader>(source: &S, path: &str, cid: Cid) -> Result<Bytes, ReadError> {
    match unixfs::load(source, &cid).await.map_err(|source| at(path, source))? {
        Node::Raw(bytes) => Ok(bytes),
        _ => Err(form(path, "it is no raw block")),
    }
}

fn signed(groups: BTreeMap<u64, (Block, Group)>, station: &Bytes) -> Result<Signed, ReadError> {
    let edges: Edges =
        serde_json::from_slice(station).map_err(|error| form("station.json", &error.to_string()))?;
    let newest = edges.newest.ok_or_else(|| form("station.json", "it names no newest segment"))?;
    let of = |(group, read): (&u64, &(Block, Group))| {
        (*group == crate::publisher::index::group(newest)).then(|| read.1.clone())
    };
    let told = groups.iter().find_map(of).filter(|group| group.segments.iter().any(|s| s.n == newest));
    let head = told.ok_or_else(|| form(INDEX, "the newest segment is not in it"))?.head;
    // A group of other renditions is of a run before, whose files nobody lists any more.
    let groups: BTreeMap<_, _> =
        groups.into_iter().filter(|(_, (_, group))| group.head.renditions == head.renditions).collect();
    let lowest = groups.values().find_map(|(_, group)| group.segments.first()).map_or(newest, |s| s.n);
    let oldest = edges.oldest.unwrap_or(lowest).clamp(lowest, newest);
    Ok(Signed { head, groups, oldest, newest })
}

/// Reads every block of the renditions' folders that is not media.
async fn read_folders<S: BlockReader>(source: &S, folders: &[Link]) -> Result<(), ReadError> {
    for folder in folders {
        let failed = |source| at(&folder.name, source);
        let node = unixfs::load(source, &folder.cid).await.map_err(failed)?;
        let files = unixfs::list(source, folder.cid, &node, MOST_FILES).await.map_err(failed)?;
        for playlist in files.links.iter().filter(|link| link.name.ends_with(".m3u8")) {
            file(source, &format!("{}/{}", folder.name, playlist.name), playlist.cid).await?;
        }
    }
    Ok(())
}

fn take(links: &mut Vec<Link>, name: &str) -> Option<Link> {
    let place = links.iter().position(|link| link.name == name)?;
    Some(links.remove(place))
}

fn at(path: &str, source: UnixFsError) -> ReadError {
    let path = if path.is_empty() { "the root" } else { path };
    ReadError::Block { path: path.to_owned(), source }
}

fn form(path: &str, reason: &str) -> ReadError {
    let path = if path.is_empty() { "the root" } else { path };
    ReadError::Form { path: path.to_owned(), reason: reason.to_owned() }
}

/// Keeps what is read through it.
#[derive(Clone)]
struct Recorder<S> {
    source: S,
    read: Arc<Mutex<Vec<Block>>>,
}

impl<S> Recorder<S> {
    fn taken(&self) -> Vec<Block> {
        std::mem::take(&mut self.read.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<S: BlockReader> BlockReader for Recorder<S> {
    async fn read(&self, cid: &Cid) -> Result<Bytes, UnixFsError> {
        let data = self.source.read(cid).await?;
        let block = Block { cid: *cid, data: data.clone() };
        self.read.lock().unwrap_or_else(PoisonError::into_inner).push(block);
        Ok(data)
    }
}
