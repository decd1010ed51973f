//! `join`, `leave`, `join-token`.

use crate::connection::{Connection, checked};
use crate::failure::{EXIT_REFUSED, Failure, Result};
use crate::machine::{self, End, Known, Lock};
use crate::show::{self, Table};
use rexec_api::error::ErrorCode;
use rexec_api::ids::JoinTokenId;
use rexec_api::machines::{JOIN_TOKEN, JoinMachine, NewJoinToken};
use rexec_api::workspaces::NAME_CHARS_MAX;
use rexec_client::{Client, ClientError};
use std::io::IsTerminal as _;
use std::net::IpAddr;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub struct JoinArguments {
    /// The server; when absent the only one that this machine has joined, else the one signed in to last. `--token` is
    /// a join token, or not needed where you are signed in.
    address: Option<String>,
    /// What the machine is to be called; its host name when absent.
    #[arg(long)]
    name: Option<String>,
    /// Print a unit of systemd that keeps the machine joined, instead of staying here.
    #[arg(long)]
    systemd: bool,
    /// Send the credential in the clear to a server that is not on this machine.
    #[arg(long)]
    insecure_http: bool,
}

#[derive(Debug, clap::Args)]
pub struct LeaveArguments {
    /// The server; the only one that this machine has joined when absent.
    address: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
pub enum JoinTokenCommand {
    /// List the tokens that wait for a machine.
    Ls,
    /// Make one; it is printed once.
    New {
        /// What the machine will be called; its own word when absent.
        #[arg(long)]
        name: Option<String>,
        /// Minutes until it runs out; an hour when absent.
        #[arg(long, value_name = "MINUTES")]
        minutes: Option<u32>,
    },
    /// Revoke one.
    Rm { id: JoinTokenId },
}

/// Stays until it is asked to go, or is no machine of the server's any more.
pub async fn join(connection: &Connection, arguments: JoinArguments) -> Result<ExitCode> {
    let server = server(connection, arguments.address)?;
    require_private(&server, arguments.insecure_http)?;
    let lock = Lock::take(&server)?;
    let known = match (Known::load(&server)?, &lock) {
        (Some(known), Some(_)) => {
            eprintln!("rexec: this machine is {:?} at {server} already", known.name);
            known
        }
        (None, Some(_)) => register(connection, &server, arguments.name).await?,
        // What starts the machine next time may be asked for while it runs.
        (Some(known), None) if arguments.systemd => known,
        (_, None) => {
            let message = format!("Another process of yours has joined this machine to {server} already.");
            return Err(Failure::Other(message));
        }
    };
    if arguments.systemd {
        eprintln!("rexec: {:?} has joined; as root, put the unit where systemd finds it, and start it:", known.name);
        eprintln!("       rexec join {server} --systemd > /etc/systemd/system/rexec-machine.service");
        eprintln!("       systemctl enable --now rexec-machine");
        return show::print(&machine::unit(&known, arguments.insecure_http)?).map(|()| ExitCode::SUCCESS);
    }
    eprintln!(
        "rexec: {:?} ({}) at {server}; Ctrl-C goes offline, `rexec leave` removes it",
        known.name, known.workspace_id
    );
    let end = machine::stay(&known).await?;
    let code = match end {
        End::Asked => ExitCode::SUCCESS,
        End::Removed => {
            known.forget()?;
            eprintln!("rexec: the machine was removed at the server");
            ExitCode::SUCCESS
        }
        End::Replaced => {
            eprintln!("rexec: another process with the same credential has taken this machine's place");
            ExitCode::from(EXIT_REFUSED)
        }
    };
    drop(lock);
    Ok(code)
}

/// The server that is meant: the one that is named, else the only one that this machine has joined, else the usual one.
fn server(connection: &Connection, address: Option<String>) -> Result<String> {
    let is_open = address.is_none() && !connection.names_server();
    if is_open && let [only] = Known::every()?.as_slice() {
        return Ok(only.server.clone());
    }
    connection.url_or_default(address)
}

/// Exchanges a join token for a credential; whoever is signed in makes the token on the way.
async fn register(connection: &Connection, server: &str, name: Option<String>) -> Result<Known> {
    let name = name.unwrap_or_else(host_name);
    let client = Client::new(server)?;
    let token = match connection.token().map(checked).transpose()? {
        Some(token) if JOIN_TOKEN.fits(&token) => token,
        Some(token) if token.starts_with("rexecj_") => {
            let typo = "The join token has a typing error, or is not whole: its checksum does not fit.";
            return Err(Failure::Usage(typo.to_owned()));
        }
        Some(token) => client.clone().with_token(token).create_join_token(&NewJoinToken::default()).await?.token,
        None => connection.client_of(server)?.create_join_token(&NewJoinToken::default()).await?.token,
    };
    let joined = client.join_machine(&JoinMachine { token, name: Some(name) }).await?;
    let known = Known {
        server: server.to_owned(),
        workspace_id: joined.workspace_id,
        name: joined.name,
        credential: joined.credential,
    };
    if let Err(failure) = known.store() {
        // A machine that cannot prove itself later is none.
        let _ = client.with_token(&known.credential).leave_machine().await;
        return Err(failure);
    }
    Ok(known)
}

/// A credential goes in the clear to this machine alone.
fn require_private(server: &str, insecure: bool) -> Result<()> {
    let Some(authority) = server.strip_prefix("http://") else { return Ok(()) };
    let parsed: Option<http::uri::Authority> = authority.parse().ok();
    let host = parsed.as_ref().map_or("", |authority| authority.host()).trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if is_here || insecure {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "{server} is not encrypted: whoever listens on the way could be this machine. Use https://, or --insecure-http."
    )))
}

