//! `<n>.m4s`, a CMAF segment of one or more chunks (ISO/IEC 23000-19 section 7.3.3): what its bytes alone show.

use super::boxes::{Fields, Mp4Box, Often};
use super::id3::{self, TextFrames};
use super::init_segment::{self, InitSegment};
use super::rules::{self, Violation, ensure, ensure_eq};

/// Samples of an AAC-LC frame.
pub const FRAME_SAMPLES: u32 = 1024;
/// An access unit holds at most 6,144 bits per channel (ISO/IEC 14496-3 section 4.5.3.2).
const MAX_ACCESS_UNIT: u32 = 2 * 6144 / 8;
/// Scheme of the Alliance for Open Media for ID3 in CMAF.
const ID3_SCHEME: &str = "https://aomedia.org/emsg/ID3";
/// sample_flags of a sync sample: nothing said, or sample_depends_on = 2.
const SYNC_FLAGS: [u32; 2] = [0, 0x0200_0000];

/// An emsg with its tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// On the media timeline.
    pub presentation_time: u64,
    /// What the tag says.
    pub frames: TextFrames,
}

/// One moof and its mdat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// mfhd sequence_number.
    pub sequence_number: u32,
    /// tfdt baseMediaDecodeTime.
    pub decode_time: u64,
    /// Samples of audio, all frames together.
    pub duration: u64,
    /// Bytes of each access unit.
    pub sizes: Vec<u32>,
}

/// A media segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaSegment {
    /// Events in file order, at least one.
    pub events: Vec<Event>,
    /// Chunks in file order, at least one; contiguous in time and in sequence number.
    pub chunks: Vec<Chunk>,
}

impl MediaSegment {
    /// Where it starts on the media timeline.
    pub fn decode_time(&self) -> u64 {
        self.chunks[0].decode_time
    }

    /// Samples of audio.
    pub fn duration(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.duration).sum()
    }

    /// sequence_number of the last chunk.
    pub fn last_sequence_number(&self) -> u32 {
        self.chunks[self.chunks.len() - 1].sequence_number
    }
}

/// Reads and judges a segment. The rules that need its number or its neighbours are the window's.
pub fn parse(
    bytes: &[u8],
    init: &InitSegment,
    timescale: u32,
    segment_samples: u64,
) -> Result<MediaSegment, Violation> {
    let (events, chunks) = top_level(bytes, init, timescale)?;
    ensure(!chunks.is_empty(), rules::BOX_COUNT, "no moof", "one or more")?;
    for pair in chunks.windows(2) {
        let wanted = pair[0].sequence_number.wrapping_add(1);
        ensure_eq(rules::MFHD_SEQUENCE, "sequence_number", pair[1].sequence_number, wanted)?;
        let wanted = pair[0].decode_time + pair[0].duration;
        ensure_eq(rules::TFDT_CONTINUITY, "baseMediaDecodeTime", pair[1].decode_time, wanted)?;
    }
    let segment = MediaSegment { events, chunks };
    ensure_eq(rules::SEGMENT_DURATION, "samples", segment.duration(), segment_samples)?;
    ensure(!segment.events.is_empty(), rules::EMSG_MISSING, "none", "one emsg or more")?;
    Ok(segment)
}

/// `[styp] (emsg* moof mdat)+` and no byte else.
fn top_level(
    bytes: &[u8],
    init: &InitSegment,
    timescale: u32,
) -> Result<(Vec<Event>, Vec<Chunk>), Violation> {
    let (mut events, mut chunks) = (Vec::new(), Vec::new());
    let mut file = Fields::of_file(bytes);
    let mut dangling = false;
    while let Some(next) = file.next_box()? {
        let found = format!("{:?} at offset {}", next.name, next.offset);
        match next.name.as_str() {
            "styp" => {
                ensure(next.offset == 0, rules::BOX_COUNT, found, "styp first only")?;
                let wanted = ["msdh", "msix", "cmfs", "cmff", "cmfl", "cmfc", "cmf2", "iso6"];
                init_segment::brands(next, &wanted)?;
            }
            "emsg" => {
                dangling = true;
                events.push(emsg(next, timescale)?);
            }
            "moof" => {
                dangling = false;
                let mdat = file.next_box()?.filter(|follower| follower.name == "mdat");
                let mdat =
                    mdat.ok_or_else(|| Violation::new(rules::BOX_COUNT, found, "an mdat right after"))?;
                chunks.push(moof(next, &mdat, init)?);
            }
            "mdat" => return Err(Violation::new(rules::BOX_COUNT, found, "a moof right before")),
            _ => return Err(Violation::new(rules::BOX_UNKNOWN, found, "styp, emsg, moof, mdat")),
        }
    }
    ensure(!dangling, rules::BOX_COUNT, "emsg last", "emsg before a moof")?;
    Ok((events, chunks))
}

fn emsg(container: Mp4Box<'_>, wanted_timescale: u32) -> Result<Event, Violation> {
    let mut full = container.full()?;
    ensure_eq(rules::EMSG_FIELD, "version and flags", (full.version, full.flags), (1, 0))?;
    let fields = &mut full.fields;
    ensure_eq(rules::EMSG_FIELD, "timescale", fields.u32()?, wanted_timescale)?;
    let presentation_time = fields.uint(8)?;
    let _event_duration = fields.u32()?;
    let _id = fields.u32()?;
    ensure_eq(rules::EMSG_FIELD, "scheme_id_uri", fields.string()?, ID3_SCHEME)?;
    let _value = fields.string()?;
    Ok(Event { presentation_time, frames: id3::parse(fields.rest())? })
}

