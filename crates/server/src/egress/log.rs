//! What a gateway decided, as it is kept: one line for each minute and kind, so that a workspace that asks a thousand times
//! costs as much as one that asks once.

use super::store::{self, Amount, Kind};
use crate::db::Db;
use rexec_api::gateway::EgressRecord;
use rexec_api::ids::WorkspaceId;
use sea_orm::DbErr;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// How long it is kept.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
const MINUTE_MS: i64 = 60_000;

/// What was told and is not written yet.
#[derive(Debug, Default)]
pub struct Pending(HashMap<Kind, Amount>);

impl Pending {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The end of what was allowed counts as bytes, not as one more.
    pub fn add(&mut self, record: EgressRecord) {
        let kind = Kind {
            workspace: record.workspace,
            minute_ms: record.at_ms - record.at_ms.rem_euclid(MINUTE_MS),
            how: record.how,
            host: record.host,
            port: record.port,
            allowed: record.allowed,
            why: record.why,
        };
        let amount = self.0.entry(kind).or_default();
        amount.last_ms = amount.last_ms.max(record.at_ms);
        match record.end {
            Some(end) => {
                amount.bytes_up += i64::try_from(end.bytes_up).unwrap_or(i64::MAX);
                amount.bytes_down += i64::try_from(end.bytes_down).unwrap_or(i64::MAX);
            }
            None => amount.count += 1,
        }
    }

    /// Writes all of it, and forgets what is too old.
    pub async fn write(&mut self, db: &Db, now_ms: i64) -> Result<(), DbErr> {
        let pending = std::mem::take(&mut self.0);
        let of: HashSet<WorkspaceId> = pending.keys().map(|kind| kind.workspace).collect();
        let of: Vec<WorkspaceId> = of.into_iter().collect();
        let tx = db.begin().await?;
        for (kind, amount) in &pending {
            store::add(&tx, kind, amount).await?;
        }
        store::prune(&tx, now_ms - KEPT.as_millis() as i64, &of).await?;
        tx.commit().await
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
            lost: 0,
        };
        let end = EgressEnd { address: Ipv4Addr::LOCALHOST.into(), bytes_up: 3, bytes_down: 5, lasted_ms: 1 };
        let mut pending = Pending::default();
        for told in [
            record(60_001, "a.example", None),
            record(60_002, "a.example", None),
            record(119_999, "a.example", Some(end)),
            record(120_000, "a.example", None),
            record(60_003, "b.example", None),
        ] {
            pending.add(told);
        }
        assert_eq!(pending.0.len(), 3);
        let first = pending.0.iter().find(|(kind, _)| kind.minute_ms == 60_000 && kind.host == "a.example");
        let amount = Amount { count: 2, bytes_up: 3, bytes_down: 5, last_ms: 119_999 };
        assert_eq!(first.map(|(_, amount)| *amount), Some(amount));
    }
}
