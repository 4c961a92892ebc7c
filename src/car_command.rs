//! `skywave car`: trees of blocks out of the repo and into it, as CAR files, while the station is not running.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Read, Seek, Write};
use std::path::{Path, PathBuf};

use cid::Cid;
use clap::{Args, Subcommand};
use skywave::config::Config;
use skywave::ipfs::car::{self, Reader};
use skywave::ipfs::imports::{Import, Imports};
use skywave::ipfs::traversal::{MAX_BLOCKS, TraversalError, Walk};
use skywave::ipfs::{Block, Blocks, Identity, IpfsConfig, IpfsError, Node, unixfs};
use skywave::publisher::catalogue::Catalogue;
use skywave::state::{Durability, StateFile};
use skywave::supervisor::chain;

use super::{Failure, RunArgs, block_on, say};

/// Bytes that are read at once.
const PIECE: usize = 64 * 1024;

/// Multicodec of the identity hash: the CID holds the block, and no store needs it.
const IDENTITY: u64 = 0x00;

#[derive(Debug, Subcommand)]
pub(crate) enum CarCommand {
    /// Writes the blocks under a path as a CARv1.
    Export(ExportArgs),
    /// Takes the blocks of a CARv1 or CARv2 into the repo and keeps them.
    Import(ImportArgs),
    /// Stops keeping an import; its blocks go at the next start of the station.
    Forget(ForgetArgs),
}

#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Configuration file; every key has a default.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of everything the station keeps. Replaces station.data.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    place: Place,
    /// A CID, /ipfs/<cid>/<path>, or /ipns/ with the name of this station.
    path: String,
    /// File to write; stdout where it is not given.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    place: Place,
    /// CAR file to read; - is stdin.
    file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ForgetArgs {
    #[command(flatten)]
    place: Place,
    /// Root of the import.
    root: Cid,
}

pub(super) fn run(command: CarCommand) -> Result<(), Failure> {
    match command {
        CarCommand::Export(args) => block_on(export(&args.place.load()?, &args))?,
        CarCommand::Import(args) => block_on(import(&args.place.load()?, &args.file))?,
        CarCommand::Forget(args) => forget(&args.place.load()?.station.data, &args.root),
    }
}

impl Place {
    fn load(&self) -> Result<Config, Failure> {
        let (config, data) = (self.config.clone(), self.data.clone());
        let run = RunArgs { config, data, offline: true, ..RunArgs::default() };
        run.load().map_err(Failure::Config)
    }
}

/// The repo without a swarm.
async fn open(config: &Config) -> Result<Blocks, Failure> {
    let offline = IpfsConfig { offline: true, ..config.ipfs.clone() };
    // Offline, nobody sees the key.
    let node = Node::start(&offline, Identity::generate(), &config.repo()).await;
    let node = node.map_err(|error| {
        Failure::Other(format!(
            "{}\nA station that runs has its repo to itself: stop it first, or ask its gateway for \
             /ipfs/<cid>?format=car",
            chain(&error)
        ))
    })?;
    Ok(node.blocks().clone())
}

async fn export(config: &Config, args: &ExportArgs) -> Result<(), Failure> {
    let failed = |text: String| Failure::Other(text);
    if args.output.is_none() && io::stdout().is_terminal() {
        return Err(failed("a CAR is no text for a terminal: give -o FILE, or redirect stdout".into()));
    }
    if !config.repo().is_dir() {
        return Err(failed(format!("there is no repo at {}", config.repo().display())));
    }
    let (root, path) = content_path(config, &args.path).map_err(failed)?;
    let blocks = open(config).await?;
    let root = resolve(&blocks, root, &path).await?;
    let Some(file) = &args.output else { return write(&blocks, root, io::stdout().lock()).await };
    // Whole or not at all.
    let part = with_suffix(file, ".part");
    let written = match File::create(&part) {
        Ok(part) => write(&blocks, root, part).await,
        Err(error) => Err(failed(format!("{}: {error}", part.display()))),
    };
    let written = written.and_then(|()| {
        fs::rename(&part, file).map_err(|error| failed(format!("{}: {error}", file.display())))
    });
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written
}

/// The block that a path leads to, which is held here.
async fn resolve(blocks: &Blocks, root: Cid, path: &[String]) -> Result<Cid, Failure> {
    if path.is_empty() {
        // Any DAG, not UnixFS alone.
        let held = blocks.contains(&root).await.map_err(|error| Failure::other(&error))?;
        let missing = || Failure::Other(format!("block {root} is not held here"));
        return held.then_some(root).ok_or_else(missing);
    }
    let found = unixfs::resolve(blocks, root, path).await.map_err(|error| Failure::other(&error))?;
    match found.remainder.first() {
        None => Ok(found.cid),
        Some(name) => {
            Err(Failure::Other(format!("{} is no directory, so it has no entry {name:?}", found.cid)))
        }
    }
}

