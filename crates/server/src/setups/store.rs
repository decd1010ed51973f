//! The SQL of set-ups.
//!
//! ```text
//!   pending --> running --> done
//!      ^           |
//!      +--retry-- failed
//! ```
//!
//! A step is `running` from before its terminal is made, which it names: a server that died in the middle finds
//! it by that name, or finds that there is none and runs it again.

use crate::db;
use rexec_api::ids::{TerminalId, WorkspaceId};
use rexec_api::setups::{SetupKind, SetupState};
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub workspace: WorkspaceId,
    /// Steps run in this order.
    pub position: i64,
    pub kind: SetupKind,
    pub name: String,
    pub command: Command,
    /// The workspace's home when absent.
    pub cwd: Option<String>,
    pub timeout_s: u32,
    pub state: SetupState,
    pub exit_code: Option<i32>,
    pub reason: Option<String>,
    pub output: String,
    pub terminal: Option<TerminalId>,
    pub started_ms: Option<i64>,
    pub ended_ms: Option<i64>,
}

/// What a step runs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// By `/bin/sh -e`.
    Shell(String),
    /// A program and its arguments.
    Program(Vec<String>),
    /// The clone of the workspace's repository.
    Clone,
}

impl Command {
    /// As a shell reads it; `None` for a clone, which no one has written.
    pub fn text(&self) -> Option<String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
        let word = |word: &String| {
            let is_plain = !word.is_empty() && word.chars().all(plain);
            if is_plain { word.clone() } else { format!("'{}'", word.replace('\'', r"'\''")) }
        };
        match self {
            Self::Shell(text) => Some(text.clone()),
            Self::Program(words) => Some(words.iter().map(word).collect::<Vec<_>>().join(" ")),
            Self::Clone => None,
        }
    }
}

impl Step {
    /// One that has not begun.
    pub fn new(workspace: WorkspaceId, position: i64, name: &str, command: Command, timeout_s: u32) -> Self {
        let kind = if command == Command::Clone { SetupKind::Clone } else { SetupKind::Command };
        Self {
            workspace,
            position,
            kind,
            name: name.to_owned(),
            command,
            cwd: None,
            timeout_s,
            state: SetupState::Pending,
            exit_code: None,
            reason: None,
            output: String::new(),
            terminal: None,
            started_ms: None,
            ended_ms: None,
        }
    }
}

#[derive(FromQueryResult)]
struct Row {
    workspace_id: String,
    position: i64,
    kind: String,
    name: String,
    command: String,
    cwd: Option<String>,
    timeout_s: i64,
    state: String,
    exit_code: Option<i64>,
    reason: Option<String>,
    output: String,
    terminal_id: Option<String>,
    started_ms: Option<i64>,
    ended_ms: Option<i64>,
}

const COLUMNS: &str = "workspace_id, position, kind, name, command, cwd, timeout_s, state, exit_code, reason, output, \
    terminal_id, started_ms, ended_ms";

const fn kind_text(kind: SetupKind) -> &'static str {
    match kind {
        SetupKind::Clone => "clone",
        SetupKind::Command => "command",
    }
}

impl TryFrom<Row> for Step {
    type Error = DbErr;

    fn try_from(row: Row) -> Result<Self, DbErr> {
        let broken = |what: &str| DbErr::Type(format!("a set-up of {} has an unreadable {what}", row.workspace_id));
        Ok(Self {
            workspace: row.workspace_id.parse().map_err(|_| broken("workspace_id"))?,
            kind: if row.kind == "clone" { SetupKind::Clone } else { SetupKind::Command },
            command: serde_json::from_str(&row.command).map_err(|_| broken("command"))?,
            state: SetupState::parse(&row.state).ok_or_else(|| broken("state"))?,
            timeout_s: u32::try_from(row.timeout_s).map_err(|_| broken("timeout_s"))?,
            exit_code: row.exit_code.and_then(|code| i32::try_from(code).ok()),
            terminal: row.terminal_id.as_deref().map(|id| id.parse().map_err(|_| broken("terminal_id"))).transpose()?,
            position: row.position,
            name: row.name,
            cwd: row.cwd,
            reason: row.reason,
            output: row.output,
            started_ms: row.started_ms,
            ended_ms: row.ended_ms,
        })
    }
}

