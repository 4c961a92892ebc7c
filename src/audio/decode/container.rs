//! The container: probing a file by its contents and reading packets, whatever the bytes may be.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::{AudioCodecParameters, CODEC_ID_NULL_AUDIO};
use symphonia::core::common::Limit;
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, Track, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream, MediaSourceStreamOptions, ReadOnlySource};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::Packet;

/// How often a demuxer may fail in a row before the track counts as ended.
const MOST_FAILURES: u32 = 16;

/// Runs code of a codec or demuxer; a panic there is one more kind of damage.
pub(super) fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|_| "the decoder gave up on it".to_owned())
}

/// What the container holds next.
pub(super) enum Next {
    /// A packet of the chosen track.
    Packet(Packet),
    /// A further logical stream begins (chained Ogg): choose a track and open a decoder anew.
    NewStream,
    /// Nothing more; with the reason where damage ended it.
    End(Option<String>),
}

/// A demuxer over an open file.
pub(super) struct Container {
    reader: Box<dyn FormatReader>,
    track_id: u32,
    /// Bytes of packets that may still come. Tables that name the same bytes over and over end
    /// here instead of playing for ever.
    byte_budget: u64,
}

impl Container {
    /// Recognises the file by its contents; the extension is only a hint.
    pub(super) fn open(path: &Path, length: u64) -> Result<Container, String> {
        let reader = probe(path, true).or_else(|reason| {
            // Looking for the end of a damaged Ogg file fails where playing from the start works.
            probe(path, false).map_err(|_| reason)
        })?;
        let byte_budget = length.saturating_mul(2).saturating_add(65_536);
        Ok(Container { reader, track_id: 0, byte_budget })
    }

    /// Chooses the audio track to play: the default one, else the first with a known codec.
    pub(super) fn choose_track(&mut self) -> Option<(Track, AudioCodecParameters)> {
        let track = self.reader.default_track(TrackType::Audio)?.clone();
        let Some(CodecParameters::Audio(parameters)) = track.codec_params.clone() else {
            return None;
        };
        self.track_id = track.id;
        (parameters.codec != CODEC_ID_NULL_AUDIO).then_some((track, parameters))
    }

    /// The next packet of the chosen track.
    pub(super) fn next(&mut self) -> Next {
        let mut failures = 0;
        loop {
            match guarded(|| self.reader.next_packet()) {
                Ok(Ok(Some(packet))) => {
                    let cost = packet.data.len() as u64 + 1;
                    let Some(rest) = self.byte_budget.checked_sub(cost) else {
                        return Next::End(Some("it repeats itself without end".into()));
                    };
                    self.byte_budget = rest;
                    if packet.track_id == self.track_id {
                        return Next::Packet(packet);
                    }
                }
                Ok(Ok(None)) => return Next::End(None),
                Ok(Err(Error::ResetRequired)) => return Next::NewStream,
                Ok(Err(Error::IoError(error))) => return Next::End(Some(error.to_string())),
                Ok(Err(error)) => {
                    failures += 1;
                    if failures > MOST_FAILURES {
                        return Next::End(Some(error.to_string()));
                    }
                }
                Err(reason) => return Next::End(Some(reason)),
            }
        }
    }
}

fn probe(path: &Path, seekable: bool) -> Result<Box<dyn FormatReader>, String> {
    // A handle of its own: clones of one share their position in the file.
    let file = File::open(path).map_err(|error| error.to_string())?;
    let source: Box<dyn MediaSource> =
        if seekable { Box::new(file) } else { Box::new(ReadOnlySource::new(file)) };
    let mut hint = Hint::new();
    if let Some(extension) = path.extension().and_then(|extension| extension.to_str()) {
        hint.with_extension(extension);
    }
    let stream = MediaSourceStream::new(source, MediaSourceStreamOptions::default());
    // Tags and pictures are the library's business; here they would only cost memory.
    let metadata = MetadataOptions::default()
        .limit_tag_bytes(Limit::Maximum(4_096))
        .limit_visual_bytes(Limit::Maximum(4_096));
    let probe = symphonia::default::get_probe();
    guarded(|| probe.probe(&hint, stream, FormatOptions::default(), metadata))?
        .map_err(|error| error.to_string())
}
