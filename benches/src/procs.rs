//! What processes use, read from /proc (proc(5)).

use anyhow::{Context, Result};
use std::fs;
use std::time::Duration;

/// Clock ticks per second of /proc/*/stat: USER_HZ is 100 on every Linux that we run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time of a process, its own and that of children it has waited for.
pub fn cpu(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
    // The name, in parentheses, may hold spaces; fields are counted behind it, from the third on.
    let rest = stat.rsplit_once(')').context("stat has a name")?.1;
    let field = |n: usize| -> f64 { rest.split_whitespace().nth(n - 3).and_then(|f| f.parse().ok()).unwrap_or(0.0) };
    Ok(Duration::from_secs_f64((field(14) + field(15)) / TICKS_PER_SECOND))
}

/// Resident memory in KiB.
pub fn resident_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    line.trim().trim_end_matches(" kB").parse().context("VmRSS is a number")
}

/// The processes whose program has this name and whose command line holds all of the words.
pub fn named(name: &str, words: &[&str]) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        // The kernel keeps 15 bytes of a name.
        comm.trim() == &name[..name.len().min(15)] && words.iter().all(|word| line.contains(word))
    })
    .collect()
}

/// CPU time of several processes together; those that have gone count no more.
pub fn cpu_of(pids: &[u32]) -> Duration {
    pids.iter().filter_map(|pid| cpu(*pid).ok()).sum()
}
