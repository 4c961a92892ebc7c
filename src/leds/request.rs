//! What the program asks of root: a file of that name in the folder of requests, where a unit of the system waits for it.

use std::fs;
use std::path::PathBuf;

use super::press::Press;

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Power off in good order.
    PowerOff,
    /// Start anew with the settings that the station came with.
    ResetSettings,
    /// The same, and with a new identity: the station's IPNS name is lost.
    ResetAll,
}

impl Request {
    /// What a press asks for; `None` where it is nothing for the system.
    pub fn of(press: Press, reset_identity: bool) -> Option<Self> {
        match press {
            Press::Skip | Press::ResetReady => None,
            Press::PowerOff => Some(Self::PowerOff),
            Press::Reset if reset_identity => Some(Self::ResetAll),
            Press::Reset => Some(Self::ResetSettings),
        }
    }

    /// The name of its file.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::PowerOff => "poweroff",
            Self::ResetSettings => "reset-settings",
            Self::ResetAll => "reset-all",
        }
    }

    /// Makes the file; one that is there already stays.
    ///
    /// # Errors
    /// [`RequestError`]; nothing was asked for then.
    pub fn make(self, folder: Option<&PathBuf>) -> Result<(), RequestError> {
        let path = folder.ok_or(RequestError::Nobody)?.join(self.file_name());
        fs::write(&path, b"").map_err(|source| RequestError::Write { path, source })
    }
}

/// Why a request was not made.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The program was not told where.
    #[error("nobody takes requests: the program was started without --requests")]
    Nobody,
    /// The file could not be made.
    #[error("cannot make the request {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_takes_the_identity_only_where_the_configuration_says_so() {
        assert_eq!(Request::of(Press::Reset, false), Some(Request::ResetSettings));
        assert_eq!(Request::of(Press::Reset, true), Some(Request::ResetAll));
        for press in [Press::Skip, Press::ResetReady] {
            assert_eq!(Request::of(press, true), None);
        }
        assert_eq!(Request::of(Press::PowerOff, true), Some(Request::PowerOff));
    }

    #[test]
    fn a_request_is_a_file_of_its_name_and_without_a_folder_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        for (request, name) in [
            (Request::PowerOff, "poweroff"),
            (Request::ResetSettings, "reset-settings"),
            (Request::ResetAll, "reset-all"),
        ] {
            request.make(Some(&path)).unwrap();
            request.make(Some(&path)).unwrap();
            assert!(path.join(name).is_file(), "{name}");
            assert!(matches!(request.make(None), Err(RequestError::Nobody)));
        }
        let absent = Request::PowerOff.make(Some(&path.join("absent"))).unwrap_err();
        assert!(absent.to_string().contains("absent/poweroff"), "{absent}");
    }
}
