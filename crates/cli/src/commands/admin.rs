//! `admin`: what a server's administrator looks after. Whether somebody is one, the server says.

use super::regions::{self, RegionsCommand};
use super::servers::{self, ServersCommand};
use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::show::{self, Cell, Table, Tint, age};
use crate::tty;
use rexec_api::ids::RegistryId;
use rexec_api::registries::{NewRegistry, RegistryView};
use rexec_api::ssh::SshHostKeyView;
use rexec_client::{Client, CredentialsFor};
use std::io::IsTerminal as _;

#[derive(Debug, clap::Subcommand)]
pub enum AdminCommand {
    /// Tell whether the server has all that it needs, and what it does not hold workspaces to.
    Status,
    /// List the keys by which the SSH gateway proves itself, or put new ones in their place.
    HostKeys {
        #[command(subcommand)]
        command: Option<HostKeysCommand>,
    },
    /// The servers that workspaces run on: list them, add, test, drain and delete them.
    Servers {
        #[command(subcommand)]
        command: Option<ServersCommand>,
    },
    /// The regions that servers are in: how far they are, and how many workspaces each may have.
    Regions {
        #[command(subcommand)]
        command: Option<RegionsCommand>,
    },
    /// Credentials that images are fetched with, or repositories cloned with.
    Registries {
        /// Those for repositories instead of images. They are yours alone.
        #[arg(long, global = true)]
        git: bool,
        #[command(subcommand)]
        command: Option<RegistriesCommand>,
    },
}

#[derive(Debug, clap::Subcommand)]
pub enum HostKeysCommand {
    /// Make new ones. The old are gone for good, and whoever connects is warned by their ssh.
    Rotate {
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Debug, clap::Subcommand)]
pub enum RegistriesCommand {
    /// Store credentials, in the place of those for the same server; the password comes from standard input, or is asked for.
    Add {
        /// As images or addresses name it, such as ghcr.io.
        server: String,
        username: String,
        /// For every user of this server.
        #[arg(long)]
        everyone: bool,
    },
    /// Forget them.
    Rm { id: RegistryId },
}

pub async fn run(connection: &Connection, command: AdminCommand) -> Result<()> {
    let client = connection.client()?;
    match command {
        AdminCommand::Status => status(connection, &client).await,
        AdminCommand::HostKeys { command: None } => host_keys(connection, client.ssh_host_keys().await?.items),
        AdminCommand::HostKeys { command: Some(HostKeysCommand::Rotate { yes }) } => {
            if !yes && !std::io::stdin().is_terminal() {
                return Err(Failure::Usage("A rotation without a terminal to ask on needs --yes.".into()));
            }
            if !yes && !tty::confirm("Everybody who connects by SSH is warned of a changed key. Go on?")? {
                return Err(Failure::Other("The keys are as they were.".into()));
            }
            host_keys(connection, client.rotate_ssh_host_key().await?.items)
        }
        AdminCommand::Servers { command } => servers::run(connection, &client, command).await,
        AdminCommand::Regions { command } => regions::run(connection, &client, command).await,
        AdminCommand::Registries { git, command } => {
            let of = if git { CredentialsFor::Repositories } else { CredentialsFor::Images };
            registries(connection, &client, of, command).await
        }
    }
}

/// A server that is not ready is a failure, for scripts.
async fn status(connection: &Connection, client: &Client) -> Result<()> {
    let found = client.readiness().await?;
    if connection.json {
        show::json(&found)?;
    } else {
        let mut table = Table::new(&["PART", "STATE"]);
        for (name, state) in &found.checks {
            let tint = if state == "ok" { Tint::Good } else { Tint::Bad };
            table.row(vec![name.clone().into(), Cell::new(state, tint)]);
        }
        table.print()?;
        if let Some(key) = &found.engine_host_key {
            show::print(&format!("The engine's machine is known by its SSH host key {key}.\n"))?;
        }
        for sentence in &found.weaker {
            show::print(&format!("{}\n", show::tinted(sentence, Tint::Warm)))?;
        }
    }
    if found.ready { Ok(()) } else { Err(Failure::Other(format!("{} is not ready.", client.base()))) }
}

fn host_keys(connection: &Connection, keys: Vec<SshHostKeyView>) -> Result<()> {
    if connection.json {
        return show::json(&keys);
    }
    let mut table = Table::new(&["KIND", "FINGERPRINT", "AGE"]);
    for key in keys {
        table.row(vec![key.kind.into(), key.fingerprint.into(), age(&key.created_at).into()]);
    }
    table.print()
}

async fn registries(
    connection: &Connection,
    client: &Client,
    of: CredentialsFor,
    command: Option<RegistriesCommand>,
) -> Result<()> {
    match command {
        None => list(connection, client.credentials(of).await?.items),
        Some(RegistriesCommand::Add { server, username, everyone }) => {
            let password =
                if std::io::stdin().is_terminal() { tty::ask_secret("Password or token: ")? } else { tty::line()? };
            let stored = client.store_credentials(of, &NewRegistry { server, username, password, everyone }).await?;
            if connection.json { show::json(&stored) } else { show::print(&format!("{}\n", stored.id)) }
        }
        Some(RegistriesCommand::Rm { id }) => Ok(client.remove_credentials(of, id).await?),
    }
}

fn list(connection: &Connection, all: Vec<RegistryView>) -> Result<()> {
    if connection.json {
        return show::json(&all);
    }
    let mut table = Table::new(&["ID", "SERVER", "USER", "FOR", "AGE"]);
    for one in all {
        let whose = if one.everyone { Cell::new("everyone", Tint::Warm) } else { "you".into() };
        let age = age(&one.created_at);
        table.row(vec![one.id.to_string().into(), one.server.into(), one.username.into(), whose, age.into()]);
    }
    table.print()
}
