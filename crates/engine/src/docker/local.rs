//! Resource use read from the kernel, where the engine's containers are processes of our own machine.
//!
//! The engine takes a second to answer what a few small files say at once. They are found by
//! the container's PID 1: its control groups must carry the container's id, which proves that it is
//! the process meant and that `/proc` is the engine's. Whatever is otherwise (another machine, another
//! process namespace, a layout unknown) is `None`, and the engine is asked.

use super::DockerEngine;
use crate::{Engine, EngineError, Result, Stats};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Processes remembered; when there are more, all are looked up anew.
const REMEMBERED_MAX: usize = 4096;
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";
/// Of an engine whose figures would be those of its whole machine.
const UNMEASURED: &str = "without control groups it measures no container";
/// More than any machine has: what the kernel says where there is no limit.
const NO_LIMIT: u64 = 1 << 60;

/// PID 1 of a container, and the id that its control groups carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub pid: u32,
    pub id: String,
}

/// Which process a container was last seen to be. Always proven again before it is believed.
#[derive(Debug, Default)]
pub(super) struct Processes(Mutex<HashMap<String, Process>>);

impl Processes {
    pub fn of(&self, container: &str) -> Option<Process> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(container).cloned()
    }

    pub fn remember(&self, container: &str, process: Process) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(container.to_owned(), process);
    }

    pub fn forget(&self, container: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(container);
    }
}

/// What the process's container uses; `None` when that cannot be read here. Blocks for some 100 µs.
pub(super) fn read(process: &Process) -> Option<Stats> {
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", process.pid)).ok()?;
    let mut stats = groups_of(&groups, &process.id)?.read()?;
    let network = std::fs::read_to_string(format!("/proc/{}/net/dev", process.pid)).ok()?;
    (stats.network_rx_bytes, stats.network_tx_bytes) = moved(&network);
    Some(stats)
}

/// Where a container's control groups are.
#[derive(Debug, PartialEq, Eq)]
enum Groups {
    /// One path below each controller's own tree.
    V1(HashMap<String, String>),
    V2(String),
}

/// From `/proc/PID/cgroup` (cgroups(7)); only paths that carry the container's id.
fn groups_of(text: &str, id: &str) -> Option<Groups> {
    let mut each = HashMap::new();
    let mut unified = None;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        if id.is_empty() || !path.contains(id) || path.split('/').any(|part| part == "..") {
            continue;
        }
        if controllers.is_empty() {
            unified = Some(path.to_owned());
        }
        each.extend(controllers.split(',').filter(|name| !name.is_empty()).map(|name| (name.into(), path.into())));
    }
    if each.contains_key("memory") { Some(Groups::V1(each)) } else { unified.map(Groups::V2) }
}

impl Groups {
    fn read(&self) -> Option<Stats> {
        match self {
            Self::V1(paths) => {
                let place = |controller: &str| {
                    let path = paths.get(controller)?.trim_start_matches('/');
                    Some(Path::new(CONTROL_GROUPS).join(controller).join(path))
                };
                read_v1(&place("memory")?, &place("cpuacct")?, place("cpu"), place("pids"), place("blkio"))
            }
            Self::V2(path) => read_v2(&Path::new(CONTROL_GROUPS).join(path.trim_start_matches('/'))),
        }
    }
}

fn read_v1(
    memory: &Path,
    accounts: &Path,
    cpu: Option<PathBuf>,
    pids: Option<PathBuf>,
    blocks: Option<PathBuf>,
) -> Option<Stats> {
    let used = number(&memory.join("memory.usage_in_bytes"))?;
    let cache = field(&text(&memory.join("memory.stat"))?, "total_inactive_file").unwrap_or(0);
    let throttled = cpu.and_then(|cpu| field(&text(&cpu.join("cpu.stat"))?, "throttled_time"));
    let blocks = blocks.and_then(|blocks| text(&blocks.join("blkio.throttle.io_service_bytes_recursive")));
    let (block_read_bytes, block_write_bytes) = blocks.map_or((0, 0), |text| blocks_v1(&text));
    Some(Stats {
        cpu_total_ns: number(&accounts.join("cpuacct.usage"))?,
        memory_bytes: used.saturating_sub(cache),
        memory_limit_bytes: limit(number(&memory.join("memory.limit_in_bytes"))),
        throttled_ns: throttled.unwrap_or(0),
        pids: pids.and_then(|pids| number(&pids.join("pids.current"))).unwrap_or(0),
        block_read_bytes,
        block_write_bytes,
        ..Stats::default()
    })
}

fn read_v2(group: &Path) -> Option<Stats> {
    let used = number(&group.join("memory.current"))?;
    let cache = field(&text(&group.join("memory.stat"))?, "inactive_file").unwrap_or(0);
    let cpu = text(&group.join("cpu.stat"))?;
    let blocks = text(&group.join("io.stat")).unwrap_or_default();
    let moved = |key: &str| {
        let values = blocks.split_whitespace().filter_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        values.filter_map(|value| value.parse::<u64>().ok()).sum()
    };
    Some(Stats {
        cpu_total_ns: field(&cpu, "usage_usec")?.saturating_mul(1000),
        memory_bytes: used.saturating_sub(cache),
        // `max` is no number: no limit.
        memory_limit_bytes: limit(number(&group.join("memory.max"))),
        throttled_ns: field(&cpu, "throttled_usec").unwrap_or(0).saturating_mul(1000),
        pids: number(&group.join("pids.current")).unwrap_or(0),
        block_read_bytes: moved("rbytes"),
        block_write_bytes: moved("wbytes"),
        ..Stats::default()
    })
}

