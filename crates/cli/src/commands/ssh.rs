//! `ssh`, `config-ssh` and `proxy`: the machine's own OpenSSH, told where a workspace is and by which keys its server proves itself.
//!
//! The server's keys come over the API, which this user trusts already, so nobody is asked to compare fingerprints. They and
//! the block in the user's configuration are rewritten as a whole; what else is in that file stays as it is.

use crate::connection::{Connection, workspace, workspaces};
use crate::failure::{EXIT_OF_OURS, Failure, Result};
use crate::private_file;
use crate::show;
use rexec_api::ssh::{SshConnect, SshTarget};
use rexec_api::workspaces::WorkspaceStatus;
use rexec_client::Client;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::process::Command;

const BLOCK_BEGIN: &str = "# >>> rexec config-ssh: the next run rewrites what is between these marks";
const BLOCK_END: &str = "# <<< rexec config-ssh";
const KNOWN_HOSTS: &str = ".ssh/rexec_known_hosts";

#[derive(Debug, clap::Args)]
pub struct SshArguments {
    workspace: String,
    /// Go by the server's own address instead of its SSH port: where only HTTP gets through.
    #[arg(long)]
    proxy: bool,
    /// Given to ssh(1): options, or a command.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    rest: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub struct ConfigArguments {
    /// The file to change; `~/.ssh/config` when absent.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Go by the server's own address instead of its SSH port: where only HTTP gets through.
    #[arg(long, conflicts_with = "remove")]
    proxy: bool,
    /// Take our block away again.
    #[arg(long)]
    remove: bool,
    /// Print the block and change nothing.
    #[arg(long, conflicts_with = "remove")]
    print: bool,
}

/// Runs ssh(1) and ends as it does.
pub async fn ssh(connection: &Connection, arguments: SshArguments) -> Result<ExitCode> {
    let client = connection.client()?;
    let found = workspace(&client, &arguments.workspace).await?;
    let target = reachable(client.ssh_connect(found.id).await?)?;
    let known_hosts = known_hosts(&[&target])?;
    let mut command = Command::new("ssh");
    command.args(["-p", &target.port.to_string(), "-o", "StrictHostKeyChecking=yes"]);
    command.arg("-o").arg(format!("UserKnownHostsFile=\"{}\"", known_hosts.display()));
    if arguments.proxy {
        command.arg("-o").arg(format!("ProxyCommand={}", proxy_command(client.base())?));
    }
    command.args(["-l", &target.user]);
    // Options come before the host, a command after it: ssh(1) takes options on either side of it.
    command.arg(&target.host).args(&arguments.rest);
    let status = command.status().await.map_err(Failure::io("ssh"))?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(EXIT_OF_OURS)))
}

/// What ssh(1) runs in place of a connection to the port: this very program.
fn proxy_command(url: &str) -> Result<String> {
    let program = std::env::current_exe().map_err(Failure::io("this program"))?;
    let program = program.to_str().filter(|path| !path.contains(['\'', '%', '\n'])).ok_or_else(|| {
        Failure::Other(format!("ssh cannot be told of a program at {}: move it to another place.", program.display()))
    })?;
    Ok(format!("'{program}' --url {url} proxy %h"))
}

/// A `ProxyCommand`: SSH over a WebSocket, on standard input and output.
pub async fn proxy(connection: &Connection) -> Result<()> {
    let client = Client::new(connection.url_or_default(None)?)?;
    let tunnel = client.ssh_tunnel().await?;
    tunnel.carry(tokio::io::stdin(), tokio::io::stdout()).await.map_err(Failure::io("the connection"))
}

pub async fn config(connection: &Connection, arguments: ConfigArguments) -> Result<()> {
    let file = match arguments.file {
        Some(file) => file,
        None => private_file::home()?.join(".ssh/config"),
    };
    if arguments.remove {
        let before = read(&file)?;
        if let Some(after) = replaced(&before, "", &file)? {
            private_file::write(&file, after.as_bytes())?;
        }
        return Ok(());
    }
    let client = connection.client()?;
    let targets = targets(&client).await?;
    let known_hosts_file = private_file::home()?.join(KNOWN_HOSTS);
    let proxy = if arguments.proxy { Some(proxy_command(client.base())?) } else { None };
    let block = block(&targets, &known_hosts_file, proxy.as_deref());
    if arguments.print {
        return show::print(&block);
    }
    let before = read(&file)?;
    let after = replaced(&before, &block, &file)?.unwrap_or_else(|| appended(&before, &block));
    known_hosts(&targets.iter().collect::<Vec<_>>())?;
    private_file::write(&file, after.as_bytes())?;
    let aliases: Vec<_> = targets.iter().map(|target| target.alias.as_str()).collect();
    if connection.json {
        return show::json(&aliases);
    }
    aliases.iter().try_for_each(|alias| show::print(&format!("ssh {alias}\n")))
}

