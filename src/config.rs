//! station.toml: composed of the stages' own sections, loaded and validated.

mod hostname;
mod layers;
mod wifi;

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::encoder::EncoderConfig;
use crate::hls::HlsConfig;
use crate::http::HttpConfig;
use crate::ipfs::IpfsConfig;
use crate::ipfs::ipns::Name;
use crate::leds::{ButtonConfig, LedsConfig};
use crate::library::LibraryConfig;
use crate::logging::LogConfig;
use crate::mirror::{self, MirrorConfig};
use crate::pins::{self, PinConfig};
use crate::player::{PlayerConfig, PlayerError};
use crate::retention::RetentionConfig;

pub use hostname::hostname;
pub use layers::Layers;
pub use wifi::WifiConfig;

/// `[station]`: who it is and where it keeps its things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StationConfig {
    /// Name that listeners see, 1 to 64 characters.
    pub name: String,
    /// Folder of everything that the station keeps.
    pub data: PathBuf,
}

impl Default for StationConfig {
    fn default() -> Self {
        Self { name: "Skywave".into(), data: "skywave-data".into() }
    }
}

/// The whole configuration; every key has a default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// IPNS name of the station that this node relays; it is a station of its own where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub follow: Option<String>,
    /// Who it is.
    pub station: StationConfig,
    /// Where the music is.
    pub library: LibraryConfig,
    /// How it is played.
    pub player: PlayerConfig,
    /// What is encoded.
    pub encoder: EncoderConfig,
    /// The grid of the stream.
    pub hls: HlsConfig,
    /// The node.
    pub ipfs: IpfsConfig,
    /// How much of the past is kept.
    pub retention: RetentionConfig,
    /// Nodes that hold a copy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mirror: Vec<MirrorConfig>,
    /// Pinning services that hold a copy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pin: Vec<PinConfig>,
    /// The web server.
    pub http: HttpConfig,
    /// The lights.
    pub leds: LedsConfig,
    /// The button.
    pub button: ButtonConfig,
    /// What is logged.
    pub log: LogConfig,
}

/// A mistake in the configuration, with its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The file; `None` for a mistake on the command line.
    pub file: Option<PathBuf>,
    /// Line in the file, from 1, where it is known.
    pub line: Option<usize>,
    /// Key with its section, such as `hls.lead`; empty where there is none.
    pub key: String,
    /// What is wrong.
    pub reason: String,
}

impl Display for ConfigError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{}:{line}: ", file.display())?,
            (Some(file), None) => write!(f, "{}: ", file.display())?,
            (None, _) => write!(f, "command line: ")?,
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.reason)
    }
}