fn limit(bytes: Option<u64>) -> u64 {
    bytes.filter(|bytes| *bytes < NO_LIMIT).unwrap_or(0)
}

fn text(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn number(path: &Path) -> Option<u64> {
    text(path)?.trim().parse().ok()
}

/// The value of a line `name value`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// `8:0 Read 4096` for each device and way, and a `Total` of both.
fn blocks_v1(text: &str) -> (u64, u64) {
    let of = |way: &str| {
        let values = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            (words.next()? == way).then(|| words.next()?.parse::<u64>().ok())?
        });
        values.sum()
    };
    (of("Read"), of("Write"))
}

/// Received and sent bytes of all interfaces but the loopback, from `/proc/PID/net/dev` (proc(5)).
fn moved(text: &str) -> (u64, u64) {
    let mut sum = (0, 0);
    for line in text.lines() {
        let Some((name, figures)) = line.split_once(':') else { continue };
        let figures: Vec<u64> = figures.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        if name.trim() != "lo" && figures.len() >= 9 {
            sum = (sum.0 + figures[0], sum.1 + figures[8]);
        }
    }
    sum
}

impl DockerEngine {
    /// `None` where only the engine knows.
    pub(super) async fn stats_from_kernel(&self, id: &str) -> Result<Option<Stats>> {
        if !self.address().is_local() {
            let measures = self.own_words().await?.control_groups;
            return if measures { Ok(None) } else { Err(EngineError::Refused(UNMEASURED.into())) };
        }
        let read =
            |process: Process| async move { tokio::task::spawn_blocking(move || read(&process)).await.ok().flatten() };
        if let Some(process) = self.processes.of(id) {
            if let Some(stats) = read(process).await {
                return Ok(Some(stats));
            }
            self.processes.forget(id);
        }
        let found = self.inspect(id).await?.ok_or_else(|| EngineError::NotFound(format!("no container {id}")))?;
        if found.pid == 0 {
            return Ok(Some(Stats::default()));
        }
        let process = Process { pid: found.pid, id: found.id };
        let stats = read(process.clone()).await;
        if stats.is_some() {
            self.processes.remember(id, process);
        } else if !self.own_words().await?.control_groups {
            // It would answer with what the whole machine uses.
            return Err(EngineError::Refused(UNMEASURED.into()));
        }
        Ok(stats)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123abcd";

    #[test]
    fn only_groups_with_the_id_are_believed() {
        let v1 = "12:cpu,cpuacct:/docker/0123abcd\n3:memory:/docker/0123abcd\n1:name=systemd:/docker/0123abcd\n0::/x\n";
        let Some(Groups::V1(paths)) = groups_of(v1, ID) else { panic!("version 1") };
        assert_eq!(paths["cpuacct"], "/docker/0123abcd");
        assert_eq!(paths["memory"], "/docker/0123abcd");
        let v2 = "0::/system.slice/docker-0123abcd.scope\n";
        assert_eq!(groups_of(v2, ID), Some(Groups::V2("/system.slice/docker-0123abcd.scope".into())));
        for (text, id) in [("0::/other\n", ID), ("0::/\n", ""), ("0::/../0123abcd\n", ID), ("broken", ID)] {
            assert_eq!(groups_of(text, id), None, "{text:?}");
        }
    }

    #[test]
    fn the_kernels_tables_are_read() {
        let dev = "Inter-|   Receive    |  Transmit\n face |bytes packets errs|bytes\n    lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n\
                   eth0: 100 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n  eth1:1 1 0 0 0 0 0 0 2 1 0 0 0 0 0 0\n";
        assert_eq!(moved(dev), (101, 22));
        assert_eq!(blocks_v1("8:0 Read 5\n8:0 Write 7\n8:16 Read 1\n8:0 Total 12\nTotal 13\n"), (6, 7));
        assert_eq!(field("nr_periods 1\nthrottled_time 7\n", "throttled_time"), Some(7));
        assert_eq!(limit(Some(9_223_372_036_854_771_712)), 0);
    }

    #[test]
    fn version_2_is_read() {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in [
            ("memory.current", "1000\n"),
            ("memory.stat", "anon 1\ninactive_file 400\n"),
            ("memory.max", "max\n"),
            ("cpu.stat", "usage_usec 5\nthrottled_usec 2\n"),
            ("pids.current", "3\n"),
            ("io.stat", "8:0 rbytes=10 wbytes=20 rios=1\n8:1 rbytes=1 wbytes=2\n"),
        ] {
            std::fs::write(dir.path().join(name), text).expect("written");
        }
        let stats = read_v2(dir.path()).expect("read");
        assert_eq!((stats.memory_bytes, stats.memory_limit_bytes, stats.cpu_total_ns), (600, 0, 5000));
        assert_eq!((stats.block_read_bytes, stats.block_write_bytes, stats.pids), (11, 22, 3));
    }
}
