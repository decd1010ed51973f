//! `regions`: where a workspace may be made. `admin regions`: where servers are, how far that is, and how many workspaces may be there.

use crate::connection::Connection;
use crate::failure::Result;
use crate::show::{self, Cell, Table, Tint};
use rexec_api::servers::RegionView;
use rexec_client::Client;
use serde_json::json;

#[derive(Debug, clap::Subcommand)]
pub enum RegionsCommand {
    /// List them.
    Ls,
    /// Limit how many workspaces a region may have; those that are there stay.
    Limit {
        region: String,
        /// A number, or `none`.
        #[arg(value_parser = limit)]
        workspaces: Limit,
    },
}

#[derive(Debug, Clone, Copy)]
pub struct Limit(Option<u32>);

fn limit(text: &str) -> std::result::Result<Limit, String> {
    match text {
        "none" => Ok(Limit(None)),
        _ => text.parse().map(|max| Limit(Some(max))).map_err(|_| "write a whole number, or `none`".into()),
    }
}

pub async fn run(connection: &Connection, client: &Client, command: Option<RegionsCommand>) -> Result<()> {
    match command.unwrap_or(RegionsCommand::Ls) {
        RegionsCommand::Ls => list(connection, &client.regions().await?.items),
        RegionsCommand::Limit { region, workspaces: Limit(max) } => {
            let limited = client.limit_region(&region, max).await?;
            match connection.json {
                true => show::json(&limited),
                false => list(connection, &[limited]),
            }
        }
    }
}

/// For whoever makes one.
pub async fn choice(connection: &Connection) -> Result<()> {
    let health = connection.client()?.compute_health().await?;
    if connection.json {
        let regions = health.regions.iter().map(|(name, servers)| {
            let latency = health.latency_ms.get(name);
            json!({ "name": name, "servers": servers, "latency_ms": latency, "full": health.full_regions.contains(name) })
        });
        return show::json(&regions.collect::<Vec<_>>());
    }
    let mut table = Table::new(&["REGION", "LATENCY, MS", "TAKES WORKSPACES"]);
    for (name, servers) in &health.regions {
        let takes = match servers {
            _ if health.full_regions.contains(name) => Cell::new("full", Tint::Warm),
            0 => Cell::new("no", Tint::Bad),
            _ => Cell::new("yes", Tint::Good),
        };
        let latency = health.latency_ms.get(name).map(|ms| format!("{ms:.1}")).unwrap_or_default();
        table.row(vec![name.clone().into(), latency.into(), takes]);
    }
    table.print()
}

fn list(connection: &Connection, regions: &[RegionView]) -> Result<()> {
    if connection.json {
        return show::json(&regions);
    }
    let mut table = Table::new(&["REGION", "SERVERS", "READY", "WORKSPACES", "LATENCY, MS"]);
    for region in regions {
        let tint = if region.ready > 0 { Tint::Good } else { Tint::Bad };
        let workspaces = match region.max_workspaces {
            Some(max) => format!("{} of {max}", region.workspaces),
            None => region.workspaces.to_string(),
        };
        table.row(vec![
            region.name.clone().into(),
            region.servers.to_string().into(),
            Cell::new(region.ready.to_string(), tint),
            workspaces.into(),
            region.latency_ms.map_or(String::new(), |ms| ms.to_string()).into(),
        ]);
    }
    table.print()
}
