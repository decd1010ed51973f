//! The mark that an engine has where several servers may reach it: a volume whose labels say as which server of the fleet
//! this installation knows it. One engine under two names would have the helpers and containers of each taken for
//! leftovers by the other; a server that has lost its data directory knows its engine by the mark.
//!
//! An engine answers the making of a volume that it has with the one it has: of two that claim an engine at once one finds
//! the other's mark.
//!
//! Invariant: an engine is `ready` under the name that its mark says, and under no other. A mark of what is not recorded,
//! such as one that was never added or was deleted, is replaced.

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
const PATIENCE: Duration = Duration::from_secs(3);

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
    #[error("{}", already(.0, .1))]
    Another(String, String),
    #[error("What the engine is marked as changes all the time: another server claims it, too.")]
    Restless,
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("The database does not answer.")]
    Database(#[from] sea_orm::DbErr),
}

/// What is said of an engine that has another's mark.
pub(super) fn already(name: &str, volume: &str) -> String {
    format!(
        "That engine is the server `{name}` already. If it is a copy of that one's machine, remove the volume `{volume}` there first."
    )
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
    for _ in 0..TRIES {
        let mut labels = host.labels_to_give();
        labels.insert(LABEL_HOST.into(), host.id.to_string());
        labels.insert(LABEL_MARK.into(), uuid::Uuid::new_v4().to_string());
        host.engine.volume_create(&name, &labels, None).await?;
        let Some(mark) = read(host.engine.as_ref(), &host.instance).await? else { continue };
        if mark.host == Some(host.id) {
            return Ok(());
        }
        if let Some(id) = mark.host
            && let Some(row) = store::find(db.read(), id).await?
        {
            return Err(Claim::Another(row.name, name));
        }
        host.engine.remove_volume(&name).await?;
    }
    Err(Claim::Restless)
}

/// As which host the engine that `DOCKER_HOST` names is marked, where it can be asked at once.
pub(crate) async fn of_usual(access: &Access, instance: &str) -> Option<HostId> {
    let engine = DockerEngine::at(super::remote::address(access, None).ok()?).ok()?;
    tokio::time::timeout(PATIENCE, read(&engine, instance)).await.ok()?.ok()??.host
}
