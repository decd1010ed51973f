//! What workspaces hold of their hosts: cores and memory while they run, disk and a place for as long as they are there.
//! A home that is kept takes up its host's disk, too: the tombstone of its workspace goes on holding that, as much as the
//! home was measured to have, until the engine has removed it or another workspace has it.
//!
//! A host's `used_` columns change by one statement that also says whether it fits, so of two who want the last of it one
//! gets it, on either database. Each workspace's row says what it holds (`held_`): taking twice takes once, giving back
//! twice gives back once, and a host's use is the sum of its workspaces', living and buried, at any time.
//!
//! Invariant: all of this is called within the transaction of what it is for, a workspace's row before its host's.

use super::placement::Amount;
use crate::db;
use rexec_api::ids::{HostId, WorkspaceId};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, FromQueryResult};

/// Said of a host on which something lies that cannot run there now.
pub const NO_ROOM: &str = "Its server has no room for it now: others use its cores or its memory. Try again later, give it \
    less, or stop another.";
/// Others that change what the same workspace holds at the same moment.
const TRIES: u32 = 16;

/// What a workspace is to hold from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// All that its limits say.
    Running,
    /// That much, while limits change.
    Exactly(Amount),
    /// Its disk.
    Stopped,
    /// Its home is kept, and it is buried: all of its disk, until that home is measured.
    Home,
    Nothing,
}

#[derive(FromQueryResult)]
struct Row {
    host_id: Option<String>,
    cpu_milli: i64,
    memory_mb: i64,
    disk_mb: i64,
    held_cpu_milli: i64,
    held_memory_mb: i64,
    held_disk_mb: i64,
    held_place: i64,
}

impl Row {
    fn held(&self) -> Amount {
        Amount { cpu_milli: self.held_cpu_milli, memory_mb: self.held_memory_mb, disk_mb: self.held_disk_mb }
    }

    fn limits(&self) -> Amount {
        Amount { cpu_milli: self.cpu_milli, memory_mb: self.memory_mb, disk_mb: self.disk_mb }
    }
}

/// A place on a host and that much of it, for a workspace that is about to be recorded. `false`: it is not there any more.
pub async fn take(tx: &DatabaseTransaction, host: HostId, amount: Amount) -> Result<bool, DbErr> {
    change(tx, &host.to_string(), amount, 1, true).await
}

/// The workspace, just recorded, is whom that was taken for.
pub async fn taken_by(tx: &DatabaseTransaction, id: WorkspaceId, amount: Amount) -> Result<(), DbErr> {
    let text = "UPDATE workspaces SET held_cpu_milli = $1, held_memory_mb = $2, held_disk_mb = $3, held_place = 1 \
                WHERE id = $4";
    let values = [amount.cpu_milli.into(), amount.memory_mb.into(), amount.disk_mb.into(), id.to_string().into()];
    db::execute(tx, text, values).await.map(|_| ())
}

/// Gives back what was taken for a workspace that does not come.
pub async fn give_back(tx: &DatabaseTransaction, host: HostId, amount: Amount) -> Result<(), DbErr> {
    change(tx, &host.to_string(), Amount::default().less(amount), -1, false).await.map(|_| ())
}

/// Has a workspace hold this; what it holds already counts. `false`: its host has not as much left, and nothing is
/// changed that the transaction's end would not undo.
pub async fn hold(tx: &DatabaseTransaction, id: WorkspaceId, hold: Hold) -> Result<bool, DbErr> {
    let read = "SELECT host_id, cpu_milli, memory_mb, disk_mb, held_cpu_milli, held_memory_mb, held_disk_mb, held_place \
                FROM workspaces WHERE id = $1 AND deleted_ms IS NULL AND machine_json IS NULL";
    for _ in 0..TRIES {
        let Some(row) = db::fetch_one::<Row, _>(tx, read, [id.to_string().into()]).await? else { return Ok(true) };
        let limits = row.limits();
        let disk = Amount { disk_mb: limits.disk_mb, ..Amount::default() };
        let next = match hold {
            Hold::Running => (limits, 1),
            Hold::Exactly(amount) => (amount, 1),
            Hold::Stopped => (disk, 1),
            Hold::Home => (disk, 0),
            Hold::Nothing => (Amount::default(), 0),
        };
        if let Some(fits) = turn(tx, id, &row, next).await? {
            return Ok(fits);
        }
    }
    Err(changes_all_the_time(id))
}

