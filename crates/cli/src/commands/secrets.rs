//! `secret ls|set|rm`: what workspaces use without having it.

use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::show::{self, Table, age};
use crate::tty;
use rexec_api::secrets::PutSecret;
use std::io::IsTerminal as _;

#[derive(Debug, clap::Subcommand)]
pub enum SecretCommand {
    /// List your secrets, without their values.
    Ls,
    /// Store one, or change one. The value is asked for, or is a line of standard input.
    Set {
        /// Of the variable inside, such as OPENAI_API_KEY.
        name: String,
        /// Where it may be sent, such as api.example.com or *.example.com; several times if several. Those of a widely known
        /// name when absent.
        #[arg(long = "host", value_name = "HOST")]
        hosts: Vec<String>,
        /// In which header of requests; several times if several. The usual ones when absent.
        #[arg(long = "header", value_name = "HEADER")]
        headers: Vec<String>,
        /// Leave its value as it is.
        #[arg(long)]
        keep_value: bool,
    },
    /// Delete one: no workspace can use it any more.
    Rm { name: String },
}

pub async fn run(connection: &Connection, command: SecretCommand) -> Result<()> {
    let client = connection.client()?;
    match command {
        SecretCommand::Ls => {
            let all = client.secrets().await?.items;
            if connection.json {
                return show::json(&all);
            }
            let mut table = Table::new(&["NAME", "HOSTS", "VALUE", "USED"]);
            for secret in all {
                let used = secret.used_at.as_deref().map_or("never".into(), |time| format!("{} ago", age(time)));
                table.row(vec![
                    secret.name.into(),
                    secret.hosts.join(" ").into(),
                    format!("set {} ago", age(&secret.value_set_at)).into(),
                    used.into(),
                ]);
            }
            table.print()
        }
        SecretCommand::Set { name, hosts, headers, keep_value } => {
            let value = match keep_value {
                true if hosts.is_empty() && headers.is_empty() => {
                    return Err(Failure::Usage("Say what is to change: --host, --header, or a value.".into()));
                }
                true => None,
                false if std::io::stdin().is_terminal() => Some(tty::ask_secret(&format!("Value of {name}: "))?),
                false => Some(tty::line()?),
            };
            let some = |list: Vec<String>| Some(list).filter(|list| !list.is_empty());
            let put = PutSecret { value, hosts: some(hosts), headers: some(headers) };
            let secret = client.put_secret(&name, &put).await?;
            if connection.json {
                return show::json(&secret);
            }
            show::print(&format!("{} may be sent to {}.\n", secret.name, show::plain(&secret.hosts.join(", "))))
        }
        SecretCommand::Rm { name } => Ok(client.delete_secret(&name).await?),
    }
}
