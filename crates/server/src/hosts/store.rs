//! The SQL of hosts, and of the settings that say which installation this is.

use super::placement::Amount;
use crate::db;
use crate::replicas::ReplicaId;
use rexec_api::ids::HostId;
use rexec_api::servers::ServerState;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, FromQueryResult};
use std::collections::BTreeMap;

/// A host as the database knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub id: HostId,
    /// The key that its machine showed by SSH.
    pub host_key: Option<String>,
}

#[derive(FromQueryResult)]
struct KeptRow {
    id: String,
    host_key: Option<String>,
}

/// What is recorded of a host.
#[derive(Debug, Clone)]
pub struct HostRow {
    pub id: HostId,
    pub name: String,
    /// For people; it lacks what it takes to be let in.
    pub address: String,
    pub region: String,
    pub state: ServerState,
    /// 0: without a limit.
    pub total: Amount,
    pub used: Amount,
    pub workspaces: i64,
    pub workspaces_max: Option<i64>,
    pub labels: BTreeMap<String, String>,
    /// Those that workspaces may have; `None`: whatever the settings allow.
    pub runtimes: Option<Vec<String>>,
    /// How it is reached, sealed; absent of the local one.
    pub access_sealed: Option<String>,
    pub created_ms: i64,
    /// What the provider calls its machine, of one that was made with demand.
    pub machine_id: Option<i64>,
    /// The one of several servers on the database that reaches it, where that is so.
    pub replica: Option<ReplicaId>,
}

#[derive(FromQueryResult)]
struct Row {
    id: String,
    name: String,
    address: String,
    region: String,
    state: String,
    total_cpu_milli: i64,
    total_memory_mb: i64,
    total_disk_mb: i64,
    used_cpu_milli: i64,
    used_memory_mb: i64,
    used_disk_mb: i64,
    used_workspaces: i64,
    workspaces_max: Option<i64>,
    labels_json: String,
    runtimes_json: Option<String>,
    access_sealed: Option<String>,
    created_ms: i64,
    machine_id: Option<i64>,
    replica: Option<String>,
}

const COLUMNS: &str = "id, name, address, region, state, total_cpu_milli, total_memory_mb, total_disk_mb, used_cpu_milli, \
    used_memory_mb, used_disk_mb, used_workspaces, workspaces_max, labels_json, runtimes_json, access_sealed, created_ms, replica, \
    (SELECT provider_id FROM elastic_machines WHERE elastic_machines.id = hosts.id) AS machine_id";
/// The advisory lock under which servers find their own engines' rows.
const LOCAL_LOCK: i64 = 0x72_6578_6c6f;
/// A host that was deleted leaves its row, which the tombstones of workspaces name.
const REMOVED: &str = "removed";

impl TryFrom<Row> for HostRow {
    type Error = DbErr;

    fn try_from(row: Row) -> Result<Self, DbErr> {
        let broken = |what: &str| DbErr::Type(format!("host {} has an unreadable {what}", row.id));
        Ok(Self {
            id: row.id.parse().map_err(|_| broken("id"))?,
            state: if row.state == ServerState::Draining.as_str() {
                ServerState::Draining
            } else {
                ServerState::Active
            },
            total: Amount {
                cpu_milli: row.total_cpu_milli,
                memory_mb: row.total_memory_mb,
                disk_mb: row.total_disk_mb,
            },
            used: Amount { cpu_milli: row.used_cpu_milli, memory_mb: row.used_memory_mb, disk_mb: row.used_disk_mb },
            labels: serde_json::from_str(&row.labels_json).map_err(|_| broken("labels_json"))?,
            runtimes: row
                .runtimes_json
                .as_deref()
                .map(|json| serde_json::from_str(json).map_err(|_| broken("runtimes_json")))
                .transpose()?,
            name: row.name,
            address: row.address,
            region: row.region,
            workspaces: row.used_workspaces,
            workspaces_max: row.workspaces_max,
            access_sealed: row.access_sealed,
            created_ms: row.created_ms,
            machine_id: row.machine_id,
            replica: row.replica.and_then(|id| id.parse().ok()),
        })
    }
}

