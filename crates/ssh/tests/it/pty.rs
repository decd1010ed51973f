//! Pseudo-terminals, for the backend's shells and for the terminal that a test's client runs in.

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::process::Stdio;
use tokio::process::Command;

pub struct Terminal {
    pub master: OwnedFd,
    slave: OwnedFd,
}

impl Terminal {
    pub fn open(cols: u16, rows: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("openpt");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let name = ptsname(&master, Vec::new()).expect("ptsname");
        let slave = open(&*name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).expect("slave");
        let terminal = Self { master, slave };
        terminal.resize(cols, rows);
        terminal
    }

    pub fn resize(&self, cols: u16, rows: u16) {
        let size = Winsize { ws_col: cols, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).expect("tcsetwinsize");
    }

    /// Makes it the command's controlling terminal; gives up our end of the slave.
    pub fn attach(self, command: &mut Command) -> OwnedFd {
        let stdio = || Stdio::from(self.slave.try_clone().expect("dup"));
        command.stdin(stdio()).stdout(stdio()).stderr(stdio());
        // SAFETY: both calls are async-signal-safe and touch nothing but the child.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        self.master
    }
}
