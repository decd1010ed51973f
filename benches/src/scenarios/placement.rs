//! Where a workspace is made, among many hosts: the decision alone, without a database.

use crate::report::{Bound, Report, percentile};
use rexec_api::ids::HostId;
use rexec_server::hosts::placement::{Amount, Candidate, Strategy, Wanted, place};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

const HOSTS: i64 = 1_000;
const WORKSPACES: i64 = 50_000;
const DECISIONS: usize = 200;

pub fn run(report: &mut Report) {
    let hosts: Vec<Candidate> = (0..HOSTS).map(host).collect();
    let wanted = Wanted {
        region: Some("eu".into()),
        amount: Amount { cpu_milli: 2_000, memory_mb: 2_048, disk_mb: 10_240 },
        ..Wanted::default()
    };
    let mut times: Vec<_> = (0..DECISIONS)
        .map(|_| {
            let began = Instant::now();
            let found = black_box(place(Strategy::Spread, black_box(&wanted), black_box(&hosts))).is_ok();
            assert!(found, "there is room");
            began.elapsed()
        })
        .collect();
    let p99 = percentile(&mut times, 99.0).as_secs_f64() * 1e3;
    report.figure("placement over 1,000 hosts, p99", "50,000 workspaces on them", p99, "ms", Bound::AtMost(1.0));
}

/// Each with its share of the workspaces, unevenly.
fn host(n: i64) -> Candidate {
    let workspaces = WORKSPACES / HOSTS + n % 7 - 3;
    let used = Amount { cpu_milli: workspaces * 500, memory_mb: workspaces * 512, disk_mb: workspaces * 4_096 };
    Candidate {
        id: HostId::new(),
        name: format!("host-{n}"),
        region: if n % 3 == 0 { "us" } else { "eu" }.into(),
        region_is_full: false,
        is_active: n % 50 != 0,
        away: None,
        labels: BTreeMap::from([("disk".into(), "nvme".into())]),
        runtimes: vec!["runc".into(), "runsc".into()],
        architecture: "amd64".into(),
        cores_milli: Some(64_000),
        memory_mb: Some(262_144),
        total: Amount { cpu_milli: 256_000, memory_mb: 262_144, disk_mb: 2_097_152 },
        used,
        workspaces,
        workspaces_max: Some(500),
    }
}
