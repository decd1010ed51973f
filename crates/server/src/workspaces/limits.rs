//! What a workspace may use at most, and whether it can be held to less than it uses: pure.

use super::store::Workspace;
use crate::hosts::reserve::NO_ROOM;
use rexec_api::error::ErrorCode;
use rexec_api::workspaces::{LimitsView, PIDS_MAX, PatchWorkspace};
use rexec_engine::{Limits, Stats};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// What a container is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    pub cpu_milli: i64,
    pub memory_mb: i64,
    /// Processes and threads.
    pub pids: i64,
}

/// Why a wish is not granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub code: ErrorCode,
    pub message: String,
    /// The field of the request, and what is used of it now, in its unit.
    pub below_use: Option<(Cow<'static, str>, u64)>,
}

impl Wish {
    /// What is in force.
    pub fn of(row: &Workspace) -> Self {
        Self { cpu_milli: row.cpu_milli, memory_mb: row.memory_mb, pids: row.pids }
    }

    /// What is in force or on its way to be, but for what a request names.
    pub fn changed(row: &Workspace, change: &PatchWorkspace) -> Self {
        let before = row.wish.unwrap_or_else(|| Self::of(row));
        Self {
            cpu_milli: change.cpu.map_or(before.cpu_milli, |cpu| (cpu * 1000.0).round() as i64),
            memory_mb: change.memory_mb.map_or(before.memory_mb, i64::from),
            pids: change.pids.map_or(before.pids, i64::from),
        }
    }

    /// The larger of each.
    pub fn most(&self, other: &Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.max(other.cpu_milli),
            memory_mb: self.memory_mb.max(other.memory_mb),
            pids: self.pids.max(other.pids),
        }
    }

    pub fn limits(&self) -> Limits {
        Limits {
            cpu: self.cpu_milli as f64 / 1000.0,
            memory_bytes: (self.memory_mb as u64) << 20,
            pids: u32::try_from(self.pids).unwrap_or(PIDS_MAX),
        }
    }

    pub fn view(&self) -> LimitsView {
        LimitsView {
            cpu: self.cpu_milli as f64 / 1000.0,
            memory_mb: u32::try_from(self.memory_mb).unwrap_or(u32::MAX),
            pids: u32::try_from(self.pids).unwrap_or(u32::MAX),
        }
    }

    /// Whether it takes away something that may be in use.
    pub fn takes_from(&self, in_force: &Self) -> bool {
        self.memory_mb < in_force.memory_mb || self.pids < in_force.pids
    }

    /// Less than is used now would kill what uses it, or keep it from ever working again.
    pub fn below_use(&self, in_force: &Self, used: &Stats) -> Option<Refusal> {
        let used_mb = used.memory_bytes.div_ceil(1 << 20);
        let too_little = |wished: i64, before: i64, used: u64| wished < before && (wished as u64) < used;
        if too_little(self.memory_mb, in_force.memory_mb, used_mb) {
            let message =
                format!("It uses {used_mb} MiB of memory now. End something in it, or leave it that much at least.");
            return Some(Refusal::below_use("memory_mb", used_mb, message));
        }
        if too_little(self.pids, in_force.pids, used.pids) {
            let count = used.pids;
            let message = format!("It has {count} processes now. End some of them, or leave it that many at least.");
            return Some(Refusal::below_use("pids", count, message));
        }
        None
    }

    /// What it means that the engine refuses, in its own words.
    pub fn refused(&self, in_force: &Self, used: &Stats, why: &str) -> Refusal {
        // The kernel answers so when it cannot take back enough of the memory.
        if self.memory_mb < in_force.memory_mb && why.contains("busy") {
            let used_mb = used.memory_bytes.div_ceil(1 << 20);
            let message = format!(
                "It holds more memory than that and cannot give enough of it back; it uses {used_mb} MiB now. End something in it first."
            );
            return Refusal::below_use("memory_mb", used_mb, message);
        }
        Refusal {
            code: ErrorCode::EngineError,
            message: format!("The container engine refused: {why}. Its limits are as before."),
            below_use: None,
        }
    }
}

impl Refusal {
    pub fn no_room() -> Self {
        let message = format!("{NO_ROOM} Its limits are as before.");
        Self { code: ErrorCode::HostFull, message, below_use: None }
    }

    fn below_use(field: &'static str, used: u64, message: String) -> Self {
        Self { code: ErrorCode::LimitBelowUse, message, below_use: Some((Cow::Borrowed(field), used)) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const BEFORE: Wish = Wish { cpu_milli: 2000, memory_mb: 512, pids: 4096 };

    #[test]
    fn less_than_is_used_is_refused() {
        let used = Stats { memory_bytes: (200 << 20) + 1, pids: 100, ..Stats::default() };
        let refused = |wish: Wish| wish.below_use(&BEFORE, &used).and_then(|refusal| refusal.below_use);
        assert_eq!(refused(Wish { memory_mb: 200, ..BEFORE }), Some(("memory_mb".into(), 201)));
        assert_eq!(refused(Wish { memory_mb: 201, pids: 99, ..BEFORE }), Some(("pids".into(), 100)));
        assert_eq!(refused(Wish { memory_mb: 201, pids: 100, cpu_milli: 100 }), None);
        // More than before is never less than is used, whatever is told of that.
        let odd = Stats { memory_bytes: u64::MAX / 2, pids: u64::MAX, ..Stats::default() };
        assert_eq!(Wish { memory_mb: 513, ..BEFORE }.below_use(&BEFORE, &odd), None);
    }

    #[test]
    fn what_the_engine_says_is_understood() {
        let used = Stats { memory_bytes: 9 << 20, ..Stats::default() };
        let less = Wish { memory_mb: 64, ..BEFORE };
        assert_eq!(less.refused(&BEFORE, &used, "write: device or resource busy").code, ErrorCode::LimitBelowUse);
        assert_eq!(less.refused(&BEFORE, &used, "no").code, ErrorCode::EngineError);
        let more = Wish { cpu_milli: 9_000_000, ..BEFORE };
        assert_eq!(more.refused(&BEFORE, &used, "busy").below_use, None);
        assert!(less.takes_from(&BEFORE) && !more.takes_from(&BEFORE));
    }
}
