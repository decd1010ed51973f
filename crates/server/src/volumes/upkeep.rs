//! One round of removing what the records say is to go. Whatever fails is there for the next round.

use super::store;
use crate::hosts::{Host, reserve};
use crate::workspaces::{self, Deps};
use rexec_engine::EngineError;
use sea_orm::DbErr;

/// Volumes of one round; more wait for the next.
const ROUND_MAX: u64 = 200;
const MIB: i64 = 1 << 20;

pub(super) async fn round(deps: &Deps, host: &Host, now_ms: i64) -> Result<(), DbErr> {
    store::condemn_due(deps.db.write(), host.id, now_ms).await?;
    for (name, workspace) in store::condemned(deps.db.read(), host.id, ROUND_MAX).await? {
        match host.engine.remove_volume(&name).await {
            Ok(()) | Err(EngineError::NotFound(_)) => {
                deps.crash.point("purge.volume");
                let tx = deps.db.begin().await?;
                store::purged(&tx, &name).await?;
                reserve::hold_home(&tx, workspace, &name, 0).await?;
                workspaces::store::forget_env(&tx, &name).await?;
                tx.commit().await?;
            }
            Err(error) => tracing::warn!(volume = name, %error, "a volume cannot be removed yet"),
        }
    }
    measure(deps, host, now_ms).await
}

/// Tells of kept homes how large they are: they do not change any more.
async fn measure(deps: &Deps, host: &Host, now_ms: i64) -> Result<(), DbErr> {
    let left = store::unmeasured(deps.db.read(), host.id, ROUND_MAX).await?;
    if left.is_empty() {
        return Ok(());
    }
    // Another walk of the engine's disk may be under way: then the next round asks again.
    let Ok(usage) = host.engine.disk_usage().await else { return Ok(()) };
    for (name, workspace) in left {
        let size = usage.volumes.get(&name).and_then(|bytes| i64::try_from(*bytes).ok());
        let tx = deps.db.begin().await?;
        // Since it was listed it may have become another workspace's.
        if store::measured(&tx, &name, size, now_ms).await?
            && let Some(bytes) = size
        {
            reserve::hold_home(&tx, workspace, &name, bytes.saturating_add(MIB - 1) / MIB).await?;
        }
        tx.commit().await?;
    }
    Ok(())
}
