//! Many workspaces: what a list of them costs, a server's start among them, and its rest.
//!
//! Most are records without a container, put into the database beside the server: a thousand real ones
//! would measure the engine.

use crate::ours::Ours;
use crate::procs;
use crate::report::{Bound, Report, median, percentile};
use anyhow::{Context, Result, bail};
use rexec_api::ids::WorkspaceId;
use rexec_api::workspaces::{NewWorkspace, WorkspaceView};
use rexec_client::Method;
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use std::path::Path;
use std::time::{Duration, Instant};

const LISTED: usize = 200;
const LISTS: usize = 30;
const RECORDS: usize = 1000;
/// Those that run while the server's rest is measured.
const RUNNING: usize = 8;
/// Longer than any of the server's periods.
const REST: Duration = Duration::from_secs(70);
const SETTLE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn run(binary: &Path, socket: &Path, report: &mut Report) -> Result<()> {
    let ours = Ours::start(binary, socket).await?;
    let model = ours.workspace().await?.id;
    records(&ours.database(), model, LISTED - 1).await?;
    list(&ours, report).await?;
    records(&ours.database(), model, RECORDS - LISTED).await?;
    ours.client.purge_workspace(model).await?;

    let mut ours = ours.restart(binary, socket).await?;
    let began = Instant::now();
    while figure(&ours, "rexec_workspaces{status=\"stopped\"}").await? < (RECORDS - 1) as f64 {
        if began.elapsed() > PATIENCE {
            bail!("the drivers do not settle");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let settled = began.elapsed().as_secs_f64() * 1e3;
    report.figure(
        "1000 workspaces reconciled after the start",
        "each looked at and written",
        settled,
        "ms",
        Bound::AtMost(1000.0),
    );
    ours.log_in().await?;
    let outcome = rest(&ours, report).await;
    for workspace in running(&ours).await? {
        ours.client.purge_workspace(workspace).await?;
    }
    ours.end().await?;
    outcome
}

async fn list(ours: &Ours, report: &mut Report) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..LISTS {
        let began = Instant::now();
        let listed = pages(ours).await?;
        times.push(began.elapsed());
        if listed.len() != LISTED {
            bail!("{} of {LISTED} are listed", listed.len());
        }
    }
    let worst = percentile(&mut times, 95.0).as_secs_f64() * 1e3;
    let middle = median(&mut times).as_secs_f64() * 1e3;
    report.figure("200 workspaces listed", &format!("p95 {worst:.1} ms"), middle, "ms", Bound::AtMost(30.0));
    Ok(())
}

/// What the server uses while nothing happens.
async fn rest(ours: &Ours, report: &mut Report) -> Result<()> {
    for _ in 0..RUNNING {
        let new = NewWorkspace { memory_mb: Some(128), wait_ms: Some(60_000), ..Default::default() };
        ours.client.create_workspace(&new).await?;
    }
    tokio::time::sleep(SETTLE).await;
    let (before, began) = (procs::cpu(ours.pid())?, Instant::now());
    tokio::time::sleep(REST).await;
    let used = (procs::cpu(ours.pid())? - before).as_secs_f64() * 100.0 / began.elapsed().as_secs_f64();
    report.figure("server at rest, 8 running among 1000", "", used, "%", Bound::AtMost(1.0));
    let sweeps = figure(ours, "rexec_sweep_duration_seconds_count").await?.max(1.0);
    let sweep = figure(ours, "rexec_sweep_duration_seconds_sum").await? * 1e3 / sweeps;
    report.figure("one sweep of the host", "", sweep, "ms", Bound::AtMost(1000.0));
    Ok(())
}

async fn pages(ours: &Ours) -> Result<Vec<WorkspaceView>> {
    let (mut all, mut path) = (Vec::new(), "/api/workspaces".to_owned());
    loop {
        let response = ours.client.request(Method::GET, &path).send().await?.error_for_status()?;
        let page: rexec_api::Page<WorkspaceView> = serde_json::from_slice(&response.bytes().await?)?;
        all.extend(page.items);
        match page.next {
            Some(next) => path = format!("/api/workspaces?cursor={next}"),
            None => return Ok(all),
        }
    }
}

async fn running(ours: &Ours) -> Result<Vec<WorkspaceId>> {
    let running = |view: &WorkspaceView| view.started_at.is_some();
    Ok(pages(ours).await?.into_iter().filter(running).map(|view| view.id).collect())
}

/// A figure of `/metrics`; 0 where there is none yet.
async fn figure(ours: &Ours, name: &str) -> Result<f64> {
    let text = ours.client.request(Method::GET, "/metrics").send().await?.text().await?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(Ok(0.0), |value| value.parse().context("a figure"))
}

/// Workspaces like the model, of which the engine knows nothing: they are to be stopped and are recorded as running.
async fn records(database: &Path, model: WorkspaceId, count: usize) -> Result<()> {
    let options = SqliteConnectOptions::new().filename(database).busy_timeout(PATIENCE);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let mut tx = connection.begin().await?;
    for _ in 0..count {
        let id = WorkspaceId::new();
        sqlx::query(
            "INSERT INTO workspaces (id, owner_id, name, image, runtime, cpu_milli, memory_mb, env_json, desired, status, \
             host_id, generation, boot_seq, booted_seq, volume, guest_key, created_ms, updated_ms) \
             SELECT $1, owner_id, $2, image, runtime, cpu_milli, memory_mb, env_json, 'stopped', 'running', \
             host_id, 1, 1, 1, $2, guest_key, created_ms, updated_ms FROM workspaces WHERE id = $3",
        )
        .bind(id.to_string())
        .bind(format!("record-{}", id.0.simple()))
        .bind(model.to_string())
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(())
}