async fn write(blocks: &Blocks, root: Cid, output: impl Write) -> Result<(), Failure> {
    let mut walk = Walk::new(blocks, root);
    let failed = |error: io::Error| Failure::Other(format!("cannot write the CAR: {error}"));
    let mut output = BufWriter::with_capacity(PIECE, output);
    output.write_all(&car::header(&[root])).map_err(failed)?;
    while let Some(block) = walk.next_block().await.map_err(|error| Failure::other(&error))? {
        output.write_all(&car::section_begin(&block.cid, block.data.len())).map_err(failed)?;
        output.write_all(&block.data).map_err(failed)?;
    }
    output.flush().map_err(failed)
}

/// The root and the names below it, of a bare CID, an `/ipfs/` path or an `/ipns/` path of this station.
fn content_path(config: &Config, text: &str) -> Result<(Cid, Vec<String>), String> {
    let mut parts = text.split('/').filter(|part| !part.is_empty());
    let first = parts.next().unwrap_or_default();
    let root = match (text.starts_with('/'), first) {
        (true, "ipns") => own_root(config, parts.next().unwrap_or_default())?,
        (true, "ipfs") => content_id(parts.next().unwrap_or_default())?,
        (false, cid) => content_id(cid)?,
        (true, _) => return Err(format!("{text:?} is no CID and begins with neither /ipfs/ nor /ipns/")),
    };
    Ok((root, parts.map(str::to_owned).collect()))
}

fn content_id(text: &str) -> Result<Cid, String> {
    text.parse().map_err(|error| format!("{text:?} is no CID ({error})"))
}

/// The root that was on air last, under the station's own name and no other.
fn own_root(config: &Config, name: &str) -> Result<Cid, String> {
    let key = config.station.data.join("identity.key");
    if !key.is_file() {
        return Err(format!("there is no station in {}", config.station.data.display()));
    }
    let identity = Identity::load_or_create(&key).map_err(|error| error.to_string())?;
    let own = identity.ipns_name();
    let hash = |name: &str| name.parse::<Cid>().map(|cid| *cid.hash()).ok();
    if hash(name) != hash(&own) && name != identity.peer_id().to_string() {
        return Err(format!(
            "{name:?} is not the name of this station, {own}, and other names are not looked up"
        ));
    }
    let catalogue = StateFile::new(config.repo().join("window.json"), Durability::Process);
    let catalogue = catalogue.load::<Catalogue>().map_err(|error| error.to_string())?;
    catalogue.and_then(|catalogue| catalogue.root).ok_or_else(|| "the station has not been on air yet".into())
}

async fn import(config: &Config, path: &Path) -> Result<(), Failure> {
    let data = &config.station.data;
    let (mut source, contents) = match path.to_str() {
        Some("-") => Source::spool(data).map_err(Failure::Other)?,
        _ => Source::open(path).map_err(|reason| Failure::Other(format!("{}: {reason}", path.display())))?,
    };
    fs::create_dir_all(data).map_err(|error| Failure::Other(format!("{}: {error}", data.display())))?;
    let mut imports = Imports::load(data).map_err(|error| Failure::other(&error))?;
    let blocks = open(config).await?;
    let mut fresh = Vec::new();
    let stored = store(&blocks, &mut source, &mut fresh).await;
    let bytes = contents.bytes;
    let listed = stored.and_then(|()| {
        imports.add(Import { roots: contents.roots.clone(), bytes, blocks: contents.blocks });
        imports.save(data).map_err(|error| chain(&error))
    });
    if let Err(reason) = listed {
        for cid in &fresh {
            // What stays is removed by the sweep at the station's next start.
            let _ = blocks.remove(cid).await;
        }
        return Err(Failure::Other(format!("{}: {reason}; nothing of it is kept", path.display())));
    }
    for root in contents.roots {
        say(&format!("root {root}{}", incomplete(&blocks, root).await));
    }
    say(&format!("{} blocks, {} bytes; {} blocks are new", contents.count, bytes, fresh.len()));
    Ok(())
}

