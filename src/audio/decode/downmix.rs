//! Any channel layout to stereo, after ITU-R BS.775-4 Annex 4 table 2.

use std::f32::consts::FRAC_1_SQRT_2;

use symphonia::core::audio::{ChannelLabel, Channels, Position};

/// The share of one input channel in the two outputs: left, right.
type Share = [f32; 2];

const NOTHING: Share = [0.0, 0.0];
const LEFT: Share = [1.0, 0.0];
const RIGHT: Share = [0.0, 1.0];
const BOTH: Share = [1.0, 1.0];
/// 3 dB down in both: the centre of BS.775.
const CENTRE: Share = [FRAC_1_SQRT_2, FRAC_1_SQRT_2];
/// 3 dB down on one side: the surrounds of BS.775.
const SOFT_LEFT: Share = [FRAC_1_SQRT_2, 0.0];
const SOFT_RIGHT: Share = [0.0, FRAC_1_SQRT_2];
/// One rear speaker standing for two surrounds: 3 dB for the place, 3 dB for the split.
const REAR_CENTRE: Share = [0.5, 0.5];

/// A matrix from n interleaved channels to left and right.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Downmix {
    shares: Vec<Share>,
}

impl Downmix {
    /// The matrix for a layout as symphonia orders it (ascending speaker position).
    pub(super) fn for_channels(channels: &Channels) -> Downmix {
        match channels {
            Channels::Positioned(positions) if positions.bits().count_ones() > 1 => {
                Self::normalised(positions.iter().map(share_of).collect())
            }
            Channels::Custom(labels) if labels.len() > 1 => {
                Self::normalised(labels.iter().map(share_of_label).collect())
            }
            // The first component of an ambisonic set is the sound of the whole sphere.
            Channels::Ambisonic(_) => {
                let mut shares = vec![NOTHING; channels.count()];
                if let Some(first) = shares.first_mut() {
                    *first = BOTH;
                }
                Downmix { shares }
            }
            other => Self::for_count(other.count()),
        }
    }

    /// The matrix for channels without positions, taken in the usual order of that count.
    fn for_count(count: usize) -> Downmix {
        use Position as P;
        let positions = match count {
            0 | 1 => return Downmix { shares: vec![BOTH; count] },
            2 => P::FRONT_LEFT | P::FRONT_RIGHT,
            3 => P::FRONT_LEFT | P::FRONT_RIGHT | P::FRONT_CENTER,
            4 => P::FRONT_LEFT | P::FRONT_RIGHT | P::REAR_LEFT | P::REAR_RIGHT,
            5 => P::FRONT_LEFT | P::FRONT_RIGHT | P::FRONT_CENTER | P::REAR_LEFT | P::REAR_RIGHT,
            6 => P::FRONT_LEFT | P::FRONT_RIGHT | P::FRONT_CENTER | P::LFE1 | P::REAR_LEFT | P::REAR_RIGHT,
            8 => {
                P::FRONT_LEFT
                    | P::FRONT_RIGHT
                    | P::FRONT_CENTER
                    | P::LFE1
                    | P::REAR_LEFT
                    | P::REAR_RIGHT
                    | P::SIDE_LEFT
                    | P::SIDE_RIGHT
            }
            _ => {
                let sides = [LEFT, RIGHT].into_iter().cycle();
                return Self::normalised(sides.take(count).collect());
            }
        };
        Self::normalised(positions.iter().map(share_of).collect())
    }

    /// The matrix for Opus channel mapping family 1, which is the Vorbis order
    /// (RFC 7845 section 5.1.1.2).
    pub(super) fn for_vorbis_order(count: usize) -> Downmix {
        let shares = match count {
            0 | 1 => return Downmix { shares: vec![BOTH; count] },
            2 => vec![LEFT, RIGHT],
            3 => vec![LEFT, CENTRE, RIGHT],
            4 => vec![LEFT, RIGHT, SOFT_LEFT, SOFT_RIGHT],
            5 => vec![LEFT, CENTRE, RIGHT, SOFT_LEFT, SOFT_RIGHT],
            6 => vec![LEFT, CENTRE, RIGHT, SOFT_LEFT, SOFT_RIGHT, NOTHING],
            7 => vec![LEFT, CENTRE, RIGHT, SOFT_LEFT, SOFT_RIGHT, REAR_CENTRE, NOTHING],
            8 => vec![LEFT, CENTRE, RIGHT, SOFT_LEFT, SOFT_RIGHT, SOFT_LEFT, SOFT_RIGHT, NOTHING],
            _ => return Self::for_count(count),
        };
        Self::normalised(shares)
    }

    /// Scales the matrix so that full scale on every channel at once gives full scale, not more.
    fn normalised(mut shares: Vec<Share>) -> Downmix {
        let sum = |side: usize| shares.iter().map(|share| share[side]).sum::<f32>();
        let loudest = sum(0).max(sum(1));
        if loudest > 1.0 {
            for share in &mut shares {
                *share = share.map(|part| part / loudest);
            }
        }
        Downmix { shares }
    }

