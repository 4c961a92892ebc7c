//! CMAF fragmented MP4 (ISO/IEC 23000-19 on ISO/IEC 14496-12): header and media segments of one AAC track. Pure.

use bytes::Bytes;

use crate::encoder::aac::FRAME_SAMPLES;
use crate::encoder::{CHANNELS, CodecParameters, SAMPLE_RATE};

/// `scheme_id_uri` of ID3 in `emsg` (AOM "Carriage of ID3 Timed Metadata in CMAF", section 2).
pub const ID3_SCHEME: &str = "https://aomedia.org/emsg/ID3";

/// Samples are sync samples that depend on nothing (ISO/IEC 14496-12, 8.8.3.1 `sample_depends_on` = 2).
const SAMPLE_FLAGS: u32 = 0x0200_0000;
const TRACK_ID: u32 = 1;
/// Object type indication of MPEG-4 audio (ISO/IEC 14496-1, table 5).
const OTI_MPEG4_AUDIO: u8 = 0x40;
/// `streamType` audio, not upstream, reserved bit set (ISO/IEC 14496-1, 7.2.6.6).
const STREAM_TYPE_AUDIO: u8 = 0x15;

/// One timed metadata event.
#[derive(Debug, Clone)]
pub struct Event {
    /// When, in samples on the track's timeline.
    pub presentation_time: u64,
    /// Whatever the scheme carries; an ID3v2.4 tag here.
    pub message: Vec<u8>,
}

