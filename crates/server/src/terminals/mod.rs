//! Terminals of a workspace: the guest keeps them; here they are authorised, bounded and relayed.
//!
//! Invariant: the server keeps no terminal state. An id is made here, once, and never used twice.

pub mod http;
mod relay;
mod socket;

use crate::actor::Actor;
use crate::config::Use;
use crate::error::{Error, Result};
use crate::time::rfc3339;
use crate::workspaces::{Reach, Waking, Workspaces, validate};
use rexec_api::Page;
use rexec_api::error::ErrorCode;
use rexec_api::guest::{AttachSpec, TerminalInfo, TerminalSpec};
use rexec_api::ids::{TerminalId, WorkspaceId};
use rexec_api::terminals::{COLS_MAX, COMMAND_ARGS_MAX, COMMAND_BYTES_MAX, NewTerminal, ROWS_MAX, TerminalView};
use rexec_api::tokens::Scope;
use rexec_channel::{FrameReceiver, FrameSender};

/// Longest name of an account that is looked for.
const USER_BYTES_MAX: usize = 256;

#[derive(Clone)]
pub struct Terminals {
    workspaces: Workspaces,
}

/// An attachment, ready to be relayed.
pub struct Attachment {
    pub to_guest: FrameSender,
    pub from_guest: FrameReceiver,
    pub reach: Reach,
}

impl Terminals {
    pub fn new(workspaces: Workspaces) -> Self {
        Self { workspaces }
    }

    pub async fn create(&self, actor: &Actor, workspace: WorkspaceId, new: NewTerminal) -> Result<TerminalView> {
        actor.authorise_in(Scope::Terminals, workspace)?;
        // Before the reach, which wakes: what is refused is no use.
        size(new.cols, new.rows)?;
        command(new.command.as_deref())?;
        cwd(new.cwd.as_deref())?;
        validate::env(&new.env)?;
        user(new.user.as_deref())?;
        let reach = self.workspaces.reach_as(actor, Scope::Terminals, workspace, Waking::Yes(Use::Input)).await?;
        let spec = TerminalSpec {
            id: TerminalId::new(),
            cols: new.cols,
            rows: new.rows,
            command: new.command,
            cwd: new.cwd,
            env: new.env,
            user: new.user,
        };
        Ok(view(reach.guest.create_terminal(&spec).await?))
    }

    pub async fn list(&self, actor: &Actor, workspace: WorkspaceId) -> Result<Page<TerminalView>> {
        // A page that is open asks for this of itself, which is no use.
        let reach = self.workspaces.reach_as(actor, Scope::Terminals, workspace, Waking::No).await?;
        let items = reach.guest.terminals().await?.into_iter().map(view).collect();
        Ok(Page { items, next: None })
    }

    pub async fn remove(&self, actor: &Actor, workspace: WorkspaceId, id: TerminalId) -> Result<()> {
        let reach = self.workspaces.reach_as(actor, Scope::Terminals, workspace, Waking::Yes(Use::Input)).await?;
        Ok(reach.guest.remove_terminal(id).await?)
    }

    pub async fn attach(
        &self,
        actor: &Actor,
        workspace: WorkspaceId,
        id: TerminalId,
        spec: &AttachSpec,
    ) -> Result<Attachment> {
        let reach = self.workspaces.reach_as(actor, Scope::Terminals, workspace, Waking::Yes(Use::Input)).await?;
        let (to_guest, from_guest) = reach.guest.attach(id, spec).await?;
        Ok(Attachment { to_guest, from_guest, reach })
    }
}

fn view(info: TerminalInfo) -> TerminalView {
    TerminalView {
        id: info.id,
        title: info.title,
        command: info.command,
        cols: info.cols,
        rows: info.rows,
        viewers: info.viewers,
        end: info.end,
        created_at: rfc3339(info.created_ms),
        exit_code: info.exit_code,
    }
}

fn size(cols: u16, rows: u16) -> Result<()> {
    if !(1..=COLS_MAX).contains(&cols) {
        return Err(Error::field("cols", format!("`cols` must be from 1 to {COLS_MAX}.")));
    }
    if !(1..=ROWS_MAX).contains(&rows) {
        return Err(Error::field("rows", format!("`rows` must be from 1 to {ROWS_MAX}.")));
    }
    Ok(())
}

/// A command that the kernel could run; also for exec, where it must be there.
pub fn command(command: Option<&[String]>) -> Result<()> {
    let Some(command) = command else { return Ok(()) };
    let bytes: usize = command.iter().map(|arg| arg.len() + 1).sum();
    let fits = command.first().is_some_and(|program| !program.is_empty())
        && command.len() <= COMMAND_ARGS_MAX
        && bytes <= COMMAND_BYTES_MAX
        && !command.iter().any(|arg| arg.contains('\0'));
    if fits {
        return Ok(());
    }
    Err(Error::field(
        "command",
        format!(
            "`command` must be a program and its arguments: 1 to {COMMAND_ARGS_MAX} of them, {COMMAND_BYTES_MAX} bytes in all, without NUL bytes."
        ),
    ))
}

/// An account's name, or `#` and its number, as the workspace's own `passwd` may have it.
pub fn user(user: Option<&str>) -> Result<()> {
    match user {
        Some(name) if name.is_empty() || name.len() > USER_BYTES_MAX || name.contains([':', '\0', '\n', '/']) => {
            Err(Error::field("user", "`user` must be the name of an account, or `#` and its number."))
        }
        _ => Ok(()),
    }
}

pub fn cwd(cwd: Option<&str>) -> Result<()> {
    match cwd {
        Some(path)
            if !path.starts_with('/') || path.contains('\0') || path.len() > rexec_api::files::PATH_BYTES_MAX =>
        {
            Err(Error::field("cwd", "`cwd` must be an absolute path."))
        }
        _ => Ok(()),
    }
}

/// An error of the code `code` as the control frame that carries it.
fn error_frame(code: ErrorCode, message: &str) -> Vec<u8> {
    use rexec_api::frames::{ServerControl, ServerFrame};
    ServerFrame::Control(ServerControl::Error { code, message: message.to_owned() }).to_vec()
}