/// Puts every block into the repo; `fresh` tells which were not there before, also after a failure.
async fn store(blocks: &Blocks, source: &mut Source, fresh: &mut Vec<Cid>) -> Result<(), String> {
    source.file.rewind().map_err(|error| error.to_string())?;
    let text = |error: IpfsError| chain(&error);
    let (mut reader, mut piece) = (Reader::new(), vec![0; PIECE]);
    loop {
        let read = source.file.read(&mut piece).map_err(|error| error.to_string())?;
        reader.push(&piece[..read]);
        while let Some(block) = reader.next_block().map_err(|error| error.to_string())? {
            if block.cid.hash().code() == IDENTITY {
                continue;
            }
            if !blocks.contains(&block.cid).await.map_err(text)? {
                fresh.push(block.cid);
            }
            blocks.put_pinned(&block).await.map_err(text)?;
        }
        if read == 0 {
            return reader.finish().map_err(|error| error.to_string());
        }
    }
}

/// Says in words what is missing under a root; nothing where nothing is.
async fn incomplete(blocks: &Blocks, root: Cid) -> String {
    let mut walk = Walk::new(blocks, root);
    let (mut missing, mut unknown) = (0_usize, 0_usize);
    loop {
        match walk.next_block().await {
            Ok(Some(_)) => {}
            Ok(None) | Err(TraversalError::TooMany { .. }) => break,
            Err(TraversalError::Codec { .. }) => unknown += 1,
            Err(_) => missing += 1,
        }
    }
    let mut text = String::new();
    if missing > 0 {
        text += &format!(", incomplete: {missing} blocks under it are not here");
    }
    if unknown > 0 {
        text += &format!(", {unknown} blocks under it have links that are not followed here");
    }
    text
}

/// A CAR that was read to its end once and found good.
struct Source {
    file: File,
    spooled: Option<PathBuf>,
}

/// What a first reading found.
struct Contents {
    roots: Vec<Cid>,
    /// Every block once, but for those that their CIDs hold.
    blocks: Vec<Cid>,
    bytes: u64,
    count: usize,
}

impl Source {
    fn open(path: &Path) -> Result<(Self, Contents), String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        let contents = check(&file, io::sink())?;
        Ok((Self { file, spooled: None }, contents))
    }

    /// Copies stdin to a file of the data folder that goes with this value.
    fn spool(data: &Path) -> Result<(Self, Contents), String> {
        fs::create_dir_all(data).map_err(|error| format!("{}: {error}", data.display()))?;
        let path = data.join(format!("import.{}.car", std::process::id()));
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(|error| format!("{}: {error}", path.display()))?;
        let source = Self { file, spooled: Some(path) };
        let contents =
            check(io::stdin().lock(), &source.file).map_err(|reason| format!("stdin: {reason}"))?;
        Ok((source, contents))
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Some(path) = &self.spooled {
            let _ = fs::remove_file(path);
        }
    }
}

/// Reads a CAR to its end, every block checked, and copies it on the way.
fn check(mut input: impl Read, mut copy: impl Write) -> Result<Contents, String> {
    let (mut reader, mut piece) = (Reader::new(), vec![0; PIECE]);
    let (mut seen, mut contents) =
        (HashSet::new(), Contents { roots: vec![], blocks: vec![], bytes: 0, count: 0 });
    loop {
        let read = input.read(&mut piece).map_err(|error| error.to_string())?;
        reader.push(&piece[..read]);
        while let Some(Block { cid, data }) = reader.next_block().map_err(|error| error.to_string())? {
            contents.count += 1;
            if cid.hash().code() != IDENTITY && seen.insert(cid) {
                contents.blocks.push(cid);
                contents.bytes += data.len() as u64;
            }
            if seen.len() > MAX_BLOCKS {
                return Err(format!("more than {MAX_BLOCKS} blocks"));
            }
        }
        if read == 0 {
            break;
        }
        copy.write_all(&piece[..read]).map_err(|error| error.to_string())?;
    }
    reader.finish().map_err(|error| error.to_string())?;
    if reader.roots().is_empty() {
        return Err("it names no root, so nobody could find its blocks again".into());
    }
    contents.roots = reader.roots().to_vec();
    Ok(contents)
}

fn forget(data: &Path, root: &Cid) -> Result<(), Failure> {
    let mut imports = Imports::load(data).map_err(|error| Failure::other(&error))?;
    if !imports.forget(root) {
        return Err(Failure::Other(format!("no import in {} has the root {root}", data.display())));
    }
    imports.save(data).map_err(|error| Failure::other(&error))?;
    say(&format!("{root} is not kept any more; its blocks go at the next start of the station"));
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