pub async fn insert(conn: &impl ConnectionTrait, step: &Step) -> Result<(), DbErr> {
    let command = serde_json::to_string(&step.command).map_err(|e| DbErr::Json(e.to_string()))?;
    db::execute(
        conn,
        "INSERT INTO setups (workspace_id, position, kind, name, command, cwd, timeout_s, state, output) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, '')",
        [
            step.workspace.to_string().into(),
            step.position.into(),
            kind_text(step.kind).into(),
            step.name.clone().into(),
            command.into(),
            step.cwd.clone().into(),
            i64::from(step.timeout_s).into(),
            step.state.as_str().into(),
        ],
    )
    .await
    .map(|_| ())
}

/// All steps of a workspace in their order.
pub async fn list(conn: &impl ConnectionTrait, workspace: WorkspaceId) -> Result<Vec<Step>, DbErr> {
    let text = format!("SELECT {COLUMNS} FROM setups WHERE workspace_id = $1 ORDER BY position");
    let rows = db::fetch_all::<Row, _>(conn, &text, [workspace.to_string().into()]).await?;
    rows.into_iter().map(Step::try_from).collect()
}

/// Workspaces with a step to run: none of theirs has failed.
pub async fn unfinished(conn: &impl ConnectionTrait) -> Result<Vec<WorkspaceId>, DbErr> {
    #[derive(FromQueryResult)]
    struct Id {
        workspace_id: String,
    }
    let text = "SELECT DISTINCT s.workspace_id AS workspace_id FROM setups s JOIN workspaces w ON w.id = s.workspace_id \
        WHERE s.state IN ('pending', 'running') AND w.deleted_ms IS NULL AND w.desired <> 'deleted' AND NOT EXISTS \
        (SELECT 1 FROM setups f WHERE f.workspace_id = s.workspace_id AND f.state = 'failed')";
    let rows = db::fetch_all::<Id, _>(conn, text, []).await?;
    Ok(rows.into_iter().filter_map(|row| row.workspace_id.parse().ok()).collect())
}

/// It begins, or begins again, in this terminal.
pub async fn begin(conn: &impl ConnectionTrait, step: &Step, terminal: TerminalId, now_ms: i64) -> Result<(), DbErr> {
    db::execute(
        conn,
        "UPDATE setups SET state = 'running', terminal_id = $1, started_ms = $2, ended_ms = NULL, exit_code = NULL, \
         reason = NULL, output = '' WHERE workspace_id = $3 AND position = $4",
        [terminal.to_string().into(), now_ms.into(), step.workspace.to_string().into(), step.position.into()],
    )
    .await
    .map(|_| ())
}

/// How a step has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub exit_code: Option<i32>,
    /// Why it failed; absent: it did not.
    pub reason: Option<String>,
    pub output: String,
}

pub async fn end(conn: &impl ConnectionTrait, step: &Step, end: &End, now_ms: i64) -> Result<(), DbErr> {
    let state = if end.reason.is_none() { SetupState::Done } else { SetupState::Failed };
    db::execute(
        conn,
        "UPDATE setups SET state = $1, exit_code = $2, reason = $3, output = $4, ended_ms = $5 \
         WHERE workspace_id = $6 AND position = $7",
        [
            state.as_str().into(),
            end.exit_code.map(i64::from).into(),
            end.reason.clone().into(),
            end.output.clone().into(),
            now_ms.into(),
            step.workspace.to_string().into(),
            step.position.into(),
        ],
    )
    .await
    .map(|_| ())
}

/// What has failed waits for its turn again. `false`: nothing has.
pub async fn retry(conn: &impl ConnectionTrait, workspace: WorkspaceId) -> Result<bool, DbErr> {
    let text = "UPDATE setups SET state = 'pending', terminal_id = NULL, ended_ms = NULL, exit_code = NULL, reason = NULL, \
        output = '' WHERE workspace_id = $1 AND state = 'failed'";
    Ok(db::execute(conn, text, [workspace.to_string().into()]).await? > 0)
}

pub async fn remove(conn: &impl ConnectionTrait, workspace: WorkspaceId) -> Result<(), DbErr> {
    let text = "DELETE FROM setups WHERE workspace_id = $1";
    db::execute(conn, text, [workspace.to_string().into()]).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::Command;

    #[test]
    fn a_command_reads_as_a_shell_reads_it() {
        let program = |words: &[&str]| Command::Program(words.iter().map(|&word| word.to_owned()).collect()).text();
        assert_eq!(program(&["npm", "ci", "--quiet"]).as_deref(), Some("npm ci --quiet"));
        assert_eq!(program(&["echo", "it's", "", "$HOME"]).as_deref(), Some(r"echo 'it'\''s' '' '$HOME'"));
        assert_eq!(Command::Shell("a && b".into()).text().as_deref(), Some("a && b"));
        assert_eq!(Command::Clone.text(), None);
    }
}
