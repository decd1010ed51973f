//! One round of removing the containers that workspaces have left on a host. Whatever cannot be removed yet is there for
//! the next round; homes and images go by their own records.

use super::store;
use crate::hosts::{Host, LABEL_GENERATION, LABEL_WORKSPACE};
use crate::workspaces::Deps;
use rexec_engine::EngineError;
use sea_orm::DbErr;

/// Moves of one round; more wait for the next.
const ROUND_MAX: u64 = 100;

pub async fn round(deps: &Deps, host: &Host) -> Result<(), DbErr> {
    for left in store::proven(deps.db.read(), host.id, ROUND_MAX).await? {
        match remove(host, &left).await {
            Ok(()) => store::done(deps.db.write(), &left).await?,
            Err(error) => {
                tracing::debug!(workspace.id = %left.workspace, %error, "what a move left cannot be removed yet");
            }
        }
    }
    Ok(())
}

/// It may have come back since: what was made of it here then has a higher number.
async fn remove(host: &Host, left: &store::Move) -> Result<(), EngineError> {
    let mut labels = host.labels();
    labels.insert(LABEL_WORKSPACE.into(), left.workspace.to_string());
    for found in host.engine.summaries(&labels).await? {
        let generation = found.labels.get(LABEL_GENERATION).and_then(|number| number.parse::<i64>().ok());
        if generation.is_some_and(|number| number <= left.generation) {
            match host.engine.remove(&found.id).await {
                Ok(()) | Err(EngineError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
