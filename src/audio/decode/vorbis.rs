//! Vorbis of more than two channels.
//!
//! symphonia 0.6.1 undoes channel coupling in the order of the steps; the Vorbis I specification
//! (section 4.3.5) says last step first. With one step, as in stereo, that is the same; surround comes
//! out as noise. lewton does it right.

use lewton::audio::{PreviousWindowRight, read_audio_packet_generic};
use lewton::header::{IdentHeader, SetupHeader, read_header_ident, read_header_setup};
use lewton::samples::InterleavedSamples;

/// The identification header is of fixed size (Vorbis I section 4.2.2).
const IDENTIFICATION_LENGTH: usize = 30;

/// A decoder with the half window that runs from packet to packet.
pub(super) struct VorbisStream {
    identification: IdentHeader,
    setup: SetupHeader,
    window: PreviousWindowRight,
}

impl VorbisStream {
    /// Opens a stream from its identification and setup headers, one behind the other.
    pub(super) fn new(headers: &[u8]) -> Result<VorbisStream, String> {
        let (first, second) =
            headers.split_at_checked(IDENTIFICATION_LENGTH).ok_or("a Vorbis header cut short")?;
        let identification = read_header_ident(first).map_err(|error| error.to_string())?;
        let block_sizes = (identification.blocksize_0, identification.blocksize_1);
        let setup = read_header_setup(second, identification.audio_channels, block_sizes)
            .map_err(|error| error.to_string())?;
        Ok(VorbisStream { identification, setup, window: PreviousWindowRight::new() })
    }

    /// Channels of every packet.
    pub(super) fn channels(&self) -> usize {
        usize::from(self.identification.audio_channels)
    }

    /// Replaces `out` by the packet's samples, interleaved in Vorbis order. The first packet gives
    /// none: it only fills the window.
    pub(super) fn decode(&mut self, packet: &[u8], out: &mut Vec<f32>) -> Result<(), String> {
        let window = &mut self.window;
        let decoded: InterleavedSamples<f32> =
            read_audio_packet_generic(&self.identification, &self.setup, packet, window)
                .map_err(|error| error.to_string())?;
        *out = decoded.samples;
        Ok(())
    }
}
