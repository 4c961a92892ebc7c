//! One decoder for one stream behind one call: symphonia's, or another where it has none or a wrong one.

use symphonia::core::audio::{AudioSpec, Channels};
use symphonia::core::codecs::audio::well_known::{
    CODEC_ID_AAC, CODEC_ID_MP1, CODEC_ID_MP2, CODEC_ID_MP3, CODEC_ID_OPUS, CODEC_ID_VORBIS,
};
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::packet::Packet;

use super::super::CHANNELS;
use super::container::guarded;
use super::downmix::Downmix;
use super::opus::{self, OpusHead, OpusStream};
use super::vorbis::VorbisStream;

/// Rates that are believed. Music is at 8 to 384 kHz; anything far outside is a damaged header.
const BELIEVABLE_RATES: std::ops::RangeInclusive<u32> = 1_000..=768_000;

/// Channels that are believed. Bounds the buffers that a header can ask for.
const MOST_CHANNELS: usize = 64;

/// A decoder and the way from its channels to stereo.
pub(super) struct Codec {
    parameters: AudioCodecParameters,
    kind: Kind,
    samples: Vec<f32>,
    rate: u32,
    channels: Channels,
    downmix: Downmix,
}

enum Kind {
    Symphonia(Box<dyn AudioDecoder>),
    Opus(Box<OpusStream>),
    Vorbis(Box<VorbisStream>),
}

impl Codec {
    /// Opens a decoder for a track, or says why there is none.
    pub(super) fn open(mut parameters: AudioCodecParameters) -> Result<Codec, String> {
        check_rate(parameters.sample_rate)?;
        let channels = parameters.channels.clone().unwrap_or_default();
        check_channels(&channels)?;
        if parameters.codec == CODEC_ID_AAC {
            aac_core(&mut parameters);
        }
        let kind = open_kind(&parameters)?;
        let downmix = match &kind {
            Kind::Opus(stream) => opus_downmix(stream.head()),
            Kind::Vorbis(stream) => Downmix::for_vorbis_order(stream.channels()),
            Kind::Symphonia(_) => Downmix::for_channels(&channels),
        };
        let rate = parameters.sample_rate.unwrap_or(opus::RATE);
        Ok(Codec { parameters, kind, samples: Vec::new(), rate, channels, downmix })
    }

    /// Samples per second of what the last packet gave.
    pub(super) fn rate(&self) -> u32 {
        self.rate
    }

    /// Whether the stream is MPEG-1 or -2 audio, layer I to III.
    pub(super) fn is_mpeg_audio(&self) -> bool {
        matches!(self.parameters.codec, CODEC_ID_MP1 | CODEC_ID_MP2 | CODEC_ID_MP3)
    }

    /// The header of an Opus stream.
    pub(super) fn opus_head(&self) -> Option<&OpusHead> {
        match &self.kind {
            Kind::Opus(stream) => Some(stream.head()),
            Kind::Symphonia(_) | Kind::Vorbis(_) => None,
        }
    }

    /// Replaces `out` by the packet's stereo frames. After an error the decoder has been opened
    /// anew and the next packet can be tried.
    pub(super) fn decode(&mut self, packet: &Packet, out: &mut Vec<f32>) -> Result<(), String> {
        out.clear();
        let first = self.decode_native(packet);
        let result = match first {
            Err(_) if self.is_mpeg_audio() => {
                // Files joined end to end change rate or channels mid-way; a fresh decoder takes
                // what the old one refused.
                self.reopen()?;
                self.decode_native(packet)
            }
            result => result,
        };
        if let Err(reason) = result {
            self.reopen()?;
            return Err(reason);
        }
        let gain = self.opus_head().map_or(1.0, |head| head.gain);
        self.downmix.mix(&self.samples, gain, out);
        if !matches!(self.kind, Kind::Symphonia(_)) {
            trim(packet, out);
        }
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), String> {
        self.kind = open_kind(&self.parameters)?;
        Ok(())
    }

    fn decode_native(&mut self, packet: &Packet) -> Result<(), String> {
        let samples = &mut self.samples;
        let spec = match &mut self.kind {
            Kind::Opus(stream) => {
                return guarded(|| stream.decode(&packet.data, samples))?;
            }
            Kind::Vorbis(stream) => {
                return guarded(|| stream.decode(&packet.data, samples))?;
            }
            Kind::Symphonia(decoder) => guarded(|| {
                let buffer = decoder.decode(packet).map_err(|error| error.to_string())?;
                samples.clear();
                buffer.copy_to_vec_interleaved(samples);
                Ok::<_, String>(buffer.spec().clone())
            })??,
        };
        self.follow(&spec)
    }

    /// Takes over the rate and channels the decoder really gives; headers only promise them.
    fn follow(&mut self, spec: &AudioSpec) -> Result<(), String> {
        if self.samples.is_empty() {
            return Ok(());
        }
        if *spec.channels() != self.channels || self.downmix.inputs() != spec.channels().count() {
            check_channels(spec.channels())?;
            self.channels = spec.channels().clone();
            self.downmix = Downmix::for_channels(&self.channels);
        }
        check_rate(Some(spec.rate()))?;
        self.rate = spec.rate();
        Ok(())
    }
}

/// Cuts what the demuxer found to lie before the first or behind the last granule position (RFC 7845
/// section 4.4, Vorbis I appendix A.2). symphonia's decoders do it themselves.
fn trim(packet: &Packet, out: &mut Vec<f32>) {
    let frames = out.len() / CHANNELS;
    let start = frames.min(packet.trim_start.get() as usize);
    let end = frames.saturating_sub(packet.trim_end.get() as usize).max(start);
    out.truncate(end * CHANNELS);
    out.drain(..start * CHANNELS);
}

