//! What replicas tell each other by PostgreSQL's LISTEN and NOTIFY: news of workspaces, and that there is something to be
//! read. A payload has room for some 8000 bytes (postgresql.org, "NOTIFY"): longer news that stands in the log goes by its
//! id and is read there.
//!
//! Nothing depends on what is told here arriving: leases and the fleet are read at a slow pace as well, and who watches
//! events is told to read anew where the connection was gone.

use super::{ReplicaId, Replicas};
use crate::db::{self, Db};
use crate::events::bus::{Bus, News};
use crate::events::store as events;
use crate::hosts::Fleet;
use crate::hosts::placement::Amount;
use crate::time::now_ms;
use rexec_api::ids::{EventId, UserId, WorkspaceId};
use sea_orm::DbErr;
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgListener, PgNotification};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

const CHANNEL: &str = "rexec";
/// The most of a payload that is used.
const PAYLOAD_BYTES_MAX: usize = 7500;
const RETRY: Duration = Duration::from_millis(500);
/// After so long without a word it is asked whether the connection is there.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Word {
    /// Leases have changed hands, or something is told of one.
    Leases,
    /// Servers were added, changed or taken out.
    Fleet,
    /// Somebody was refused for want of a server; whoever makes machines with demand is to know.
    Missed {
        region: Option<String>,
        amount: Amount,
    },
    /// Some news was not told.
    Gap,
    News(Told),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Told {
    id: Option<EventId>,
    at_ms: i64,
    user: UserId,
    workspace: WorkspaceId,
    kind: String,
    /// Absent: to be read in the log.
    data: Option<serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    from: ReplicaId,
    word: Word,
}

pub(super) async fn notify(db: &Db, from: ReplicaId, word: &Word) -> Result<(), DbErr> {
    let json = |word: &Word| serde_json::to_string(&Envelope { from, word: word.clone() });
    let mut payload = json(word).map_err(|e| DbErr::Json(e.to_string()))?;
    if payload.len() > PAYLOAD_BYTES_MAX {
        let shorter = match word {
            Word::News(told) if told.id.is_some() => Word::News(Told { data: None, ..told.clone() }),
            _ => Word::Gap,
        };
        payload = json(&shorter).map_err(|e| DbErr::Json(e.to_string()))?;
    }
    db::execute(db.write(), "SELECT pg_notify($1, $2)", [CHANNEL.into(), payload.into()]).await.map(|_| ())
}

/// Tells the others, in order, for as long as the server runs.
pub(super) async fn speak(
    db: Db,
    from: ReplicaId,
    mut words: mpsc::Receiver<Word>,
    mut abroad: mpsc::Receiver<Arc<News>>,
) {
    let mut gap = false;
    loop {
        let word = tokio::select! {
            word = words.recv() => word,
            news = abroad.recv() => news.map(|news| Word::News(Told {
                id: news.id,
                at_ms: news.at_ms,
                user: news.user,
                workspace: news.workspace,
                kind: news.kind.clone().into_owned(),
                data: Some(news.data.clone()),
            })),
        };
        let Some(word) = word else { return };
        if gap {
            gap = notify(&db, from, &Word::Gap).await.is_err();
        }
        if let Err(error) = notify(&db, from, &word).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "the other servers are not told");
            gap = true;
        }
    }
}

/// Listens for as long as the server runs.
pub(super) async fn listen(replicas: Replicas, bus: Bus, fleet: Fleet) {
    let Some(inner) = replicas.0.clone() else { return };
    let crate::config::DatabaseUrl::Postgres(url) = &inner.database else { return };
    let mut is_first = true;
    loop {
        match PgListener::connect(url.expose()).await {
            Ok(mut listener) => {
                if listener.listen(CHANNEL).await.is_ok() {
                    if !std::mem::take(&mut is_first) {
                        bus.gap();
                    }
                    inner.look.notify_one();
                    inner.fleet.send_modify(|count| *count += 1);
                    // Without a payload: the connection was gone, and with it what was told meanwhile.
                    while let Some(told) = hear_next(&mut listener).await {
                        match serde_json::from_str::<Envelope>(told.payload()) {
                            Ok(envelope) if envelope.from == inner.id => {}
                            Ok(envelope) => replicas.hear(envelope.word, &bus, &fleet).await,
                            Err(error) => tracing::debug!(%error, "another server tells what is not understood"),
                        }
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "cannot listen to the other servers"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// What is told next; `None`: the connection is gone. One over which nothing comes for long is asked whether it is there:
/// nothing is ever written to it else, and it could be dead without anybody noticing.
async fn hear_next(listener: &mut PgListener) -> Option<PgNotification> {
    loop {
        match timeout(SILENCE_MAX, listener.try_recv()).await {
            Ok(told) => return told.ok().flatten(),
            Err(_) => {
                let asked = sqlx::query("SELECT 1").execute(&mut *listener);
                if !matches!(timeout(ANSWER_PATIENCE, asked).await, Ok(Ok(_))) {
                    return None;
                }
            }
        }
    }
}

impl Replicas {
    async fn hear(&self, word: Word, bus: &Bus, fleet: &Fleet) {
        let Some(inner) = &self.0 else { return };
        match word {
            Word::Leases => inner.look.notify_one(),
            Word::Fleet => inner.fleet.send_modify(|count| *count += 1),
            Word::Missed { region, amount } => {
                fleet.missed().tell(region, amount, now_ms());
            }
            Word::Gap => bus.gap(),
            Word::News(told) => {
                let Told { id, at_ms, user, workspace, kind, data } = told;
                let data = match (data, id) {
                    (Some(data), _) => Some(data),
                    (None, Some(id)) => events::data_of(inner.db.read(), id).await.ok().flatten(),
                    (None, None) => None,
                };
                match data {
                    Some(data) => bus.publish_here(News { id, at_ms, user, workspace, kind: kind.into(), data }),
                    None => bus.gap(),
                }
            }
        }
    }
}
