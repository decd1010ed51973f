//! The processes of a terminal beyond its first one, as `/proc` tells of them.
//!
//! Asked there and not by `tcgetpgrp` and `getsid`, whose answer 0 ("none that you can see") rustix
//! takes for a process number. Called only while the session's leader has not been reaped, so that
//! its number is still its own.

use rustix::process::{Pid, Signal};

/// What is used of `/proc/<pid>/stat`, see proc(5).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    session: u32,
    /// The foreground process group of the controlling terminal, -1 without one.
    foreground: i32,
}

/// The process group that the keyboard's signals go to at the moment.
pub(super) fn foreground(leader: u32) -> Option<Pid> {
    let foreground = stat(&leader.to_string())?.foreground;
    (foreground > 1).then(|| Pid::from_raw(foreground)).flatten()
}

/// Kills every process of a session: the jobs of a shell have groups of their own.
pub(super) fn kill(leader: u32) {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some((name, pid)) = name.to_str().and_then(|n| Some((n, n.parse::<i32>().ok()?))) else {
            continue;
        };
        if stat(name).is_some_and(|stat| stat.session == leader)
            && let Some(pid) = (pid > 1).then(|| Pid::from_raw(pid)).flatten()
        {
            // It may have ended since it was looked at.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

fn stat(pid: &str) -> Option<Stat> {
    parse(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The program's name stands in parentheses and may contain any byte; the last one closes it.
fn parse(text: &[u8]) -> Option<Stat> {
    let close = text.iter().rposition(|&byte| byte == b')')?;
    let text = std::str::from_utf8(&text[close + 1..]).ok()?;
    let mut fields = text.split_whitespace().skip(3);
    let session = fields.next()?.parse().ok()?;
    let foreground = fields.nth(1)?.parse().ok()?;
    Some(Stat { session, foreground })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_does_not_confuse() {
        let line = b"77 (a) R 1 1 1 \xff)) S 1 77 70 34816 99 4194304 0";
        let expected = Stat { session: 70, foreground: 99 };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse(b"77 (a"), None);
        assert_eq!(parse(b"77 (a) S 1"), None);
    }
}
