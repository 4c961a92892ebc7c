//! One Opus stream, of one or many channels: RFC 6716 packets under an RFC 7845 header.

use ropus::OpusMSDecoder;

/// What Opus decodes to, whatever the rate of the original (RFC 7845 section 5.1).
pub(super) const RATE: u32 = 48_000;

/// The longest packet there is: 120 ms (RFC 6716 section 3.2.5, requirement R5).
const LONGEST_PACKET: usize = 5_760;

/// The fields of the identification header (RFC 7845 section 5.1).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OpusHead {
    pub(super) channels: u8,
    pub(super) pre_skip: u16,
    /// Output gain as a factor.
    pub(super) gain: f32,
    /// Channel mapping family.
    pub(super) family: u8,
    streams: u8,
    coupled: u8,
    mapping: Vec<u8>,
}

impl OpusHead {
    /// Reads the header with its "OpusHead" magic. Integers are little-endian as in Ogg, or
    /// big-endian as in the dOps box of ISO base media, which has version 0 where Ogg has 1.
    pub(super) fn parse(data: &[u8]) -> Option<OpusHead> {
        let body = data.strip_prefix(b"OpusHead")?;
        let big_endian = *body.first()? == 0;
        let pair = |at: usize| -> Option<[u8; 2]> { body.get(at..at + 2)?.try_into().ok() };
        let (pre_skip, gain) = if big_endian {
            (u16::from_be_bytes(pair(2)?), i16::from_be_bytes(pair(8)?))
        } else {
            (u16::from_le_bytes(pair(2)?), i16::from_le_bytes(pair(8)?))
        };
        let channels = *body.get(1)?;
        let family = *body.get(10)?;
        let (streams, coupled, mapping) = if family == 0 {
            let coupled = channels.checked_sub(1)?;
            (1, coupled, (0..channels).collect())
        } else {
            let mapping = body.get(13..13 + usize::from(channels))?.to_vec();
            (*body.get(11)?, *body.get(12)?, mapping)
        };
        if channels == 0 || (family == 0 && channels > 2) {
            return None;
        }
        let gain = 10f32.powf(f32::from(gain) / (20.0 * 256.0));
        Some(OpusHead { channels, pre_skip, gain, family, streams, coupled, mapping })
    }
}

/// A decoder with the memory that runs from packet to packet.
pub(super) struct OpusStream {
    head: OpusHead,
    decoder: OpusMSDecoder,
    pcm: Vec<i16>,
}

impl OpusStream {
    /// Opens the streams a header describes; `None` when it describes an impossible layout.
    pub(super) fn new(head: OpusHead) -> Option<OpusStream> {
        let decoder = OpusMSDecoder::new(
            RATE as i32,
            i32::from(head.channels),
            i32::from(head.streams),
            i32::from(head.coupled),
            &head.mapping,
        )
        .ok()?;
        let pcm = vec![0; LONGEST_PACKET * usize::from(head.channels)];
        Some(OpusStream { head, decoder, pcm })
    }

    /// The header the stream was opened with.
    pub(super) fn head(&self) -> &OpusHead {
        &self.head
    }

    /// Replaces `out` by the packet's samples, interleaved in the order of the mapping family.
    pub(super) fn decode(&mut self, packet: &[u8], out: &mut Vec<f32>) -> Result<(), String> {
        out.clear();
        if packet.is_empty() {
            return Err("an empty Opus packet".into());
        }
        let length = i32::try_from(packet.len()).map_err(|_| "an oversized Opus packet")?;
        let frames = self
            .decoder
            .decode(Some(packet), length, &mut self.pcm, LONGEST_PACKET as i32, false)
            .map_err(|code| format!("Opus error {code}"))?;
        let samples = usize::try_from(frames).unwrap_or(0) * usize::from(self.head.channels);
        let pcm = self.pcm.get(..samples).ok_or("an Opus packet that is too long")?;
        out.extend(pcm.iter().map(|sample| f32::from(*sample) / 32_768.0));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_read_from_ogg_and_from_mp4() {
        let ogg = b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\x00\xfa\0";
        let head = OpusHead::parse(ogg).expect("a stereo header");
        assert_eq!((head.channels, head.pre_skip), (2, 312));
        assert!((head.gain - 10f32.powf(-6.0 / 20.0)).abs() < 1e-5, "-1536 / 256 = -6 dB");
        let mp4 = b"OpusHead\x00\x02\x01\x38\0\0\xbb\x80\xfa\x00\0";
        assert_eq!(OpusHead::parse(mp4), Some(head));
    }

    #[test]
    fn impossible_headers_are_refused() {
        for bad in [&b"OpusHead"[..], b"OpusHead\x01\x00\x38\x01\0\0\0\0\0\0\0", b"OpusTags"] {
            assert_eq!(OpusHead::parse(bad), None, "{bad:?}");
        }
        let six_in_family_0 = b"OpusHead\x01\x06\x38\x01\x80\xbb\0\0\0\0\0";
        assert_eq!(OpusHead::parse(six_in_family_0), None);
    }
}
