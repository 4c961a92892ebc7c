use std::time::Duration;

use super::*;
use crate::ipfs::ipns::sign;
use crate::ipfs::unixfs::resolve;
use crate::ipfs::{Blocks, Identity};
use crate::publisher::index::{Head, Index, IndexedRendition};
use crate::publisher::live_window::StoredSegment;
use crate::publisher::stream_tree;

const NOW: i64 = 1_795_377_600_000;

fn head() -> Head {
    let rendition =
        |name: &str| IndexedRendition { name: name.into(), init: Entry::from(&Block::raw(name.to_owned())) };
    Head {
        target_duration: 4,
        playlist_segments: 6,
        segment_samples: 184_320,
        renditions: vec![rendition("lofi"), rendition("hifi")],
    }
}

/// A station with segments 1 to `count` on air and five ahead.
fn window(count: u64) -> LiveWindow {
    let entry = |text: String| Entry::from(&Block::raw(text));
    let mut window = LiveWindow::new(0);
    for n in 1..=count + 5 {
        let segment = StoredSegment {
            n,
            unix_ms: n as i64 * 3_840,
            airtime_ms: 0,
            program_date_time_ms: n as i64 * 3_840,
            samples: 184_320,
            discontinuity: n == 1,
            media: vec![entry(format!("lofi {n}")), entry(format!("hifi {n}"))],
            now_playing: None,
        };
        assert!(window.store(segment));
    }
    (0..count).for_each(|_| assert!(window.reveal(6).is_some()));
    window
}

fn contents<'a>(head: &'a Head, window: &'a LiveWindow) -> Contents<'a> {
    let mut index = Index::default();
    let newest = window.aired().next_back().unwrap().n;
    let station = format!("{{\"name\":\"Radio\",\"oldest\":1,\"newest\":{newest}}}");
    Contents {
        head,
        window,
        index: index.update(head, window).map(|(k, block)| (k, block.clone())).collect(),
        multivariant: "#EXTM3U\n".into(),
        station: station.into(),
        others: HashMap::new(),
    }
}

/// The blocks of a tree, and the record that names its root.
async fn published((tree, blocks): (StreamTree, Vec<Block>)) -> (Blocks, Arc<Record>) {
    let store = Blocks::in_memory();
    for block in &blocks {
        store.put_pinned(block).await.unwrap();
    }
    (store, record(tree.root))
}

fn record(root: Cid) -> Arc<Record> {
    let (identity, hour) = (Identity::generate(), Duration::from_secs(3_600));
    let signed = sign(&identity, root, 7, NOW, hour, hour).unwrap();
    Arc::new(Record::verify(&identity.name(), &signed.bytes).unwrap())
}

async fn read_from(store: &Blocks, record: &Arc<Record>) -> Result<SignedTree, ReadError> {
    read(store, record.clone(), &KnownGroups::new()).await
}

/// Every playlist is reached from the root by what the relay holds, and every folder lists its media.
async fn assert_whole(tree: &SignedTree) {
    let store = Blocks::in_memory();
    for block in &tree.blocks {
        assert_eq!(Block::of(block.cid.codec(), block.data.clone()).cid, block.cid);
        store.put_pinned(block).await.unwrap();
    }
    let path = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
    for file in ["stream.m3u8", "station.json", "lofi/live.m3u8", "hifi/live.m3u8", "index/0.json"] {
        let found = resolve(&store, tree.root, &path(file)).await;
        assert!(matches!(found.unwrap().node, Node::Raw(_)), "{file}");
    }
    let folder = resolve(&store, tree.root, &path("hifi")).await.unwrap();
    let listed = unixfs::list(&store, folder.cid, &folder.node, 100_000).await.unwrap();
    let Signed { oldest, newest, .. } = tree.signed;
    for n in [oldest, newest] {
        assert!(listed.links.iter().any(|link| link.name == format!("{n}.m4s")), "{n}");
    }
}