/// The row of the local host, made when it is not there; safe for two servers at once. At another address it is another
/// machine: the key of the one before is forgotten.
pub async fn ensure_local(conn: &impl ConnectionTrait, name: &str, address: &str, now_ms: i64) -> Result<Kept, DbErr> {
    db::execute(
        conn,
        "INSERT INTO hosts (id, name, address, region, state, total_cpu_milli, total_memory_mb, used_cpu_milli, \
         used_memory_mb, created_ms) VALUES ($1, $2, $3, 'local', 'active', 0, 0, 0, 0, $4) ON CONFLICT (name) DO NOTHING",
        [HostId::new().to_string().into(), name.into(), address.into(), now_ms.into()],
    )
    .await?;
    db::execute(
        conn,
        "UPDATE hosts SET address = $2, host_key = NULL WHERE name = $1 AND address <> $2",
        [name.into(), address.into()],
    )
    .await?;
    // Whoever is alone is not bound to what was one of several; `ensure_local_of` binds it anew.
    db::execute(conn, "UPDATE hosts SET replica = NULL WHERE name = $1 AND replica IS NOT NULL", [name.into()]).await?;
    kept(conn, name).await
}

async fn kept(conn: &impl ConnectionTrait, name: &str) -> Result<Kept, DbErr> {
    let row =
        db::fetch_one::<KeptRow, _>(conn, "SELECT id, host_key FROM hosts WHERE name = $1", [name.into()]).await?;
    let kept = row.and_then(|row| Some(Kept { id: row.id.parse().ok()?, host_key: row.host_key }));
    kept.ok_or_else(|| DbErr::Type("the local host has no readable id".into()))
}

/// What a server finds of its own engine's row where there may be several servers.
pub enum Found {
    Mine(String, Kept),
    /// The engine is marked as the row of another server that is there.
    AnothersYet,
}

/// As [`ensure_local`] where there may be several servers: an engine that is reached from a single machine is that server's
/// own, and one that is reached through a network is everyone's that names it. `marked`: as which host it is known. That is
/// this server's when whoever had it is there no more, as after the loss of a data directory.
pub async fn ensure_local_of(
    tx: &DatabaseTransaction,
    replica: ReplicaId,
    is_here: bool,
    marked: Option<HostId>,
    address: &str,
    now_ms: i64,
) -> Result<Found, DbErr> {
    #[derive(FromQueryResult)]
    struct Named {
        name: String,
    }
    let me = || replica.to_string();
    // Of two servers that start at once the second waits for the row of the first.
    db::execute(tx, "SELECT pg_advisory_xact_lock($1)", [LOCAL_LOCK.into()]).await?;
    let marked = match marked {
        Some(marked) => marked_row(tx, replica, is_here, marked).await?,
        None => Marked::Nothing,
    };
    let mine = match marked {
        Marked::AnothersYet => return Ok(Found::AnothersYet),
        Marked::Mine(name) => Some(name),
        // Others reach it through a network; where, stays theirs to say.
        Marked::Shared(name) => {
            let kept = kept(tx, &name).await?;
            return Ok(Found::Mine(name, kept));
        }
        Marked::Nothing => {
            let (text, values) = match is_here {
                true => (
                    "SELECT name FROM hosts WHERE access_sealed IS NULL AND state <> 'removed' AND (replica = $1 \
                     OR (replica IS NULL AND name = $2 AND (address LIKE 'unix:%' OR address LIKE 'tcp://127.%' \
                     OR address LIKE 'tcp://localhost%' OR address LIKE 'tcp://[::1]%'))) ORDER BY replica NULLS LAST LIMIT 1",
                    vec![me().into(), super::LOCAL.into()],
                ),
                false => (
                    "SELECT name FROM hosts WHERE access_sealed IS NULL AND state <> 'removed' AND replica IS NULL \
                     AND (address = $2 OR (name = $3 AND NOT EXISTS (SELECT 1 FROM replicas WHERE id <> $1 AND until_ms > 0))) \
                     ORDER BY address = $2 DESC LIMIT 1",
                    vec![me().into(), address.into(), super::LOCAL.into()],
                ),
            };
            db::fetch_one::<Named, _>(tx, text, values).await?.map(|row| row.name)
        }
    };
    let taken = db::fetch_one::<Named, _>(tx, "SELECT name FROM hosts WHERE name = $1", [super::LOCAL.into()]).await?;
    let name = match (mine, taken) {
        (Some(mine), _) => mine,
        (None, None) => super::LOCAL.to_owned(),
        (None, Some(_)) => own_name(replica),
    };
    let kept = ensure_local(tx, &name, address, now_ms).await?;
    if is_here {
        let bound = [kept.id.to_string().into(), me().into()];
        db::execute(tx, "UPDATE hosts SET replica = $2 WHERE id = $1", bound).await?;
    }
    Ok(Found::Mine(name, kept))
}

