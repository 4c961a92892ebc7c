//! Configuration files on top of each other: those of a board below the owner's.
//!
//! Tables are merged key by key, the upper file wins; lists, blocks such as `[[mirror]]` among them, are replaced whole.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{Config, ConfigError, key_at};

/// Files read so far, the lowest first.
#[derive(Debug, Default)]
pub struct Layers {
    files: Vec<File>,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    text: String,
    table: Table,
}

impl Layers {
    /// Puts the file at `path` on top.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line and key of the first mistake that the file holds by itself.
    pub fn push(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = Config::read(path)?;
        self.push_text(path, text)
    }

    /// As [`Layers::push`]; a file that is not there adds nothing. `false` then.
    ///
    /// # Errors
    /// As [`Layers::push`], but for a file that is not there.
    pub fn push_if_there(&mut self, path: &Path) -> Result<bool, ConfigError> {
        match std::fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            _ => self.push(path).map(|()| true),
        }
    }

    fn push_text(&mut self, path: &Path, text: String) -> Result<(), ConfigError> {
        // Each file alone must have the right keys and types, so that a mistake is found where it stands.
        Config::parse(&text, path)?;
        let table = text.parse().expect("what gave a configuration is a table");
        self.files.push(File { path: path.to_owned(), text, table });
        Ok(())
    }

    /// What the files say together, on top of the built-in defaults; not validated.
    pub fn merged(&self) -> Config {
        let mut whole = Table::new();
        for file in &self.files {
            merge(&mut whole, file.table.clone());
        }
        whole.try_into().expect("each file had the right keys and types, and merging changes neither")
    }

    /// Where the mistake in `key` stands: in the uppermost file that has the key. One that no file has came from the
    /// command line.
    pub fn locate(&self, key: String, reason: String) -> ConfigError {
        let place = |file: &File| Some((file.path.clone(), line_of_key(&file.text, &key)?));
        let (file, line) = self.files.iter().rev().find_map(place).unzip();
        ConfigError { file, line, key, reason }
    }
}

fn merge(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            (_, value) => _ = below.insert(key, value),
        }
    }
}

/// The line, from 1, that has the key; `section[2]` is the third block of that name.
fn line_of_key(text: &str, key: &str) -> Option<usize> {
    let (name, index) = match key.strip_suffix(']').and_then(|key| key.rsplit_once('[')) {
        Some((name, index)) => (name, index.parse().unwrap_or(0)),
        None => (key, 0),
    };
    let mut lines = (1..=text.lines().count()).filter(|line| key_at(text, *line) == name);
    lines.nth(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(texts: &[(&str, &str)]) -> Result<Layers, ConfigError> {
        let mut layers = Layers::default();
        for (path, text) in texts {
            layers.push_text(Path::new(path), (*text).to_owned())?;
        }
        Ok(layers)
    }

    #[test]
    fn the_upper_file_wins_key_by_key() {
        let board = "[station]\nname = 'Board'\ndata = '/data'\n[http.gateway]\nfetch = true\n";
        let user = "[station]\nname = 'Kitchen'\n[http]\nlisten = '0.0.0.0:81'\n";
        let config = layers(&[("board.toml", board), ("station.toml", user)]).unwrap().merged();
        assert_eq!(config.station.name, "Kitchen");
        assert_eq!(config.station.data, Path::new("/data"));
        assert_eq!(config.http.listen.port(), 81);
        assert!(config.http.gateway.fetch);
        assert_eq!(config.hls, Config::default().hls);
    }

    #[test]
    fn lists_and_blocks_are_replaced_whole() {
        let board = "[library]\nmusic = ['/a', '/b']\n[[mirror]]\nurl = 'http://a:1'\nqueue = 3\n";
        let user = "[library]\nmusic = ['/c']\n[[mirror]]\nurl = 'http://b:1'\n";
        let config = layers(&[("board.toml", board), ("station.toml", user)]).unwrap().merged();
        assert_eq!(config.library.music, [Path::new("/c")]);
        assert_eq!(config.mirror.len(), 1);
        assert_ne!(config.mirror[0].queue, 3);
    }

    #[test]
    fn a_mistake_is_found_in_the_file_that_has_it() {
        let wrong =
            layers(&[("board.toml", "[hls]\nlead = '2m'\n"), ("station.toml", "\n[hls]\nlead = 'soon'\n")]);
        let error = wrong.unwrap_err();
        assert_eq!((error.file.as_deref(), error.line), (Some(Path::new("station.toml")), Some(3)));
        let error = layers(&[("board.toml", "[hls]\nleed = '2m'\n"), ("station.toml", "")]).unwrap_err();
        assert_eq!((error.file.as_deref(), error.line), (Some(Path::new("board.toml")), Some(2)));
    }

    #[test]
    fn a_value_out_of_range_is_blamed_on_the_uppermost_file_that_has_the_key() {
        let board = "[hls]\nsegment = '3s 840ms'\nplaylist = '1m'\n";
        let both =
            layers(&[("board.toml", board), ("station.toml", "# mine\n[hls]\nsegment = '4s'\n")]).unwrap();
        let place = |key: &str| {
            let error = both.locate(key.to_owned(), "no".into());
            (error.file.map(|file| file.display().to_string()), error.line)
        };
        assert_eq!(place("hls.segment"), (Some("station.toml".into()), Some(3)));
        assert_eq!(place("hls.playlist"), (Some("board.toml".into()), Some(3)));
        assert_eq!(place("http.listen"), (None, None), "the command line");
    }

    #[test]
    fn a_file_that_is_not_there_adds_nothing_where_it_need_not_be() {
        let mut layers = Layers::default();
        assert_eq!(layers.push_if_there(Path::new("/nonexistent/station.toml")), Ok(false));
        assert_eq!(layers.merged(), Config::default());
        assert!(layers.push(Path::new("/nonexistent/station.toml")).is_err());
        // A folder in its place is there and cannot be read.
        assert!(layers.push_if_there(Path::new("/")).is_err());
    }
}
