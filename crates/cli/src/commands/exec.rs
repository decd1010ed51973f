//! `exec`: one command in a workspace, its output as it comes, its exit code.

use super::attach;
use super::workspaces::{awake, variable};
use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::tty;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rexec_api::error::ErrorCode;
use rexec_api::exec::{ExecEvent, ExecRequest, STDIN_BYTES_MAX, TIMEOUT_MS_MAX};
use rexec_api::terminals::NewTerminal;
use rexec_client::ClientError;
use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Read as _};
use std::process::ExitCode;

/// As shells have it (POSIX, 2.8.2).
const EXIT_NO_COMMAND: u8 = 127;

#[derive(Debug, clap::Args)]
pub struct ExecArguments {
    workspace: String,
    /// Program and arguments; no shell is involved unless you name one.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    /// Give it a terminal.
    #[arg(long, short)]
    tty: bool,
    /// Where it runs; the home when absent.
    #[arg(long, short, value_name = "DIRECTORY")]
    workdir: Option<String>,
    /// An account of the workspace.
    #[arg(long, short)]
    user: Option<String>,
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Seconds after which it is ended.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
}

pub async fn run(connection: &Connection, arguments: ExecArguments) -> Result<ExitCode> {
    let client = connection.client()?;
    let env = BTreeMap::from_iter(arguments.env);
    if arguments.tty {
        if !tty::is_interactive() {
            return Err(Failure::Usage("--tty needs a terminal on both ends.".into()));
        }
        let id = awake(&client, &arguments.workspace).await?.id;
        let (cols, rows) = attach::bounded(tty::size());
        let (command, cwd, user) = (Some(arguments.command), arguments.workdir, arguments.user);
        let made = client.create_terminal(id, &NewTerminal { cols, rows, command, cwd, env, user }).await?;
        return attach::hold(&client, id, made.id, Some(0)).await;
    }
    let stdin_base64 = input()?;
    let id = awake(&client, &arguments.workspace).await?.id;
    let request = ExecRequest {
        command: arguments.command,
        cwd: arguments.workdir,
        env,
        user: arguments.user,
        stdin_base64,
        timeout_ms: Some(arguments.timeout.map_or(TIMEOUT_MS_MAX, |seconds| seconds.saturating_mul(1000))),
        ..Default::default()
    };
    let mut events = match client.exec_events(id, &request).await {
        Err(error) if error.code() == Some(ErrorCode::CommandNotFound) => {
            Failure::from(error).tell();
            return Ok(ExitCode::from(EXIT_NO_COMMAND));
        }
        begun => begun?,
    };
    loop {
        match events.next().await? {
            Some(ExecEvent::Stdout { data }) => write(std::io::stdout().lock(), &data)?,
            Some(ExecEvent::Stderr { data }) => write(std::io::stderr().lock(), &data)?,
            // 128 + n when signal n ended it: both sides keep to 8 bits.
            Some(ExecEvent::Exit { exit_code, .. }) => return Ok(ExitCode::from(exit_code as u8)),
            Some(ExecEvent::Error { error }) => return Err(ClientError::Refused(Box::new(error)).into()),
            None => return Err(Failure::Other("The connection ended before the command did.".into())),
        }
    }
}

/// What is piped in. A terminal is left alone: the command reads the end of its input at once.
fn input() -> Result<Option<String>> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    stdin.lock().take(STDIN_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(Failure::io("standard input"))?;
    if bytes.len() > STDIN_BYTES_MAX {
        let mib = STDIN_BYTES_MAX >> 20;
        return Err(Failure::Usage(format!("Standard input is more than {mib} MiB. Copy it with `rexec cp` first.")));
    }
    Ok(Some(STANDARD.encode(bytes)))
}

/// A reader that went away ends us as it would end the command.
fn write(mut to: impl std::io::Write, data: &str) -> Result<()> {
    let bytes = STANDARD.decode(data).map_err(|_| Failure::Other("The server sent what is no base64.".into()))?;
    to.write_all(&bytes).and_then(|()| to.flush()).map_err(Failure::io("output"))
}
