//! Figures of workspaces for Prometheus, written from what is known at the moment: a gauge of a workspace
//! that is gone is gone with it.
//!
//! Labels are bounded: states always, workspaces only where the operator asks for them.

use super::series::Sampled;
use rexec_api::ids::WorkspaceId;
use rexec_api::stats::StatsSample;
use rexec_api::workspaces::WorkspaceStatus;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

/// A figure of one workspace: its name after `rexec_workspace_`, what it is, and where it stands.
type Gauge = (&'static str, &'static str, fn(&StatsSample) -> f64);

const GAUGES: [Gauge; 6] = [
    ("cpu_cores", "Cores in use.", |sample| sample.cpu),
    ("memory_bytes", "Memory in use.", |sample| sample.memory_bytes as f64),
    ("disk_bytes", "Disk in use, as last measured.", |sample| sample.disk_bytes.unwrap_or(0) as f64),
    ("network_receive_bytes_per_second", "Bytes received.", |sample| sample.network_rx_rate),
    ("network_transmit_bytes_per_second", "Bytes sent.", |sample| sample.network_tx_rate),
    ("pids", "Processes and threads.", |sample| sample.pids as f64),
];

pub fn text(
    counts: &HashMap<WorkspaceStatus, usize>,
    samples: &[(WorkspaceId, Arc<Sampled>)],
    of_each: bool,
) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(text, "# HELP rexec_workspaces Workspaces by status.\n# TYPE rexec_workspaces gauge");
    for status in WorkspaceStatus::ALL.into_iter().filter(|status| *status != WorkspaceStatus::Deleted) {
        let count = counts.get(&status).copied().unwrap_or(0);
        let _ = writeln!(text, "rexec_workspaces{{status=\"{}\"}} {count}", status.as_str());
    }
    for (name, what, value) in GAUGES {
        let sum: f64 = samples.iter().map(|(_, sampled)| value(&sampled.view)).sum();
        let _ = writeln!(text, "# HELP rexec_workspaces_{name} {what} Of all workspaces.");
        let _ = writeln!(text, "# TYPE rexec_workspaces_{name} gauge\nrexec_workspaces_{name} {sum}");
        if of_each {
            let _ = writeln!(text, "# HELP rexec_workspace_{name} {what}\n# TYPE rexec_workspace_{name} gauge");
            for (id, sampled) in samples {
                let _ = writeln!(text, "rexec_workspace_{name}{{workspace=\"{id}\"}} {}", value(&sampled.view));
            }
        }
    }
    text
}
