//! `ls`, `new`, `open`, `rm`, and the lifecycle.

use super::github::GithubArguments;
use super::{egress, snapshots};
use crate::browser;
use crate::connection::{Connection, workspace, workspaces};
use crate::failure::{Failure, Result};
use crate::show::{self, Cell, Table, Tint, age};
use crate::tty;
use rexec_api::egress::{EgressPreset, EgressSettings};
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus, WorkspaceView};
use rexec_client::{Client, Lifecycle};
use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

/// How often it is looked at a workspace that begins.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What is there already, as a warm one is, is not waited for so long.
const LOOK_FIRST: Duration = Duration::from_millis(20);

#[derive(Debug, clap::Args)]
pub struct NewArguments {
    /// Made up when absent.
    name: Option<String>,
    /// What it is made from; `rexec templates` lists them.
    #[arg(long, short)]
    template: Option<String>,
    /// A container image instead.
    #[arg(long, conflicts_with = "template")]
    image: Option<String>,
    /// A snapshot to begin as: its id or name.
    #[arg(long, conflicts_with_all = ["template", "image", "git"])]
    snapshot: Option<String>,
    /// A repository to clone into the home.
    #[arg(long, value_name = "ADDRESS")]
    git: Option<String>,
    /// Its branch or tag.
    #[arg(long, requires = "git")]
    branch: Option<String>,
    /// Cores, such as 1.5.
    #[arg(long)]
    cpu: Option<f64>,
    /// MiB.
    #[arg(long, value_name = "MiB")]
    memory: Option<u32>,
    /// GiB.
    #[arg(long, value_name = "GiB")]
    disk: Option<u32>,
    /// An OCI runtime of the host, such as runsc.
    #[arg(long)]
    runtime: Option<String>,
    /// Where, of several: `rexec regions` lists them.
    #[arg(long)]
    region: Option<String>,
    /// On this server, for administrators.
    #[arg(long, value_name = "SERVER", visible_alias = "server")]
    host: Option<String>,
    /// What it may reach outside: locked, balanced or open; as the server's settings say when absent.
    #[arg(long, value_name = "PRESET", value_parser = egress::preset)]
    egress: Option<EgressPreset>,
    /// A rule of what it may reach besides, such as github.com; may be given several times.
    #[arg(long, value_name = "RULE", requires = "egress")]
    allow: Vec<String>,
    /// A secret of yours that it may use without having it; may be given several times.
    #[arg(long = "secret", value_name = "NAME", requires = "egress")]
    secrets: Vec<String>,
    /// Let it ask the operator's language models; `rexec models` tells which there are.
    #[arg(long, requires = "egress")]
    models: bool,
    #[command(flatten)]
    github: GithubArguments,
    /// A variable of its terminals and commands; may be given several times.
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Do not wait until it runs.
    #[arg(long)]
    no_wait: bool,
}

/// `NAME=VALUE`.
pub fn variable(text: &str) -> std::result::Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it must be NAME=VALUE")?;
    if name.is_empty() { Err("the name is missing".into()) } else { Ok((name.into(), value.into())) }
}

pub async fn new(connection: &Connection, arguments: NewArguments) -> Result<()> {
    let client = connection.client()?;
    let snapshot = match &arguments.snapshot {
        Some(word) => Some(snapshots::snapshot(&client, word).await?),
        None => None,
    };
    if let Some(name) = &arguments.name
        && workspaces(&client).await?.iter().any(|one| one.name == *name)
    {
        return Err(Failure::Other(format!("You have a workspace called {name:?} already. Choose another name.")));
    }
    let github = arguments.github.added_to(None)?;
    if github.is_some() && arguments.egress.is_none() {
        return Err(Failure::Other("--github wants --egress, too: what it may reach besides.".into()));
    }
    let request = NewWorkspace {
        name: arguments.name,
        template: arguments.template,
        image: arguments.image,
        snapshot,
        git_url: arguments.git,
        branch: arguments.branch,
        cpu: arguments.cpu,
        memory_mb: arguments.memory,
        disk_gb: arguments.disk,
        runtime: arguments.runtime,
        region: arguments.region,
        host: arguments.host,
        env: BTreeMap::from_iter(arguments.env),
        egress: arguments.egress.map(|preset| EgressSettings {
            github,
            preset,
            allow: arguments.allow,
            secrets: arguments.secrets,
            models: arguments.models,
            ..EgressSettings::default()
        }),
        wait_ms: Some(0),
        ..Default::default()
    };
    let mut made = client.create_workspace(&request).await?;
    if !arguments.no_wait {
        made = running(&client, made).await?;
    }
    if connection.json {
        return show::json(&made);
    }
    let name = show::word(&made.name);
    if made.git_url.is_some() {
        eprintln!("It is set up now: rexec logs --setup -f {name}");
    }
    eprintln!("Attach with: rexec attach {name}");
    show::print(&format!("{}\n", made.id))
}

