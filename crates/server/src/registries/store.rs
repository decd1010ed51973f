//! The SQL of credentials.

use super::Purpose;
use crate::db;
use rexec_api::ids::{RegistryId, UserId};
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};

#[derive(Debug, Clone)]
pub struct Registry {
    pub id: RegistryId,
    pub purpose: Purpose,
    /// Absent: for everyone.
    pub owner: Option<UserId>,
    pub server: String,
    pub username: String,
    pub password_sealed: String,
    pub created_ms: i64,
}

#[derive(FromQueryResult)]
struct Row {
    id: String,
    purpose: String,
    owner: String,
    server: String,
    username: String,
    password_sealed: String,
    created_ms: i64,
}

impl TryFrom<Row> for Registry {
    type Error = DbErr;

    fn try_from(row: Row) -> Result<Self, DbErr> {
        let broken = |what: &str| DbErr::Type(format!("registry {} has an unreadable {what}", row.id));
        let owner = Some(row.owner.as_str()).filter(|owner| !owner.is_empty());
        Ok(Self {
            id: row.id.parse().map_err(|_| broken("id"))?,
            purpose: Purpose::parse(&row.purpose).ok_or_else(|| broken("purpose"))?,
            owner: owner.map(|owner| owner.parse().map_err(|_| broken("owner"))).transpose()?,
            server: row.server,
            username: row.username,
            password_sealed: row.password_sealed,
            created_ms: row.created_ms,
        })
    }
}

const COLUMNS: &str = "id, purpose, owner, server, username, password_sealed, created_ms";

fn owner_text(owner: Option<UserId>) -> String {
    owner.map_or_else(String::new, |owner| owner.to_string())
}

/// Takes the place of what the owner had for the same server.
pub async fn put(conn: &impl ConnectionTrait, r: &Registry) -> Result<(), DbErr> {
    db::execute(
        conn,
        "INSERT INTO registries (id, owner, server, username, password_sealed, created_ms, purpose) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (purpose, owner, server) DO UPDATE SET id = excluded.id, \
         username = excluded.username, password_sealed = excluded.password_sealed, created_ms = excluded.created_ms",
        [
            r.id.to_string().into(),
            owner_text(r.owner).into(),
            r.server.clone().into(),
            r.username.clone().into(),
            r.password_sealed.clone().into(),
            r.created_ms.into(),
            r.purpose.as_str().into(),
        ],
    )
    .await
    .map(|_| ())
}

/// A user's own and everyone's, by address; the user's own first.
pub async fn list(
    conn: &impl ConnectionTrait,
    purpose: Purpose,
    user: UserId,
    limit: u64,
) -> Result<Vec<Registry>, DbErr> {
    let text = format!(
        "SELECT {COLUMNS} FROM registries WHERE purpose = $3 AND (owner = $1 OR owner = '') \
         ORDER BY server, owner DESC LIMIT $2"
    );
    let values = [user.to_string().into(), i64::try_from(limit).unwrap_or(i64::MAX).into(), purpose.as_str().into()];
    db::fetch_all::<Row, _>(conn, &text, values).await?.into_iter().map(Registry::try_from).collect()
}

/// What a user has for a server, or else everyone.
pub async fn of_server(
    conn: &impl ConnectionTrait,
    purpose: Purpose,
    user: UserId,
    server: &str,
) -> Result<Option<Registry>, DbErr> {
    let text = format!(
        "SELECT {COLUMNS} FROM registries WHERE purpose = $3 AND server = $1 AND (owner = $2 OR owner = '') \
         ORDER BY owner DESC LIMIT 1"
    );
    let values = [server.into(), user.to_string().into(), purpose.as_str().into()];
    db::fetch_one::<Row, _>(conn, &text, values).await?.map(Registry::try_from).transpose()
}

pub async fn find(conn: &impl ConnectionTrait, purpose: Purpose, id: RegistryId) -> Result<Option<Registry>, DbErr> {
    let text = format!("SELECT {COLUMNS} FROM registries WHERE id = $1 AND purpose = $2");
    db::fetch_one::<Row, _>(conn, &text, [id.to_string().into(), purpose.as_str().into()])
        .await?
        .map(Registry::try_from)
        .transpose()
}

/// How many an owner has besides that of `server`.
pub async fn count_others(
    conn: &impl ConnectionTrait,
    purpose: Purpose,
    owner: Option<UserId>,
    server: &str,
) -> Result<i64, DbErr> {
    #[derive(FromQueryResult)]
    struct Count {
        n: i64,
    }
    let text = "SELECT COUNT(*) AS n FROM registries WHERE owner = $1 AND server <> $2 AND purpose = $3";
    let values = [owner_text(owner).into(), server.into(), purpose.as_str().into()];
    Ok(db::fetch_one::<Count, _>(conn, text, values).await?.map_or(0, |row| row.n))
}

pub async fn remove(conn: &impl ConnectionTrait, id: RegistryId) -> Result<bool, DbErr> {
    Ok(db::execute(conn, "DELETE FROM registries WHERE id = $1", [id.to_string().into()]).await? > 0)
}
