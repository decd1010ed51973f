//! The SQL of secrets, and of workspaces' authorities.

use crate::db;
use rexec_api::ids::{UserId, WorkspaceId};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, FromQueryResult};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub owner: UserId,
    pub name: String,
    pub value_sealed: String,
    /// Of what stands for it inside.
    pub shape: String,
    pub hosts: Vec<String>,
    pub headers: Vec<String>,
    pub created_ms: i64,
    pub value_set_ms: i64,
    pub used_ms: Option<i64>,
}

#[derive(FromQueryResult)]
struct Row {
    owner_id: String,
    name: String,
    value_sealed: String,
    shape: String,
    hosts_json: String,
    headers_json: String,
    created_ms: i64,
    value_set_ms: i64,
    used_ms: Option<i64>,
}

impl TryFrom<Row> for Stored {
    type Error = DbErr;

    fn try_from(row: Row) -> Result<Self, DbErr> {
        let broken = |what: &str| DbErr::Type(format!("secret {} has an unreadable {what}", row.name));
        Ok(Self {
            owner: row.owner_id.parse().map_err(|_| broken("owner"))?,
            hosts: serde_json::from_str(&row.hosts_json).map_err(|_| broken("list of hosts"))?,
            headers: serde_json::from_str(&row.headers_json).map_err(|_| broken("list of headers"))?,
            name: row.name,
            value_sealed: row.value_sealed,
            shape: row.shape,
            created_ms: row.created_ms,
            value_set_ms: row.value_set_ms,
            used_ms: row.used_ms,
        })
    }
}

const COLUMNS: &str =
    "owner_id, name, value_sealed, hosts_json, headers_json, created_ms, value_set_ms, used_ms, shape";

fn json(list: &[String]) -> Result<String, DbErr> {
    serde_json::to_string(list).map_err(|e| DbErr::Json(e.to_string()))
}

/// Changes of one owner's come one after the other, until the transaction ends; SQLite has one at a time anyway.
pub async fn lock(tx: &impl ConnectionTrait, owner: UserId) -> Result<(), DbErr> {
    if tx.get_database_backend() == DbBackend::Postgres {
        let text = "SELECT pg_advisory_xact_lock(hashtextextended($1, 29))";
        db::execute(tx, text, [owner.to_string().into()]).await?;
    }
    Ok(())
}

/// Takes the place of the owner's of the same name.
pub async fn put(conn: &impl ConnectionTrait, secret: &Stored) -> Result<(), DbErr> {
    let text = format!(
        "INSERT INTO secrets ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (owner_id, name) DO UPDATE SET \
         value_sealed = excluded.value_sealed, hosts_json = excluded.hosts_json, headers_json = excluded.headers_json, \
         value_set_ms = excluded.value_set_ms, shape = excluded.shape"
    );
    let values = [
        secret.owner.to_string().into(),
        secret.name.clone().into(),
        secret.value_sealed.clone().into(),
        json(&secret.hosts)?.into(),
        json(&secret.headers)?.into(),
        secret.created_ms.into(),
        secret.value_set_ms.into(),
        secret.used_ms.into(),
        secret.shape.clone().into(),
    ];
    db::execute(conn, &text, values).await.map(|_| ())
}

/// All of a user's, by name.
pub async fn list(conn: &impl ConnectionTrait, owner: UserId) -> Result<Vec<Stored>, DbErr> {
    let text = format!("SELECT {COLUMNS} FROM secrets WHERE owner_id = $1 ORDER BY name");
    let rows = db::fetch_all::<Row, _>(conn, &text, [owner.to_string().into()]).await?;
    rows.into_iter().map(Stored::try_from).collect()
}

pub async fn find(conn: &impl ConnectionTrait, owner: UserId, name: &str) -> Result<Option<Stored>, DbErr> {
    let text = format!("SELECT {COLUMNS} FROM secrets WHERE owner_id = $1 AND name = $2");
    let values = [owner.to_string().into(), name.into()];
    db::fetch_one::<Row, _>(conn, &text, values).await?.map(Stored::try_from).transpose()
}

pub async fn remove(conn: &impl ConnectionTrait, owner: UserId, name: &str) -> Result<bool, DbErr> {
    let text = "DELETE FROM secrets WHERE owner_id = $1 AND name = $2";
    Ok(db::execute(conn, text, [owner.to_string().into(), name.into()]).await? > 0)
}

/// A gateway has sent it for this workspace.
pub async fn used(conn: &impl ConnectionTrait, id: WorkspaceId, name: &str, at_ms: i64) -> Result<(), DbErr> {
    let text = "UPDATE secrets SET used_ms = $3 WHERE name = $2 AND (used_ms IS NULL OR used_ms < $3) \
                AND owner_id = (SELECT owner_id FROM workspaces WHERE id = $1)";
    db::execute(conn, text, [id.to_string().into(), name.into(), at_ms.into()]).await.map(|_| ())
}

/// Has the gateways of the owner's workspaces that name it be told again; which workspaces these are.
pub async fn changed(conn: &impl ConnectionTrait, owner: UserId, name: &str) -> Result<Vec<WorkspaceId>, DbErr> {
    #[derive(FromQueryResult)]
    struct Id {
        id: String,
    }
    // A name has letters, digits and underscores, of which the last stands for any character here: one too many is told what
    // it knows already.
    let text = "UPDATE workspaces SET egress_seq = egress_seq + 1 WHERE owner_id = $1 AND egress_json LIKE $2 \
                AND deleted_ms IS NULL AND desired <> 'deleted' RETURNING id";
    let values = [owner.to_string().into(), format!("%\"{name}\"%").into()];
    let rows = db::fetch_all::<Id, _>(conn, text, values).await?;
    Ok(rows.into_iter().filter_map(|row| row.id.parse().ok()).collect())
}

/// A workspace's authority.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct Authority {
    pub certificate: String,
    pub key_sealed: String,
}

pub async fn authority(conn: &impl ConnectionTrait, id: WorkspaceId) -> Result<Option<Authority>, DbErr> {
    let text = "SELECT certificate, key_sealed FROM workspace_authorities WHERE workspace_id = $1";
    db::fetch_one::<Authority, _>(conn, text, [id.to_string().into()]).await
}

/// The first that is kept stays.
pub async fn keep_authority(conn: &impl ConnectionTrait, id: WorkspaceId, made: &Authority) -> Result<(), DbErr> {
    let text = "INSERT INTO workspace_authorities (workspace_id, certificate, key_sealed) VALUES ($1, $2, $3) \
                ON CONFLICT (workspace_id) DO NOTHING";
    let values = [id.to_string().into(), made.certificate.clone().into(), made.key_sealed.clone().into()];
    db::execute(conn, text, values).await.map(|_| ())
}

/// Nothing is left of it.
pub async fn forget_authority(conn: &impl ConnectionTrait, id: WorkspaceId) -> Result<(), DbErr> {
    let text = "DELETE FROM workspace_authorities WHERE workspace_id = $1";
    db::execute(conn, text, [id.to_string().into()]).await.map(|_| ())
}
