//! The SQL of what workspaces may reach: settings, addresses on closed networks, and the log.

use crate::db;
use crate::workspaces::store::Workspace;
use rexec_api::egress::{EgressEntry, EgressSettings, EgressTotals};
use rexec_api::ids::{HostId, WorkspaceId};
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};
use std::net::{Ipv4Addr, SocketAddrV4};

/// Kept of one workspace, of what was allowed and of what was refused each: neither pushes the other out.
const ENTRIES_KEPT: i64 = 1_000;

/// Writes settings. `false`: others stand there than `before`, or it is gone.
pub async fn set(
    conn: &impl ConnectionTrait,
    before: &Workspace,
    settings: &EgressSettings,
    now_ms: i64,
) -> Result<bool, DbErr> {
    let text = "UPDATE workspaces SET egress_json = $1, egress_seq = egress_seq + 1, updated_ms = $2 \
                WHERE id = $3 AND egress_seq = $4 AND deleted_ms IS NULL AND desired <> 'deleted'";
    let values = [json_of(settings)?.into(), now_ms.into(), before.id.to_string().into(), before.egress_seq.into()];
    Ok(db::execute(conn, text, values).await? > 0)
}

pub fn json_of(settings: &EgressSettings) -> Result<String, DbErr> {
    serde_json::to_string(settings).map_err(|e| DbErr::Json(e.to_string()))
}

/// The gateway has been told these.
pub async fn applied(conn: &impl ConnectionTrait, id: WorkspaceId, seq: i64) -> Result<(), DbErr> {
    let text = "UPDATE workspaces SET egress_applied_seq = $1 WHERE id = $2 AND egress_applied_seq < $1";
    db::execute(conn, text, [seq.into(), id.to_string().into()]).await.map(|_| ())
}

/// Addresses that are somebody's on this host's closed network.
pub async fn taken(conn: &impl ConnectionTrait, host: HostId) -> Result<Vec<Ipv4Addr>, DbErr> {
    #[derive(FromQueryResult)]
    struct Row {
        address: String,
    }
    let text = "SELECT address FROM workspaces WHERE host_id = $1 AND address IS NOT NULL";
    let rows = db::fetch_all::<Row, _>(conn, text, [host.to_string().into()]).await?;
    Ok(rows.into_iter().filter_map(|row| row.address.parse().ok()).collect())
}

/// It is its own from here on, with the gateway there, or it has none. `false`: somebody else has it.
pub async fn take(
    conn: &impl ConnectionTrait,
    id: WorkspaceId,
    taken: Option<(Ipv4Addr, SocketAddrV4)>,
) -> Result<bool, DbErr> {
    let text = "UPDATE workspaces SET address = $1, gateway = $3 WHERE id = $2 AND NOT EXISTS (SELECT 1 FROM workspaces o \
                WHERE o.address = $1 AND o.id <> $2 AND o.host_id = (SELECT host_id FROM workspaces WHERE id = $2))";
    let (address, gateway) = taken.map(|(address, gateway)| (address.to_string(), gateway.to_string())).unzip();
    let values = [address.into(), id.to_string().into(), gateway.into()];
    Ok(db::execute(conn, text, values).await? > 0)
}

/// Takes the address of the one that has rested for longest. `false`: none rests.
pub async fn take_from_resting(conn: &impl ConnectionTrait, host: HostId) -> Result<bool, DbErr> {
    let text = "UPDATE workspaces SET address = NULL, gateway = NULL WHERE status = 'stopped' AND desired = 'stopped' AND id = \
                (SELECT id FROM workspaces WHERE host_id = $1 AND address IS NOT NULL AND status = 'stopped' \
                AND desired = 'stopped' ORDER BY stopped_ms LIMIT 1)";
    Ok(db::execute(conn, text, [host.to_string().into()]).await? > 0)
}

/// What is added to the log, of one minute and all of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kind {
    pub workspace: WorkspaceId,
    pub minute_ms: i64,
    pub how: String,
    pub host: String,
    pub port: u16,
    pub allowed: bool,
    pub why: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    pub count: i64,
    pub bytes_up: i64,
    pub bytes_down: i64,
    pub last_ms: i64,
}

/// What one workspace did besides what is written already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub allowed: i64,
    pub denied: i64,
    pub bytes_up: i64,
    pub bytes_down: i64,
    pub untold: i64,
}

impl Totals {
    pub fn add(&mut self, allowed: bool, amount: &Amount) {
        *(if allowed { &mut self.allowed } else { &mut self.denied }) += amount.count;
        self.bytes_up += amount.bytes_up;
        self.bytes_down += amount.bytes_down;
    }
}

pub async fn add(conn: &impl ConnectionTrait, kind: &Kind, amount: &Amount) -> Result<(), DbErr> {
    let text = "INSERT INTO egress_log (workspace_id, minute_ms, how, host, port, allowed, why, count, bytes_up, bytes_down, last_ms) \
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
                ON CONFLICT (workspace_id, minute_ms, how, host, port, allowed, why) DO UPDATE SET \
                count = egress_log.count + excluded.count, bytes_up = egress_log.bytes_up + excluded.bytes_up, \
                bytes_down = egress_log.bytes_down + excluded.bytes_down, last_ms = excluded.last_ms";
    let values = [
        kind.workspace.to_string().into(),
        kind.minute_ms.into(),
        kind.how.clone().into(),
        kind.host.clone().into(),
        i32::from(kind.port).into(),
        i32::from(kind.allowed).into(),
        kind.why.clone().into(),
        amount.count.into(),
        amount.bytes_up.into(),
        amount.bytes_down.into(),
        amount.last_ms.into(),
    ];
    db::execute(conn, text, values).await.map(|_| ())
}