/// What a server calls its own engine where `local` is another's.
fn own_name(replica: ReplicaId) -> String {
    format!("{}-{}", super::LOCAL, replica.short())
}

/// What the row is to a server that an engine is marked as.
enum Marked {
    Nothing,
    /// By name.
    Mine(String),
    Shared(String),
    AnothersYet,
}

/// A row of a server that is there no more becomes the replica's own; the one that the replica had instead goes, and where
/// something lies on that, nothing is changed.
async fn marked_row(
    tx: &DatabaseTransaction,
    replica: ReplicaId,
    is_here: bool,
    marked: HostId,
) -> Result<Marked, DbErr> {
    #[derive(FromQueryResult)]
    struct Id {
        id: String,
    }
    let Some(row) = find(tx, marked).await?.filter(|row| row.access_sealed.is_none()) else {
        return Ok(Marked::Nothing);
    };
    match row.replica {
        // Of a time when there was one server, it is bound as the first of them is.
        None if is_here && row.name == super::LOCAL && row.address.starts_with("unix:") => return Ok(Marked::Nothing),
        None => return Ok(Marked::Shared(row.name)),
        Some(owner) if owner == replica => return Ok(Marked::Mine(row.name)),
        Some(_) if !is_here => return Ok(Marked::Nothing),
        Some(_) if !is_left(tx, marked).await? => return Ok(Marked::AnothersYet),
        Some(_) => {}
    }
    // Locked: whoever is about to place a workspace there waits.
    let text = format!(
        "SELECT id FROM hosts WHERE replica = $1 AND access_sealed IS NULL AND state <> '{REMOVED}' FOR UPDATE"
    );
    let own = db::fetch_one::<Id, _>(tx, &text, [replica.to_string().into()]).await?;
    if let Some(own) = own.and_then(|row| row.id.parse().ok()) {
        if load(tx, own).await?.any() {
            tracing::warn!(
                host = row.name,
                "this engine was another server's; it is not taken over, as something lies on this one's row"
            );
            return Ok(Marked::Nothing);
        }
        remove(tx, own).await?;
    }
    tracing::warn!(host = row.name, "this engine was that of a server that is there no more; it is this one's now");
    // Under a name that the one before does not come back to.
    let name = if row.name == super::LOCAL { row.name } else { own_name(replica) };
    let text = "UPDATE hosts SET replica = $2, name = $3 WHERE id = $1";
    db::execute(tx, text, [marked.to_string().into(), replica.to_string().into(), name.clone().into()]).await?;
    Ok(Marked::Mine(name))
}

/// Whether the server that a host is bound to is there no more.
pub async fn is_left(conn: &impl ConnectionTrait, id: HostId) -> Result<bool, DbErr> {
    let text = format!(
        "SELECT 1 FROM hosts WHERE id = $1 AND replica IS NOT NULL AND NOT EXISTS \
         (SELECT 1 FROM replicas WHERE replicas.id = hosts.replica AND until_ms > {})",
        crate::replicas::DATABASE_NOW
    );
    Ok(conn.query_one_raw(db::sql(conn, &text, [id.to_string().into()])).await?.is_some())
}

