//! init.mp4, the CMAF header: one AAC-LC track and no samples (ISO/IEC 23000-19 section 7.3.2).

use super::boxes::{Children, Fields, Mp4Box, Often};
use super::rules::{self, Violation, ensure, ensure_eq};

/// The identity of ISO/IEC 14496-12 section 8.2.2: 16.16 fixed point, the last column 2.30.
const UNITY_MATRIX: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];
/// sampling_frequency_index of ISO/IEC 14496-3 table 1.18.
const FREQUENCIES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/// What media segments and the multivariant playlist are held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InitSegment {
    /// track_ID, not 0.
    pub track_id: u32,
    /// Audio object type of the AudioSpecificConfig.
    pub object_type: u8,
    /// default_sample_duration of trex.
    pub default_duration: u32,
    /// default_sample_size of trex.
    pub default_size: u32,
    /// default_sample_flags of trex.
    pub default_flags: u32,
}

/// Reads and judges an init segment.
pub fn parse(bytes: &[u8], timescale: u32) -> Result<InitSegment, Violation> {
    let mut file = Fields::of_file(bytes);
    let top = file.children(&[("ftyp", Often::Once), ("moov", Often::Once)])?;
    ensure_eq(rules::BOX_COUNT, "first box", top.0[0].name.as_str(), "ftyp")?;
    brands(top.one("ftyp")?, &["cmfc", "cmf2", "iso6", "iso7", "iso8", "iso9", "isoa", "isob", "isoc"])?;
    let moov = top.one("moov")?.fields.children(&[
        ("mvhd", Often::Once),
        ("trak", Often::Once),
        ("mvex", Often::Once),
    ])?;
    let next_track_id = mvhd(moov.one("mvhd")?)?;
    let (track_id, object_type) = trak(moov.one("trak")?, timescale)?;
    ensure(
        next_track_id > track_id,
        rules::BOX_FIELD,
        format!("next_track_ID {next_track_id}"),
        "above track_ID",
    )?;
    let (default_duration, default_size, default_flags) = mvex(moov.one("mvex")?, track_id)?;
    Ok(InitSegment { track_id, object_type, default_duration, default_size, default_flags })
}

/// ftyp or styp: one of the brands named must be among the compatible ones.
pub fn brands(container: Mp4Box<'_>, wanted: &[&str]) -> Result<(), Violation> {
    let mut fields = container.fields;
    let _major_brand = fields.take(4)?;
    let _minor_version = fields.u32()?;
    let mut found = Vec::new();
    while fields.left() > 0 {
        found.push(String::from_utf8_lossy(fields.take(4)?).into_owned());
    }
    let any = found.iter().any(|brand| wanted.contains(&brand.as_str()));
    ensure(any, rules::BRANDS, format!("{found:?}"), format!("one of {wanted:?}"))
}

/// Creation and modification times may be anything; a live track has no duration.
fn times(fields: &mut Fields<'_>, version: u8) -> Result<usize, Violation> {
    fields.field(version <= 1, "version", version, "0 or 1")?;
    let width = if version == 1 { 8 } else { 4 };
    fields.take(2 * width)?;
    Ok(width)
}

fn matrix(fields: &mut Fields<'_>) -> Result<(), Violation> {
    UNITY_MATRIX.iter().try_for_each(|value| fields.constant(4, u64::from(*value), "matrix"))
}

/// Returns next_track_ID.
fn mvhd(container: Mp4Box<'_>) -> Result<u32, Violation> {
    let full = container.full()?;
    let mut fields = full.fields;
    fields.field(full.flags == 0, "flags", full.flags, 0)?;
    let width = times(&mut fields, full.version)?;
    let timescale = fields.u32()?;
    fields.field(timescale > 0, "timescale", timescale, "above 0")?;
    fields.constant(width, 0, "duration")?;
    fields.constant(4, 0x1_0000, "rate")?;
    fields.constant(2, 0x100, "volume")?;
    fields.zeros(10)?;
    matrix(&mut fields)?;
    fields.zeros(24)?;
    let next_track_id = fields.u32()?;
    fields.end()?;
    Ok(next_track_id)
}

