//! Network namespaces and TUN devices by the kernel's own calls: all that is unsafe of the lab.

#![allow(unsafe_code, reason = "the standard library knows neither unshare nor TUNSETIFF")]

use std::fs::{File, OpenOptions};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::time::Duration;

/// `linux/if_tun.h`.
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const IFF_TUN: libc::c_short = 0x0001;
const IFF_NO_PI: libc::c_short = 0x1000;
const DEVICE: &str = "lab0";

/// `struct ifreq`, of which TUNSETIFF reads name and flags.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    rest: [u8; 22],
}

/// Makes what a lab is made of; panics where that fails.
pub fn probe() {
    enter_new(Ipv4Addr::new(10, 77, 0, 1)).expect("a namespace with a device");
}

/// Moves the calling thread to a new namespace with one device of this address; the device's other end.
pub fn enter_new(address: Ipv4Addr) -> io::Result<File> {
    // SAFETY: takes no pointer; it changes the network of this thread alone.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // IPv6 would fill the network with its own talk.
    _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    let device = open()?;
    ip("link set lo up")?;
    ip(&format!("address add {address}/16 dev {DEVICE}"))?;
    ip(&format!("link set {DEVICE} mtu 1500 txqueuelen 1000 up"))?;
    ip(&format!("route add default dev {DEVICE}"))?;
    Ok(device)
}

fn open() -> io::Result<File> {
    let device =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    let mut request =
        InterfaceRequest { name: [0; libc::IFNAMSIZ], flags: IFF_TUN | IFF_NO_PI, rest: [0; 22] };
    request.name[..DEVICE.len()].copy_from_slice(DEVICE.as_bytes());
    // SAFETY: the descriptor is open, and the request is as long as the kernel's, whose 40 bytes it may write.
    if unsafe { libc::ioctl(device.as_raw_fd(), TUNSETIFF, &raw mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(device)
}

fn ip(arguments: &str) -> io::Result<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output()?;
    let said = || io::Error::other(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr)));
    if output.status.success() { Ok(()) } else { Err(said()) }
}

/// Waits until one of the devices has packets, or for so long; which ones have.
pub fn readable(devices: &[File], within: Duration) -> Vec<usize> {
    let of = |device: &File| libc::pollfd { fd: device.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut asked: Vec<_> = devices.iter().map(of).collect();
    let time = libc::timespec {
        tv_sec: within.as_secs().try_into().expect("seconds"),
        tv_nsec: within.subsec_nanos().into(),
    };
    let count = asked.len().try_into().expect("a few devices");
    // SAFETY: the array is of `count` entries and outlives the call, as does the time; no signal mask is given.
    unsafe { libc::ppoll(asked.as_mut_ptr(), count, &raw const time, std::ptr::null()) };
    asked.iter().enumerate().filter(|(_, asked)| asked.revents != 0).map(|(place, _)| place).collect()
}
