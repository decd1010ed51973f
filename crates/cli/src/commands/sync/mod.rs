//! `sync`: the machine's own rsync between a folder here and one in a workspace, through `rexec exec`; no SSH is needed.
//!
//! rsync starts what carries its bytes as it would start ssh, with a host and a command: `rexec exec <id> rsync --server ...`.
//! Paths travel within its protocol and never by a shell's command line.

mod watch;

use super::copy::End;
use super::workspaces::awake;
use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::show;
use rexec_api::error::ErrorCode;
use rexec_api::exec::ExecStart;
use rexec_api::ids::WorkspaceId;
use rexec_client::Client;
use serde::Serialize;
use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use watch::Changes;

/// What it ends with when it is interrupted.
const EXIT_INTERRUPTED: i32 = 20;
/// How long after a round that failed another is tried, though nothing has changed.
const RETRY_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub struct SyncArguments {
    /// WORKSPACE:PATH, or a path of this machine. A slash at its end means what is in the folder, and not the folder itself.
    from: String,
    /// The same; one of the two is in a workspace.
    to: String,
    /// Delete there what is not here.
    #[arg(long)]
    delete: bool,
    /// Leave out what fits this pattern of rsync's; may be given several times.
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Do it again after each change of this machine's side, until Ctrl-C.
    #[arg(long)]
    watch: bool,
    /// Compress on the way, for slow networks.
    #[arg(long, short = 'z')]
    compress: bool,
    /// Tell what would be done, and do nothing.
    #[arg(long, short = 'n', conflicts_with = "watch")]
    dry_run: bool,
}

pub async fn run(connection: &Connection, arguments: SyncArguments) -> Result<()> {
    let (workspace, here, is_from_here) = match (End::parse(&arguments.from), End::parse(&arguments.to)) {
        (End::Here(here), End::There { workspace, .. }) => (workspace, here, true),
        (End::There { workspace, .. }, End::Here(here)) => (workspace, here, false),
        (End::There { .. }, End::There { .. }) => {
            return Err(Failure::Usage("Both are in workspaces. Sync by way of this machine.".into()));
        }
        _ => return Err(Failure::Usage("One of the two must be in a workspace: write it as WORKSPACE:PATH.".into())),
    };
    if arguments.watch && !is_from_here {
        return Err(Failure::Usage("--watch follows changes of this machine: name its folder first.".into()));
    }
    let client = connection.client()?;
    let id = awake(&client, &workspace).await?.id;
    let end = |text: &str| match End::parse(text) {
        End::There { path, .. } => OsString::from(format!("{id}:{path}")),
        End::Here(path) => path.into_os_string(),
        End::Standard => "-".into(),
    };
    let round = Round {
        client: &client,
        workspace: (id, &workspace),
        options: options(&arguments, connection.json),
        ends: [end(&arguments.from), end(&arguments.to)],
        json: connection.json,
    };
    if arguments.watch { follow(&round, here).await } else { round.run().await }
}

/// What rsync is told, but for the way and the ends.
fn options(arguments: &SyncArguments, json: bool) -> Vec<String> {
    // Its long name is younger than many an rsync.
    let mut options: Vec<String> = ["--archive", "-s"].map(str::to_owned).into();
    options.extend(arguments.exclude.iter().map(|pattern| format!("--exclude={pattern}")));
    for (is_wanted, option) in
        [(arguments.delete, "--delete"), (arguments.compress, "--compress"), (arguments.dry_run, "--dry-run")]
    {
        options.extend(is_wanted.then(|| option.to_owned()));
    }
    if json || arguments.dry_run {
        options.push("--out-format=%i %n%L".into());
    } else if std::io::stdout().is_terminal() && !arguments.watch {
        options.extend(["--human-readable", "--info=progress2"].map(str::to_owned));
    } else if arguments.watch {
        options.push("--out-format=%o %n".into());
    }
    options
}

/// Syncs, and again whenever something has changed, until it is interrupted.
async fn follow(round: &Round<'_>, here: PathBuf) -> Result<()> {
    // Watched before the first round: what changes meanwhile is not missed.
    let changes = Changes::watch(&here)?;
    round.run().await?;
    eprintln!("Watching {}. Ctrl-C ends it.", here.display());
    let rounds = async {
        let mut failed = false;
        loop {
            let retry =
                async { if failed { tokio::time::sleep(RETRY_AFTER).await } else { std::future::pending().await } };
            tokio::select! {
                () = changes.settled() => {}
                () = retry => {}
            }
            failed = match round.run().await {
                Ok(()) => false,
                // Such as a network that is away for a while, or a file that went as it was read.
                Err(failure) => {
                    failure.tell();
                    true
                }
            };
        }
    };
    tokio::select! {
        () = rounds => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Failure::io("signals")),
    }
}

