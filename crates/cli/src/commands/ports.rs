//! `ports`, and `ports --open`.

use crate::browser;
use crate::connection::{Connection, workspace};
use crate::failure::{Failure, Result};
use crate::show::{self, Cell, Table, Tint, age};
use rexec_api::ports::{PortList, Visibility};
use std::io::IsTerminal as _;

#[derive(Debug, clap::Args)]
pub struct PortsArguments {
    workspace: String,
    /// Open the preview of this port in the browser, which has to be signed in there; without a desktop, print its address.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    open: Option<u16>,
}

pub async fn run(connection: &Connection, arguments: PortsArguments) -> Result<()> {
    let client = connection.client()?;
    let id = workspace(&client, &arguments.workspace).await?.id;
    if let Some(port) = arguments.open {
        return open(connection, client.ports(id).await?, port);
    }
    let ports = client.ports(id).await?;
    if connection.json {
        return show::json(&ports);
    }
    let mut table = Table::new(&["PORT", "LISTENS", "PROGRAM", "SINCE", "SEEN BY", "PREVIEW"]);
    for port in ports.items {
        let listens = match (port.listening, port.address) {
            (true, address) => Cell::new(address.unwrap_or_default(), Tint::Good),
            (false, _) => Cell::new("no", Tint::Faint),
        };
        let seen_by = match port.visibility {
            Visibility::Public => Cell::new("everybody", Tint::Warm),
            _ => "you".into(),
        };
        let since = port.since.as_deref().map(age).unwrap_or_default();
        let (program, url) = (port.process.unwrap_or_default(), port.url.unwrap_or_default());
        table.row(vec![port.port.to_string().into(), listens, program.into(), since.into(), seen_by, url.into()]);
    }
    table.print()?;
    if let Some(why) = ports.previews_unavailable {
        eprintln!("{why}");
    }
    Ok(())
}

fn open(connection: &Connection, ports: PortList, port: u16) -> Result<()> {
    if let Some(why) = ports.previews_unavailable {
        return Err(Failure::Other(why));
    }
    let found = ports.items.into_iter().find(|one| one.port == port);
    let found = found.ok_or_else(|| Failure::NotFound(format!("Nothing listens on port {port} in it.")))?;
    if connection.json {
        return show::json(&found);
    }
    let address = found.url.unwrap_or_default();
    if std::io::stdout().is_terminal() && browser::open(&address) {
        eprintln!("Your browser opens it.");
    }
    show::print(&format!("{}\n", show::plain(&address)))
}
