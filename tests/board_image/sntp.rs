//! A time server on loopback, which an emulated board asks as 10.0.2.2: SNTP (RFC 4330), with a time of the test's choice.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds from 1900 to 1970.
const NTP_TO_UNIX: u64 = 2_208_988_800;
/// What the port is (RFC 5905, section 7.2).
const PORT: u16 = 123;

/// Answers until it is dropped.
pub struct TimeServer {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TimeServer {
    /// Takes the port and answers with a time that is so many seconds ahead, or `None` where that is not allowed or taken.
    pub fn start(ahead: i64) -> Option<Self> {
        let socket = UdpSocket::bind(("127.0.0.1", PORT)).ok()?;
        socket.set_read_timeout(Some(Duration::from_millis(200))).ok()?;
        let ended = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let ended = Arc::clone(&ended);
            move || {
                let mut request = [0; 512];
                while !ended.load(Ordering::Relaxed) {
                    if let Ok((length, from)) = socket.recv_from(&mut request)
                        && length >= 48
                    {
                        let _ = socket.send_to(&answer(&request, ahead), from);
                    }
                }
            }
        });
        Some(Self { ended, thread: Some(thread) })
    }
}

impl Drop for TimeServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// RFC 4330 section 5: mode 4, stratum 1, the client's transmit time as originate time.
fn answer(request: &[u8], ahead: i64) -> [u8; 48] {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let seconds = (now.as_secs() + NTP_TO_UNIX).wrapping_add_signed(ahead) as u32;
    let fraction = ((u64::from(now.subsec_nanos()) << 32) / 1_000_000_000) as u32;
    let mut stamp = [0; 8];
    stamp[..4].copy_from_slice(&seconds.to_be_bytes());
    stamp[4..].copy_from_slice(&fraction.to_be_bytes());
    let mut answer = [0; 48];
    answer[0] = (request[0] & 0x38) | 4;
    answer[1] = 1;
    answer[2] = request[2];
    answer[3] = 0xec;
    answer[12..16].copy_from_slice(b"LOCL");
    answer[16..24].copy_from_slice(&stamp);
    answer[24..32].copy_from_slice(&request[40..48]);
    answer[32..40].copy_from_slice(&stamp);
    answer[40..48].copy_from_slice(&stamp);
    answer
}