fn host_name() -> String {
    let system = rustix::system::uname();
    let name: String = system.nodename().to_string_lossy().chars().filter(|c| !c.is_control()).collect();
    let name: String = name.trim().chars().take(NAME_CHARS_MAX).collect();
    if name.is_empty() { "machine".into() } else { name }
}

pub async fn leave(connection: &Connection, arguments: LeaveArguments) -> Result<()> {
    let every = Known::every()?;
    if arguments.address.is_none() && !connection.names_server() && every.len() > 1 {
        let servers: Vec<_> = every.iter().map(|known| format!("  {}", known.server)).collect();
        let message = format!("This machine has joined several servers; name one:\n{}", servers.join("\n"));
        return Err(Failure::NotFound(message));
    }
    let server = server(connection, arguments.address)?;
    let none = || Failure::NotFound(format!("This machine has not been joined to {server}."));
    let known = Known::load(&server)?.ok_or_else(none)?;
    match Client::new(&known.server)?.with_token(&known.credential).leave_machine().await {
        Err(error) if !is_gone(&error) => return Err(error.into()),
        _ => {}
    }
    known.forget()?;
    eprintln!("rexec: {:?} is no machine of {} any more", known.name, known.server);
    Ok(())
}

fn is_gone(error: &ClientError) -> bool {
    error.code() == Some(ErrorCode::MachineGone)
}

pub async fn tokens(connection: &Connection, command: JoinTokenCommand) -> Result<()> {
    let client = connection.client()?;
    match command {
        JoinTokenCommand::Ls => {
            let tokens = client.join_tokens().await?.items;
            if connection.json {
                return show::json(&tokens);
            }
            let mut table = Table::new(&["ID", "NAME", "BEGINS", "EXPIRES"]);
            for token in tokens {
                let name = token.name.unwrap_or_default();
                table.row(vec![token.id.to_string().into(), name.into(), token.hint.into(), token.expires_at.into()]);
            }
            table.print()
        }
        JoinTokenCommand::New { name, minutes } => {
            let made = client.create_join_token(&NewJoinToken { name, expires_in_minutes: minutes }).await?;
            if connection.json {
                return show::json(&made);
            }
            eprintln!("Once, until {}, on the machine itself:", made.view.expires_at);
            // For a program the token alone, for a person what is to be typed.
            let is_seen = std::io::stdout().is_terminal();
            let before = if is_seen { format!("rexec join {} --token ", client.base()) } else { String::new() };
            show::print(&format!("{before}{}\n", made.token))
        }
        JoinTokenCommand::Rm { id } => client.revoke_join_token(id).await.map_err(Failure::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_in_the_clear_to_this_machine_alone() {
        for server in ["https://a.example", "http://127.0.0.1:8080", "http://[::1]:80", "http://localhost"] {
            assert!(require_private(server, false).is_ok(), "{server}");
        }
        for server in ["http://a.example", "http://10.0.0.1:8080", "http://localhost.example"] {
            assert!(require_private(server, false).is_err() && require_private(server, true).is_ok(), "{server}");
        }
    }
}
