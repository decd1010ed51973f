//! Regions: which servers are in each, how far they are, and how many workspaces each may have.
//!
//! A region is what its servers say; only a limit has a record of its own. Of two who want the last place of a region one
//! gets it: whoever records a workspace holds the limit's row until the end of the transaction, and counts then.
//!
//! Invariant: that row is locked before those of hosts.

use super::admin::{Servers, require_admin};
use super::store::{self, HostRow};
use crate::actor::Actor;
use crate::db;
use crate::error::{Error, Result};
use crate::events::{self, NewEvent};
use crate::time::now_ms;
use rexec_api::Page;
use rexec_api::error::ErrorCode;
use rexec_api::servers::{PutRegion, RegionView, ServerState};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, FromQueryResult};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// More than there will ever be.
const WORKSPACES_MAX: u32 = 1_000_000;
/// Those that count: warm ones are nobody's, machines are nowhere.
const COUNTED: &str = "FROM workspaces w JOIN hosts h ON h.id = w.host_id WHERE w.deleted_ms IS NULL \
    AND w.desired <> 'deleted' AND w.machine_json IS NULL AND w.pool_key IS NULL";

impl Servers {
    pub async fn regions(&self, actor: &Actor) -> Result<Page<RegionView>> {
        require_admin(actor)?;
        Ok(Page { items: self.all_regions().await?, next: None })
    }

    /// Limits a region, from now on.
    pub async fn limit_region(&self, actor: &Actor, name: &str, limit: PutRegion) -> Result<RegionView> {
        require_admin(actor)?;
        if limit.max_workspaces.is_some_and(|max| max > WORKSPACES_MAX) {
            let message = format!("`max_workspaces` is at most {WORKSPACES_MAX}; `null` is without a limit.");
            return Err(Error::field("max_workspaces", message));
        }
        if !store::all(self.db().read()).await?.iter().any(|row| row.region == name) {
            return Err(Error::new(ErrorCode::NotFound, "No server is in a region of that name."));
        }
        let tx = self.db().begin().await?;
        set_limit(&tx, name, limit.max_workspaces).await?;
        let data = json!({ "region": name, "max_workspaces": limit.max_workspaces });
        events::append(&tx, &NewEvent::of_user(actor.user, "region.limited").data(data)).await?;
        tx.commit().await?;
        let regions = self.all_regions().await?;
        let found = regions.into_iter().find(|region| region.name == name);
        found.ok_or_else(|| Error::new(ErrorCode::NotFound, "No server is in a region of that name any more."))
    }

    async fn all_regions(&self) -> Result<Vec<RegionView>> {
        let rows = store::all(self.db().read()).await?;
        let counts = counts(self.db().read()).await?;
        let limits = limits(self.db().read()).await?;
        let latency = self.latency(&rows);
        let mut regions: BTreeMap<String, RegionView> = BTreeMap::new();
        for row in &rows {
            let region = regions.entry(row.region.clone()).or_insert_with(|| RegionView {
                name: row.region.clone(),
                servers: 0,
                ready: 0,
                workspaces: counts.get(&row.region).copied().and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
                max_workspaces: limits.get(&row.region).and_then(|max| u32::try_from(*max).ok()),
                latency_ms: latency.get(&row.region).copied(),
            });
            region.servers += 1;
            region.ready += u32::from(self.takes_workspaces(row));
        }
        Ok(regions.into_values().collect())
    }

    pub(super) fn takes_workspaces(&self, row: &HostRow) -> bool {
        row.state == ServerState::Active && self.fleet().of(Some(row.id)).ready().is_ok()
    }

    /// Of each region with a ready server, the nearest one's.
    pub(super) fn latency(&self, rows: &[HostRow]) -> BTreeMap<String, f64> {
        let mut nearest = BTreeMap::new();
        for row in rows {
            let host = self.fleet().of(Some(row.id));
            if let (Ok(_), Some(ms)) = (host.ready(), host.round_trip.ms()) {
                nearest.entry(row.region.clone()).and_modify(|least: &mut f64| *least = least.min(ms)).or_insert(ms);
            }
        }
        nearest
    }
}

#[derive(FromQueryResult)]
struct Numbered {
    region: String,
    n: i64,
}

/// Without one where there is none.
async fn set_limit(conn: &impl ConnectionTrait, region: &str, max: Option<u32>) -> Result<(), DbErr> {
    match max {
        Some(max) => {
            let text = "INSERT INTO regions (name, workspaces_max, changed_ms) VALUES ($1, $2, $3) \
                        ON CONFLICT (name) DO UPDATE SET workspaces_max = $2, changed_ms = $3";
            db::execute(conn, text, [region.into(), i64::from(max).into(), now_ms().into()]).await?;
        }
        None => {
            db::execute(conn, "DELETE FROM regions WHERE name = $1", [region.into()]).await?;
        }
    }
    Ok(())
}

async fn limits(conn: &impl ConnectionTrait) -> Result<HashMap<String, i64>, DbErr> {
    let text = "SELECT name AS region, workspaces_max AS n FROM regions";
    let rows = db::fetch_all::<Numbered, _>(conn, text, []).await?;
    Ok(rows.into_iter().map(|row| (row.region, row.n)).collect())
}

async fn counts(conn: &impl ConnectionTrait) -> Result<HashMap<String, i64>, DbErr> {
    let text = format!("SELECT h.region AS region, COUNT(*) AS n {COUNTED} GROUP BY h.region");
    let rows = db::fetch_all::<Numbered, _>(conn, &text, []).await?;
    Ok(rows.into_iter().map(|row| (row.region, row.n)).collect())
}

/// Those that have as many as they may have.
pub async fn full(conn: &impl ConnectionTrait) -> Result<BTreeSet<String>, DbErr> {
    let limits = limits(conn).await?;
    if limits.is_empty() {
        return Ok(BTreeSet::new());
    }
    let counts = counts(conn).await?;
    let is_full = |region: &String, max: i64| counts.get(region).copied().unwrap_or(0) >= max;
    Ok(limits.into_iter().filter(|(region, max)| is_full(region, *max)).map(|(region, _)| region).collect())
}

/// Refuses one more than a region may have, and has others that want a place there wait until this transaction's end.
pub async fn require_place(tx: &DatabaseTransaction, region: &str) -> Result<()> {
    let lock = "UPDATE regions SET changed_ms = changed_ms WHERE name = $1";
    if db::execute(tx, lock, [region.into()]).await? == 0 {
        return Ok(());
    }
    let limit = limits(tx).await?.remove(region);
    match limit {
        Some(max) if counts(tx).await?.remove(region).unwrap_or(0) >= max => {
            let message = format!(
                "The region `{region}` has the {max} workspaces that it may have. Choose another, or try again later."
            );
            Err(Error::new(ErrorCode::HostFull, message).details(json!({ "field": "region", "region": region })))
        }
        _ => Ok(()),
    }
}