/// Returns track_ID and the audio object type.
fn trak(container: Mp4Box<'_>, timescale: u32) -> Result<(u32, u8), Violation> {
    let mut fields = container.fields;
    let allowed = [("tkhd", Often::Once), ("mdia", Often::Once), ("edts", Often::Any)];
    let children = fields.children(&allowed)?;
    ensure(children.find("edts").is_none(), rules::EDIT_LIST, "edts", "none")?;
    let track_id = tkhd(children.one("tkhd")?)?;
    let mdia = children.one("mdia")?.fields.children(&[
        ("mdhd", Often::Once),
        ("hdlr", Often::Once),
        ("minf", Often::Once),
    ])?;
    mdhd(mdia.one("mdhd")?, timescale)?;
    hdlr(mdia.one("hdlr")?)?;
    Ok((track_id, minf(mdia.one("minf")?, track_id, timescale)?))
}

fn tkhd(container: Mp4Box<'_>) -> Result<u32, Violation> {
    let full = container.full()?;
    let mut fields = full.fields;
    let enabled = full.flags & 1 == 1 && full.flags <= 0xf;
    fields.field(enabled, "flags", format!("{:#x}", full.flags), "track_enabled, and no unknown flag")?;
    let width = times(&mut fields, full.version)?;
    let track_id = fields.u32()?;
    fields.field(track_id > 0, "track_ID", track_id, "above 0")?;
    fields.zeros(4)?;
    fields.constant(width, 0, "duration")?;
    fields.zeros(8)?;
    fields.constant(2, 0, "layer")?;
    let _alternate_group = fields.take(2)?;
    fields.constant(2, 0x100, "volume")?;
    fields.zeros(2)?;
    matrix(&mut fields)?;
    fields.constant(4, 0, "width")?;
    fields.constant(4, 0, "height")?;
    fields.end()?;
    Ok(track_id)
}

fn mdhd(container: Mp4Box<'_>, timescale: u32) -> Result<(), Violation> {
    let full = container.full()?;
    let mut fields = full.fields;
    fields.field(full.flags == 0, "flags", full.flags, 0)?;
    let width = times(&mut fields, full.version)?;
    ensure_eq(rules::TIMESCALE, "mdhd timescale", fields.u32()?, timescale)?;
    fields.constant(width, 0, "duration")?;
    let language = fields.uint(2)?;
    let letters = [language >> 10 & 31, language >> 5 & 31, language & 31];
    let legal = language >> 15 == 0 && letters.iter().all(|letter| (1..=26).contains(letter));
    fields.field(legal, "language", format!("{language:#x}"), "three packed letters")?;
    fields.constant(2, 0, "pre_defined")?;
    fields.end()
}

fn hdlr(container: Mp4Box<'_>) -> Result<(), Violation> {
    let mut fields = container.full_of(0, 0)?;
    fields.constant(4, 0, "pre_defined")?;
    fields.constant(4, u64::from(u32::from_be_bytes(*b"soun")), "handler_type")?;
    fields.zeros(12)?;
    let _name = fields.string()?;
    fields.end()
}

fn minf(container: Mp4Box<'_>, track_id: u32, timescale: u32) -> Result<u8, Violation> {
    let mut fields = container.fields;
    let minf = fields.children(&[("smhd", Often::Once), ("dinf", Often::Once), ("stbl", Often::Once)])?;
    let mut smhd = minf.one("smhd")?.full_of(0, 0)?;
    smhd.constant(2, 0, "balance")?;
    smhd.zeros(2)?;
    smhd.end()?;
    let dinf = minf.one("dinf")?.fields.children(&[("dref", Often::Once)])?;
    let mut dref = dinf.one("dref")?.full_of(0, 0)?;
    dref.constant(4, 1, "entry_count")?;
    // Flag 1: the media lies in the same file, and there is no location.
    dref.children(&[("url ", Often::Once)])?.one("url ")?.full_of(0, 1)?.end()?;
    let stbl = minf.one("stbl")?.fields.children(&[
        ("stsd", Often::Once),
        ("stts", Often::Once),
        ("stsc", Often::Once),
        ("stsz", Often::Once),
        ("stco", Often::Once),
    ])?;
    empty_tables(&stbl)?;
    stsd(stbl.one("stsd")?, track_id, timescale)
}

/// The sample tables of a fragmented track have no entries.
fn empty_tables(stbl: &Children<'_>) -> Result<(), Violation> {
    for (name, fields) in [("stts", 1), ("stsc", 1), ("stco", 1), ("stsz", 2)] {
        let mut table = stbl.one(name)?.full_of(0, 0)?;
        for _ in 0..fields {
            table.constant(4, 0, "entry_count")?;
        }
        table.end()?;
    }
    Ok(())
}

