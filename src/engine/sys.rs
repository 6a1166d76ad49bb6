//! System calls that no crate offers safely. All unsafe code of the project is here.
#![allow(unsafe_code, reason = "the one module that may; each block states why it is sound")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// The clock that goes on during suspend.
#[cfg(target_os = "linux")]
const BOOT_CLOCK: libc::clockid_t = libc::CLOCK_BOOTTIME;
/// The clock that goes on during suspend: the monotonic clock of this system does, and `Instant` reads another one.
#[cfg(target_os = "macos")]
const BOOT_CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;

/// The clock that goes on during suspend, where the system has one.
#[cfg(any(target_os = "linux", target_os = "macos"))]
pub fn boot_time() -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, writable timespec for the duration of the call.
    let result = unsafe { libc::clock_gettime(BOOT_CLOCK, &mut time) };
    let seconds = u64::try_from(time.tv_sec).ok()?;
    let nanos = u32::try_from(time.tv_nsec).ok()?;
    (result == 0).then(|| Duration::new(seconds, nanos))
}

/// The clock that goes on during suspend, where the system has one.
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub fn boot_time() -> Option<Duration> {
    None
}

/// Clears "don't fragment" on a UDP socket: an ESP packet larger than the path is fragmented, not lost.
#[cfg(target_os = "linux")]
pub fn allow_fragmentation(socket: &impl AsRawFd, ipv6: bool) -> io::Result<()> {
    let set = |level: libc::c_int, option: libc::c_int, value: libc::c_int| {
        // SAFETY: the file descriptor is open while `socket` is borrowed; `value` outlives the call and its
        // size is the length that is passed.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                level,
                option,
                (&raw const value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    set(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)?;
    if ipv6 {
        set(libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT)?;
    }
    Ok(())
}

/// Clears "don't fragment" on a UDP socket: nothing to do where the system does not set it.
#[cfg(not(target_os = "linux"))]
pub fn allow_fragmentation(_socket: &impl AsRawFd, _ipv6: bool) -> io::Result<()> {
    Ok(())
}

/// A socket on which the kernel tells about addresses and routes that come and go (rtnetlink). It does not block.
#[cfg(target_os = "linux")]
pub fn network_changes() -> io::Result<std::fs::File> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the call takes numbers only.
    let socket = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system just made `socket` for us: it is open and nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: `sockaddr_nl` is plain data for which all zeros is a value.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    address.nl_groups = (libc::RTMGRP_IPV4_IFADDR
        | libc::RTMGRP_IPV6_IFADDR
        | libc::RTMGRP_IPV4_ROUTE
        | libc::RTMGRP_IPV6_ROUTE) as u32;
    // SAFETY: the descriptor is open, and `address` outlives the call; its size is the length that is passed.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_nl>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(socket.into()) }
}

/// A socket on which the kernel tells about addresses and routes that come and go: not on this system.
#[cfg(not(target_os = "linux"))]
pub fn network_changes() -> io::Result<std::fs::File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A descriptor of our own for what the number `fd` stands for: a number that a parent process named can so be used
/// whoever owns it here. The original stays open.
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the call takes a number, which the system checks, and touches no memory of ours.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system just made `copy` for us: it is open and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Opens the tun device `name` (made when it does not exist) in the network namespace of this thread: one IP packet
/// per read or write, no header in front, not blocking. Needs CAP_NET_ADMIN for a device that it does not own.
#[cfg(target_os = "linux")]
pub fn open_tun(name: &str) -> io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;

    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains('\0') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a name for a network device"));
    }
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    // SAFETY: `ifreq` is plain data for which all zeros is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the descriptor is open, and TUNSETIFF reads and writes one `ifreq`, which outlives the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(file) }
}
