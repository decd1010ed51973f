//! `snapshot ls|new|rm|export|import`.

use super::copy::pass;
use crate::connection::{Connection, named, workspace};
use crate::failure::{Failure, Result};
use crate::show::{self, Cell, Table, Tint, age, size};
use rexec_api::ids::SnapshotId;
use rexec_api::snapshots::{NewSnapshot, SnapshotState, SnapshotView};
use rexec_api::workspaces::WAIT_MS_MAX;
use rexec_client::{Body, Client};
use std::path::PathBuf;
use std::time::Duration;
use tokio_util::io::ReaderStream;

/// How often it is looked whether a snapshot that takes long is done.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Subcommand)]
pub enum SnapshotCommand {
    /// List your snapshots.
    Ls,
    /// Take one of a workspace: its files and its home together.
    New {
        workspace: String,
        /// Made up when absent.
        name: Option<String>,
    },
    /// Delete one.
    Rm {
        /// Its id or name.
        snapshot: String,
    },
    /// Write one as an archive (`tar.zst`).
    Export {
        /// Its id or name.
        snapshot: String,
        /// The file, which must not be there yet; `-` for standard output.
        file: PathBuf,
    },
    /// Make one of an archive.
    Import {
        /// The file; `-` for standard input.
        file: PathBuf,
        /// Called as the archive says when absent.
        #[arg(long)]
        name: Option<String>,
    },
}

pub async fn run(connection: &Connection, command: SnapshotCommand) -> Result<()> {
    let client = connection.client()?;
    match command {
        SnapshotCommand::Ls => list(connection, client.every("/api/snapshots").await?),
        SnapshotCommand::New { workspace: word, name } => {
            let of = workspace(&client, &word).await?.id;
            let taken = client.take_snapshot(of, &NewSnapshot { name, wait_ms: Some(WAIT_MS_MAX) }).await?;
            tell(connection, &finished(&client, taken).await?)
        }
        SnapshotCommand::Rm { snapshot: word } => Ok(client.delete_snapshot(snapshot(&client, &word).await?).await?),
        SnapshotCommand::Export { snapshot: word, file } => {
            export(&client, snapshot(&client, &word).await?, file).await
        }
        SnapshotCommand::Import { file, name } => {
            let body = if file.as_os_str() == "-" {
                Body::wrap_stream(ReaderStream::new(tokio::io::stdin()))
            } else {
                let opened = tokio::fs::File::open(&file).await.map_err(Failure::io(file.display().to_string()))?;
                Body::wrap_stream(ReaderStream::new(opened))
            };
            tell(connection, &client.import_snapshot(name.as_deref(), body).await?)
        }
    }
}

/// The snapshot that a word means.
pub(super) async fn snapshot(client: &Client, word: &str) -> Result<SnapshotId> {
    let all = client.every::<SnapshotView>("/api/snapshots").await?;
    Ok(named(all, word, |one| (one.id.to_string(), &one.name), "snapshot", "rexec snapshot ls")?.id)
}

async fn finished(client: &Client, mut taken: SnapshotView) -> Result<SnapshotView> {
    while taken.state == SnapshotState::Taking {
        tokio::time::sleep(LOOK_EVERY).await;
        taken = client.snapshot(taken.id).await?;
    }
    match taken.state {
        SnapshotState::Failed => Err(Failure::Other(taken.reason.unwrap_or_else(|| "The snapshot failed.".into()))),
        _ => Ok(taken),
    }
}

fn tell(connection: &Connection, taken: &SnapshotView) -> Result<()> {
    if connection.json {
        return show::json(taken);
    }
    let still = taken.pause_ms.map_or(String::new(), |ms| format!("; the workspace stood still for {ms} ms"));
    eprintln!("{}: {}{still}", taken.name, size(taken.size_bytes));
    show::print(&format!("{}\n", taken.id))
}

fn list(connection: &Connection, all: Vec<SnapshotView>) -> Result<()> {
    if connection.json {
        return show::json(&all);
    }
    let mut table = Table::new(&["ID", "NAME", "OF", "STATE", "SIZE", "CLONES", "AGE"]);
    for one in all {
        let tint = match one.state {
            SnapshotState::Ready => Tint::Good,
            SnapshotState::Taking => Tint::Warm,
            SnapshotState::Failed => Tint::Bad,
        };
        table.row(vec![
            one.id.to_string().into(),
            one.name.into(),
            one.workspace_name.into(),
            Cell::new(one.state.as_str(), tint),
            size(one.size_bytes).into(),
            one.clones.to_string().into(),
            age(&one.created_at).into(),
        ]);
    }
    table.print()
}

/// A file that is not whole does not keep its name.
async fn export(client: &Client, id: SnapshotId, file: PathBuf) -> Result<()> {
    if file.as_os_str() == "-" {
        return pass(client.export_snapshot(id).await?, &mut tokio::io::stdout(), "standard output").await;
    }
    let shown = file.display().to_string();
    let mut out = tokio::fs::File::create_new(&file).await.map_err(Failure::io(shown.as_str()))?;
    let written = async {
        pass(client.export_snapshot(id).await?, &mut out, &shown).await?;
        out.sync_all().await.map_err(Failure::io(shown.as_str()))
    };
    if let Err(failure) = written.await {
        let _ = tokio::fs::remove_file(&file).await;
        return Err(failure);
    }
    Ok(())
}
