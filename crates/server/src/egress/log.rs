//! What a gateway decided, as it is kept: one line for each minute and kind, so that a workspace that asks a thousand times
//! costs as much as one that asks once.

use super::store::{self, Amount, Kind, Totals};
use crate::db::Db;
use crate::models::{self, store::Used};
use crate::secrets;
use crate::time::now_ms;
use rexec_api::gateway::EgressRecord;
use rexec_api::ids::{UserId, WorkspaceId};
use rexec_api::models::DAYS_TOLD;
use sea_orm::DbErr;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

/// How long it is kept.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
const MINUTE_MS: i64 = 60_000;

/// Kinds that wait to be written; while the database is away more are counted and not told.
const KINDS_MAX: usize = 10_000;

/// What one workspace did, together and by kind.
type OfOne<'a> = (Totals, Vec<(&'a Kind, &'a Amount)>);

/// What was told and is not written yet.
#[derive(Debug, Default)]
pub struct Pending {
    kinds: HashMap<Kind, Amount>,
    /// Of whom it is not told how many decisions.
    untold: HashMap<WorkspaceId, i64>,
    /// When a secret was last sent for a workspace.
    used: BTreeMap<(WorkspaceId, String), i64>,
    /// What models cost, by workspace, day and model.
    tokens: BTreeMap<(WorkspaceId, i64, String), Used>,
}

impl Pending {
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty() && self.untold.is_empty() && self.tokens.is_empty()
    }

    /// The end of what was allowed counts as bytes, in the minute in which that began.
    pub fn add(&mut self, record: EgressRecord) {
        if record.lost > 0 {
            *self.untold.entry(record.workspace).or_default() += i64::try_from(record.lost).unwrap_or(i64::MAX);
        }
        for name in record.secrets {
            if secrets::is_name(&name) && self.used.len() < KINDS_MAX {
                let last_ms = self.used.entry((record.workspace, name)).or_default();
                *last_ms = record.at_ms.max(*last_ms);
            }
        }
        if let Some(used) = record.tokens {
            // By this server's clock: budgets go by it.
            let mut key = (record.workspace, models::day_of(now_ms()), used.model);
            if self.tokens.len() >= KINDS_MAX && !self.tokens.contains_key(&key) {
                key.2 = models::store::OTHERS.to_owned();
            }
            let count = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
            self.tokens.entry(key).or_default().add(&Used {
                requests: 1,
                estimated: i64::from(used.estimated),
                input: count(used.input),
                cached: count(used.cached),
                output: count(used.output),
            });
        }
        let began_ms = record.at_ms - record.end.map_or(0, |end| i64::try_from(end.lasted_ms).unwrap_or(0));
        let kind = Kind {
            workspace: record.workspace,
            minute_ms: began_ms - began_ms.rem_euclid(MINUTE_MS),
            how: record.how,
            host: record.host,
            port: record.port,
            allowed: record.allowed,
            why: record.why,
        };
        if self.kinds.len() >= KINDS_MAX && !self.kinds.contains_key(&kind) {
            *self.untold.entry(kind.workspace).or_default() += 1;
            return;
        }
        let amount = self.kinds.entry(kind).or_default();
        amount.last_ms = amount.last_ms.max(record.at_ms);
        match record.end {
            Some(end) => {
                amount.bytes_up += i64::try_from(end.bytes_up).unwrap_or(i64::MAX);
                amount.bytes_down += i64::try_from(end.bytes_down).unwrap_or(i64::MAX);
            }
            None => amount.count += 1,
        }
    }

    /// Writes all of it, and forgets what is too old; whose tokens it tells of. What cannot be written waits.
    pub async fn write(&mut self, db: &Db, now_ms: i64) -> Result<HashSet<UserId>, DbErr> {
        // In one order, whoever writes: two never wait for each other.
        let mut of: BTreeMap<WorkspaceId, OfOne<'_>> = BTreeMap::new();
        for (kind, amount) in &self.kinds {
            let (totals, kinds) = of.entry(kind.workspace).or_default();
            totals.add(kind.allowed, amount);
            kinds.push((kind, amount));
        }
        for (id, untold) in &self.untold {
            of.entry(*id).or_default().0.untold += untold;
        }
        let tx = db.begin().await?;
        store::prune(&tx, now_ms - KEPT.as_millis() as i64).await?;
        for (id, (totals, kinds)) in of {
            // Nothing of workspaces that are not there.
            if store::add_totals(&tx, id, &totals).await? {
                for (kind, amount) in kinds {
                    store::add(&tx, kind, amount).await?;
                }
                store::prune_of(&tx, id).await?;
            }
        }
        let mut spent = HashSet::new();
        if !self.tokens.is_empty() {
            models::store::prune(&tx, models::day_of(now_ms) - DAYS_TOLD * models::DAY_MS).await?;
        }
        for ((id, day_ms, model), used) in &self.tokens {
            spent.extend(models::store::add(&tx, *id, *day_ms, model, used).await?);
        }
        tx.commit().await?;
        let used = std::mem::take(self).used;
        for ((id, name), at_ms) in used {
            // Each by itself: others write of the same secrets in another order.
            let tx = db.begin().await?;
            secrets::store::used(&tx, id, &name, at_ms).await?;
            tx.commit().await?;
        }
        Ok(spent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rexec_api::gateway::EgressEnd;
    use std::net::Ipv4Addr;

    #[test]
    fn what_is_alike_is_one_line() {
        let id = WorkspaceId::new();
        let record = |at_ms, host: &str, end| EgressRecord {
            at_ms,
            workspace: id,
            version: 1,
            how: "connect".into(),
            host: host.into(),
            port: 443,
            allowed: true,
            why: "*.example".into(),
            end,
            secrets: Vec::new(),
            tokens: None,
            lost: 0,
        };
        let end =
            EgressEnd { address: Some(Ipv4Addr::LOCALHOST.into()), bytes_up: 3, bytes_down: 5, lasted_ms: 60_000 };
        let mut pending = Pending::default();
        for told in [
            record(60_001, "a.example", None),
            record(60_002, "a.example", None),
            record(125_000, "a.example", Some(end)),
            record(120_000, "a.example", None),
            record(60_003, "b.example", None),
        ] {
            pending.add(told);
        }
        assert_eq!(pending.kinds.len(), 3);
        let first = pending.kinds.iter().find(|(kind, _)| kind.minute_ms == 60_000 && kind.host == "a.example");
        let amount = Amount { count: 2, bytes_up: 3, bytes_down: 5, last_ms: 125_000 };
        assert_eq!(first.map(|(_, amount)| *amount), Some(amount));
    }
}