#[tokio::test]
async fn a_tree_is_read_by_its_index_alone_and_made_again_with_all_its_folders() {
    let (head, window) = (head(), window(40));
    let (tree, blocks) = contents(&head, &window).tree();
    // Nobody sends the folders of the renditions: they are made here.
    let folders: Vec<_> = blocks.iter().filter(|block| block.cid.codec() == unixfs::DAG_PB).collect();
    let index = folders.iter().find(|block| block.data.windows(6).any(|w| w == b"0.json")).unwrap().cid;
    let few =
        blocks.iter().filter(|b| b.cid.codec() != unixfs::DAG_PB || b.cid == index || b.cid == tree.root);
    let few: Vec<_> = few.filter(|b| !b.data.starts_with(b"#EXTM3U\n#EXT-X-VERSION")).cloned().collect();
    assert!(few.len() + 3 <= blocks.len());
    let (store, record) = published((tree.clone(), few)).await;
    let read = read_from(&store, &record).await.unwrap();
    assert_eq!((read.root, read.signed.oldest, read.signed.newest), (tree.root, 1, 40));
    assert_eq!(read.signed.segments().count(), 45, "the lead too");
    assert_whole(&read).await;
    let known = read.known_groups();
    assert_eq!(known.len(), 3);
}

#[tokio::test]
async fn a_window_of_hours_has_sharded_folders_and_is_whole_too() {
    let (head, window) = (head(), window(6_000));
    let (store, record) = published(contents(&head, &window).tree()).await;
    let read = read_from(&store, &record).await.unwrap();
    assert_eq!(read.signed.newest, 6_000);
    assert_whole(&read).await;
}

#[tokio::test]
async fn a_tree_of_a_program_that_adds_files_is_read_folder_by_folder() {
    let (head, window) = (head(), window(20));
    let (tree, mut blocks) = contents(&head, &window).tree();
    let novelty = Block::raw("novelty");
    let mut files = tree.entries.clone();
    files.insert("hifi/novelty.txt".into(), Entry::from(&novelty));
    files.insert("novelty.txt".into(), Entry::from(&novelty));
    let (tree, directories) = stream_tree::build(20, files);
    blocks.extend(directories);
    let (store, record) = published((tree.clone(), blocks)).await;
    let read = read_from(&store, &record).await.unwrap();
    assert_eq!(read.root, tree.root);
    assert_eq!(read.others.keys().collect::<Vec<_>>(), ["novelty.txt"]);
    assert_whole(&read).await;
}

#[tokio::test]
async fn a_missing_block_is_worth_another_try_and_a_lie_is_not() {
    let (head, window) = (head(), window(20));
    let whole = || contents(&head, &window);
    let (store, record) = published(whole().tree()).await;
    let group = Index::default().update(&head, &window).next().unwrap().1.cid;
    store.remove(&group).await.unwrap();
    let error = read_from(&store, &record).await.unwrap_err();
    assert!(error.is_passing() && error.to_string().contains("index/0.json"), "{error}");

    let lying = |change: &dyn Fn(&mut Contents<'_>)| {
        let mut contents = whole();
        change(&mut contents);
        contents.tree()
    };
    let trees = [
        (lying(&|c| c.index.clear()), "no index"),
        (
            lying(&|c| {
                let last = c.index[&1].clone();
                c.index.insert(0, last);
            }),
            "group 0",
        ),
        (lying(&|c| _ = c.index.remove(&1)), "newest"),
        (lying(&|c| c.station = "{}".into()), "station.json"),
        (lying(&|c| c.station = "{\"newest\":999}".into()), "newest"),
        (lying(&|c| c.station = vec![b' '; MAX_TEXT + 1].into()), "station.json"),
        (lying(&|c| _ = c.index.insert(9, Block::raw("no JSON"))), "group 9"),
    ];
    for (tree, word) in trees {
        let (store, record) = published(tree).await;
        let error = read_from(&store, &record).await.unwrap_err();
        assert!(!error.is_passing() && error.to_string().contains(word), "{word}: {error}");
    }
    let odd = Block::raw("a file");
    let store = Blocks::in_memory();
    store.put_pinned(&odd).await.unwrap();
    assert!(!read_from(&store, &super::tests::record(odd.cid)).await.unwrap_err().is_passing());
}