/// Waits until it runs, and tells a person what it waits for.
pub(super) async fn running(client: &Client, mut seen: WorkspaceView) -> Result<WorkspaceView> {
    let is_watched = std::io::stderr().is_terminal();
    let mut told = String::new();
    let mut pause = LOOK_FIRST;
    loop {
        if is_watched {
            let why = seen.status_reason.as_deref().unwrap_or_default();
            let now = format!("{}: {} {why}", seen.name, seen.status.as_str());
            if now != told {
                // The line is written over: CR, EL (ECMA-48).
                eprint!("\r\x1b[K{}", now.trim_end());
                let _ = std::io::stderr().flush();
                told = now;
            }
        }
        match seen.status {
            WorkspaceStatus::Running => break,
            WorkspaceStatus::Error | WorkspaceStatus::Deleted => {
                end_line(is_watched);
                let why = seen.status_reason.unwrap_or_else(|| "The server does not say why.".into());
                return Err(Failure::Other(format!("{} does not run: {why}", seen.name)));
            }
            _ => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LOOK_EVERY);
            }
        }
        seen = client.workspace(seen.id).await?;
    }
    end_line(is_watched);
    Ok(seen)
}

fn end_line(is_watched: bool) {
    if is_watched {
        eprintln!();
    }
}

#[derive(Debug, clap::Args)]
pub struct ListArguments {
    /// Print ids only.
    #[arg(long, short)]
    quiet: bool,
}

pub async fn ls(connection: &Connection, arguments: ListArguments) -> Result<()> {
    let all = workspaces(&connection.client()?).await?;
    if connection.json {
        return show::json(&all);
    }
    if arguments.quiet {
        return show::print(&all.iter().map(|w| format!("{}\n", w.id)).collect::<String>());
    }
    let mut table = Table::new(&["NAME", "STATUS", "MADE FROM", "CPU", "MEMORY", "AGE", "ID"]);
    for one in all {
        let machine = one.machine.map(|machine| format!("machine: {}", machine.os));
        let made_from = machine.or(one.git_url).or(one.template).unwrap_or(one.image);
        let status = Cell::new(one.status.as_str(), tint(one.status));
        let memory = show::size(u64::from(one.memory_mb) << 20);
        let age = age(&one.created_at);
        let (cpu, id) = (one.cpu.to_string(), one.id.to_string());
        table.row(vec![one.name.into(), status, made_from.into(), cpu.into(), memory.into(), age.into(), id.into()]);
    }
    table.print()
}

const fn tint(status: WorkspaceStatus) -> Tint {
    match status {
        WorkspaceStatus::Running => Tint::Good,
        WorkspaceStatus::Error | WorkspaceStatus::Unreachable => Tint::Bad,
        WorkspaceStatus::Stopped | WorkspaceStatus::Paused | WorkspaceStatus::Deleted => Tint::Faint,
        _ => Tint::Warm,
    }
}

pub async fn templates(connection: &Connection) -> Result<()> {
    let all = connection.client()?.templates().await?.items;
    if connection.json {
        return show::json(&all);
    }
    let mut table = Table::new(&["ID", "NAME", "SIZE", "HERE", "WHAT IT IS"]);
    for one in all {
        let here = if one.available { Cell::new("yes", Tint::Good) } else { Cell::new("fetched first", Tint::Faint) };
        let size = show::size(u64::from(one.size_mb) << 20);
        table.row(vec![one.id.into(), one.name.into(), size.into(), here, one.description.into()]);
    }
    table.print()
}

