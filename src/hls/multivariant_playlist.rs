//! The multivariant playlist (RFC 8216 section 4.3.4). Pure.

use std::fmt::{self, Display, Formatter};

use super::media_playlist::VERSION;

/// One `EXT-X-STREAM-INF`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Name of the rendition and of its folder.
    pub name: String,
    /// `BANDWIDTH`: peak segment bit rate in bits per second, container included.
    pub bandwidth: u64,
    /// `AVERAGE-BANDWIDTH` in bits per second, container included.
    pub average_bandwidth: u64,
    /// `CODECS` (RFC 6381).
    pub codecs: String,
}

/// Every rendition of the station; printed by [`Display`]. The first is where players start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultivariantPlaylist {
    /// The renditions, as configured.
    pub variants: Vec<Variant>,
}

impl Display for MultivariantPlaylist {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "#EXTM3U\n#EXT-X-VERSION:{VERSION}\n#EXT-X-INDEPENDENT-SEGMENTS")?;
        for v in &self.variants {
            writeln!(
                f,
                "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={},CODECS=\"{}\"\n{}/live.m3u8",
                v.bandwidth, v.average_bandwidth, v.codecs, v.name
            )?;
        }
        Ok(())
    }
}

/// `CODECS` of an AudioSpecificConfig: `mp4a.40.` and the audio object type (RFC 6381 section 3.3).
pub fn codecs(audio_specific_config: &[u8]) -> String {
    // audioObjectType: the first 5 bits (ISO/IEC 14496-3, 1.6.2.1); escape value 31 is never ours.
    let object_type = audio_specific_config.first().map_or(0, |byte| byte >> 3);
    format!("mp4a.40.{object_type}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_listed_in_order_with_relative_addresses() {
        let variant = |name: &str, bandwidth| Variant {
            name: name.into(),
            bandwidth,
            average_bandwidth: bandwidth - 1_000,
            codecs: codecs(&[0x11, 0x90]),
        };
        let playlist =
            MultivariantPlaylist { variants: vec![variant("lofi", 67_000), variant("hifi", 198_000)] };
        let text = playlist.to_string();
        assert!(text.contains("BANDWIDTH=67000,AVERAGE-BANDWIDTH=66000,CODECS=\"mp4a.40.2\""), "{text}");
        let uris: Vec<_> = text.lines().filter(|l| !l.starts_with('#')).collect();
        assert_eq!(uris, ["lofi/live.m3u8", "hifi/live.m3u8"]);
    }
}