/// The CMAF header (init segment): `ftyp`, `moov`.
pub fn init_segment(parameters: &CodecParameters) -> Bytes {
    let mut out = Writer::default();
    out.open(b"ftyp", |w| {
        w.bytes(b"iso6");
        w.u32(0);
        w.bytes(b"iso6cmfccmf2mp41");
    });
    out.open(b"moov", |w| {
        w.full(b"mvhd", 0, 0, |w| {
            w.u32s(&[0, 0, SAMPLE_RATE, 0, 0x0001_0000]);
            w.bytes(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            w.matrix();
            w.u32s(&[0; 6]);
            w.u32(TRACK_ID + 1);
        });
        w.open(b"trak", |w| track(w, parameters));
        w.open(b"mvex", |w| {
            w.full(b"trex", 0, 0, |w| w.u32s(&[TRACK_ID, 1, FRAME_SAMPLES as u32, 0, SAMPLE_FLAGS]));
        });
    });
    out.finish()
}

fn track(w: &mut Writer, parameters: &CodecParameters) {
    // Flags: track enabled, in movie.
    w.full(b"tkhd", 0, 3, |w| {
        w.u32s(&[0, 0, TRACK_ID, 0, 0, 0, 0]);
        w.bytes(&[0, 0, 0, 1, 1, 0, 0, 0]);
        w.matrix();
        w.u32s(&[0, 0]);
    });
    w.open(b"mdia", |w| {
        // Language "und" in packed ISO 639-2/T.
        w.full(b"mdhd", 0, 0, |w| w.u32s(&[0, 0, SAMPLE_RATE, 0, 0x55C4_0000]));
        w.full(b"hdlr", 0, 0, |w| {
            w.u32(0);
            w.bytes(b"soun");
            w.u32s(&[0; 3]);
            w.bytes(b"Skywave\0");
        });
        w.open(b"minf", |w| {
            w.full(b"smhd", 0, 0, |w| w.u32(0));
            w.open(b"dinf", |w| {
                w.full(b"dref", 0, 0, |w| {
                    w.u32(1);
                    w.full(b"url ", 0, 1, |_| {});
                });
            });
            w.open(b"stbl", |w| sample_table(w, parameters));
        });
    });
}

fn sample_table(w: &mut Writer, parameters: &CodecParameters) {
    w.full(b"stsd", 0, 0, |w| {
        w.u32(1);
        w.open(b"mp4a", |w| {
            w.u32s(&[0, 1, 0, 0]);
            w.u16(CHANNELS as u16);
            w.u16(16);
            w.u32(0);
            w.u32(SAMPLE_RATE << 16);
            w.full(b"esds", 0, 0, |w| elementary_stream_descriptor(w, parameters));
        });
    });
    for empty in [b"stts", b"stsc", b"stco"] {
        w.full(empty, 0, 0, |w| w.u32(0));
    }
    w.full(b"stsz", 0, 0, |w| w.u32s(&[0, 0]));
}

/// `ES_Descriptor` (ISO/IEC 14496-1, 7.2.6.5) with one-byte lengths.
fn elementary_stream_descriptor(w: &mut Writer, parameters: &CodecParameters) {
    let asc = &parameters.audio_specific_config;
    let specific = asc.len() as u8;
    w.bytes(&[0x03, 3 + 2 + 13 + 2 + specific + 3, 0, TRACK_ID as u8, 0]);
    w.bytes(&[0x04, 13 + 2 + specific, OTI_MPEG4_AUDIO, STREAM_TYPE_AUDIO, 0, 0, 0]);
    w.u32s(&[parameters.bitrate, parameters.bitrate]);
    w.bytes(&[0x05, specific]);
    w.bytes(asc);
    w.bytes(&[0x06, 1, 2]);
}

/// One CMAF segment of a single fragment: `styp`, one `emsg` per event, `moof`, `mdat`.
///
/// `decode_time` is the `tfdt` in samples; every unit lasts 1,024 samples.
pub fn media_segment(sequence: u32, decode_time: u64, units: &[Bytes], events: &[Event]) -> Bytes {
    let payload: usize = units.iter().map(Bytes::len).sum();
    let mut out = Writer::with_capacity(payload + units.len() * 4 + 1024);
    out.open(b"styp", |w| {
        w.bytes(b"iso6");
        w.u32(0);
        w.bytes(b"iso6cmfccmf2");
    });
    for event in events {
        event_message(&mut out, event);
    }
    let moof = out.0.len();
    let mut data_offset_at = 0;
    out.open(b"moof", |w| {
        w.full(b"mfhd", 0, 0, |w| w.u32(sequence));
        w.open(b"traf", |w| {
            // default-base-is-moof.
            w.full(b"tfhd", 0, 0x02_0000, |w| w.u32(TRACK_ID));
            w.full(b"tfdt", 1, 0, |w| w.u64(decode_time));
            // data-offset present, sample sizes present.
            w.full(b"trun", 0, 0x0201, |w| {
                w.u32(units.len() as u32);
                data_offset_at = w.0.len();
                w.u32(0);
                units.iter().for_each(|unit| w.u32(unit.len() as u32));
            });
        });
    });
    let data_offset = (out.0.len() - moof + 8) as u32;
    out.0[data_offset_at..data_offset_at + 4].copy_from_slice(&data_offset.to_be_bytes());
    out.open(b"mdat", |w| units.iter().for_each(|unit| w.bytes(unit)));
    out.finish()
}

/// `DASHEventMessageBox` version 1 (ISO/IEC 23009-1, 5.10.3.3); identical text repeats under a fresh id.
fn event_message(w: &mut Writer, event: &Event) {
    w.full(b"emsg", 1, 0, |w| {
        w.u32(SAMPLE_RATE);
        w.u64(event.presentation_time);
        // Unknown duration.
        w.u32(0xFFFF_FFFF);
        // The low half of the presentation time is unique within any player's memory.
        w.u32(event.presentation_time as u32);
        w.bytes(ID3_SCHEME.as_bytes());
        // End of the scheme, then an empty value.
        w.bytes(&[0, 0]);
        w.bytes(&event.message);
    });
}

/// Writes big-endian boxes whose sizes are filled in when they close.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    fn open(&mut self, kind: &[u8; 4], body: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.u32(0);
        self.bytes(kind);
        body(self);
        let size = (self.0.len() - start) as u32;
        self.0[start..start + 4].copy_from_slice(&size.to_be_bytes());
    }

    fn full(&mut self, kind: &[u8; 4], version: u8, flags: u32, body: impl FnOnce(&mut Self)) {
        self.open(kind, |w| {
            w.u32(u32::from(version) << 24 | flags);
            body(w);
        });
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.bytes(&value.to_be_bytes());
    }

    fn u32s(&mut self, values: &[u32]) {
        values.iter().for_each(|value| self.u32(*value));
    }

    /// The unity matrix of `mvhd` and `tkhd`.
    fn matrix(&mut self) {
        self.u32s(&[0x0001_0000, 0, 0, 0, 0x0001_0000, 0, 0, 0, 0x4000_0000]);
    }

    fn finish(self) -> Bytes {
        self.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters() -> CodecParameters {
        CodecParameters {
            rendition: "hifi".into(),
            bitrate: 192_000,
            audio_specific_config: vec![0x11, 0x90],
            delay: 2048,
        }
    }

    /// Top-level boxes as (type, size).
    fn boxes(mut data: &[u8]) -> Vec<(String, usize)> {
        let mut found = Vec::new();
        while !data.is_empty() {
            let size = u32::from_be_bytes(data[..4].try_into().unwrap()) as usize;
            found.push((String::from_utf8(data[4..8].to_vec()).unwrap(), size));
            data = &data[size..];
        }
        found
    }

    #[test]
    fn box_sizes_add_up_to_the_whole_segment() {
        let init = init_segment(&parameters());
        let kinds: Vec<_> = boxes(&init).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, ["ftyp", "moov"]);
        let units = vec![Bytes::from_static(b"0123456789"); 180];
        let event = Event { presentation_time: 7, message: b"ID3".to_vec() };
        let segment = media_segment(1, 184_320, &units, &[event]);
        let kinds: Vec<_> = boxes(&segment).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, ["styp", "emsg", "moof", "mdat"]);
    }

    #[test]
    fn the_data_offset_points_at_the_first_unit() {
        let units = [Bytes::from_static(b"first"), Bytes::from_static(b"second")];
        let segment = media_segment(9, 0, &units, &[]);
        let moof = segment.windows(4).position(|w| w == b"moof").unwrap() - 4;
        let trun = segment.windows(4).position(|w| w == b"trun").unwrap();
        let offset = u32::from_be_bytes(segment[trun + 12..trun + 16].try_into().unwrap()) as usize;
        assert_eq!(&segment[moof + offset..], b"firstsecond");
    }

    #[test]
    fn container_overhead_of_a_lofi_segment_stays_below_four_percent() {
        let unit = Bytes::from(vec![0; 64_000 / 8 * 1024 / 48_000]);
        let raw = unit.len() * 180;
        let event = Event { presentation_time: 0, message: vec![0; 120] };
        let segment = media_segment(1, 0, &vec![unit; 180], &[event]);
        assert!(segment.len() - raw < raw * 4 / 100, "{} over {raw}", segment.len() - raw);
    }
}
