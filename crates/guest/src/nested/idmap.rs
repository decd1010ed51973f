//! Writes the user or group map of a namespace (`user_namespaces(7)`, "Defining user and group ID mappings").
//!
//! The kernel wants a writer who is privileged in the namespace, which its maker is and the workspace's root is
//! not, and who may choose numbers outside of it, which root may and the maker may not. So root takes on the
//! maker's number, keeps that one capability, and writes.

use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_capabilities, set_keep_capabilities, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

const USAGE: &str = "usage: guest idmap uid|gid PID (INSIDE OUTSIDE COUNT)...";

pub fn run(arguments: impl Iterator<Item = OsString>) -> io::Result<()> {
    let usage = || io::Error::new(io::ErrorKind::InvalidInput, USAGE);
    let words: Option<Vec<String>> = arguments.map(|word| word.into_string().ok()).collect();
    let words = words.ok_or_else(usage)?;
    let [kind, pid, numbers @ ..] = words.as_slice() else { return Err(usage()) };
    let capability = match kind.as_str() {
        "uid" => CapabilitySet::SETUID,
        "gid" => CapabilitySet::SETGID,
        _ => return Err(usage()),
    };
    let pid: u32 = pid.parse().map_err(|_| usage())?;
    let map = map(numbers).ok_or_else(usage)?;
    let maker = fs::metadata(format!("/proc/{pid}"))?;
    take_on(maker.uid(), maker.gid(), capability)?;
    // In one call: the kernel takes a map once and whole.
    fs::write(format!("/proc/{pid}/{kind}_map"), map)
}

/// The kernel's lines of three numbers each.
fn map(numbers: &[String]) -> Option<String> {
    if numbers.is_empty() || !numbers.len().is_multiple_of(3) {
        return None;
    }
    let numbers: Vec<u32> = numbers.iter().map(|number| number.parse().ok()).collect::<Option<_>>()?;
    Some(numbers.chunks(3).map(|line| format!("{} {} {}\n", line[0], line[1], line[2])).collect())
}

/// Becomes another user with one capability left. The process has one thread, and ends with its work.
fn take_on(uid: u32, gid: u32, capability: CapabilitySet) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_keep_capabilities(true)?;
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    let inheritable = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: capability, permitted: capability, inheritable })
}

#[cfg(test)]
mod tests {
    use super::map;

    #[test]
    fn maps_are_lines_of_three_numbers() {
        let of = |text: &str| map(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(of("0 1000 1 1 100000 65536").as_deref(), Some("0 1000 1\n1 100000 65536\n"));
        for bad in ["", "0 1000", "0 1000 1 1", "0 -1 1", "0 x 1", "0 4294967296 1"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