fn stsd(container: Mp4Box<'_>, track_id: u32, timescale: u32) -> Result<u8, Violation> {
    let mut fields = container.full_of(0, 0)?;
    fields.constant(4, 1, "entry_count")?;
    let mut mp4a = fields.children(&[("mp4a", Often::Once)])?.one("mp4a")?.fields;
    mp4a.zeros(6)?;
    mp4a.constant(2, 1, "data_reference_index")?;
    mp4a.zeros(8)?;
    mp4a.constant(2, 2, "channelcount")?;
    mp4a.constant(2, 16, "samplesize")?;
    mp4a.zeros(4)?;
    mp4a.constant(4, u64::from(timescale) << 16, "samplerate")?;
    let children = mp4a.children(&[("esds", Often::Once), ("btrt", Often::AtMostOnce)])?;
    if let Some(btrt) = children.find("btrt") {
        let mut fields = btrt.fields;
        fields.take(12)?;
        fields.end()?;
    }
    esds(children.one("esds")?, track_id, timescale)
}

/// The descriptors of ISO/IEC 14496-1 section 7.2.6, as ISO/IEC 14496-14 section 3.1.2 restricts them.
fn esds(container: Mp4Box<'_>, track_id: u32, timescale: u32) -> Result<u8, Violation> {
    let mut fields = container.full_of(0, 0)?;
    let mut es = descriptor(&mut fields, 3)?;
    fields.end()?;
    let es_id = es.uint(2)?;
    es.field(es_id == 0 || es_id == u64::from(track_id), "ES_ID", es_id, "0 or track_ID")?;
    es.constant(1, 0, "ES_Descriptor flags")?;
    let mut config = descriptor(&mut es, 4)?;
    config.constant(1, 0x40, "objectTypeIndication")?;
    config.constant(1, 0x15, "streamType")?;
    config.take(3 + 4 + 4)?; // bufferSizeDB, maxBitrate, avgBitrate: hints
    let asc = descriptor(&mut config, 5)?;
    config.end()?;
    let mut sync_layer = descriptor(&mut es, 6)?;
    sync_layer.constant(1, 2, "SLConfigDescriptor predefined")?;
    sync_layer.end()?;
    es.end()?;
    audio_specific_config(asc, timescale)
}

/// An expandable descriptor: tag, size in 7-bit groups, at most four (ISO/IEC 14496-1 section 8.3.3).
fn descriptor<'a>(fields: &mut Fields<'a>, tag: u8) -> Result<Fields<'a>, Violation> {
    fields.constant(1, u64::from(tag), "descriptor tag")?;
    let mut size = 0;
    for _ in 0..4 {
        let byte = fields.u8()?;
        size = size << 7 | usize::from(byte & 0x7f);
        if byte < 0x80 {
            return fields.slice(size);
        }
    }
    Err(Violation::new(rules::BOX_SYNTAX, "a descriptor size of over four bytes", "four"))
}

/// AAC-LC, two channels, 1,024 samples per frame and nothing else (ISO/IEC 14496-3 sections 1.6.2, 4.4.1).
fn audio_specific_config(mut fields: Fields<'_>, timescale: u32) -> Result<u8, Violation> {
    let bytes = fields.rest();
    ensure(bytes.len() == 2, rules::ASC, format!("{bytes:02x?}"), "two bytes")?;
    let bits = u16::from_be_bytes([bytes[0], bytes[1]]);
    let object_type = (bits >> 11) as u8;
    let frequency = FREQUENCIES.get(usize::from(bits >> 7 & 15)).copied().unwrap_or_default();
    ensure_eq(rules::ASC, "audio object type", object_type, 2)?;
    ensure_eq(rules::ASC, "sampling frequency", frequency, timescale)?;
    ensure_eq(rules::ASC, "channelConfiguration", bits >> 3 & 15, 2)?;
    ensure_eq(rules::ASC, "GASpecificConfig", bits & 7, 0)?;
    Ok(object_type)
}

fn mvex(container: Mp4Box<'_>, track_id: u32) -> Result<(u32, u32, u32), Violation> {
    let mut fields = container.fields;
    let mut trex = fields.children(&[("trex", Often::Once)])?.one("trex")?.full_of(0, 0)?;
    trex.constant(4, u64::from(track_id), "track_ID")?;
    trex.constant(4, 1, "default_sample_description_index")?;
    let defaults = (trex.u32()?, trex.u32()?, trex.u32()?);
    trex.end()?;
    Ok(defaults)
}
