//! How many files workspaces have: the engine's walk tells bytes alone, and an empty file has none.
//!
//! The root file system's are counted by the engine, a home's by a helper that looks at nothing but names. Who
//! could not be counted keeps the count before.

use super::store::Tenant;
use crate::hosts::Host;
use crate::hosts::helper::{Helper, HelperSpec};
use crate::workspaces::container_name;
use rexec_api::ids::WorkspaceId;
use rexec_engine::{EngineError, Labels, Mount};
use std::collections::HashMap;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

/// Homes in one helper.
const HOMES_MAX: usize = 32;
/// How long those may take together.
const COUNT_MAX: Duration = Duration::from_secs(300);
/// The most that a helper says of its homes.
const SAID_BYTES_MAX: u64 = 4096;

/// Counts anew who is in `tenants`, and forgets everybody else.
pub async fn count(host: &Host, tenants: &[&Tenant], counts: &mut HashMap<WorkspaceId, u64>) {
    counts.retain(|id, _| tenants.iter().any(|tenant| tenant.id == *id));
    for some in tenants.chunks(HOMES_MAX) {
        let homes = match tokio::time::timeout(COUNT_MAX, homes(host, some)).await {
            Ok(Ok(homes)) => homes,
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot count the files of homes");
                continue;
            }
            Err(_) => {
                tracing::warn!("counting the files of homes takes too long");
                continue;
            }
        };
        for (tenant, home) in some.iter().zip(homes) {
            let root = host.engine.written_files(&container_name(tenant.id, tenant.generation)).await;
            if let (Some(home), Ok(root)) = (home, root) {
                counts.insert(tenant.id, home.saturating_add(root.unwrap_or(0)));
            }
        }
    }
    // One that was given up, or that a server which died left behind.
    if let Err(error) = Helper::remove_of(host, &job(host)).await {
        tracing::warn!(%error, "a helper stays behind until the next count");
    }
}

fn job(host: &Host) -> String {
    format!("count-{}", host.instance)
}

/// In the order of `tenants`, none of one that could not be looked at.
async fn homes(host: &Host, tenants: &[&Tenant]) -> Result<Vec<Option<u64>>, EngineError> {
    // A mount would make one that has gone meanwhile anew.
    let there = host.engine.volumes(&host.labels()).await?;
    let is_there = |tenant: &&Tenant| there.iter().any(|volume| volume.name == tenant.volume);
    let path = |n: usize| format!("/homes/{n}");
    let known: Vec<usize> = (0..tenants.len()).filter(|&n| is_there(&tenants[n])).collect();
    let mounts = known.iter().map(|&n| Mount {
        volume: tenants[n].volume.clone(),
        path: path(n),
        read_only: true,
        labels: Labels::new(),
    });
    let spec = HelperSpec { job: job(host), mounts: mounts.collect(), ..HelperSpec::default() };
    let helper = Helper::open(host, spec).await?;
    let paths: Vec<String> = known.iter().map(|&n| path(n)).collect();
    let command: Vec<&str> = ["volume", "count"].into_iter().chain(paths.iter().map(String::as_str)).collect();
    let mut said = String::new();
    let told = match helper.run(&command).await {
        Ok(stream) => {
            stream.take(SAID_BYTES_MAX).read_to_string(&mut said).await.map_err(|e| EngineError::Unavailable(e.into()))
        }
        Err(error) => Err(error),
    };
    helper.close().await?;
    told?;
    let told: Vec<Option<u64>> = serde_json::from_str(&said).map_err(|e| EngineError::Protocol(e.to_string()))?;
    let mut homes = vec![None; tenants.len()];
    known.into_iter().zip(told).for_each(|(n, count)| homes[n] = count);
    Ok(homes)
}