/// The home that this buried workspace left takes up this much, and never more than what was held for it; 0 once the
/// engine has removed it, or another workspace has it and holds its own. Other volumes of it hold nothing: a move or a
/// restore leaves some behind.
pub async fn hold_home(tx: &DatabaseTransaction, id: WorkspaceId, volume: &str, disk_mb: i64) -> Result<(), DbErr> {
    let read = "SELECT host_id, cpu_milli, memory_mb, disk_mb, held_cpu_milli, held_memory_mb, held_disk_mb, held_place \
                FROM workspaces WHERE id = $1 AND volume = $2 AND deleted_ms IS NOT NULL";
    for _ in 0..TRIES {
        let Some(row) = db::fetch_one::<Row, _>(tx, read, [id.to_string().into(), volume.into()]).await? else {
            return Ok(());
        };
        let held = row.held();
        let next = Amount { disk_mb: disk_mb.min(held.disk_mb), ..held };
        if turn(tx, id, &row, (next, row.held_place)).await?.is_some() {
            return Ok(());
        }
    }
    Err(changes_all_the_time(id))
}

fn changes_all_the_time(id: WorkspaceId) -> DbErr {
    DbErr::Custom(format!("what workspace {id} holds changes all the time"))
}

/// Has a workspace hold this amount and place instead of what its row was read to say, and tells whether its host has
/// as much left; `None`: the row says something else by now.
async fn turn(
    tx: &DatabaseTransaction,
    id: WorkspaceId,
    row: &Row,
    (next, place): (Amount, i64),
) -> Result<Option<bool>, DbErr> {
    let Some(host) = &row.host_id else { return Ok(Some(true)) };
    let held = row.held();
    if next == held && place == row.held_place {
        return Ok(Some(true));
    }
    let mine = "UPDATE workspaces SET held_cpu_milli = $1, held_memory_mb = $2, held_disk_mb = $3, held_place = $4 \
                WHERE id = $5 AND held_cpu_milli = $6 AND held_memory_mb = $7 AND held_disk_mb = $8 AND held_place = $9";
    let values = [
        next.cpu_milli.into(),
        next.memory_mb.into(),
        next.disk_mb.into(),
        place.into(),
        id.to_string().into(),
        held.cpu_milli.into(),
        held.memory_mb.into(),
        held.disk_mb.into(),
        row.held_place.into(),
    ];
    if db::execute(tx, mine, values).await? == 0 {
        return Ok(None);
    }
    let more = Amount {
        cpu_milli: next.cpu_milli - held.cpu_milli,
        memory_mb: next.memory_mb - held.memory_mb,
        disk_mb: next.disk_mb - held.disk_mb,
    };
    change(tx, host, more, place - row.held_place, false).await.map(Some)
}

/// The one statement. Less always fits; a place is for hosts that take new ones.
async fn change(tx: &impl ConnectionTrait, host: &str, more: Amount, places: i64, is_new: bool) -> Result<bool, DbErr> {
    let state = if is_new {
        "AND state = 'active' AND (workspaces_max IS NULL OR used_workspaces < workspaces_max)"
    } else {
        ""
    };
    let fits = |what: &str, at: u8| {
        format!(
            "(CAST(${at} AS BIGINT) <= 0 OR total_{what} = 0 OR used_{what} + CAST(${at} AS BIGINT) <= total_{what})"
        )
    };
    let text = format!(
        "UPDATE hosts SET used_cpu_milli = used_cpu_milli + CAST($1 AS BIGINT), \
         used_memory_mb = used_memory_mb + CAST($2 AS BIGINT), used_disk_mb = used_disk_mb + CAST($3 AS BIGINT), \
         used_workspaces = used_workspaces + CAST($4 AS BIGINT) \
         WHERE id = $5 {state} AND {} AND {} AND {}",
        fits("cpu_milli", 1),
        fits("memory_mb", 2),
        fits("disk_mb", 3)
    );
    let values =
        [more.cpu_milli.into(), more.memory_mb.into(), more.disk_mb.into(), places.into(), host.to_owned().into()];
    Ok(db::execute(tx, &text, values).await? > 0)
}
