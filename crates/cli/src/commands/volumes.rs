//! `volume ls|restore|rm`: homes, those kept of deleted workspaces among them.

use super::workspaces::running;
use crate::connection::{Connection, named};
use crate::failure::{Failure, Result};
use crate::show::{self, Cell, Table, Tint, age, size};
use crate::tty;
use rexec_api::ids::VolumeId;
use rexec_api::volumes::{RestoreVolume, VolumeState, VolumeView};
use rexec_client::Client;
use std::io::IsTerminal as _;

#[derive(Debug, clap::Subcommand)]
pub enum VolumeCommand {
    /// List the homes of your workspaces, and those that are kept.
    Ls,
    /// Make a workspace of a kept home.
    Restore {
        /// Its id, or the name of the workspace that it was of.
        home: String,
        /// That of before when absent.
        name: Option<String>,
    },
    /// Remove a kept home for good.
    Rm {
        /// Its id, or the name of the workspace that it was of.
        home: String,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

pub async fn run(connection: &Connection, command: VolumeCommand) -> Result<()> {
    let client = connection.client()?;
    match command {
        VolumeCommand::Ls => list(connection, client.every("/api/volumes").await?),
        VolumeCommand::Restore { home: word, name } => {
            let id = kept(&client, &word).await?;
            let made = client.restore_volume(id, &RestoreVolume { name, wait_ms: Some(0) }).await?;
            let made = running(&client, made).await?;
            if connection.json { show::json(&made) } else { show::print(&format!("{}\n", made.id)) }
        }
        VolumeCommand::Rm { home: word, yes } => {
            let id = kept(&client, &word).await?;
            remove(&client, id, yes).await
        }
    }
}

/// The home that a word means: of a name, the one that is kept, because one in use is neither restored nor removed.
async fn kept(client: &Client, word: &str) -> Result<VolumeId> {
    let mut all = client.every::<VolumeView>("/api/volumes").await?;
    all.retain(|one| one.state == VolumeState::Kept || one.id.to_string() == word);
    Ok(named(all, word, |one| (one.id.to_string(), &one.workspace_name), "kept home", "rexec volume ls")?.id)
}

fn list(connection: &Connection, all: Vec<VolumeView>) -> Result<()> {
    if connection.json {
        return show::json(&all);
    }
    let mut table = Table::new(&["ID", "OF", "STATE", "SIZE", "AGE", "REMOVED AT"]);
    for one in all {
        let state = match one.state {
            VolumeState::InUse => Cell::new("in use", Tint::Good),
            VolumeState::Kept => Cell::new("kept", Tint::Warm),
        };
        table.row(vec![
            one.id.to_string().into(),
            one.workspace_name.into(),
            state,
            one.size_bytes.map(size).unwrap_or_default().into(),
            age(&one.created_at).into(),
            one.purge_after.unwrap_or_default().into(),
        ]);
    }
    table.print()
}

async fn remove(client: &Client, id: VolumeId, yes: bool) -> Result<()> {
    if !yes {
        if !std::io::stdin().is_terminal() {
            return Err(Failure::Usage("A removal without a terminal to ask on needs --yes.".into()));
        }
        if !tty::confirm("Remove this home and all its files for good?")? {
            return Err(Failure::Other("Nothing was removed.".into()));
        }
    }
    Ok(client.purge_volume(id).await?)
}
