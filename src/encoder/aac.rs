//! AAC-LC through the bundled FDK library: the one seam to a codec binding, and the only `unsafe` of the crate.
//!
//! Formats: access units are raw (no ADTS) `raw_data_block()`s of ISO/IEC 14496-3 subclause 4.4.2.1, and the
//! AudioSpecificConfig is the one of subclause 1.6.2.1.
#![allow(unsafe_code, reason = "FFI to libfdk-aac; every block states why it is sound")]

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use bytes::Bytes;
use fdk_aac_sys as fdk;
use thiserror::Error;

use crate::audio::{CHANNELS, SAMPLE_RATE};

/// Samples per channel in one AAC-LC access unit (ISO/IEC 14496-3, `frameLengthFlag` 0).
pub const FRAME_SAMPLES: usize = 1024;

/// MPEG-4 audio object type of AAC-LC (ISO/IEC 14496-3, table 1.17).
const AOT_AAC_LC: u32 = 2;
/// `CHANNEL_MODE` 1:1 of FDK for stereo.
const MODE_STEREO: u32 = 2;
/// Raw access units, configuration out of band.
const TRANSMUX_RAW: u32 = 0;
/// Interleaved 16-bit PCM input, in FDK's buffer identifiers.
const IN_AUDIO_DATA: i32 = 0;
/// Coded output, in FDK's buffer identifiers.
const OUT_BITSTREAM_DATA: i32 = 3;

/// Why the AAC encoder could not work. The codes are FDK's `AACENC_ERROR` values.
#[derive(Debug, Error)]
pub enum AacError {
    /// The library had no memory or no such encoder.
    #[error("cannot open the AAC encoder: FDK error {0:#x}")]
    Open(u32),
    /// A setting is out of the encoder's range, such as a bit rate that AAC-LC cannot reach.
    #[error("AAC encoder refuses {setting} = {value}: FDK error {code:#x}")]
    Setting {
        /// Name of the refused setting.
        setting: &'static str,
        /// The refused value.
        value: u32,
        /// FDK's error code.
        code: u32,
    },
    /// Encoding one access unit failed.
    #[error("AAC encoding failed: FDK error {0:#x}")]
    Encode(u32),
}

/// One AAC-LC encoder: 48 kHz stereo in, one access unit per 1,024 samples out, constant bit rate.
pub struct AacEncoder {
    handle: NonNull<fdk::AACENCODER>,
    delay: u32,
    config: Vec<u8>,
    max_unit_bytes: usize,
    input: Vec<i16>,
    output: Vec<u8>,
}

// SAFETY: an FDK encoder instance has no thread affinity and shares no mutable state with other instances; all
// calls go through `&mut self`, so it is never used from two threads at once.
unsafe impl Send for AacEncoder {}

impl AacEncoder {
    /// Opens an encoder for `bitrate` bits per second. `afterburner` buys quality for about twice the CPU time.
    ///
    /// # Errors
    /// [`AacError::Setting`] when AAC-LC at 48 kHz stereo cannot have that bit rate.
    pub fn new(bitrate: u32, afterburner: bool) -> Result<Self, AacError> {
        let mut handle = ptr::null_mut();
        // SAFETY: `handle` is a valid out pointer; FDK stores an owned instance in it or leaves it null.
        let code = unsafe { fdk::aacEncOpen(&mut handle, 0, CHANNELS as u32) };
        let handle = NonNull::new(handle).filter(|_| code == OK).ok_or(AacError::Open(code))?;
        let mut encoder = Self {
            handle,
            delay: 0,
            config: Vec::new(),
            max_unit_bytes: 0,
            input: Vec::with_capacity(FRAME_SAMPLES * CHANNELS),
            output: Vec::new(),
        };
        encoder.configure(bitrate, afterburner)?;
        Ok(encoder)
    }

    fn configure(&mut self, bitrate: u32, afterburner: bool) -> Result<(), AacError> {
        self.set("AOT", fdk::AACENC_PARAM_AACENC_AOT, AOT_AAC_LC)?;
        self.set("sample rate", fdk::AACENC_PARAM_AACENC_SAMPLERATE, SAMPLE_RATE)?;
        self.set("channel mode", fdk::AACENC_PARAM_AACENC_CHANNELMODE, MODE_STEREO)?;
        self.set("bit rate", fdk::AACENC_PARAM_AACENC_BITRATE, bitrate)?;
        self.set("transport", fdk::AACENC_PARAM_AACENC_TRANSMUX, TRANSMUX_RAW)?;
        self.set("afterburner", fdk::AACENC_PARAM_AACENC_AFTERBURNER, u32::from(afterburner))?;
        // SAFETY: FDK's documented way to apply the settings: all buffer pointers null.
        let code = unsafe {
            fdk::aacEncEncode(self.handle.as_ptr(), ptr::null(), ptr::null(), ptr::null(), ptr::null_mut())
        };
        if code != OK {
            return Err(AacError::Setting { setting: "bit rate", value: bitrate, code });
        }
        // SAFETY: `info` is plain data that FDK overwrites; zeroes are a valid value of every field.
        let mut info: fdk::AACENC_InfoStruct = unsafe { std::mem::zeroed() };
        // SAFETY: the handle is live and `info` outlives the call.
        let code = unsafe { fdk::aacEncInfo(self.handle.as_ptr(), &mut info) };
        if code != OK {
            return Err(AacError::Open(code));
        }
        self.delay = info.nDelay;
        self.config = info.confBuf[..info.confSize as usize].to_vec();
        self.max_unit_bytes = info.maxOutBufBytes as usize;
        self.output = vec![0; self.max_unit_bytes];
        Ok(())
    }