struct Round<'a> {
    client: &'a Client,
    /// And what it was called.
    workspace: (WorkspaceId, &'a str),
    options: Vec<String>,
    ends: [OsString; 2],
    json: bool,
}

/// Something that rsync did.
#[derive(Serialize)]
struct Change<'a> {
    /// As rsync itemizes it (`--itemize-changes`).
    change: &'a str,
    path: &'a str,
}

impl Round<'_> {
    async fn run(&self) -> Result<()> {
        let ours = std::env::current_exe().map_err(Failure::io("this program"))?;
        let mut command = Command::new("rsync");
        command.args(&self.options).arg("-e").arg(format!("{} exec", quoted(&ours)?)).arg("--").args(&self.ends);
        command.env("REXEC_URL", self.client.base()).env("REXEC_TOKEN", self.client.token().unwrap_or_default());
        command.stdin(Stdio::null()).kill_on_drop(true);
        if self.json {
            command.stdout(Stdio::piped());
        }
        let child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Failure::NotFound(
                "There is no rsync on this machine. Install it (apt install rsync, dnf install rsync, brew install rsync), \
                 or copy without it: rexec cp -r."
                    .into(),
            ),
            _ => Failure::io("rsync")(error),
        })?;
        let done = child.wait_with_output().await.map_err(Failure::io("rsync"))?;
        if self.json && done.status.success() {
            print_changes(&String::from_utf8_lossy(&done.stdout))?;
        }
        match done.status.code() {
            Some(0) => Ok(()),
            Some(EXIT_INTERRUPTED) | None => Err(Failure::Other("rsync was interrupted.".into())),
            Some(_) if self.is_missing_there().await => Err(Failure::NotFound(format!(
                "There is no rsync in {0}. Install it there, such as by: rexec exec {0} -- sudo apt-get install -y rsync (Debian, \
                 Ubuntu), or: sudo apk add rsync (Alpine). Or copy without it: rexec cp -r.",
                self.workspace.1
            ))),
            Some(code) => Err(Failure::Other(format!("rsync ended with {code}; what it said stands above."))),
        }
    }

    /// Asked once rsync has failed: what it ends with then differs by its version.
    async fn is_missing_there(&self) -> bool {
        let start = ExecStart { command: vec!["rsync".into(), "--version".into()], ..Default::default() };
        let asked = self.client.run_command(self.workspace.0, &start).await;
        asked.is_err_and(|error| error.code() == Some(ErrorCode::CommandNotFound))
    }
}

/// One line of JSON a round.
fn print_changes(told: &str) -> Result<()> {
    let changes: Vec<Change<'_>> = told
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(change, path)| Change { change, path: path.trim_start() })
        .collect();
    let line = serde_json::to_string(&changes).map_err(|error| Failure::Other(error.to_string()))?;
    show::print(&format!("{line}\n"))
}

/// A path as rsync reads it in `-e`: it splits at spaces, outside of quotes of either kind.
fn quoted(path: &Path) -> Result<String> {
    let text = path.to_str().filter(|text| !(text.contains('\'') && text.contains('"')));
    let text = text.ok_or_else(|| {
        let message = format!("rsync cannot start {}: move this program to another folder.", path.display());
        Failure::Other(message)
    })?;
    Ok(match text {
        text if text.contains('\'') => format!("\"{text}\""),
        text if text.contains([' ', '"']) => format!("'{text}'"),
        text => text.to_owned(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_named_as_rsync_reads_it() {
        let quote = |path: &str| quoted(Path::new(path)).unwrap();
        assert_eq!(quote("/usr/bin/rexec"), "/usr/bin/rexec");
        assert_eq!(quote("/my tools/rexec"), "'/my tools/rexec'");
        assert_eq!(quote("/ada's tools/rexec"), "\"/ada's tools/rexec\"");
        quoted(Path::new("/a'b\"c")).unwrap_err();
    }
}
