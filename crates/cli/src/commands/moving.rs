//! `move`: a stopped workspace to another server; `admin servers rm --move`: all that rest on one.

use crate::connection::{Connection, workspace};
use crate::failure::{Failure, Result};
use crate::show;
use rexec_api::ids::HostId;
use rexec_api::servers::{LeftWorkspace, ServerLeft};
use rexec_api::workspaces::{MoveState, MoveWorkspace, WorkspaceView};
use rexec_client::{Client, Sources};
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

/// How often it is looked how far a move is.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub struct MoveArguments {
    /// Its name or id; it must be stopped.
    workspace: String,
    /// The server, for administrators.
    #[arg(long, value_name = "SERVER", conflicts_with = "region")]
    to: Option<String>,
    /// Some server of this region. Without either, another one of its own region.
    #[arg(long)]
    region: Option<String>,
    /// Do not wait until it lies there.
    #[arg(long)]
    no_wait: bool,
}

pub async fn run(connection: &Connection, arguments: MoveArguments) -> Result<()> {
    let client = connection.client()?;
    let id = workspace(&client, &arguments.workspace).await?.id;
    let to = MoveWorkspace { region: arguments.region, host: arguments.to, wait_ms: Some(0) };
    let mut seen = client.move_workspace(id, &to).await?;
    if !arguments.no_wait {
        seen = moved(&client, seen).await?;
    }
    if connection.json {
        return show::json(&seen);
    }
    let place = seen.host.as_deref().unwrap_or(&seen.region);
    let told = match &seen.moving {
        Some(moving) if moving.state == MoveState::Moving => {
            format!("{}: on its way; `rexec ls` tells where it is\n", seen.name)
        }
        _ => format!("{}: at {place}\n", seen.name),
    };
    show::print(&told)
}

async fn moved(client: &Client, mut seen: WorkspaceView) -> Result<WorkspaceView> {
    let is_watched = std::io::stderr().is_terminal();
    while let Some(moving) = seen.moving.as_ref().filter(|moving| moving.state == MoveState::Moving) {
        if is_watched {
            // The line is written over: CR, EL (ECMA-48).
            eprint!("\r\x1b[K{}: {} have come", show::plain(&seen.name), show::size(moving.bytes));
            let _ = std::io::stderr().flush();
        }
        tokio::time::sleep(LOOK_EVERY).await;
        seen = client.workspace(seen.id).await?;
    }
    if is_watched {
        eprint!("\r\x1b[K");
    }
    match &seen.moving {
        Some(moving) if moving.state == MoveState::Failed => {
            let why = moving.reason.as_deref().unwrap_or("The server does not say why.");
            Err(Failure::Other(format!("{} lies where it lay: {why}", seen.name)))
        }
        _ => Ok(seen),
    }
}

/// Until nothing of it is on its way any more; then it is gone, or what is left is told.
pub async fn clear(connection: &Connection, client: &Client, server: HostId, sources: Sources) -> Result<()> {
    loop {
        let Some(left) = client.clear_server(server, sources).await? else {
            return if connection.json { show::json(&ServerLeft::default()) } else { Ok(()) };
        };
        let count = left.moving.len() as u64 + left.going;
        if count > 0 {
            if std::io::stderr().is_terminal() {
                eprint!("\r\x1b[K{} are moving, {} are being removed", left.moving.len(), left.going);
            }
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        }
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
        if connection.json {
            show::json(&left)?;
        } else {
            show::print(&told(&left))?;
        }
        return Err(Failure::Other(
            "The server takes no more workspaces, but is not deleted: that lies there still.".into(),
        ));
    }
}

fn told(left: &ServerLeft) -> String {
    let mut text = String::new();
    let mut list = |what: &str, of: &[LeftWorkspace]| {
        for one in of {
            let why = one.reason.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
            text.push_str(&format!("{what}: {}{}\n", show::plain(&one.name), show::plain(&why)));
        }
    };
    list("not stopped", &left.running);
    list("not to be moved", &left.stuck);
    list("moved, but kept here until it has run there (--drop-sources)", &left.unproven);
    for (count, what) in [(left.homes, "kept homes"), (left.snapshots, "snapshots")] {
        if count > 0 {
            text.push_str(&format!("{what}: {count}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rexec_api::ids::WorkspaceId;

    #[test]
    fn what_is_left_is_named() {
        let one = |name: &str, reason: Option<&str>| LeftWorkspace {
            id: WorkspaceId::new(),
            name: name.into(),
            reason: reason.map(str::to_owned),
            error_code: None,
        };
        let left = ServerLeft {
            running: vec![one("a", None)],
            stuck: vec![one("b\u{7}", Some("No room."))],
            snapshots: 2,
            ..ServerLeft::default()
        };
        let told = told(&left);
        assert!(
            told.starts_with("not stopped: a\nnot to be moved: b") && told.ends_with("(No room.)\nsnapshots: 2\n"),
            "{told}"
        );
        assert!(!told.contains('\u{7}'));
    }
}
