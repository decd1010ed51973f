//! `exec`: one command in a workspace, its input and output as they come, its exit code. Other programs' way into a
//! workspace, too: what `sync` has rsync speak through.

use super::attach;
use super::workspaces::{awake, variable};
use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::tty;
use rexec_api::error::ErrorCode;
use rexec_api::exec::ExecStart;
use rexec_api::ids::WorkspaceId;
use rexec_api::terminals::NewTerminal;
use rexec_client::{Client, ClientError, CommandEvents, CommandInput, CommandOutput};
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// As shells have it (POSIX, 2.8.2).
const EXIT_NO_COMMAND: u8 = 127;
/// Memory for one read of standard input.
const READ_BYTES: usize = 32 * 1024;

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
    let id = awake(&client, &arguments.workspace).await?.id;
    let start = ExecStart { command: arguments.command, cwd: arguments.workdir, env, user: arguments.user };
    let limit = arguments.timeout.map_or(Duration::MAX, Duration::from_secs);
    let ended = tokio::time::timeout(limit, piped(&client, id, &start)).await;
    ended.unwrap_or_else(|_| Err(Failure::Other("The command did not end in time and was ended.".into())))
}

/// Between our standard streams and the command's.
async fn piped(client: &Client, id: WorkspaceId, start: &ExecStart) -> Result<ExitCode> {
    let (input, output) = match client.run_command(id, start).await {
        Err(error) if error.code() == Some(ErrorCode::CommandNotFound) => {
            Failure::from(error).tell();
            return Ok(ExitCode::from(EXIT_NO_COMMAND));
        }
        begun => begun?,
    };
    tokio::select! {
        // What it has said is shown before input that fails ends anything.
        biased;
        code = show(output) => code,
        failure = feed(input) => Err(failure),
    }
}

async fn show(mut output: CommandEvents) -> Result<ExitCode> {
    let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
    loop {
        match output.next().await? {
            CommandOutput::Stdout(bytes) => write(&mut stdout, &bytes).await?,
            CommandOutput::Stderr(bytes) => write(&mut stderr, &bytes).await?,
            // 128 + n when signal n ended it: both sides keep to 8 bits.
            CommandOutput::Exit(code) => return Ok(ExitCode::from(code as u8)),
        }
    }
}

/// A reader that went away ends us as it would end the command.
async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<()> {
    let written = async {
        to.write_all(bytes).await?;
        to.flush().await
    };
    written.await.map_err(Failure::io("output"))
}

/// Gives what is piped in, and goes on for ever unless that fails. A terminal is left alone: the command reads the end
/// of its input at once.
async fn feed(mut input: CommandInput) -> Failure {
    let fed = async {
        if !std::io::stdin().is_terminal() {
            let mut stdin = tokio::io::stdin();
            let mut bytes = vec![0; READ_BYTES];
            loop {
                let count = stdin.read(&mut bytes).await.map_err(Failure::io("standard input"))?;
                if count == 0 {
                    break;
                }
                input.write(&bytes[..count]).await?;
            }
        }
        Ok(input.end().await?)
    };
    match fed.await {
        // A connection that takes no more has ended: the output tells how.
        Ok(()) | Err(Failure::Client(ClientError::WebSocket(_))) => std::future::pending().await,
        Err(failure) => failure,
    }
}