fn check_rate(rate: Option<u32>) -> Result<(), String> {
    match rate {
        Some(rate) if !BELIEVABLE_RATES.contains(&rate) => Err(format!("a sample rate of {rate} Hz")),
        _ => Ok(()),
    }
}

fn check_channels(channels: &Channels) -> Result<(), String> {
    match channels.count() {
        count if count > MOST_CHANNELS => Err(format!("{count} channels")),
        _ => Ok(()),
    }
}

fn opus_downmix(head: &OpusHead) -> Downmix {
    let count = usize::from(head.channels);
    match head.family {
        0 | 1 => Downmix::for_vorbis_order(count),
        2 | 3 => Downmix::for_channels(&Channels::Ambisonic(count.isqrt().saturating_sub(1) as u8)),
        _ => Downmix::for_channels(&Channels::Discrete(count as u16)),
    }
}

fn open_kind(parameters: &AudioCodecParameters) -> Result<Kind, String> {
    if parameters.codec == CODEC_ID_OPUS {
        let head = parameters.extra_data.as_deref().and_then(OpusHead::parse);
        let stream = head.and_then(OpusStream::new).ok_or("an impossible Opus header")?;
        return Ok(Kind::Opus(Box::new(stream)));
    }
    // MPEG audio is trimmed by the caller: the demuxer trims by an estimated length where the file
    // states none, and that cuts music off.
    let mpeg = matches!(parameters.codec, CODEC_ID_MP1 | CODEC_ID_MP2 | CODEC_ID_MP3);
    let options = AudioDecoderOptions::default().gapless(!mpeg);
    let codecs = symphonia::default::get_codecs();
    let decoder =
        guarded(|| codecs.make_audio_decoder(parameters, &options))?.map_err(|error| error.to_string())?;
    if parameters.codec == CODEC_ID_VORBIS && more_than_stereo(parameters) {
        // symphonia has checked the headers by now: lewton trusts the sizes in them.
        let headers = parameters.extra_data.as_deref().unwrap_or_default();
        let stream = guarded(|| VorbisStream::new(headers))??;
        return Ok(Kind::Vorbis(Box::new(stream)));
    }
    Ok(Kind::Symphonia(decoder))
}

fn more_than_stereo(parameters: &AudioCodecParameters) -> bool {
    parameters.channels.as_ref().is_some_and(|channels| channels.count() > CHANNELS)
}

/// Reduces the configuration of an HE-AAC stream to the AAC-LC core in it, which is all that is
/// decoded: the upper half of the band is missing, and parametric stereo plays in mono.
/// Other streams keep their configuration (ISO/IEC 14496-3 section 1.6.2.1).
fn aac_core(parameters: &mut AudioCodecParameters) {
    const AAC_LC: u16 = 2;
    const SBR: u16 = 5;
    const PARAMETRIC_STEREO: u16 = 29;
    let Some([first, second, ..]) = parameters.extra_data.as_deref() else {
        return;
    };
    let word = u16::from_be_bytes([*first, *second]);
    let (object_type, rate_index, channels) = (word >> 11, (word >> 7) & 15, (word >> 3) & 15);
    // Index 15 writes the rate out in full, and 0 channels are described further on: not for HE-AAC.
    if rate_index == 15 || channels == 0 {
        return;
    }
    let flags = match object_type {
        AAC_LC => word & 7,
        SBR | PARAMETRIC_STEREO => 0,
        _ => return,
    };
    let core = (AAC_LC << 11) | (rate_index << 7) | (channels << 3) | flags;
    parameters.extra_data = Some(Box::new(core.to_be_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn core_of(configuration: &[u8]) -> Option<Box<[u8]>> {
        let mut parameters = AudioCodecParameters::new();
        parameters.with_extra_data(configuration.into());
        aac_core(&mut parameters);
        parameters.extra_data
    }

    #[test]
    fn he_aac_is_reduced_to_its_core() {
        let he_aac_24_to_48_khz_stereo = [0x2b, 0x11, 0x88, 0x00];
        assert_eq!(core_of(&he_aac_24_to_48_khz_stereo).as_deref(), Some(&[0x13, 0x10][..]));
        let v2_mono_core = [0xeb, 0x09, 0x88, 0x00];
        assert_eq!(core_of(&v2_mono_core).as_deref(), Some(&[0x13, 0x08][..]));
        let signalled_behind_the_core = [0x13, 0x10, 0x56, 0xe5, 0x98];
        assert_eq!(core_of(&signalled_behind_the_core).as_deref(), Some(&[0x13, 0x10][..]));
    }

    #[test]
    fn other_configurations_stay_as_they_are() {
        for configuration in [&[0x12, 0x10][..], &[0xf9, 0x46, 0x40], &[0x12], &[]] {
            assert_eq!(core_of(configuration).as_deref(), Some(configuration));
        }
    }

    #[test]
    fn unbelievable_headers_are_refused_before_anything_is_allocated() {
        for rate in [0, 1, 4_294_967_295] {
            let mut parameters = AudioCodecParameters::new();
            parameters.with_sample_rate(rate);
            assert!(Codec::open(parameters).is_err(), "{rate} Hz");
        }
        let mut parameters = AudioCodecParameters::new();
        parameters.with_sample_rate(48_000).with_channels(Channels::Discrete(65_535));
        assert!(Codec::open(parameters).is_err_and(|reason| reason.contains("65535")));
    }
}