    fn set(&mut self, setting: &'static str, param: fdk::AACENC_PARAM, value: u32) -> Result<(), AacError> {
        // SAFETY: the handle is live for as long as `self`; FDK checks parameter and value.
        let code = unsafe { fdk::aacEncoder_SetParam(self.handle.as_ptr(), param, value) };
        if code == OK { Ok(()) } else { Err(AacError::Setting { setting, value, code }) }
    }

    /// Samples per channel by which the coded audio lags the input; 2,048 for AAC-LC.
    pub fn delay(&self) -> u32 {
        self.delay
    }

    /// The AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1) of every access unit.
    pub fn audio_specific_config(&self) -> &[u8] {
        &self.config
    }

    /// Encodes exactly 1,024 interleaved stereo frames within -1.0..=1.0 to one access unit.
    ///
    /// # Errors
    /// [`AacError::Encode`] when FDK fails or holds the unit back.
    ///
    /// # Panics
    /// When `frame` does not hold 2,048 samples.
    pub fn encode(&mut self, frame: &[f32]) -> Result<Bytes, AacError> {
        assert_eq!(frame.len(), FRAME_SAMPLES * CHANNELS, "one AAC frame at a time");
        self.input.clear();
        // `as` saturates and maps NaN to 0, so no input can reach the encoder out of range.
        self.input.extend(frame.iter().map(|s| (s * 32767.0).round() as i16));
        let written = self.encode_input()?;
        Ok(Bytes::copy_from_slice(&self.output[..written]))
    }

    fn encode_input(&mut self) -> Result<usize, AacError> {
        let mut in_ptr: *mut c_void = self.input.as_mut_ptr().cast();
        let mut out_ptr: *mut c_void = self.output.as_mut_ptr().cast();
        let (mut in_id, mut out_id) = (IN_AUDIO_DATA, OUT_BITSTREAM_DATA);
        let (mut in_size, mut out_size) = ((self.input.len() * 2) as i32, self.output.len() as i32);
        let (mut in_el, mut out_el) = (2, 1);
        let in_desc = buffer(&mut in_ptr, &mut in_id, &mut in_size, &mut in_el);
        let out_desc = buffer(&mut out_ptr, &mut out_id, &mut out_size, &mut out_el);
        let in_args = fdk::AACENC_InArgs { numInSamples: self.input.len() as i32, numAncBytes: 0 };
        let mut out_args =
            fdk::AACENC_OutArgs { numOutBytes: 0, numInSamples: 0, numAncBytes: 0, bitResState: 0 };
        // SAFETY: both descriptors point at one live buffer each, with its true size in bytes; FDK reads
        // `numInSamples` 16-bit values from the first and writes at most `out_size` bytes to the second.
        let code =
            unsafe { fdk::aacEncEncode(self.handle.as_ptr(), &in_desc, &out_desc, &in_args, &mut out_args) };
        if code != OK || out_args.numOutBytes <= 0 {
            return Err(AacError::Encode(code));
        }
        Ok(out_args.numOutBytes as usize)
    }
}

const OK: u32 = fdk::AACENC_ERROR_AACENC_OK;

fn buffer(data: &mut *mut c_void, id: &mut i32, size: &mut i32, element: &mut i32) -> fdk::AACENC_BufDesc {
    fdk::AACENC_BufDesc { numBufs: 1, bufs: data, bufferIdentifiers: id, bufSizes: size, bufElSizes: element }
}

impl Drop for AacEncoder {
    fn drop(&mut self) {
        let mut handle = self.handle.as_ptr();
        // SAFETY: the handle came from aacEncOpen and is closed only here.
        unsafe { fdk::aacEncClose(&mut handle) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_complexity_stereo_at_48_khz_has_the_delay_and_config_the_muxer_relies_on() {
        for bitrate in [64_000, 96_000, 192_000] {
            let encoder = AacEncoder::new(bitrate, false).unwrap();
            assert_eq!(encoder.delay(), 2048);
            // AOT 2, frequency index 3 (48 kHz), channel configuration 2.
            assert_eq!(encoder.audio_specific_config(), [0x11, 0x90]);
        }
    }

    #[test]
    fn every_frame_yields_one_unit_and_the_rate_holds() {
        let mut encoder = AacEncoder::new(64_000, false).unwrap();
        let mut bytes = 0;
        for n in 0..470_usize {
            let frame: Vec<f32> = (0..2048)
                .map(|i| ((n * 1024 + i / 2) as f32 * 0.05).sin() * 0.4 + fastrand::f32() * 0.05)
                .collect();
            bytes += encoder.encode(&frame).unwrap().len();
        }
        let rate = bytes as f64 * 8.0 * 48_000.0 / (470.0 * 1024.0);
        assert!((58_000.0..70_000.0).contains(&rate), "{rate}");
    }

    #[test]
    fn not_a_number_and_infinity_are_encoded_as_something_audible_players_survive() {
        let mut encoder = AacEncoder::new(96_000, false).unwrap();
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30] {
            for _ in 0..4 {
                assert!(!encoder.encode(&[bad; 2048]).unwrap().is_empty());
            }
        }
    }
}
