//! The mark that an engine has where several servers may reach it: a volume whose labels say as which server of the fleet
//! this installation knows it. One engine under two names would have the helpers and containers of each taken for
//! leftovers by the other; a server that has lost its data directory knows its engine by the mark.
//!
//! An engine answers the making of a volume that it has with the one it has: of two that claim an engine at once one finds
//! the other's mark. A mark of what is not recorded, such as a server that was never added or was deleted, is replaced.
//!
//! Invariant: a host whose engine is marked as another does not become `ready`, and is not for longer than the next look at
//! the host's rules, by which also a mark that was pruned is made again.

use super::store;
use super::{Host, LABEL_INSTANCE};
use crate::config::Access;
use crate::db::Db;
use rexec_api::ids::HostId;
use rexec_engine::docker::DockerEngine;
use rexec_engine::{Engine, EngineError, Labels};
use std::time::Duration;

const LABEL_MARK: &str = "rexec.mark";
const LABEL_HOST: &str = "rexec.host";
/// Others may replace a stale mark at the same time.
const TRIES: usize = 3;
/// A server that starts waits so long for an engine to say which it is.
const PATIENCE: Duration = Duration::from_secs(5);
/// Whoever has replaced a mark looks once more after this: another may have thought it stale a moment before.
const SETTLES: Duration = Duration::from_millis(300);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    /// `None` where the label cannot be read.
    pub(super) host: Option<HostId>,
    /// Tells it from all others, also of the same host.
    nonce: String,
}

/// Why an engine cannot be a host's.
#[derive(Debug, thiserror::Error)]
pub(super) enum Claim {
    #[error("That engine is the server `{0}` already.")]
    Another(String),
    #[error(
        "That engine is the server `{0}`, of a Rexec server that is there no more. Start this one again: it takes it over."
    )]
    Orphaned(String),
    #[error("What the engine is marked as, by its volume `{0}`, changes all the time or cannot be read.")]
    Restless(String),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("The database does not answer.")]
    Database(#[from] sea_orm::DbErr),
}

pub(super) fn volume(instance: &str) -> String {
    format!("rexec-mark-{instance}")
}

fn of_instance(instance: &str) -> Labels {
    Labels::from([(LABEL_INSTANCE.into(), instance.into())])
}

/// What an engine is marked as.
pub(super) async fn read(engine: &dyn Engine, instance: &str) -> Result<Option<Mark>, EngineError> {
    let name = volume(instance);
    let found = engine.volumes(&of_instance(instance)).await?.into_iter().find(|volume| volume.name == name);
    Ok(found.map(|volume| Mark {
        host: volume.labels.get(LABEL_HOST).and_then(|id| id.parse().ok()),
        nonce: volume.labels.get(LABEL_MARK).cloned().unwrap_or_default(),
    }))
}

/// Makes the engine known as this host, unless it is known as another.
pub(super) async fn claim(host: &Host, db: &Db) -> Result<(), Claim> {
    let name = volume(&host.instance);
    let mut replaced = false;
    for _ in 0..TRIES {
        let mut labels = host.labels_to_give();
        labels.insert(LABEL_HOST.into(), host.id.to_string());
        labels.insert(LABEL_MARK.into(), uuid::Uuid::new_v4().to_string());
        host.engine.volume_create(&name, &labels, None).await?;
        if replaced {
            tokio::time::sleep(SETTLES).await;
        }
        let Some(mark) = read(host.engine.as_ref(), &host.instance).await? else { continue };
        if mark.host == Some(host.id) {
            return Ok(());
        }
        if let Some(id) = mark.host
            && let Some(row) = store::find(db.read(), id).await?
        {
            let is_left = row.access_sealed.is_none() && store::is_left(db.read(), id).await?;
            return Err(if is_left { Claim::Orphaned(row.name) } else { Claim::Another(row.name) });
        }
        host.engine.remove_volume(&name).await?;
        replaced = true;
    }
    Err(Claim::Restless(name))
}

/// As which host the engine that `DOCKER_HOST` names is marked, where it can be asked at once.
pub(crate) async fn of_usual(access: &Access, instance: &str) -> Option<HostId> {
    let engine = DockerEngine::at(super::remote::address(access, None).ok()?).ok()?;
    tokio::time::timeout(PATIENCE, read(&engine, instance)).await.ok()?.ok()??.host
}