fn reachable(connect: SshConnect) -> Result<SshTarget> {
    if connect.target.is_some() && connect.keys == 0 {
        eprintln!("Your account has no SSH key yet: `rexec keys add` adds one.");
    }
    connect.target.ok_or_else(|| {
        let reason = connect.reason.unwrap_or_else(|| "This server takes no SSH connections.".into());
        Failure::Other(reason)
    })
}

/// Of every workspace that is not on its way out.
async fn targets(client: &Client) -> Result<Vec<SshTarget>> {
    let mut targets = Vec::new();
    for one in workspaces(client).await? {
        if one.status != WorkspaceStatus::Deleted {
            targets.push(reachable(client.ssh_connect(one.id).await?)?);
        }
    }
    Ok(targets)
}

/// Writes down the servers' keys; those of other servers in the file stay.
fn known_hosts(targets: &[&SshTarget]) -> Result<PathBuf> {
    let path = private_file::home()?.join(KNOWN_HOSTS);
    let before = read(&path)?;
    let place = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
    let lines: BTreeSet<&str> =
        targets.iter().flat_map(|target| &target.host_keys).map(|key| key.known_hosts.as_str()).collect();
    let places: BTreeSet<String> = lines.iter().map(|line| place(line)).collect();
    let others = before.lines().filter(|line| !line.trim().is_empty() && !places.contains(&place(line)));
    let after: String = others.chain(lines.iter().copied()).map(|line| format!("{line}\n")).collect();
    if after != before {
        private_file::write(&path, after.as_bytes())?;
    }
    Ok(path)
}

fn read(path: &Path) -> Result<String> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(Failure::io(path.display().to_string())),
    }
}

fn block(targets: &[SshTarget], known_hosts: &Path, proxy: Option<&str>) -> String {
    let mut block = format!("{BLOCK_BEGIN}\n");
    for target in targets {
        block.push_str(target.config.trim_end());
        block.push_str(&format!("\n    UserKnownHostsFile \"{}\"\n", known_hosts.display()));
        if let Some(proxy) = proxy {
            block.push_str(&format!("    ProxyCommand {proxy}\n"));
        }
        block.push('\n');
    }
    block.push_str(BLOCK_END);
    block.push('\n');
    block
}

/// The file with another block in the old one's place; `None` when it has none.
fn replaced(file: &str, block: &str, path: &Path) -> Result<Option<String>> {
    let lines: Vec<&str> = file.split_inclusive('\n').collect();
    let at = |mark: &str| lines.iter().position(|line| line.trim_end() == mark);
    match (at(BLOCK_BEGIN), at(BLOCK_END)) {
        (None, None) => Ok(None),
        (Some(begin), Some(end)) if begin < end => {
            let (head, tail) = (lines[..begin].concat(), lines[end + 1..].concat());
            Ok(Some(format!("{head}{block}{tail}")))
        }
        _ => Err(Failure::Other(format!(
            "{} has one of our two marks, or both in the wrong order. Remove them and run this again:\n  {BLOCK_BEGIN}\n  {BLOCK_END}",
            path.display()
        ))),
    }
}

/// Behind what is there: settings before the first `Host` of a file hold for all hosts, and stay so.
fn appended(file: &str, block: &str) -> String {
    let gap = match file {
        "" => "",
        file if file.ends_with('\n') => "\n",
        _ => "\n\n",
    };
    format!("{file}{gap}{block}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_block_comes_goes_and_leaves_the_rest() {
        let path = Path::new("config");
        let block = |text: &str| format!("{BLOCK_BEGIN}\n{text}\n{BLOCK_END}\n");
        for mine in ["", "Host a\n    User b\n", "Host a\n    User b"] {
            let first = appended(mine, &block("Host one"));
            assert!(first.starts_with(mine));
            let second = replaced(&first, &block("Host two"), path).unwrap().unwrap();
            assert_eq!(second, first.replace("Host one", "Host two"));
            let rest = replaced(&second, "", path).unwrap().unwrap();
            assert_eq!(rest.trim_end(), mine.trim_end());
        }
        assert!(replaced("Host a\n", "", path).unwrap().is_none());
        replaced(&format!("{BLOCK_BEGIN}\n"), "", path).unwrap_err();
        replaced(&format!("{BLOCK_END}\n{BLOCK_BEGIN}\n"), "", path).unwrap_err();
    }
}
