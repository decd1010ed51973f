//! `ports`, and `ports --open`.

use crate::connection::{Connection, workspace};
use crate::failure::Result;
use crate::show::{self, Cell, Table, Tint, age};
use rexec_api::ports::{OpenPort, Visibility};

#[derive(Debug, clap::Args)]
pub struct PortsArguments {
    workspace: String,
    /// Print an address that opens the preview of this port in a browser. It signs in once: hand it to nobody.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    open: Option<u16>,
}

pub async fn run(connection: &Connection, arguments: PortsArguments) -> Result<()> {
    let client = connection.client()?;
    let id = workspace(&client, &arguments.workspace).await?.id;
    if let Some(port) = arguments.open {
        let opened = client.open_port(id, port, &OpenPort::default()).await?;
        return if connection.json { show::json(&opened) } else { show::print(&format!("{}\n", opened.url)) };
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