fn moof(container: Mp4Box<'_>, mdat: &Mp4Box<'_>, init: &InitSegment) -> Result<Chunk, Violation> {
    let data_offset = container.size + mdat.header;
    let mut fields = container.fields;
    let children = fields.children(&[("mfhd", Often::Once), ("traf", Often::Once)])?;
    let mut mfhd = children.one("mfhd")?.full_of(0, 0)?;
    let sequence_number = mfhd.u32()?;
    mfhd.end()?;
    let traf = children.one("traf")?.fields.children(&[
        ("tfhd", Often::Once),
        ("tfdt", Often::Once),
        ("trun", Often::Once),
    ])?;
    let defaults = tfhd(traf.one("tfhd")?, init)?;
    let mut tfdt = traf.one("tfdt")?.full_of(1, 0)?;
    let decode_time = tfdt.uint(8)?;
    tfdt.end()?;
    let samples = trun(traf.one("trun")?, &defaults, data_offset)?;
    let total: u64 = samples.sizes.iter().map(|size| u64::from(*size)).sum();
    let payload = (mdat.size - mdat.header) as u64;
    ensure_eq(rules::TRUN_SIZES, "sum of sample sizes", total, payload)?;
    let (largest, smallest) = (samples.sizes.iter().max(), samples.sizes.iter().min());
    let legal =
        smallest.is_some_and(|size| *size > 0) && largest.is_some_and(|size| *size <= MAX_ACCESS_UNIT);
    let found = format!("{smallest:?} to {largest:?} bytes");
    ensure(legal, rules::ACCESS_UNIT, found, format!("1 to {MAX_ACCESS_UNIT}"))?;
    Ok(Chunk { sequence_number, decode_time, duration: samples.duration, sizes: samples.sizes })
}

/// What holds for samples of which trun says nothing.
struct Defaults {
    duration: u32,
    flags: u32,
    /// From tfhd; `None` leaves trex.
    size: Option<u32>,
    trex_size: u32,
}

fn tfhd(container: Mp4Box<'_>, init: &InitSegment) -> Result<Defaults, Violation> {
    const KNOWN: u32 = 0x02_0000 | 0x02 | 0x08 | 0x10 | 0x20;
    let full = container.full()?;
    let (flags, mut fields) = (full.flags, full.fields);
    let legal = full.version == 0 && flags & !KNOWN == 0 && flags & 0x02_0000 != 0;
    let found = format!("version {} flags {flags:#x}", full.version);
    ensure(
        legal,
        rules::TFHD,
        found,
        "version 0, default-base-is-moof, no base-data-offset, no unknown flag",
    )?;
    ensure_eq(rules::TFHD, "track_ID", fields.u32()?, init.track_id)?;
    let mut optional = |flag: u32| if flags & flag == 0 { Ok(None) } else { fields.u32().map(Some) };
    ensure_eq(rules::TFHD, "sample_description_index", optional(0x02)?.unwrap_or(1), 1)?;
    let duration = optional(0x08)?.unwrap_or(init.default_duration);
    let size = optional(0x10)?;
    let sample_flags = optional(0x20)?;
    fields.end()?;
    if let Some(flags) = sample_flags {
        sync_sample(flags)?;
    }
    if flags & 0x08 != 0 {
        ensure_eq(rules::TFHD, "default_sample_duration", duration, FRAME_SAMPLES)?;
    }
    let flags = sample_flags.unwrap_or(init.default_flags);
    Ok(Defaults { duration, flags, size, trex_size: init.default_size })
}

fn sync_sample(flags: u32) -> Result<(), Violation> {
    if SYNC_FLAGS.contains(&flags) {
        return Ok(());
    }
    Err(Violation::new(rules::SAMPLE_FLAGS, format!("{flags:#x}"), format!("one of {SYNC_FLAGS:x?}")))
}

/// The samples of a trun.
struct Samples {
    duration: u64,
    sizes: Vec<u32>,
}

fn trun(container: Mp4Box<'_>, defaults: &Defaults, data_offset: usize) -> Result<Samples, Violation> {
    let full = container.full()?;
    let (flags, mut fields) = (full.flags, full.fields);
    // Composition offsets (0x800) have no place in audio, first-sample-flags (0x4) none where all are sync.
    let legal = full.version <= 1 && flags & !0x701 == 0 && flags & 0x1 != 0;
    let found = format!("version {} flags {flags:#x}", full.version);
    ensure(legal, rules::TRUN, found, "version 0 or 1, data-offset, no flags but 0x100, 0x200, 0x400")?;
    let count = fields.u32()? as usize;
    ensure_eq(rules::TRUN, "data_offset", fields.u32()? as usize, data_offset)?;
    let width = 4 * (flags & 0x700).count_ones() as usize;
    ensure_eq(rules::TRUN, "bytes of samples", fields.left(), count.saturating_mul(width))?;
    let sized = flags & 0x200 != 0;
    ensure(!(sized && defaults.size.is_some()), rules::TRUN, "sizes in tfhd and in trun", "one of the two")?;
    ensure(width > 0 || count <= 180, rules::TRUN, format!("{count} samples"), "180 at most")?;
    let mut samples = Samples { duration: 0, sizes: Vec::with_capacity(count) };
    for _ in 0..count {
        let mut field = |flag: u32, or: u32| if flags & flag == 0 { Ok(or) } else { fields.u32() };
        let duration = field(0x100, defaults.duration)?;
        ensure_eq(rules::SEGMENT_DURATION, "sample duration", duration, FRAME_SAMPLES)?;
        samples.duration += u64::from(duration);
        samples.sizes.push(field(0x200, defaults.size.unwrap_or(defaults.trex_size))?);
        sync_sample(field(0x400, defaults.flags)?)?;
    }
    fields.end()?;
    Ok(samples)
}
