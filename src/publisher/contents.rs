//! What stands in the stream tree: media, playlists, station.json, the index. Pure.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::index::{self, Head};
use super::live_window::LiveWindow;
use super::stream_tree::{self, Entry, StreamTree};
use crate::ipfs::Block;

/// What a tree is made from.
#[derive(Debug)]
pub struct Contents<'a> {
    /// What holds for every segment: renditions and grid.
    pub head: &'a Head,
    /// The segments.
    pub window: &'a LiveWindow,
    /// The files of the index by their groups.
    pub index: BTreeMap<u64, Block>,
    /// `stream.m3u8`.
    pub multivariant: Bytes,
    /// `station.json`.
    pub station: Bytes,
    /// Further entries of the root, such as the archive.
    pub others: HashMap<String, Entry>,
}

impl Contents<'_> {
    /// The tree, and the blocks of it that are not media: playlists, `station.json`, the index, directories, root last.
    pub fn tree(self) -> (StreamTree, Vec<Block>) {
        let (window, mut files, mut blocks) = (self.window, self.others, Vec::new());
        for (place, rendition) in self.head.renditions.iter().enumerate() {
            let name = &rendition.name;
            files.insert(format!("{name}/init.mp4"), rendition.init);
            files.extend(window.aired().map(|s| (format!("{name}/{}.m4s", s.n), s.media[place])));
        }
        let mut add = |path: String, block: Block| {
            files.insert(path, Entry::from(&block));
            blocks.push(block);
        };
        if let Some(playlist) = window.media_playlist(self.head.target_duration) {
            let block = Block::raw(playlist.to_string());
            self.head.renditions.iter().for_each(|r| add(format!("{}/live.m3u8", r.name), block.clone()));
        }
        for (group, block) in self.index {
            add(index::path(group), block);
        }
        add("stream.m3u8".into(), Block::raw(self.multivariant));
        add("station.json".into(), Block::raw(self.station));
        let newest = window.aired().next_back().map_or(0, |segment| segment.n);
        blocks.dedup_by_key(|block| block.cid);
        let (tree, directories) = stream_tree::build(newest, files);
        blocks.extend(directories);
        (tree, blocks)
    }
}
