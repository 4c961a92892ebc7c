//! systemd's notification socket (sd_notify(3), `NOTIFY_SOCKET`).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where messages to the service manager go.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    manager: SocketAddr,
}

impl NotifySocket {
    /// A socket to the manager at `address`: an absolute path, or `@` and a name in the abstract namespace.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for an address of another form, or one that is too long; else no socket could be made.
    pub fn open(address: &OsStr) -> io::Result<Self> {
        let manager = match address.as_bytes() {
            [b'/', ..] => SocketAddr::from_pathname(address)?,
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let socket = UnixDatagram::unbound()?;
        // A manager that does not read must not hold up the station.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, manager })
    }

    /// Sends lines of `KEY=value` as one message.
    ///
    /// # Errors
    /// The manager is gone, or does not read.
    pub fn send(&self, lines: &str) -> io::Result<()> {
        self.socket.send_to_addr(lines.as_bytes(), &self.manager).map(drop)
    }
}
