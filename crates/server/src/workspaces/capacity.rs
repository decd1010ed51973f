//! What a host can give one workspace at most, and what follows for a request: pure.
//!
//! Docker refuses more cores than its machine has and says nothing of memory that it has not; both are refused
//! here, before anything is made. What nobody asked for, a default or what another machine gave, is cut to what is there.

use super::store::Workspace;
use crate::error::{Error, Result};
use rexec_api::templates::HostCapacity;
use rexec_api::workspaces::{CPU_MIN, MEMORY_MB_MIN};
use rexec_engine::EngineInfo;

/// `None`: the engine does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    cpus: Option<u32>,
    memory_mb: Option<u32>,
}

impl Capacity {
    pub fn of(engine: &EngineInfo) -> Self {
        // Less than the least that may be asked for is no machine that could run anything.
        let memory_mb = u32::try_from(engine.memory_bytes >> 20).unwrap_or(u32::MAX);
        Self {
            cpus: Some(engine.cpus).filter(|cpus| f64::from(*cpus) >= CPU_MIN),
            memory_mb: Some(memory_mb).filter(|mb| *mb >= MEMORY_MB_MIN),
        }
    }

    pub fn cores_milli(self) -> Option<i64> {
        self.cpus.map(|cpus| i64::from(cpus) * 1000)
    }

    pub fn memory_mb(self) -> Option<i64> {
        self.memory_mb.map(i64::from)
    }

    pub fn view(self) -> HostCapacity {
        HostCapacity { cpu: self.cpus.map(f64::from), memory_mb: self.memory_mb }
    }

    /// Refuses what is named and more than there is.
    pub fn require(self, cpu: Option<f64>, memory_mb: Option<u32>) -> Result<()> {
        if let (Some(asked), Some(cpus)) = (cpu, self.cpus)
            && asked > f64::from(cpus)
        {
            let cores = if cpus == 1 { "core" } else { "cores" };
            return Err(Error::field("cpu", format!("The host has {cpus} {cores}; `cpu` may be {cpus} at most.")));
        }
        if let (Some(asked), Some(there)) = (memory_mb, self.memory_mb)
            && asked > there
        {
            let message = format!("The host has {there} MiB of memory; `memory_mb` may be {there} at most.");
            return Err(Error::field("memory_mb", message));
        }
        Ok(())
    }

    /// No more than there is.
    pub fn fit(self, row: Workspace) -> Workspace {
        Workspace {
            cpu_milli: self.cpus.map_or(row.cpu_milli, |cpus| row.cpu_milli.min(i64::from(cpus) * 1000)),
            memory_mb: self.memory_mb.map_or(row.memory_mb, |there| row.memory_mb.min(i64::from(there))),
            ..row
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SMALL: Capacity = Capacity { cpus: Some(2), memory_mb: Some(4096) };

    #[test]
    fn more_than_the_host_has_is_refused_by_name() {
        SMALL.require(Some(2.0), Some(4096)).unwrap();
        SMALL.require(None, None).unwrap();
        for (cpu, memory_mb, field, there) in
            [(Some(2.5), Some(1), "cpu", "2 cores"), (Some(1.0), Some(4097), "memory_mb", "4096 MiB")]
        {
            let error = SMALL.require(cpu, memory_mb).unwrap_err();
            assert_eq!(error.details["field"], field);
            assert!(error.message.contains(there), "{}", error.message);
        }
        let untold = Capacity { cpus: None, memory_mb: None };
        untold.require(Some(200.0), Some(u32::MAX)).unwrap();
    }
}
