//! `admin servers`: the machines that workspaces run on.

use super::server_args::{AddServer, EditServer};
use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::show::{self, Cell, Table, Tint, age};
use crate::tty;
use rexec_api::ids::HostId;
use rexec_api::servers::{ImageState, ServerHealth, ServerLost, ServerState, ServerView};
use rexec_client::{Client, ServerRequest, Sources};
use std::io::IsTerminal as _;

#[derive(Debug, clap::Subcommand)]
pub enum ServersCommand {
    /// List them, and what workspaces have of them.
    Ls,
    /// Add one: it is reached and made ready first, and what fails is told.
    Add(Box<AddServer>),
    /// Change one, at once: what is not named stays. A new address is reached first, and must be the same engine's.
    Edit(Box<EditServer>),
    /// Ask one anew whether it answers and is fit.
    Test { server: String },
    /// Have no more workspaces made on one; those that are there stay.
    Drain { server: String },
    /// Have workspaces made on one again.
    Activate { server: String },
    /// List the images of one, and those that it is to have before anyone asks.
    Images { server: String },
    /// Have one fetch an image, or look whether there is a newer one.
    Pull { server: String, image: String },
    /// Delete one on which nothing lies any more.
    Rm {
        server: String,
        /// Take no more workspaces there and move those that are stopped; what runs is named and left alone.
        #[arg(long = "move")]
        moves: bool,
        /// Do not keep what moved workspaces leave there until they have run at their new places.
        #[arg(long, requires = "moves")]
        drop_sources: bool,
        /// It does not come back: delete it with the workspaces, kept homes and snapshots there, none of which can be had
        /// again. Refused while it answers.
        #[arg(long, conflicts_with = "moves")]
        lost: bool,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

pub async fn run(connection: &Connection, client: &Client, command: Option<ServersCommand>) -> Result<()> {
    match command.unwrap_or(ServersCommand::Ls) {
        ServersCommand::Ls => list(connection, &client.servers().await?.items),
        ServersCommand::Add(add) => {
            let new = add.request()?;
            tell(connection, &client.add_server(&new).await?)
        }
        ServersCommand::Edit(edit) => {
            let id = find(client, &edit.server).await?;
            let change = edit.request()?;
            tell(connection, &client.change_server(id, &change).await?)
        }
        ServersCommand::Test { server } => ask(connection, client, &server, ServerRequest::Test).await,
        ServersCommand::Drain { server } => ask(connection, client, &server, ServerRequest::Drain).await,
        ServersCommand::Activate { server } => ask(connection, client, &server, ServerRequest::Activate).await,
        ServersCommand::Images { server } => images(connection, client, &server).await,
        ServersCommand::Pull { server, image } => {
            let wanted = client.pull_image(find(client, &server).await?, &image).await?;
            match connection.json {
                true => show::json(&wanted),
                false => show::print(&format!("`rexec admin servers images {server}` tells how far it is.\n")),
            }
        }
        ServersCommand::Rm { server, moves, drop_sources, lost, yes } => {
            let id = find(client, &server).await?;
            if !yes && !std::io::stdin().is_terminal() {
                return Err(Failure::Usage("To delete without a terminal to ask on needs --yes.".into()));
            }
            let question = match lost {
                true => {
                    format!("Write off {server}, and delete all workspaces, kept homes and snapshots there for good?")
                }
                false => format!("Take {server} out of the fleet?"),
            };
            if !yes && !tty::confirm(&question)? {
                return Err(Failure::Other("It is as it was.".into()));
            }
            if lost {
                return written_off(connection, &server, &client.write_off_server(id).await?);
            }
            if moves {
                let sources = if drop_sources { Sources::Drop } else { Sources::Keep };
                return super::moving::clear(connection, client, id, sources).await;
            }
            Ok(client.remove_server(id).await?)
        }
    }
}

fn written_off(connection: &Connection, server: &str, lost: &ServerLost) -> Result<()> {
    if connection.json {
        return show::json(lost);
    }
    let count = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let saved = match lost.saved {
        0 => String::new(),
        n => format!("; of {} the home is kept where it lay before", count(n, "workspace")),
    };
    let (workspaces, homes) = (count(lost.workspaces, "workspace"), count(lost.homes, "kept home"));
    let snapshots = count(lost.snapshots, "snapshot");
    show::print(&format!("{server} is written off, with {workspaces}, {homes} and {snapshots}{saved}.\n"))
}

/// By name or id.
async fn find(client: &Client, server: &str) -> Result<HostId> {
    if let Ok(id) = server.parse() {
        return Ok(id);
    }
    let servers = client.servers().await?.items;
    let found = servers.iter().find(|one| one.name == server).map(|one| one.id);
    found.ok_or_else(|| {
        let names: Vec<&str> = servers.iter().map(|one| one.name.as_str()).collect();
        Failure::NotFound(format!("There is no server {server}. There are: {}.", names.join(", ")))
    })
}

async fn ask(connection: &Connection, client: &Client, server: &str, request: ServerRequest) -> Result<()> {
    let id = find(client, server).await?;
    tell(connection, &client.ask_server(id, request).await?)
}

async fn images(connection: &Connection, client: &Client, server: &str) -> Result<()> {
    let images = client.server_images(find(client, server).await?).await?;
    if connection.json {
        return show::json(&images);
    }
    let mut table = Table::new(&["IMAGE", "SIZE", "STATE"]);
    for image in images.items.iter().filter(|image| !image.references.is_empty()) {
        let size = show::size(image.size_bytes);
        table.row(vec![image.references.join(" ").into(), size.into(), Cell::new("present", Tint::Good)]);
    }
    for wanted in images.wanted.iter().filter(|wanted| wanted.state != ImageState::Present) {
        let state = match (&wanted.state, &wanted.pull, &wanted.reason) {
            (ImageState::Pulling, Some(pull), _) => {
                format!("{} of {}", show::size(pull.bytes), show::size(pull.total_bytes))
            }
            (ImageState::Failed, _, Some(reason)) => reason.clone(),
            (state, ..) => format!("{state:?}").to_lowercase(),
        };
        table.row(vec![wanted.image.clone().into(), "".into(), Cell::new(state, Tint::Warm)]);
    }
    table.print()
}

fn tell(connection: &Connection, server: &ServerView) -> Result<()> {
    if connection.json {
        return show::json(server);
    }
    list(connection, std::slice::from_ref(server))?;
    if let Some(key) = &server.ssh_host_key {
        show::print(&format!("It is known by the SSH host key {key} from now on.\n"))?;
    }
    for sentence in &server.weaker {
        show::print(&format!("{}\n", show::tinted(sentence, Tint::Warm)))?;
    }
    for (runtime, why) in server.found.iter().flat_map(|found| &found.runtimes_unfit) {
        show::print(&format!("{}\n", show::tinted(&format!("Nothing runs there by `{runtime}`: {why}."), Tint::Warm)))?;
    }
    Ok(())
}

/// Who made it and what it is called there, of one that comes and goes with demand.
fn machine(server: &ServerView) -> String {
    match (&server.provisioner, &server.machine_id) {
        (Some(provisioner), Some(id)) => format!("{provisioner} {id}"),
        _ => String::new(),
    }
}

fn list(connection: &Connection, servers: &[ServerView]) -> Result<()> {
    if connection.json {
        return show::json(&servers);
    }
    let mut table = Table::new(&[
        "NAME",
        "REGION",
        "STATE",
        "WORKSPACES",
        "CPU",
        "MEMORY, MIB",
        "DISK, GIB",
        "ADDRESS",
        "MACHINE",
        "AGE",
    ]);
    for server in servers {
        let state = match (server.health, server.state) {
            (ServerHealth::Ready, ServerState::Active) => Cell::new("ready", Tint::Good),
            (ServerHealth::Ready, ServerState::Draining) => Cell::new("draining", Tint::Warm),
            (ServerHealth::Connecting, _) => Cell::new("connecting", Tint::Warm),
            (ServerHealth::Offline, _) => Cell::new("offline", Tint::Bad),
        };
        let of = |used: String, total: String| if total == "0" { used } else { format!("{used} of {total}") };
        table.row(vec![
            server.name.clone().into(),
            server.region.clone().into(),
            state,
            of(server.workspaces.to_string(), server.max_workspaces.unwrap_or(0).to_string()).into(),
            of(server.used_cpu.to_string(), server.total_cpu.to_string()).into(),
            of(server.used_memory_mb.to_string(), server.total_memory_mb.to_string()).into(),
            of(server.used_disk_gb.to_string(), server.total_disk_gb.to_string()).into(),
            server.address.clone().into(),
            machine(server).into(),
            age(&server.created_at).into(),
        ]);
    }
    table.print()
}
