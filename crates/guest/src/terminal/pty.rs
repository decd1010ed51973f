//! The pair of descriptors that is a terminal to a program.
//!
//! The master stays with the guest, non-blocking; the slave becomes the program's standard streams
//! and is the workspace user's, so that programs may open it again by name.

use super::sizes::Size;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Uid;
use rustix::pty::OpenptFlags;
use rustix::termios::{InputModes, OptionalActions, Winsize};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

pub(crate) struct Pty {
    pub master: OwnedFd,
    pub slave: OwnedFd,
}

/// What one `read` or `write` came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transfer {
    Bytes(usize),
    /// Nothing at the moment.
    Blocked,
    /// No program has the other side open.
    HungUp,
}

pub(crate) fn open(size: Size, owner: u32) -> rustix::io::Result<Pty> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    rustix::pty::unlockpt(&master)?;
    let slave = open_slave(&master, flags)?;
    resize(&master, size)?;
    let mut modes = rustix::termios::tcgetattr(&slave)?;
    // Backspace then removes a whole character and not its last byte.
    modes.input_modes |= InputModes::IUTF8;
    rustix::termios::tcsetattr(&slave, OptionalActions::Now, &modes)?;
    if rustix::process::geteuid().is_root() {
        rustix::fs::fchown(&slave, Some(Uid::from_raw(owner)), None)?;
    }
    rustix::io::ioctl_fionbio(&master, true)?;
    Ok(Pty { master, slave })
}

/// By descriptor where the kernel can, which no mount can misdirect; by name under gVisor.
fn open_slave(master: &OwnedFd, flags: OpenptFlags) -> rustix::io::Result<OwnedFd> {
    rustix::pty::ioctl_tiocgptpeer(master, flags).or_else(|_| {
        let name = rustix::pty::ptsname(master, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        rustix::fs::open(name, flags, Mode::empty())
    })
}

/// Tells the programs in the foreground too, by SIGWINCH.
pub(super) fn resize(master: impl AsFd, size: Size) -> rustix::io::Result<()> {
    let size = Winsize { ws_col: size.cols, ws_row: size.rows, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(master, size)
}

/// The process group in the foreground, `None` when there is none that this process can see.
pub(super) fn foreground(master: impl AsFd) -> Option<u32> {
    // SAFETY: a plain system call on an open descriptor. rustix's takes the answer 0 for a process.
    let group = unsafe { libc::tcgetpgrp(master.as_fd().as_raw_fd()) };
    u32::try_from(group).ok().filter(|&group| group > 0)
}

pub(super) fn read(master: impl AsFd, buffer: &mut [u8]) -> Transfer {
    transfer(|| rustix::io::read(&master, &mut *buffer))
}

pub(super) fn write(master: impl AsFd, bytes: &[u8]) -> Transfer {
    transfer(|| rustix::io::write(&master, bytes))
}

fn transfer(mut call: impl FnMut() -> rustix::io::Result<usize>) -> Transfer {
    loop {
        return match call() {
            Ok(0) => Transfer::HungUp,
            Ok(count) => Transfer::Bytes(count),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Transfer::Blocked,
            Err(_) => Transfer::HungUp,
        };
    }
}
