//! PID 1's life: from boot to the workspace's end.
//!
//! ```text
//! boot -> dial and listen -> serve ... -> asked to stop -> hang up and ask all processes to end
//!      -> all gone, or GRACE over: kill the rest -> exit
//! ```
//!
//! **Invariant.** Nothing slow comes before the first dial: a workspace is ready when the server
//! has its link. Signals to "all processes" are sent only by PID 1, which is alone in its
//! namespace with its workspace.

use crate::control;
use crate::guest::Guest;
use crate::link::{self, Key};
use crate::process::Reaper;
use crate::rest;
use crate::routes;
use crate::sudo;
use rexec_api::guest::KEY_VARIABLE;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use std::ffi::CString;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::LocalSet;
use tokio::time::{Instant, timeout};

/// Processes may end by themselves for this long; engines wait 10 s for PID 1 by default.
const GRACE: Duration = Duration::from_secs(5);
/// After killing, the kernel needs a moment to take processes down.
const KILL_GRACE: Duration = Duration::from_secs(2);
/// How often to look whether all are gone, should no child's end tell.
const LOOK_PERIOD: Duration = Duration::from_millis(50);
/// Threads for blocking file work, and their stacks.
const BLOCKING_THREADS_MAX: usize = 4;
const BLOCKING_STACK_BYTES: usize = 256 * 1024;
const BLOCKING_KEEP_ALIVE: Duration = Duration::from_secs(2);
/// The signal by which systemd images are asked to stop is `SIGRTMIN + 3`; the first real-time
/// signal of the C library is 34.
const SIGNAL_HALT: i32 = 34 + 3;

/// Serves until asked to stop.
pub fn run() -> io::Result<()> {
    prepare();
    let key = take_key();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_stack_size(BLOCKING_STACK_BYTES)
        .thread_keep_alive(BLOCKING_KEEP_ALIVE)
        .build()?;
    LocalSet::new().block_on(&runtime, live(key))
}

fn prepare() {
    close_memory();
    limit_memory();
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    // The root is always there; failing would keep some mount busy, no more.
    let _ = rustix::process::chdir("/");
}

/// Keeps everybody in the workspace, root too, from tracing this process and from what `/proc/1` tells of its
/// memory and descriptors. Programs that it starts get the usual setting back when they are executed.
pub(crate) fn close_memory() {
    // Refused by kernels that do not know it, under which nothing is lost.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// One arena and quick returns to the kernel: the guest is in every workspace.
pub(crate) fn limit_memory() {
    const TRIM_BYTES: libc::c_int = 128 * 1024;
    // SAFETY: `mallopt` sets numbers in the allocator; no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_BYTES);
        libc::mallopt(libc::M_MMAP_THRESHOLD, TRIM_BYTES);
    }
}

/// Reads the key and wipes it where it came from, which `/proc/1/environ` shows: under gVisor to
/// everybody in the workspace. What is left there is no key.
fn take_key() -> Option<Key> {
    let name = CString::new(KEY_VARIABLE).ok()?;
    // SAFETY: the variable's value is a C string in the memory that the kernel gave us, which is
    // ours to write; only bytes before its end are written, and no other thread runs yet.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        if value.is_null() {
            return None;
        }
        let value = std::slice::from_raw_parts_mut(value.cast::<u8>(), libc::strlen(value));
        let key = std::str::from_utf8(value).ok().and_then(Key::parse);
        value.fill(b'-');
        key
    }
}

async fn live(key: Option<Key>) -> io::Result<()> {
    let reaper = Reaper::new();
    let mut stop = Stop::listen()?;
    tokio::task::spawn_local(reaper.watch()?);
    let guest = Rc::new(Guest::new(reaper));
    tokio::task::spawn_local(link::keep(guest.clone(), key));
    let control = control::bind(control::NAME)?;
    tokio::task::spawn_local(control::listen(routes::handler(guest.clone()), control));
    tokio::task::spawn_local(rest::keep(guest.clone()));
    let sudo = control::bind(sudo::NAME)?;
    tokio::task::spawn_local(sudo::broker::listen(guest, sudo));
    stop.asked().await;
    if rustix::process::getpid().is_init() {
        end_all().await?;
    }
    Ok(())
}

/// Every signal by which an image may say that its PID 1 is to stop.
pub(crate) struct Stop(Vec<Signal>);

impl Stop {
    pub(crate) fn listen() -> io::Result<Self> {
        let kinds = [
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::quit(),
            SignalKind::hangup(),
            SignalKind::window_change(),
            SignalKind::from_raw(libc::SIGPWR),
            SignalKind::from_raw(SIGNAL_HALT),
        ];
        kinds.into_iter().map(signal).collect::<Result<_, _>>().map(Self)
    }

    pub(crate) async fn asked(&mut self) {
        std::future::poll_fn(|cx| {
            let asked = self.0.iter_mut().any(|signal| signal.poll_recv(cx).is_ready());
            if asked { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }
}

/// Hangs up, asks, waits, kills. Children are reaped meanwhile by the reaper's own task.
async fn end_all() -> io::Result<()> {
    let mut ended = signal(SignalKind::child())?;
    // Shells go by the hang-up and services by the request; the stopped must wake to take either.
    for signal in [libc::SIGHUP, libc::SIGTERM, libc::SIGCONT] {
        signal_all(signal);
    }
    if all_gone(&mut ended, GRACE).await {
        return Ok(());
    }
    signal_all(libc::SIGKILL);
    all_gone(&mut ended, KILL_GRACE).await;
    Ok(())
}

async fn all_gone(ended: &mut Signal, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    // The null signal only asks whether anybody is there.
    while signal_all(0) {
        if Instant::now() >= deadline {
            return false;
        }
        // Either way the next look tells; the reaper has its turn first.
        let _ = timeout(LOOK_PERIOD, ended.recv()).await;
        tokio::task::yield_now().await;
    }
    true
}

/// Signals every process but PID 1. False when there is none.
fn signal_all(signal: i32) -> bool {
    // SAFETY: a plain system call; as PID 1, "all" is this workspace and not this process.
    let sent = unsafe { libc::kill(-1, signal) };
    sent == 0 || io::Error::last_os_error().raw_os_error() != Some(Errno::SRCH.raw_os_error())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rustix::process::dumpable_behavior;

    #[test]
    fn memory_is_closed_and_programs_are_as_usual() {
        close_memory();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        // Owned by whoever runs it; of a closed process it would be root's.
        let program = std::process::Command::new("stat").args(["-c", "%u", "/proc/self/environ"]).output().unwrap();
        // Other tests are in this process.
        set_dumpable_behavior(DumpableBehavior::Dumpable).unwrap();
        let own = rustix::process::geteuid().as_raw().to_string();
        assert_eq!(String::from_utf8(program.stdout).unwrap().trim(), own);
    }
}
