//! The SQL of what was used of models: one line for each workspace, day and model.

use crate::db;
use rexec_api::ids::{UserId, WorkspaceId};
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult, Value};

/// Lines of one user that are told at once.
const LINES_MAX: i64 = 1_000;
/// Names of models of one workspace and day; some vendors answer to any name. What is asked by more is one line.
const NAMES_MAX: i64 = 50;
pub const OTHERS: &str = "(others)";

/// Counts, of which there are never negative ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromQueryResult)]
pub struct Used {
    pub requests: i64,
    /// Of the requests: whose tokens nobody told.
    pub estimated: i64,
    pub input: i64,
    pub cached: i64,
    pub output: i64,
}

impl Used {
    pub fn add(&mut self, more: &Self) {
        self.requests = self.requests.saturating_add(more.requests);
        self.estimated = self.estimated.saturating_add(more.estimated);
        self.input = self.input.saturating_add(more.input);
        self.cached = self.cached.saturating_add(more.cached);
        self.output = self.output.saturating_add(more.output);
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub workspace: WorkspaceId,
    /// `None` once it is deleted.
    pub name: Option<String>,
    pub day_ms: i64,
    pub model: String,
    pub used: Used,
}

/// For its owner, who is told, also when it is being deleted: what was used was used.
pub async fn add(
    conn: &impl ConnectionTrait,
    id: WorkspaceId,
    day_ms: i64,
    model: &str,
    more: &Used,
) -> Result<Option<UserId>, DbErr> {
    #[derive(FromQueryResult)]
    struct Row {
        owner_id: String,
    }
    let count = "SELECT CAST(COUNT(*) AS BIGINT) AS tokens FROM model_use WHERE workspace_id = $1 AND day_ms = $2 AND model <> $3";
    let others = tokens(conn, count, [id.to_string().into(), day_ms.into(), model.into()]).await?;
    let known = "SELECT CAST(COUNT(*) AS BIGINT) AS tokens FROM model_use WHERE workspace_id = $1 AND day_ms = $2 AND model = $3";
    let is_known = tokens(conn, known, [id.to_string().into(), day_ms.into(), model.into()]).await? > 0;
    let model = if is_known || others < NAMES_MAX.unsigned_abs() { model } else { OTHERS };
    let text = "INSERT INTO model_use (owner_id, workspace_id, day_ms, model, requests, estimated, input, cached, output) \
                SELECT owner_id, id, $2, $3, $4, $5, $6, $7, $8 FROM workspaces WHERE id = $1 \
                ON CONFLICT (workspace_id, day_ms, model) DO UPDATE SET requests = model_use.requests + excluded.requests, \
                estimated = model_use.estimated + excluded.estimated, input = model_use.input + excluded.input, \
                cached = model_use.cached + excluded.cached, output = model_use.output + excluded.output RETURNING owner_id";
    let values: [Value; 8] = [
        id.to_string().into(),
        day_ms.into(),
        model.into(),
        more.requests.into(),
        more.estimated.into(),
        more.input.into(),
        more.cached.into(),
        more.output.into(),
    ];
    let row = db::fetch_one::<Row, _>(conn, text, values).await?;
    Ok(row.and_then(|row| row.owner_id.parse().ok()))
}

/// Forgets what is older than anybody is told of, but for what counts against what a workspace may use in its life.
pub async fn prune(conn: &impl ConnectionTrait, before_ms: i64) -> Result<(), DbErr> {
    let text = "DELETE FROM model_use WHERE day_ms < $1 AND NOT EXISTS \
                (SELECT 1 FROM workspaces w WHERE w.id = model_use.workspace_id AND w.deleted_ms IS NULL)";
    db::execute(conn, text, [before_ms.into()]).await.map(|_| ())
}

/// Tokens of one user on one day, read and written.
pub async fn used_on(conn: &impl ConnectionTrait, owner: UserId, day_ms: i64) -> Result<u64, DbErr> {
    let text = "SELECT CAST(COALESCE(SUM(input + output), 0) AS BIGINT) AS tokens FROM model_use WHERE owner_id = $1 AND day_ms = $2";
    tokens(conn, text, [owner.to_string().into(), day_ms.into()]).await
}

/// Tokens of one workspace in its life.
pub async fn used_by(conn: &impl ConnectionTrait, id: WorkspaceId) -> Result<u64, DbErr> {
    let text =
        "SELECT CAST(COALESCE(SUM(input + output), 0) AS BIGINT) AS tokens FROM model_use WHERE workspace_id = $1";
    tokens(conn, text, [id.to_string().into()]).await
}

async fn tokens(
    conn: &impl ConnectionTrait,
    text: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<u64, DbErr> {
    #[derive(FromQueryResult)]
    struct Row {
        tokens: i64,
    }
    let row = db::fetch_one::<Row, _>(conn, text, values).await?;
    Ok(row.map_or(0, |row| row.tokens.unsigned_abs()))
}

/// Of one user, from that day on, the newest first.
pub async fn list(conn: &impl ConnectionTrait, owner: UserId, from_ms: i64) -> Result<Vec<Line>, DbErr> {
    #[derive(FromQueryResult)]
    struct Row {
        workspace_id: String,
        name: Option<String>,
        day_ms: i64,
        model: String,
        requests: i64,
        estimated: i64,
        input: i64,
        cached: i64,
        output: i64,
    }
    let text = "SELECT u.workspace_id, w.name, u.day_ms, u.model, u.requests, u.estimated, u.input, u.cached, u.output \
                FROM model_use u LEFT JOIN workspaces w ON w.id = u.workspace_id AND w.deleted_ms IS NULL \
                WHERE u.owner_id = $1 AND u.day_ms >= $2 ORDER BY u.day_ms DESC, u.output DESC, u.workspace_id, u.model LIMIT $3";
    let values = [owner.to_string().into(), from_ms.into(), LINES_MAX.into()];
    let rows = db::fetch_all::<Row, _>(conn, text, values).await?;
    let line = |row: Row| {
        let Row { requests, estimated, input, cached, output, .. } = row;
        Some(Line {
            workspace: row.workspace_id.parse().ok()?,
            name: row.name,
            day_ms: row.day_ms,
            model: row.model,
            used: Used { requests, estimated, input, cached, output },
        })
    };
    Ok(rows.into_iter().filter_map(line).collect())
}