/// Keeps the key that a host showed.
pub async fn keep_host_key(conn: &impl ConnectionTrait, id: HostId, key: &str) -> Result<(), DbErr> {
    db::execute(conn, "UPDATE hosts SET host_key = $2 WHERE id = $1", [id.to_string().into(), key.into()]).await?;
    Ok(())
}

/// All that were not deleted, by name.
pub async fn all(conn: &impl ConnectionTrait) -> Result<Vec<HostRow>, DbErr> {
    let text = format!("SELECT {COLUMNS} FROM hosts WHERE state <> '{REMOVED}' ORDER BY name");
    db::fetch_all::<Row, _>(conn, &text, []).await?.into_iter().map(HostRow::try_from).collect()
}

pub async fn find(conn: &impl ConnectionTrait, id: HostId) -> Result<Option<HostRow>, DbErr> {
    let text = format!("SELECT {COLUMNS} FROM hosts WHERE id = $1 AND state <> '{REMOVED}'");
    db::fetch_one::<Row, _>(conn, &text, [id.to_string().into()]).await?.map(HostRow::try_from).transpose()
}

/// One that is new; an error that `db::is_duplicate` knows where the name is taken.
pub async fn insert(conn: &impl ConnectionTrait, host: &HostRow) -> Result<(), DbErr> {
    db::execute(
        conn,
        "INSERT INTO hosts (id, name, address, region, state, total_cpu_milli, total_memory_mb, total_disk_mb, \
         workspaces_max, labels_json, runtimes_json, access_sealed, created_ms, replica, used_cpu_milli, used_memory_mb) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, 0, 0)",
        [
            host.id.to_string().into(),
            host.name.clone().into(),
            host.address.clone().into(),
            host.region.clone().into(),
            host.state.as_str().into(),
            host.total.cpu_milli.into(),
            host.total.memory_mb.into(),
            host.total.disk_mb.into(),
            host.workspaces_max.into(),
            json(&host.labels)?.into(),
            host.runtimes.as_ref().map(json).transpose()?.into(),
            host.access_sealed.clone().into(),
            host.created_ms.into(),
            host.replica.map(|id| id.to_string()).into(),
        ],
    )
    .await
    .map(|_| ())
}

/// Writes what an administrator says of it; its state and what workspaces use of it stay. `false`: it is gone.
pub async fn update(conn: &impl ConnectionTrait, host: &HostRow) -> Result<bool, DbErr> {
    let text = format!(
        "UPDATE hosts SET name = $1, address = $2, region = $3, total_cpu_milli = $4, total_memory_mb = $5, \
         total_disk_mb = $6, workspaces_max = $7, labels_json = $8, runtimes_json = $9, access_sealed = $10, \
         replica = $12 WHERE id = $11 AND state <> '{REMOVED}'"
    );
    let values = [
        host.name.clone().into(),
        host.address.clone().into(),
        host.region.clone().into(),
        host.total.cpu_milli.into(),
        host.total.memory_mb.into(),
        host.total.disk_mb.into(),
        host.workspaces_max.into(),
        json(&host.labels)?.into(),
        host.runtimes.as_ref().map(json).transpose()?.into(),
        host.access_sealed.clone().into(),
        host.id.to_string().into(),
        host.replica.map(|id| id.to_string()).into(),
    ];
    Ok(db::execute(conn, &text, values).await? > 0)
}

/// Whether workspaces are made there. `false`: it is gone.
pub async fn set_state(conn: &impl ConnectionTrait, id: HostId, state: ServerState) -> Result<bool, DbErr> {
    let text = format!("UPDATE hosts SET state = $1 WHERE id = $2 AND state <> '{REMOVED}'");
    Ok(db::execute(conn, &text, [state.as_str().into(), id.to_string().into()]).await? > 0)
}

