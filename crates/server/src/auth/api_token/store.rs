//! The SQL of API tokens. A token that is revoked has no row; the audit log tells of it.

use crate::db::{self, execute, fetch_all, fetch_one};
use rexec_api::ids::{TokenId, UserId, WorkspaceId};
use rexec_api::tokens::Scope;
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};
use std::fmt::Display;

/// A token as it is kept: never itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiToken {
    pub id: TokenId,
    pub user: UserId,
    pub name: String,
    pub hint: String,
    pub scopes: Vec<Scope>,
    pub workspaces: Option<Vec<WorkspaceId>>,
    pub created_ms: i64,
    pub expires_ms: Option<i64>,
    pub last_used_ms: Option<i64>,
}

/// A token and its owner's role, which decide what it may do.
#[derive(Debug, Clone)]
pub struct Standing {
    pub token: ApiToken,
    pub role: String,
}

#[derive(FromQueryResult)]
struct Row {
    id: String,
    user_id: String,
    name: String,
    hint: String,
    scopes: String,
    workspaces: Option<String>,
    created_ms: i64,
    expires_ms: Option<i64>,
    last_used_ms: Option<i64>,
    role: String,
}

impl TryFrom<Row> for Standing {
    type Error = DbErr;

    fn try_from(row: Row) -> Result<Self, DbErr> {
        let broken = |what: &str| DbErr::Type(format!("API token {} has an unreadable {what}", row.id));
        let workspaces = row.workspaces.as_deref().map(|text| {
            text.split_whitespace().map(|id| id.parse().map_err(|_| broken("workspace"))).collect::<Result<Vec<_>, _>>()
        });
        let token = ApiToken {
            id: row.id.parse().map_err(|_| broken("id"))?,
            user: row.user_id.parse().map_err(|_| broken("user"))?,
            // What a newer version has granted and this one does not know is not granted here.
            scopes: row.scopes.split_whitespace().filter_map(Scope::parse).collect(),
            workspaces: workspaces.transpose()?,
            name: row.name,
            hint: row.hint,
            created_ms: row.created_ms,
            expires_ms: row.expires_ms,
            last_used_ms: row.last_used_ms,
        };
        Ok(Self { token, role: row.role })
    }
}

const SELECT: &str = "SELECT t.id, t.user_id, t.name, t.hint, t.scopes, t.workspaces, t.created_ms, t.expires_ms, \
                      t.last_used_ms, u.role FROM api_tokens t JOIN users u ON u.id = t.user_id";

fn words(items: impl IntoIterator<Item = impl Display>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(" ")
}

pub async fn insert(conn: &impl ConnectionTrait, token: &ApiToken, hash: &str) -> Result<(), DbErr> {
    execute(
        conn,
        "INSERT INTO api_tokens (id, user_id, name, hash, hint, scopes, workspaces, created_ms, expires_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        [
            token.id.to_string().into(),
            token.user.to_string().into(),
            token.name.clone().into(),
            hash.into(),
            token.hint.clone().into(),
            words(token.scopes.iter().map(|scope| scope.as_str())).into(),
            token.workspaces.as_ref().map(words).into(),
            token.created_ms.into(),
            token.expires_ms.into(),
        ],
    )
    .await
    .map(|_| ())
}

pub async fn by_hash(conn: &impl ConnectionTrait, hash: &str) -> Result<Option<Standing>, DbErr> {
    let text = format!("{SELECT} WHERE t.hash = $1");
    fetch_one::<Row, _>(conn, &text, [hash.into()]).await?.map(Standing::try_from).transpose()
}

pub async fn by_id(conn: &impl ConnectionTrait, id: TokenId) -> Result<Option<Standing>, DbErr> {
    let text = format!("{SELECT} WHERE t.id = $1");
    fetch_one::<Row, _>(conn, &text, [id.to_string().into()]).await?.map(Standing::try_from).transpose()
}

/// The user's tokens, newest first.
pub async fn list(conn: &impl ConnectionTrait, user: UserId, limit: u32) -> Result<Vec<ApiToken>, DbErr> {
    let text = format!("{SELECT} WHERE t.user_id = $1 ORDER BY t.id DESC LIMIT $2");
    let rows = fetch_all::<Row, _>(conn, &text, [user.to_string().into(), i64::from(limit).into()]).await?;
    rows.into_iter().map(|row| Standing::try_from(row).map(|standing| standing.token)).collect()
}

pub async fn count(conn: &impl ConnectionTrait, user: UserId) -> Result<i64, DbErr> {
    #[derive(FromQueryResult)]
    struct Count {
        n: i64,
    }
    let text = "SELECT COUNT(*) AS n FROM api_tokens WHERE user_id = $1";
    Ok(db::fetch_one::<Count, _>(conn, text, [user.to_string().into()]).await?.map_or(0, |row| row.n))
}

/// Of those of the user's workspaces, how many there are.
pub async fn count_owned(conn: &impl ConnectionTrait, user: UserId, ids: &[WorkspaceId]) -> Result<i64, DbErr> {
    #[derive(FromQueryResult)]
    struct Count {
        n: i64,
    }
    let among = db::among("id", Some(ids));
    let text = format!(
        "SELECT COUNT(*) AS n FROM workspaces WHERE owner_id = $1 AND deleted_ms IS NULL AND desired <> 'deleted' {among}"
    );
    Ok(db::fetch_one::<Count, _>(conn, &text, [user.to_string().into()]).await?.map_or(0, |row| row.n))
}

/// The name of the user's token that was removed by this.
pub async fn remove(conn: &impl ConnectionTrait, user: UserId, id: TokenId) -> Result<Option<String>, DbErr> {
    #[derive(FromQueryResult)]
    struct Name {
        name: String,
    }
    let text = "DELETE FROM api_tokens WHERE id = $1 AND user_id = $2 RETURNING name";
    let removed = fetch_one::<Name, _>(conn, text, [id.to_string().into(), user.to_string().into()]).await?;
    Ok(removed.map(|row| row.name))
}

pub async fn touch(conn: &impl ConnectionTrait, id: TokenId, now_ms: i64) -> Result<(), DbErr> {
    execute(
        conn,
        "UPDATE api_tokens SET last_used_ms = $1 WHERE id = $2 AND (last_used_ms IS NULL OR last_used_ms < $1)",
        [now_ms.into(), id.to_string().into()],
    )
    .await
    .map(|_| ())
}

/// Forgets tokens that ran out before this moment.
pub async fn remove_expired(conn: &impl ConnectionTrait, before_ms: i64) -> Result<u64, DbErr> {
    execute(conn, "DELETE FROM api_tokens WHERE expires_ms < $1", [before_ms.into()]).await
}