#[derive(Debug, clap::Args)]
pub struct Several {
    /// Names or ids.
    #[arg(required = true, value_name = "WORKSPACE")]
    workspaces: Vec<String>,
}

/// One after the other; the first that fails ends it.
pub async fn lifecycle(connection: &Connection, of: Several, request: Lifecycle) -> Result<()> {
    let client = connection.client()?;
    let mut seen = Vec::new();
    for word in &of.workspaces {
        let id = workspace(&client, word).await?.id;
        let mut now = client.lifecycle(id, request).await?;
        if matches!(request, Lifecycle::Start | Lifecycle::Restart | Lifecycle::Resume) {
            now = running(&client, now).await?;
        }
        if now.status == WorkspaceStatus::Unreachable {
            let why = now.status_reason.unwrap_or_default();
            return Err(Failure::Other(format!("{} is out of reach; it is done once it is back. {why}", now.name)));
        }
        seen.push(now);
    }
    if connection.json {
        return show::json(&seen);
    }
    show::print(&seen.iter().map(|w| format!("{}: {}\n", w.name, w.status.as_str())).collect::<String>())
}

#[derive(Debug, clap::Args)]
pub struct RemoveArguments {
    #[command(flatten)]
    of: Several,
    /// Remove the home for good too; it is kept for a while otherwise.
    #[arg(long)]
    purge: bool,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
}

pub async fn rm(connection: &Connection, arguments: RemoveArguments) -> Result<()> {
    let client = connection.client()?;
    let mut found = Vec::new();
    for word in &arguments.of.workspaces {
        found.push(workspace(&client, word).await?);
    }
    if !arguments.yes {
        let names: Vec<_> = found.iter().map(|w| show::plain(&w.name)).collect();
        let what = if arguments.purge { " and all files of the home for good" } else { ", all but its home" };
        let is_asked = std::io::stdin().is_terminal();
        if arguments.purge && !is_asked {
            return Err(Failure::Usage("--purge without a terminal to ask on needs --yes.".into()));
        }
        if is_asked && !tty::confirm(&format!("Delete {}{what}?", names.join(", ")))? {
            return Err(Failure::Other("Nothing was deleted.".into()));
        }
    }
    for one in &found {
        if arguments.purge {
            client.purge_workspace(one.id).await?
        } else {
            client.delete_workspace(one.id).await?
        }
        if !connection.json {
            let kept = if arguments.purge { "" } else { "; its home is kept for a while: `rexec volume ls`" };
            show::print(&format!("{}: deleted{kept}\n", one.name))?;
        }
    }
    if connection.json { show::json(&found.iter().map(|w| w.id).collect::<Vec<_>>()) } else { Ok(()) }
}

/// Where the page shows it.
pub async fn open(connection: &Connection, word: &str) -> Result<()> {
    let client = connection.client()?;
    let found = workspace(&client, word).await?;
    let address = format!("{}/w/{}", client.base(), found.id);
    if std::io::stdout().is_terminal() && browser::open(&address) {
        eprintln!("Your browser opens it.");
    }
    show::print(&format!("{address}\n"))
}

/// A workspace that a terminal or command is for, running.
pub async fn awake(client: &Client, word: &str) -> Result<WorkspaceView> {
    let found = workspace(client, word).await?;
    match found.status {
        WorkspaceStatus::Running => Ok(found),
        WorkspaceStatus::Stopped | WorkspaceStatus::Paused => {
            eprintln!("{} is {}; starting it.", found.name, found.status.as_str());
            let request = if found.status == WorkspaceStatus::Paused { Lifecycle::Resume } else { Lifecycle::Start };
            running(client, client.lifecycle(found.id, request).await?).await
        }
        // Nobody but its owner has it come.
        WorkspaceStatus::Unreachable if found.machine.is_some() => {
            let why = found.status_reason.unwrap_or_default();
            Err(Failure::Other(format!("{} cannot be reached. {why}", found.name)))
        }
        WorkspaceStatus::Unreachable => {
            let why = found.status_reason.as_deref().unwrap_or_default();
            eprintln!("{} is out of reach; waiting until it is back. {}", show::plain(&found.name), show::plain(why));
            running(client, found).await
        }
        _ => running(client, found).await,
    }
}