    /// Channels that go in.
    pub(super) fn inputs(&self) -> usize {
        self.shares.len()
    }

    /// Appends the stereo mix of whole interleaved frames; what is not finite becomes silence, and
    /// nothing leaves [-1, 1].
    pub(super) fn mix(&self, input: &[f32], gain: f32, out: &mut Vec<f32>) {
        if self.shares.is_empty() {
            return;
        }
        out.reserve(input.len() / self.shares.len() * 2);
        for frame in input.chunks_exact(self.shares.len()) {
            let (mut left, mut right) = (0.0, 0.0);
            for (sample, share) in frame.iter().zip(&self.shares) {
                let sample = finite(*sample);
                left += sample * share[0];
                right += sample * share[1];
            }
            out.extend([left, right].map(|sample| finite(sample * gain).clamp(-1.0, 1.0)));
        }
    }
}

fn finite(sample: f32) -> f32 {
    if sample.is_finite() { sample } else { 0.0 }
}

fn share_of_label(label: &ChannelLabel) -> Share {
    match label {
        ChannelLabel::Positioned(position) => share_of(*position),
        ChannelLabel::Discrete(index) if index % 2 == 1 => RIGHT,
        ChannelLabel::Discrete(_) => LEFT,
        ChannelLabel::Ambisonic(0) => BOTH,
        _ => NOTHING,
    }
}

/// BS.775 names front, centre and surrounds; the speakers it does not know go to the nearest of
/// those. The low-frequency channels are left out, as it says.
fn share_of(position: Position) -> Share {
    match position {
        Position::FRONT_LEFT => LEFT,
        Position::FRONT_RIGHT => RIGHT,
        Position::FRONT_CENTER | Position::TOP_FRONT_CENTER | Position::BOTTOM_FRONT_CENTER => CENTRE,
        Position::REAR_LEFT
        | Position::SIDE_LEFT
        | Position::FRONT_LEFT_CENTER
        | Position::FRONT_LEFT_WIDE
        | Position::TOP_FRONT_LEFT
        | Position::TOP_SIDE_LEFT
        | Position::TOP_REAR_LEFT
        | Position::BOTTOM_FRONT_LEFT => SOFT_LEFT,
        Position::REAR_RIGHT
        | Position::SIDE_RIGHT
        | Position::FRONT_RIGHT_CENTER
        | Position::FRONT_RIGHT_WIDE
        | Position::TOP_FRONT_RIGHT
        | Position::TOP_SIDE_RIGHT
        | Position::TOP_REAR_RIGHT
        | Position::BOTTOM_FRONT_RIGHT => SOFT_RIGHT,
        Position::REAR_CENTER | Position::TOP_CENTER | Position::TOP_REAR_CENTER => REAR_CENTRE,
        _ => NOTHING,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixed(downmix: &Downmix, frame: &[f32]) -> Vec<f32> {
        let mut out = Vec::new();
        downmix.mix(frame, 1.0, &mut out);
        out
    }

    #[test]
    fn mono_goes_to_both_sides_at_full_level() {
        let mono = Downmix::for_channels(&Channels::Positioned(Position::FRONT_CENTER));
        assert_eq!(mixed(&mono, &[0.5]), [0.5, 0.5]);
        assert_eq!(mixed(&Downmix::for_channels(&Channels::Discrete(1)), &[0.5]), [0.5, 0.5]);
    }

    #[test]
    fn stereo_is_untouched() {
        let stereo =
            Downmix::for_channels(&Channels::Positioned(Position::FRONT_LEFT | Position::FRONT_RIGHT));
        assert_eq!(mixed(&stereo, &[0.25, -0.75]), [0.25, -0.75]);
    }

    #[test]
    fn surround_keeps_the_ratios_of_bs775_and_cannot_clip() {
        let surround = Downmix::for_count(6);
        let scale = 1.0 / (1.0 + 2.0 * FRAC_1_SQRT_2);
        assert_eq!(mixed(&surround, &[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]), [scale, 0.0]);
        let centre = mixed(&surround, &[0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        assert!((centre[0] - scale * FRAC_1_SQRT_2).abs() < 1e-6 && centre[0] == centre[1]);
        assert_eq!(mixed(&surround, &[0.0, 0.0, 0.0, 1.0, 0.0, 0.0]), [0.0, 0.0], "LFE is left out");
        let full = mixed(&surround, &[1.0; 6]);
        assert!(full.iter().all(|sample| (sample - 1.0).abs() < 1e-6), "{full:?}");
    }

    #[test]
    fn what_is_not_finite_becomes_silence() {
        let stereo = Downmix::for_count(2);
        assert_eq!(mixed(&stereo, &[f32::NAN, f32::INFINITY]), [0.0, 0.0]);
        assert_eq!(mixed(&stereo, &[1.0e30, -7.0]), [1.0, -1.0]);
    }
}
