//! The SQL of join tokens and of machines' credentials. A token that was used or revoked has no row.

use crate::db::{execute, fetch_all, fetch_one};
use rexec_api::ids::{JoinTokenId, UserId, WorkspaceId};
use rexec_api::machines::JOIN_TOKENS_MAX;
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};

/// A join token as it is kept: never itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    pub id: JoinTokenId,
    pub user: UserId,
    /// What its machine is to be called.
    pub name: Option<String>,
    pub hint: String,
    pub created_ms: i64,
    pub expires_ms: i64,
}

#[derive(FromQueryResult)]
struct Row {
    id: String,
    user_id: String,
    name: Option<String>,
    hint: String,
    created_ms: i64,
    expires_ms: i64,
}

impl TryFrom<Row> for JoinToken {
    type Error = DbErr;

    fn try_from(row: Row) -> Result<Self, DbErr> {
        let broken = |what: &str| DbErr::Type(format!("join token {} has an unreadable {what}", row.id));
        Ok(Self {
            id: row.id.parse().map_err(|_| broken("id"))?,
            user: row.user_id.parse().map_err(|_| broken("user_id"))?,
            name: row.name,
            hint: row.hint,
            created_ms: row.created_ms,
            expires_ms: row.expires_ms,
        })
    }
}

const COLUMNS: &str = "id, user_id, name, hint, created_ms, expires_ms";

pub async fn insert(conn: &impl ConnectionTrait, token: &JoinToken, hash: &str) -> Result<(), DbErr> {
    let text = "INSERT INTO join_tokens (id, user_id, name, hint, hash, created_ms, expires_ms) \
                VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let values = [
        token.id.to_string().into(),
        token.user.to_string().into(),
        token.name.clone().into(),
        token.hint.clone().into(),
        hash.into(),
        token.created_ms.into(),
        token.expires_ms.into(),
    ];
    execute(conn, text, values).await.map(|_| ())
}

/// Uses a token up: of two who do so at once, one gets it.
pub async fn take(conn: &impl ConnectionTrait, hash: &str, now_ms: i64) -> Result<Option<JoinToken>, DbErr> {
    let text = format!("SELECT {COLUMNS} FROM join_tokens WHERE hash = $1 AND expires_ms > $2");
    let found = fetch_one::<Row, _>(conn, &text, [hash.into(), now_ms.into()]).await?;
    let Some(token) = found.map(JoinToken::try_from).transpose()? else { return Ok(None) };
    Ok(remove(conn, token.user, token.id).await?.then_some(token))
}

/// Those that wait for a machine, newest first.
pub async fn list(conn: &impl ConnectionTrait, user: UserId, now_ms: i64) -> Result<Vec<JoinToken>, DbErr> {
    let text = format!(
        "SELECT {COLUMNS} FROM join_tokens WHERE user_id = $1 AND expires_ms > $2 ORDER BY id DESC LIMIT {JOIN_TOKENS_MAX}"
    );
    let rows = fetch_all::<Row, _>(conn, &text, [user.to_string().into(), now_ms.into()]).await?;
    rows.into_iter().map(JoinToken::try_from).collect()
}

pub async fn count(conn: &impl ConnectionTrait, user: UserId) -> Result<i64, DbErr> {
    #[derive(FromQueryResult)]
    struct Count {
        n: i64,
    }
    let text = "SELECT COUNT(*) AS n FROM join_tokens WHERE user_id = $1";
    Ok(fetch_one::<Count, _>(conn, text, [user.to_string().into()]).await?.map_or(0, |row| row.n))
}

/// Whether there was one.
pub async fn remove(conn: &impl ConnectionTrait, user: UserId, id: JoinTokenId) -> Result<bool, DbErr> {
    let text = "DELETE FROM join_tokens WHERE id = $1 AND user_id = $2";
    Ok(execute(conn, text, [id.to_string().into(), user.to_string().into()]).await? > 0)
}

pub async fn remove_expired(conn: &impl ConnectionTrait, now_ms: i64) -> Result<(), DbErr> {
    execute(conn, "DELETE FROM join_tokens WHERE expires_ms <= $1", [now_ms.into()]).await.map(|_| ())
}

pub async fn insert_credential(conn: &impl ConnectionTrait, id: WorkspaceId, hash: &str) -> Result<(), DbErr> {
    let text = "INSERT INTO machine_credentials (workspace_id, hash) VALUES ($1, $2)";
    execute(conn, text, [id.to_string().into(), hash.into()]).await.map(|_| ())
}

/// The machine of a credential, unless it is on its way out.
pub async fn by_credential(conn: &impl ConnectionTrait, hash: &str) -> Result<Option<WorkspaceId>, DbErr> {
    #[derive(FromQueryResult)]
    struct Id {
        id: String,
    }
    let text = "SELECT w.id AS id FROM machine_credentials c JOIN workspaces w ON w.id = c.workspace_id \
                WHERE c.hash = $1 AND w.deleted_ms IS NULL AND w.desired <> 'deleted'";
    let found = fetch_one::<Id, _>(conn, text, [hash.into()]).await?;
    found.map(|row| row.id.parse().map_err(|_| DbErr::Type("a machine has an unreadable id".into()))).transpose()
}

pub async fn forget_credential(conn: &impl ConnectionTrait, id: WorkspaceId) -> Result<(), DbErr> {
    execute(conn, "DELETE FROM machine_credentials WHERE workspace_id = $1", [id.to_string().into()]).await.map(|_| ())
}