/// The names of the volumes that lie on it by what is recorded: homes in use and kept ones, of workspaces that have run
/// there; whose image never came has none yet.
pub async fn volumes(conn: &impl ConnectionTrait, id: HostId) -> Result<Vec<String>, DbErr> {
    #[derive(FromQueryResult)]
    struct Name {
        name: String,
    }
    let text = "SELECT v.name AS name FROM volumes v JOIN workspaces w ON w.id = v.workspace_id \
                WHERE v.host_id = $1 AND v.state IN ('in_use', 'kept') AND w.started_ms IS NOT NULL";
    let rows = db::fetch_all::<Name, _>(conn, text, [id.to_string().into()]).await?;
    Ok(rows.into_iter().map(|row| row.name).collect())
}

/// How much lies on it: workspaces, homes that are kept or on their way out, snapshots.
pub struct Load {
    /// Warm ones too.
    pub workspaces: i64,
    pub warm: i64,
    pub homes: i64,
    pub snapshots: i64,
}

impl Load {
    fn any(&self) -> bool {
        self.workspaces + self.homes + self.snapshots > 0
    }
}

/// Takes a host out for good, which frees its name; `Some`: something lies there, and nothing is changed once the
/// transaction is given up.
pub async fn remove(tx: &DatabaseTransaction, id: HostId) -> Result<Option<Load>, DbErr> {
    retire(tx, id).await?;
    let load = load(tx, id).await?;
    Ok(load.any().then_some(load))
}

/// First of all: whoever makes a workspace there waits for this, and finds it gone.
pub async fn retire(tx: &DatabaseTransaction, id: HostId) -> Result<(), DbErr> {
    let text = "UPDATE hosts SET state = $1, name = id, access_sealed = NULL WHERE id = $2";
    db::execute(tx, text, [REMOVED.into(), id.to_string().into()]).await.map(|_| ())
}

pub async fn load(conn: &impl ConnectionTrait, id: HostId) -> Result<Load, DbErr> {
    #[derive(FromQueryResult)]
    struct Count {
        count: i64,
    }
    let count = async |text: &str| {
        let row = db::fetch_one::<Count, _>(conn, text, [id.to_string().into()]).await?;
        Ok::<_, DbErr>(row.map_or(0, |row| row.count))
    };
    Ok(Load {
        workspaces: count("SELECT COUNT(*) AS count FROM workspaces WHERE host_id = $1 AND deleted_ms IS NULL").await?,
        warm: count("SELECT COUNT(*) AS count FROM workspaces WHERE host_id = $1 AND deleted_ms IS NULL AND pool_key IS NOT NULL")
            .await?,
        homes: count("SELECT COUNT(*) AS count FROM volumes WHERE host_id = $1 AND state IN ('kept', 'purging', 'moving', 'moved')").await?,
        snapshots: count("SELECT COUNT(*) AS count FROM snapshots WHERE host_id = $1 AND (volume IS NOT NULL OR image_ref IS NOT NULL)")
            .await?,
    })
}

fn json(value: &impl serde::Serialize) -> Result<String, DbErr> {
    serde_json::to_string(value).map_err(|e| DbErr::Json(e.to_string()))
}

/// The name of this installation on the engines that it uses: made once, kept in the database.
pub async fn ensure_instance(conn: &impl ConnectionTrait) -> Result<String, DbErr> {
    #[derive(FromQueryResult)]
    struct Value {
        value: String,
    }
    db::execute(
        conn,
        "INSERT INTO settings (key, value) VALUES ('instance', $1) ON CONFLICT (key) DO NOTHING",
        [uuid::Uuid::new_v4().to_string().into()],
    )
    .await?;
    let row = db::fetch_one::<Value, _>(conn, "SELECT value FROM settings WHERE key = 'instance'", []).await?;
    row.map(|row| row.value).ok_or_else(|| DbErr::Type("the installation has no name".into()))
}
