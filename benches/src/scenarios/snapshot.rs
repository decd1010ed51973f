//! A snapshot of a running workspace against a commit and a copy of the same home by a bare container.

use super::Stage;
use crate::report::{Bound, Report, median};
use anyhow::{Result, ensure};
use rexec_api::exec::ExecRequest;
use rexec_api::snapshots::{NewSnapshot, SnapshotState};
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A home of a working day, and some packages: the same on both sides.
const FILL: &str = "mkdir -p $H/many $R && head -c 100000000 /dev/urandom > $H/large && \
    for d in $(seq 50); do mkdir -p $H/many/$d; for n in $(seq 40); do head -c 2000 /dev/urandom > $H/many/$d/$n; done; done; \
    head -c 20000000 /dev/urandom > $R/root";

pub async fn run(stage: &mut Stage<'_>, report: &mut Report) -> Result<()> {
    let (client, workspace) = (&stage.ours.client, stage.workspace);
    let script = format!("H=~/filled; R=/opt/filled; {FILL}");
    let command = ["sudo", "sh", "-c", &script.replace("~", "/home/user")].map(str::to_owned).to_vec();
    let filled = client.exec(workspace, &ExecRequest { command, ..Default::default() }).await?;
    ensure!(filled.exit_code == 0, "{filled:?}");
    let copy = ["sh", "-c", "cp -a /from/. /to/"];
    let home = stage.model["HostConfig"]["Mounts"].as_array().and_then(|mounts| {
        mounts.iter().find(|mount| mount["Target"] == "/home/user")?["Source"].as_str().map(str::to_owned)
    });
    let home = home.unwrap_or_default();
    let container = stage.model["Id"].as_str().unwrap_or_default().to_owned();
    let (mut ours, mut peer, mut pauses) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let new = NewSnapshot { wait_ms: Some(120_000), ..Default::default() };
        let taken = stage.ours.client.take_snapshot(workspace, &new).await?;
        ours.push(began.elapsed());
        ensure!(taken.state == SnapshotState::Ready, "{taken:?}");
        pauses.push(taken.pause_ms.unwrap_or_default());
        stage.ours.client.delete_snapshot(taken.id).await?;
        // What is removed meanwhile would slow the other side.
        let image = format!("/images/rexec/snapshot:{}/json", taken.id.0.simple());
        while stage.peer.call("GET", &image, None).await.is_ok() {
            tokio::time::sleep(LOOK_EVERY).await;
        }

        let name = stage.fresh_name();
        let began = Instant::now();
        let path = format!("/commit?container={container}&repo={name}&tag=1&pause=true");
        stage.peer.call("POST", &path, Some(&serde_json::json!({}))).await?;
        let image = &stage.model["Config"]["Image"];
        stage.peer.run(image, &name, &[(&home, "/from"), (&name, "/to")], &copy).await?;
        peer.push(began.elapsed());
        stage.peer.call("DELETE", &format!("/images/{name}:1"), None).await?;
        stage.peer.call("DELETE", &format!("/volumes/{name}?force=1"), None).await?;
    }
    report.times("snapshot of 100 MB, 2,000 files", median(&mut ours), median(&mut peer), Bound::AtMost(1.2));
    pauses.sort_unstable();
    report.note(format!("the workspace stood still for {} ms of it (median)", pauses[pauses.len() / 2]));
    let command = ["sudo", "rm", "-rf", "/home/user/filled", "/opt/filled"].map(str::to_owned).to_vec();
    stage.ours.client.exec(workspace, &ExecRequest { command, ..Default::default() }).await?;
    Ok(())
}
