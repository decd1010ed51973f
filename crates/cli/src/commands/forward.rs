//! `forward`: ports of this machine that lead into a workspace, through the server's own address.

use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::show;
use rexec_api::ids::WorkspaceId;
use rexec_client::Client;
use std::net::IpAddr;
use std::str::FromStr;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

#[derive(Debug, clap::Args)]
pub struct ForwardArguments {
    workspace: String,
    /// The port inside, or `LOCAL:PORT`; `0:PORT` takes any free port of this machine.
    #[arg(required = true, value_name = "[LOCAL:]PORT")]
    ports: Vec<Pair>,
    /// The address of this machine to listen at. Whoever reaches it reaches the workspace's ports.
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    address: IpAddr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pair {
    local: u16,
    inside: u16,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (local, inside) = text.split_once(':').unwrap_or((text, text));
        let port = |text: &str| text.parse::<u16>().map_err(|_| format!("{text:?} is no port, from 1 to 65535"));
        match (port(local)?, port(inside)?) {
            (_, 0) => Err("nothing can listen on port 0 inside".into()),
            (local, inside) => Ok(Self { local, inside }),
        }
    }
}

/// Until it is interrupted.
pub async fn run(connection: &Connection, arguments: ForwardArguments) -> Result<()> {
    let client = connection.client()?;
    let workspace = super::workspaces::awake(&client, &arguments.workspace).await?;
    let mut listeners = Vec::new();
    for pair in &arguments.ports {
        let listener = TcpListener::bind((arguments.address, pair.local)).await;
        let listener = listener.map_err(Failure::io(format!("port {} of this machine", pair.local)))?;
        let at = listener.local_addr().map_err(Failure::io("a port of this machine"))?;
        show::print(&format!("{at} -> {}:{}\n", workspace.name, pair.inside))?;
        listeners.push((listener, pair.inside));
    }
    let mut serving: JoinSet<()> = JoinSet::new();
    for (listener, port) in listeners {
        serving.spawn(serve(listener, client.clone(), workspace.id, port));
    }
    let interrupted = tokio::signal::ctrl_c().await;
    interrupted.map_err(Failure::io("signals"))
}

async fn serve(listener: TcpListener, client: Client, workspace: WorkspaceId, port: u16) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(carry(client.clone(), stream, workspace, port));
                }
                // Such as too many open files: others end, and then it goes on.
                Err(error) => {
                    eprintln!("rexec: no connection could be accepted: {error}");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(client: Client, mut stream: TcpStream, workspace: WorkspaceId, port: u16) {
    // Whoever connected sees it closed; why is for the person at the terminal.
    let tunnel = match client.tunnel(workspace, port).await {
        Ok(tunnel) => tunnel,
        Err(error) => {
            Failure::from(error).tell();
            return;
        }
    };
    let _ = stream.set_nodelay(true);
    let (from, to) = stream.split();
    if let Err(error) = tunnel.carry(from, to).await {
        eprintln!("rexec: a connection to port {port} broke: {error}");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ports_come_alone_or_in_pairs() {
        assert_eq!("80".parse::<Pair>().unwrap(), Pair { local: 80, inside: 80 });
        assert_eq!("0:80".parse::<Pair>().unwrap(), Pair { local: 0, inside: 80 });
        for bad in ["", "0", "80:0", "80:", ":80", "a", "1:2:3", "70000"] {
            bad.parse::<Pair>().unwrap_err();
        }
    }
}
