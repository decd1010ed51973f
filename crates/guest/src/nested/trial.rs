//! A nested container, made as a rootless engine makes one, by nothing but this program.
//!
//! ```text
//! trial (root) --makes--> own (user): a user namespace and its mounts, kept open
//!   |-- idmap uid, idmap gid: a range of numbers for it
//!   `-- join (user): enters what `own` made, as every later command of an engine does
//!         `-- inside: PID 1 of its own namespaces; network device, mounts, pivot_root, and a program in it
//! ```
//!
//! Whatever the host, its runtime or the profile does not allow fails here with the name of the step. `/proc` is
//! passed on and not mounted: some of it is covered in a container, and the kernel mounts no new one then.

use rexec_api::guest::MOUNT;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change, unmount,
};
use rustix::thread::{UnshareFlags, move_into_link_name_space};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};

/// The stages, each a process of its own.
pub const OWN: &str = "own";
pub const JOIN: &str = "join";
pub const INSIDE: &str = "inside";

/// The workspace's user, and the numbers that images of workspaces give it for its containers (`/etc/subuid`).
const USER: u32 = 1000;
const MAP: [&str; 6] = ["0", "1000", "1", "1", "100000", "65536"];
/// There in every container, and empty.
const SCRATCH: &str = "/dev/shm";
const ROOT: &str = "/dev/shm/root";
const TUN: &str = "/dev/net/tun";

/// Says which kernel this is, makes the container, runs a program in it, and says `done`.
pub fn run() -> io::Result<()> {
    println!("{}", rustix::system::uname().release().to_string_lossy());
    let mut owner = stage(&[OWN])?.stdin(Stdio::piped()).spawn()?;
    let (Some(mut ask), Some(answers)) = (owner.stdin.take(), owner.stdout.take()) else { return Err(failed(owner)) };
    let mut answers = BufReader::new(answers).lines();
    if answers.next().transpose()?.is_none() {
        return Err(failed(owner));
    }
    let pid = owner.id().to_string();
    for kind in ["uid", "gid"] {
        let words = ["idmap", kind, &pid].into_iter().chain(MAP);
        worked("numbers for its users", &program()?.args(words).stdin(Stdio::null()).output()?)?;
    }
    writeln!(ask)?;
    if answers.next().transpose()?.is_none() {
        return Err(failed(owner));
    }
    worked("", &stage(&[JOIN, &pid])?.stdin(Stdio::null()).output()?)?;
    drop(ask);
    owner.wait()?;
    println!("done");
    Ok(())
}

pub fn own() -> io::Result<()> {
    step("a user namespace", apart(UnshareFlags::NEWUSER | UnshareFlags::NEWNS))?;
    let mut asked = io::stdin().lock();
    say()?;
    asked.read_line(&mut String::new())?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    step("mounts of its own", mount_change("/", private))?;
    step("a mount", mount("tmpfs", SCRATCH, "tmpfs", MountFlags::NOSUID, None))?;
    say()?;
    asked.read_to_end(&mut Vec::new()).map(drop)
}

pub fn join(pid: &str) -> io::Result<()> {
    for (name, what) in [("user", "entering a user namespace"), ("mnt", "entering its mounts")] {
        let file = File::open(format!("/proc/{pid}/ns/{name}")).map_err(|error| named(what, error))?;
        step(what, move_into_link_name_space(file.as_fd(), None))?;
    }
    let own =
        UnshareFlags::NEWNS | UnshareFlags::NEWPID | UnshareFlags::NEWNET | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC;
    step("namespaces of a container", apart(own))?;
    let status = program()?.args(["nested", INSIDE]).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    // It has said what it lacked.
    std::process::exit(status.code().unwrap_or(1));
}

pub fn inside() -> io::Result<()> {
    // Asked for later, it would be named by where it was.
    let mut program = program()?;
    open_network()?;
    fs::create_dir(ROOT)?;
    step("a root of its own", mount("tmpfs", ROOT, "tmpfs", MountFlags::NOSUID, None))?;
    for from in ["/proc", MOUNT] {
        let to = format!("{ROOT}{from}");
        fs::create_dir(&to)?;
        step("passing a mount on", mount_bind_recursive(from, &to))?;
    }
    let old = format!("{ROOT}/old");
    fs::create_dir(&old)?;
    step("entering its root", rustix::process::pivot_root(ROOT, &old))?;
    std::env::set_current_dir("/")?;
    step("leaving the old root", unmount("/old", UnmountFlags::DETACH))?;
    Err(named("a program", program.arg("version").exec()))
}

/// A network device as an engine's user-mode network has it.
fn open_network() -> io::Result<()> {
    /// `linux/if_tun.h`.
    const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
    const TAP_WITHOUT_HEADER: libc::c_short = 0x1002;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let device = step(TUN, rustix::fs::open(TUN, flags, Mode::empty()))?;
    // SAFETY: all zeros is a valid request, and it is the kernel's to read and write during the call alone.
    let done = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_ifru.ifru_flags = TAP_WITHOUT_HEADER;
        libc::ioctl(device.as_raw_fd(), TUNSETIFF as _, &raw mut request)
    };
    if done == 0 { Ok(()) } else { Err(named("a network device", io::Error::last_os_error())) }
}

fn apart(flags: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: only the table of descriptors, which is not among these, would trouble others; there is one thread.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

fn program() -> io::Result<Command> {
    Ok(Command::new(std::env::current_exe()?))
}

/// This program at one of the stages, as the user.
fn stage(words: &[&str]) -> io::Result<Command> {
    let mut command = program()?;
    command.arg("nested").args(words).uid(USER).gid(USER).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

fn say() -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output)?;
    output.flush()
}

fn step<T>(what: &str, done: rustix::io::Result<T>) -> io::Result<T> {
    done.map_err(|error| named(what, error.into()))
}

fn named(what: &str, error: io::Error) -> io::Error {
    io::Error::other(format!("{what}: {error}"))
}

/// What a stage that ended had to say.
fn failed(child: Child) -> io::Error {
    match child.wait_with_output() {
        Ok(output) => worked("", &output).err().unwrap_or_else(|| io::Error::other("a stage ended early")),
        Err(error) => error,
    }
}

/// A stage's own words are the failure; `what` is said of one that names no step itself.
fn worked(what: &str, output: &Output) -> io::Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().trim_start_matches("rexec-guest: ");
    Err(io::Error::other(match (what, said) {
        ("", said) => said.to_owned(),
        (what, "") => format!("{what}: it ended ({})", output.status),
        (what, said) => format!("{what}: {said}"),
    }))
}