/// `false`: there is no such workspace.
pub async fn add_totals(conn: &impl ConnectionTrait, id: WorkspaceId, more: &Totals) -> Result<bool, DbErr> {
    let text = "INSERT INTO egress_totals (workspace_id, allowed, denied, bytes_up, bytes_down, untold) \
                SELECT id, $2, $3, $4, $5, $6 FROM workspaces WHERE id = $1 AND deleted_ms IS NULL \
                ON CONFLICT (workspace_id) DO UPDATE SET allowed = egress_totals.allowed + excluded.allowed, \
                denied = egress_totals.denied + excluded.denied, bytes_up = egress_totals.bytes_up + excluded.bytes_up, \
                bytes_down = egress_totals.bytes_down + excluded.bytes_down, untold = egress_totals.untold + excluded.untold";
    let values = [
        id.to_string().into(),
        more.allowed.into(),
        more.denied.into(),
        more.bytes_up.into(),
        more.bytes_down.into(),
        more.untold.into(),
    ];
    Ok(db::execute(conn, text, values).await? > 0)
}

pub async fn totals(conn: &impl ConnectionTrait, id: WorkspaceId) -> Result<EgressTotals, DbErr> {
    #[derive(FromQueryResult)]
    struct Row {
        allowed: i64,
        denied: i64,
        bytes_up: i64,
        bytes_down: i64,
        untold: i64,
    }
    let text = "SELECT allowed, denied, bytes_up, bytes_down, untold FROM egress_totals WHERE workspace_id = $1";
    let row = db::fetch_one::<Row, _>(conn, text, [id.to_string().into()]).await?;
    Ok(row.map_or_else(EgressTotals::default, |row| EgressTotals {
        allowed: row.allowed as u64,
        denied: row.denied as u64,
        bytes_up: row.bytes_up as u64,
        bytes_down: row.bytes_down as u64,
        untold: row.untold as u64,
    }))
}

/// Where a page of the log begins: with the entries that were last asked for then, but for the first of those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub last_ms: i64,
    pub skipped: i64,
}

/// The newest from there on.
pub async fn entries(
    conn: &impl ConnectionTrait,
    id: WorkspaceId,
    from: Place,
    only_denied: bool,
    limit: i64,
) -> Result<Vec<(i64, EgressEntry)>, DbErr> {
    #[derive(FromQueryResult)]
    struct Row {
        how: String,
        host: String,
        port: i32,
        allowed: i32,
        why: String,
        count: i64,
        bytes_up: i64,
        bytes_down: i64,
        last_ms: i64,
    }
    let text = "SELECT how, host, port, allowed, why, count, bytes_up, bytes_down, last_ms FROM egress_log \
                WHERE workspace_id = $1 AND last_ms <= $2 AND allowed <= $3 \
                ORDER BY last_ms DESC, host, port, how, why, allowed, minute_ms LIMIT $4 OFFSET $5";
    let most = i32::from(!only_denied);
    let values = [id.to_string().into(), from.last_ms.into(), most.into(), limit.into(), from.skipped.into()];
    let entry = |row: Row| {
        let entry = EgressEntry {
            at: crate::time::rfc3339(row.last_ms),
            how: row.how,
            host: row.host,
            port: u16::try_from(row.port).unwrap_or(0),
            allowed: row.allowed != 0,
            why: row.why,
            count: row.count as u64,
            bytes_up: row.bytes_up as u64,
            bytes_down: row.bytes_down as u64,
        };
        (row.last_ms, entry)
    };
    Ok(db::fetch_all::<Row, _>(conn, text, values).await?.into_iter().map(entry).collect())
}

/// Takes away what is older than this.
pub async fn prune(conn: &impl ConnectionTrait, before_ms: i64) -> Result<(), DbErr> {
    db::execute(conn, "DELETE FROM egress_log WHERE minute_ms < $1", [before_ms.into()]).await.map(|_| ())
}

/// Takes away what is more than is kept of one workspace.
pub async fn prune_of(conn: &impl ConnectionTrait, id: WorkspaceId) -> Result<(), DbErr> {
    let text = "DELETE FROM egress_log WHERE workspace_id = $1 AND allowed = $2 AND last_ms < (SELECT last_ms FROM egress_log \
                WHERE workspace_id = $1 AND allowed = $2 ORDER BY last_ms DESC LIMIT 1 OFFSET $3)";
    for allowed in [0, 1] {
        db::execute(conn, text, [id.to_string().into(), allowed.into(), ENTRIES_KEPT.into()]).await?;
    }
    Ok(())
}

/// Nothing is left of what a workspace did, and its address is free.
pub async fn forget(conn: &impl ConnectionTrait, id: WorkspaceId) -> Result<(), DbErr> {
    for text in [
        "UPDATE workspaces SET address = NULL, gateway = NULL WHERE id = $1",
        "DELETE FROM workspace_authorities WHERE workspace_id = $1",
        // In the order in which they are written.
        "DELETE FROM egress_totals WHERE workspace_id = $1",
        "DELETE FROM egress_log WHERE workspace_id = $1",
    ] {
        db::execute(conn, text, [id.to_string().into()]).await?;
    }
    Ok(())
}
