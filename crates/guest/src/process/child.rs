//! What happens in the child between `fork` and `exec`.
//!
//! **Invariant of the `unsafe` here:** [`Plan::apply`] runs in a forked copy of a process that may
//! have had other threads (one of them perhaps inside the allocator), so it makes system calls on
//! values prepared before the fork and nothing else: no allocation, no lock, no panic. Everything it
//! needs is owned by the closure, which the child's copy of memory keeps alive.

use super::identity::Credentials;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, umask};
use std::ffi::CString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The step that failed travels in the upper bits of the error number that `Command` carries from
/// child to parent; the kernel's numbers end at 4095.
const STEP_SHIFT: i32 = 16;
const STEP_DIRECTORY: i32 = 1;
const STEP_IDENTITY: i32 = 2;
const STEP_TERMINAL: i32 = 3;

/// The user's programs go before the guest when memory runs out.
const OOM_SCORE: &[u8] = b"500";
/// The last signal number on Linux.
const SIGNAL_MAX: i32 = 64;

/// Where the program starts.
#[derive(Debug)]
pub(super) enum Directory {
    /// This one or none.
    Exactly(CString),
    /// The first that can be entered.
    FirstOf([CString; 2]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Session {
    /// A session of its own whose controlling terminal is standard input.
    Terminal,
    /// A process group of its own in the guest's session.
    Group,
}

/// Everything that the child does to itself before it becomes the program.
#[derive(Debug)]
pub(super) struct Plan {
    pub session: Session,
    /// Absent when the guest itself is not root and so cannot become anybody.
    pub credentials: Option<Credentials>,
    pub directory: Directory,
}

/// What went wrong in the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    Directory(Errno),
    Setup(Errno),
    Exec(Errno),
}

impl Failure {
    /// Undoes the packing of [`at_step`].
    pub fn of(error: &io::Error) -> Self {
        let raw = error.raw_os_error().unwrap_or(libc::EIO);
        let errno = Errno::from_raw_os_error(raw & 0xfff);
        match raw >> STEP_SHIFT {
            0 => Self::Exec(errno),
            STEP_DIRECTORY => Self::Directory(errno),
            _ => Self::Setup(errno),
        }
    }
}

/// Has `plan` applied in the child that `command` will fork.
pub(super) fn prepare(command: &mut Command, plan: Plan) {
    // SAFETY: `apply` is async-signal-safe, see the module's invariant.
    unsafe {
        command.pre_exec(move || plan.apply());
    }
}

impl Plan {
    fn apply(&self) -> io::Result<()> {
        reset_signals();
        self.enter_session().map_err(|errno| at_step(STEP_TERMINAL, errno))?;
        prefer_for_oom();
        if let Some(credentials) = &self.credentials {
            become_user(credentials).map_err(|errno| at_step(STEP_IDENTITY, errno))?;
        }
        umask(Mode::WGRP | Mode::WOTH);
        self.directory.enter().map_err(|errno| at_step(STEP_DIRECTORY, errno))?;
        close_on_exec();
        Ok(())
    }

    fn enter_session(&self) -> rustix::io::Result<()> {
        match self.session {
            Session::Terminal => {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())
            }
            Session::Group => rustix::process::setpgid(None::<Pid>, None::<Pid>),
        }
    }
}

impl Directory {
    fn enter(&self) -> rustix::io::Result<()> {
        match self {
            Self::Exactly(path) => rustix::process::chdir(path),
            Self::FirstOf([first, second]) => rustix::process::chdir(first).or_else(|_| rustix::process::chdir(second)),
        }
    }
}

fn at_step(step: i32, errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(step << STEP_SHIFT | errno.raw_os_error())
}

/// A shell started in the background leaves SIGINT and SIGQUIT ignored, and ignored signals survive
/// `exec`: without this, Ctrl-C would not work in a terminal of such a guest. The kernel is asked
/// directly because libc refuses the two signals that it keeps for itself.
fn reset_signals() {
    // The kernel's `sigaction`, all zero: the default action, no flags, an empty mask.
    const DEFAULT: [u64; 4] = [0; 4];
    const MASK_BYTES: usize = 8;
    // SAFETY: plain system calls on constants and on a local signal set; failures (SIGKILL and
    // SIGSTOP cannot be changed) are of no consequence.
    unsafe {
        for signal in 1..=SIGNAL_MAX {
            libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT.as_ptr(), std::ptr::null_mut::<u64>(), MASK_BYTES);
        }
        let none: u64 = 0;
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const none,
            std::ptr::null_mut::<u64>(),
            MASK_BYTES,
        );
    }
}

/// Done while still root, who owns the file; a refusal costs nothing but the preference.
fn prefer_for_oom() {
    let file = rustix::fs::open(c"/proc/self/oom_score_adj", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    if let Ok(file) = file {
        let _ = rustix::io::write(&file, OOM_SCORE);
    }
}

/// Groups first: afterwards there is no right to set them. These calls change the calling thread
/// only, and it is the child's only one.
fn become_user(credentials: &Credentials) -> rustix::io::Result<()> {
    let (uid, gid) = (credentials.uid, credentials.gid);
    rustix::thread::set_thread_groups(&credentials.groups)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

/// Everything that the guest opens is close-on-exec already; this also covers what its own parent
/// left open. `Command`'s own error pipe has the flag, so it works until `exec`.
fn close_on_exec() {
    let (first, last): (libc::c_uint, libc::c_uint) = (3, libc::c_uint::MAX);
    // SAFETY: closes nothing now and takes no pointers; an old kernel refuses, see above.
    unsafe {
        libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_CLOEXEC);
    }
}
