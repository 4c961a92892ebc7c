//! The machine's monitor: QEMU Machine Protocol on a Unix socket, one JSON object a line.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to the monitor.
pub struct Qmp {
    reader: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects, as soon as QEMU has made the socket.
    pub fn connect(socket: &Path) -> Self {
        let stream = connect(socket);
        stream.set_read_timeout(Some(TIMEOUT)).expect("a socket");
        let mut qmp = Self { reader: BufReader::new(stream) };
        qmp.read();
        qmp.execute("qmp_capabilities", json!({}));
        qmp
    }

    /// Runs a command and gives what it returns; an error fails the test.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Value {
        let line = json!({"execute": command, "arguments": arguments}).to_string() + "\n";
        self.reader.get_mut().write_all(line.as_bytes()).expect("QEMU listens");
        loop {
            let answer = self.read();
            assert!(answer.get("error").is_none(), "{command}: {answer}");
            if let Some(result) = answer.get("return") {
                return result.clone();
            }
        }
    }

    /// The 32-bit word at a physical address.
    pub fn word(&mut self, address: u64) -> u32 {
        let said =
            self.execute("human-monitor-command", json!({"command-line": format!("xp /1wx {address:#x}")}));
        let said = said.as_str().expect("text");
        let word = said.trim().rsplit("0x").next().expect("a word");
        u32::from_str_radix(word, 16).unwrap_or_else(|error| panic!("{said:?}: {error}"))
    }

    fn read(&mut self) -> Value {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("QEMU answers");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }
}

/// Connects to a socket of QEMU's, as soon as it has made it.
pub fn connect(socket: &Path) -> UnixStream {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < deadline, "{}: {error}", socket.display()),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
