//! `guest orphan end CONTAINER`: ends what looks after a container that its engine knows nothing of any more: containerd's
//! shim, whose command line names the container. containerd takes that for an accident and clears all of it away: the
//! container's processes, or the one that still waits to become its first, its bundle and its task.
//!
//! It runs in a helper container of the server's own that sees its host's processes and may signal them. Never in a
//! workspace. It says `{"ended":..}`, or fails with why not.
//!
//! Invariant: only a process that was read to be the shim of exactly that container is signalled. It is held by a
//! descriptor from before it is read, so that its number cannot have become another's.

use rexec_api::guest::OrphanEnded;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::ffi::OsString;
use std::io::{self, Write};

const USAGE: &str = "usage: guest orphan end CONTAINER";
/// What the names of containerd's shims begin with, whatever the runtime.
const SHIM: &[u8] = b"containerd-shim";
/// A container's id, as Docker makes them: 32 random bytes in hexadecimal digits.
const ID_DIGITS: usize = 64;

/// Carries out `guest orphan ...`.
pub fn run(arguments: impl Iterator<Item = OsString>) -> io::Result<()> {
    let words: Option<Vec<String>> = arguments.map(|word| word.into_string().ok()).collect();
    let words = words.unwrap_or_default();
    let [verb, container] = words.as_slice() else { return Err(invalid(USAGE)) };
    if verb != "end" {
        return Err(invalid(USAGE));
    }
    writeln!(io::stdout(), "{}", serde_json::to_string(&OrphanEnded { ended: end(container)? })?)
}

/// How many were ended.
fn end(container: &str) -> io::Result<u32> {
    let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if container.len() != ID_DIGITS || !container.bytes().all(is_digit) {
        return Err(invalid("that is no container's id"));
    }
    let mut ended = 0;
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw) else { continue };
        // It has ended meanwhile.
        let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        let Ok(command) = std::fs::read(format!("/proc/{pid}/cmdline")) else { continue };
        if is_shim_of(&command, container) {
            match pidfd_send_signal(&held, Signal::KILL) {
                Ok(()) => ended += 1,
                Err(Errno::SRCH) => {}
                Err(error) => return Err(because(error)),
            }
        }
    }
    Ok(ended)
}

/// Whether a command line, as /proc has it, is that of the container's shim.
fn is_shim_of(command: &[u8], container: &str) -> bool {
    let words: Vec<&[u8]> = command.split(|&byte| byte == 0).collect();
    let program = words[0].rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    program.starts_with(SHIM) && words.windows(2).any(|pair| *pair == [b"-id".as_slice(), container.as_bytes()])
}

fn because(error: Errno) -> io::Error {
    let hint = match error {
        Errno::PERM | Errno::ACCESS => "it takes CAP_KILL over its host's processes",
        _ => "the kernel refuses",
    };
    io::Error::other(format!("what looks after the container cannot be ended: {hint} ({error})"))
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
    use std::process::Command;
    use std::time::{Duration, Instant};

    fn id(digit: &str) -> String {
        digit.repeat(ID_DIGITS)
    }

    #[test]
    fn a_shim_is_known_by_its_command_line() {
        let own = |program: &str, id: &str| format!("{program}\0-namespace\0moby\0-id\0{id}\0-address\0/run/x\0");
        for program in ["/usr/bin/containerd-shim-runc-v2", "containerd-shim-runsc-v1"] {
            assert!(is_shim_of(own(program, &id("a")).as_bytes(), &id("a")), "{program}");
            assert!(!is_shim_of(own(program, &id("b")).as_bytes(), &id("a")), "{program}");
        }
        assert!(!is_shim_of(own("/bin/grep", &id("a")).as_bytes(), &id("a")));
        assert!(!is_shim_of(format!("containerd-shim\0{}\0-id\0", id("a")).as_bytes(), &id("a")));
        assert!(!is_shim_of(b"", &id("a")));
    }

    #[test]
    fn only_the_containers_own_is_ended() {
        let random = uuid::Uuid::new_v4().simple().to_string();
        let (own, other) = (format!("{random}{random}"), id("0"));
        let shim = |id: &str| {
            // The shell reads its script, and then has what follows as its own arguments.
            let mut command = Command::new("sh");
            command.arg0("containerd-shim-test").args(["-c", "read _", "-id", id]);
            let child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
            // A process is told to have started a moment before its command line can be read.
            let line = format!("/proc/{}/cmdline", child.id());
            let deadline = Instant::now() + Duration::from_secs(10);
            while !is_shim_of(&std::fs::read(&line).unwrap(), id) {
                assert!(Instant::now() < deadline, "its command line cannot be read");
                std::thread::sleep(Duration::from_millis(1));
            }
            child
        };
        let (mut mine, mut others) = (shim(&own), shim(&other));
        assert_eq!(end(&own).unwrap(), 1);
        assert_eq!(mine.wait().unwrap().signal(), Some(libc::SIGKILL));
        assert!(others.try_wait().unwrap().is_none());
        others.kill().unwrap();
        others.wait().unwrap();
        assert_eq!(end(&own).unwrap(), 0);
    }

    #[test]
    fn only_whole_ids_are_taken() {
        for bad in ["", "a", &id("g"), &id("A"), &format!("{}0", id("0"))] {
            assert_eq!(end(bad).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{bad:?}");
        }
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>().into_iter();
        for wrong in [&[][..], &["end"], &["start", "a"]] {
            assert!(run(words(wrong)).unwrap_err().to_string().starts_with("usage: "));
        }
    }
}