impl Config {
    /// Reads and checks the file at `path`. Relative folders in it count from the current folder.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line and key of the first mistake.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let mut layers = Layers::default();
        layers.push(path)?;
        let config = layers.merged();
        config.validate().map_err(|(key, reason)| layers.locate(key, reason))?;
        Ok(config)
    }

    /// Reads the file without the checks that [`Config::validate`] makes.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line and key of the first mistake.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| line_of(text, span.start));
            ConfigError {
                file: Some(path.to_owned()),
                line,
                key: line.map_or_else(String::new, |line| key_at(text, line)),
                reason: error.message().to_owned(),
            }
        })
    }

    /// The text of the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`] that names the file.
    pub fn read(path: &Path) -> Result<String, ConfigError> {
        std::fs::read_to_string(path).map_err(|error| ConfigError {
            file: Some(path.to_owned()),
            line: None,
            key: String::new(),
            reason: error.to_string(),
        })
    }

    /// Checks what types cannot say, and that the music is there. The error is the key and what is wrong with it.
    pub fn validate(&self) -> Result<(), (String, String)> {
        if self.follow.is_some() {
            // A relay plays no music of its own.
            return self.validate_values();
        }
        self.library.validate().map_err(|error| ("library.music".to_owned(), error.to_string()))?;
        self.validate_values()
    }

    /// As [`Config::validate`], for a board that waits for music which is not there yet.
    pub fn validate_values(&self) -> Result<(), (String, String)> {
        self.validate_follow()?;
        let name = self.station.name.trim();
        if name.is_empty() || name.chars().count() > 64 || name.chars().any(char::is_control) {
            return Err(("station.name".into(), "must be 1 to 64 printable characters".into()));
        }
        self.player.validate().map_err(|error| match &error {
            PlayerError::OutOfRange { key, .. } => (format!("player.{key}"), error.to_string()),
            _ => ("player".to_owned(), error.to_string()),
        })?;
        let owned = |(key, reason): (&str, String)| (key.to_owned(), reason);
        self.encoder.validate()?;
        self.hls.validate().map_err(owned)?;
        self.ipfs.validate().map_err(owned)?;
        self.retention.validate().map_err(owned)?;
        self.http.validate().map_err(owned)?;
        mirror::validate(&self.mirror)?;
        pins::validate(&self.pin)?;
        self.leds.validate(&self.button).map_err(owned)?;
        self.log.validate().map_err(owned)
    }

    fn validate_follow(&self) -> Result<(), (String, String)> {
        let refuse = |reason: &str| Err(("follow".to_owned(), reason.to_owned()));
        match (&self.follow, self.followed()) {
            (None, _) => Ok(()),
            (Some(_), None) => refuse("must be the IPNS name of a station, such as k51qzi5uqu5d..."),
            (Some(_), Some(_)) if self.ipfs.offline => {
                refuse("a relay hears its station over the network, and ipfs.offline switches that off")
            }
            _ => Ok(()),
        }
    }

    /// The station that this node relays; `None` for a station of its own.
    pub fn followed(&self) -> Option<Name> {
        let text = self.follow.as_deref()?.trim();
        Name::parse(text.strip_prefix("/ipns/").unwrap_or(text))
    }

    /// Folder of the IPFS repo.
    pub fn repo(&self) -> PathBuf {
        self.ipfs.repo.clone().unwrap_or_else(|| self.station.data.join("ipfs"))
    }

    /// Folder of the archive.
    pub fn archive(&self) -> PathBuf {
        self.retention.archive_folder.clone().unwrap_or_else(|| self.station.data.join("archive"))
    }

    /// Sections that differ from `other` and are read only at the start.
    pub fn needs_restart(&self, other: &Self) -> Vec<&'static str> {
        let changed = [
            ("follow", self.follow != other.follow),
            ("station", self.station != other.station),
            ("library.settle", self.library.settle != other.library.settle),
            ("encoder", self.encoder != other.encoder),
            ("hls", self.hls != other.hls),
            ("ipfs", self.ipfs != other.ipfs),
            ("retention", self.retention != other.retention),
            ("mirror", self.mirror != other.mirror),
            ("pin", self.pin != other.pin),
            ("http", self.http != other.http),
            ("leds", self.leds != other.leds),
            ("button", self.button != other.button),
            ("log", self.log != other.log),
        ];
        changed.into_iter().filter_map(|(section, differs)| differs.then_some(section)).collect()
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// The key that stands on a line, with the section above it; of a section header, the section.
fn key_at(text: &str, line: usize) -> String {
    let bare =
        |line: &str| line.trim().trim_start_matches('[').split(']').next().unwrap_or("").trim().to_owned();
    let lines: Vec<&str> = text.lines().take(line).collect();
    let section = lines.iter().rev().find(|line| line.trim_start().starts_with('['));
    let section = section.map_or_else(String::new, |line| bare(line));
    let last = lines.last().map_or("", |line| line.trim());
    match last.split_once('=') {
        Some((key, _)) if !last.starts_with('[') && section.is_empty() => key.trim().to_owned(),
        Some((key, _)) if !last.starts_with('[') => format!("{section}.{}", key.trim()),
        _ if last.starts_with('[') => section,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(text: &str) -> ConfigError {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("station.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path).unwrap_err()
    }

    #[test]
    fn the_shipped_file_says_what_is_built_in() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("board/station.toml");
        let shipped = Config::load(&path).unwrap();
        assert_eq!(shipped, Config::default());
        // And it names every key, so that an owner sees what there is.
        let text = std::fs::read_to_string(&path).unwrap();
        let table: toml::Table = toml::from_str(&toml::to_string(&Config::default()).unwrap()).unwrap();
        for (section, keys) in &table {
            for key in keys.as_table().unwrap().keys() {
                assert!(
                    text.contains(&format!("{key} =")) || text.contains(&format!("{section}.{key}]")),
                    "{section}.{key}"
                );
            }
        }
    }

    #[test]
    fn mistakes_name_file_line_and_key() {
        let error = mistake("[hls]\nlead = \"60s\"\nleed = \"60s\"\n");
        assert_eq!((error.line, error.key.as_str()), (Some(3), "hls.leed"));
        assert!(error.to_string().contains("station.toml:3: hls.leed: unknown field"), "{error}");

        let error = mistake("[hls]\n\nlead = \"soon\"\n");
        assert_eq!((error.line, error.key.as_str()), (Some(3), "hls.lead"));

        let error = mistake("[library]\nmusic = [\"/nonexistent/music\"]\n");
        assert_eq!((error.line, error.key.as_str()), (Some(2), "library.music"));
        assert!(error.reason.contains("/nonexistent/music"), "{error}");

        let error = mistake("[hls]\nsegment = \"4s\"\n");
        assert_eq!((error.line, error.key.as_str()), (Some(2), "hls.segment"));

        let error = mistake("[[encoder.rendition]]\nname = \"x\"\nbitrate = 5\n");
        assert_eq!((error.line, error.key.as_str()), (Some(1), "encoder.rendition[0]"));
        let good = "[[encoder.rendition]]\n# first\nname = \"a\"\nbitrate = 64000\n";
        let error = mistake(&format!("{good}[[encoder.rendition]]\nname = \"a\"\nbitrate = 96000\n"));
        assert_eq!((error.line, error.key.as_str()), (Some(5), "encoder.rendition[1]"));

        let mirrors = "[[mirror]]\nurl = \"http://a:5001\"\n\n[[mirror]]\nurl = \"ftp://b:5001\"\n";
        let error = mistake(mirrors);
        assert_eq!((error.line, error.key.as_str()), (Some(4), "mirror[1]"));

        let error = mistake("[radio]\n");
        assert_eq!((error.line, error.key.as_str()), (Some(1), "radio"));

        assert!(mistake("[hls\n").line.is_some());
    }

    #[test]
    fn a_relay_needs_no_music_but_a_name_and_a_network() {
        let name = crate::ipfs::Identity::generate().name();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("station.toml");
        let write = |text: String| std::fs::write(&path, text).unwrap();
        write(format!("follow = \"{name}\"\n[library]\nmusic = [\"/nonexistent/music\"]\n"));
        assert_eq!(Config::load(&path).unwrap().followed(), Some(name));
        write(format!("follow = \" /ipns/{}\"\n", name.peer_id()));
        assert_eq!(Config::load(&path).unwrap().followed(), Some(name), "however it is spelled");
        for text in ["follow = \"radio.example.org\"\n".to_owned(), "follow = \"\"\n".to_owned()] {
            let error = mistake(&text);
            assert_eq!((error.line, error.key.as_str()), (Some(1), "follow"), "{text}");
        }
        let error = mistake(&format!("follow = \"{name}\"\n[ipfs]\noffline = true\n"));
        assert!(error.reason.contains("ipfs.offline"), "{error}");
        assert_eq!(Config::default().followed(), None);
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Config::load(Path::new("/nonexistent/station.toml")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/station.toml"), "{error}");
    }
}
