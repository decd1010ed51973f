//! Events: what happened, to whom, through whom; the audit log, and news for those who watch.
//!
//! The log is append-only, but for the making of what was refused and is taken back (`unmake`). An event is written in the
//! transaction of what it tells, so that neither exists without the other, and told on the bus after the commit. Some news
//! is only told and never logged: that a workspace's status has changed can be read from the workspace.

pub mod bus;
pub mod http;
pub(crate) mod store;

pub use store::{append, unmake};

use crate::actor::Actor;
use crate::db::Db;
use crate::error::Result;
use crate::page;
use bus::{Bus, News};
use futures_util::stream::{self, Stream, StreamExt as _};
use rexec_api::ids::{EventId, UserId, WorkspaceId};
use rexec_api::tokens::Scope;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::{broadcast, watch};

/// Events that are told again to a watcher who comes back; of more, the newest.
const REPLAY_MAX: u64 = 1000;

/// An event to be written now.
#[derive(Debug, Clone)]
pub struct NewEvent {
    pub user: Option<UserId>,
    pub workspace: Option<WorkspaceId>,
    /// `noun.happened`, such as `workspace.created`.
    pub kind: &'static str,
    pub data: serde_json::Value,
}

/// An event that was written, in a transaction that is still to be committed.
#[derive(Debug, Clone)]
pub struct Logged {
    pub id: EventId,
    pub at_ms: i64,
    pub event: NewEvent,
}

impl NewEvent {
    /// Something that a user did.
    pub fn of_user(user: UserId, kind: &'static str) -> Self {
        Self { user: Some(user), workspace: None, kind, data: serde_json::json!({}) }
    }

    /// Something that the server did of itself.
    pub fn of_server(kind: &'static str) -> Self {
        Self { user: None, workspace: None, kind, data: serde_json::json!({}) }
    }

    #[must_use]
    pub fn workspace(mut self, workspace: WorkspaceId) -> Self {
        self.workspace = Some(workspace);
        self
    }

    #[must_use]
    pub fn data(mut self, data: serde_json::Value) -> Self {
        self.data = data;
        self
    }
}

/// What a watcher hears.
#[derive(Debug, Clone)]
pub enum Heard {
    News(Arc<News>),
    /// From here on nothing is missed; what was before is to be read anew.
    Resync,
}

/// A handle to the service. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    db: Db,
    bus: Bus,
    watchers: Followers,
}

/// Who follows events, and how often at once.
type Followers = Arc<watch::Sender<HashMap<UserId, u32>>>;

impl Events {
    pub fn new(db: Db, bus: Bus) -> Self {
        Self { db, bus, watchers: Arc::default() }
    }

    /// Who follows: what is found out only for watchers need not be while there are none.
    pub(crate) fn followers(&self) -> watch::Receiver<HashMap<UserId, u32>> {
        self.watchers.subscribe()
    }

    /// All news, of everybody, for the server itself.
    pub(crate) fn news(&self) -> broadcast::Receiver<Arc<News>> {
        self.bus.subscribe()
    }

    /// Tells those who watch at this server what each server finds out itself.
    pub(crate) fn tell_here(&self, news: News) {
        self.bus.publish_here(news);
    }

    /// Tells what was just committed to the log.
    pub(crate) fn tell_logged(&self, user: UserId, logged: Logged) {
        self.bus.publish_logged(user, logged);
    }

    /// What has happened to a workspace, which whoever asks has seen to be the actor's: the newest before `before`, as many
    /// as make a page.
    pub(crate) async fn of_workspace(
        &self,
        actor: &Actor,
        id: WorkspaceId,
        before: Option<EventId>,
    ) -> Result<Vec<News>> {
        Ok(store::of_workspace(self.db.read(), actor.user, id, page::before(before), page::FETCH).await?)
    }

    /// News of the actor's own workspaces from now on, after what the log has since `after`.
    pub async fn follow(
        &self,
        actor: &Actor,
        after: Option<EventId>,
    ) -> Result<impl Stream<Item = Heard> + Send + use<>> {
        actor.authorise_list(Scope::WorkspacesRead)?;
        let (user, by) = (actor.user, actor.clone());
        let place = Place::take(&self.watchers, user);
        // Before the log is read: what comes in between is then heard twice rather than not at all.
        let live = self.bus.subscribe();
        let missed = match after {
            Some(after) => store::after(self.db.read(), user, after, REPLAY_MAX).await?,
            None => Vec::new(),
        };
        let told: HashSet<EventId> = missed.iter().filter_map(|news| news.id).collect();
        let again = stream::iter(missed.into_iter().map(|news| Heard::News(Arc::new(news))));
        let now = stream::once(async { Heard::Resync });
        let heard = again.chain(now).chain(from_now(live, user, told, place));
        Ok(heard.filter(move |heard| {
            let seen = match heard {
                Heard::News(news) => by.reaches(news.workspace),
                Heard::Resync => true,
            };
            std::future::ready(seen)
        }))
    }
}

fn from_now(
    live: broadcast::Receiver<Arc<News>>,
    user: UserId,
    told: HashSet<EventId>,
    place: Place,
) -> impl Stream<Item = Heard> + Send {
    stream::unfold((live, told, place), move |(mut live, told, place)| async move {
        loop {
            let heard = match live.recv().await {
                Ok(news) if news.is_gap() => Heard::Resync,
                Ok(news) if news.user == user && !news.id.is_some_and(|id| told.contains(&id)) => Heard::News(news),
                Ok(_) => continue,
                Err(broadcast::error::RecvError::Lagged(_)) => Heard::Resync,
                Err(broadcast::error::RecvError::Closed) => return None,
            };
            return Some((heard, (live, told, place)));
        }
    })
}

/// One of a user's places to watch from; free again when dropped.
struct Place {
    watchers: Followers,
    user: UserId,
}

impl Place {
    fn take(watchers: &Followers, user: UserId) -> Self {
        watchers.send_modify(|taken| *taken.entry(user).or_default() += 1);
        Self { watchers: Arc::clone(watchers), user }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.watchers.send_modify(|taken| {
            if let Some(count) = taken.get_mut(&self.user) {
                *count -= 1;
                if *count == 0 {
                    taken.remove(&self.user);
                }
            }
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn news(user: UserId, id: Option<EventId>) -> News {
        let workspace = WorkspaceId::new();
        News { id, at_ms: 0, user, workspace, kind: "workspace.status".into(), data: serde_json::json!({}) }
    }

    #[tokio::test]
    async fn a_watcher_hears_its_own_news_once() {
        let (bus, me, other) = (Bus::default(), UserId::new(), UserId::new());
        let (watchers, told) = (Arc::default(), EventId::new());
        let live = bus.subscribe();
        let place = Place::take(&watchers, me);
        let mut heard = Box::pin(from_now(live, me, HashSet::from([told]), place));
        bus.publish(news(other, None));
        bus.publish(news(me, Some(told)));
        let fresh = EventId::new();
        bus.publish(news(me, Some(fresh)));
        match heard.next().await {
            Some(Heard::News(news)) => assert_eq!(news.id, Some(fresh)),
            other => panic!("{other:?}"),
        }
        drop(heard);
        assert!(watchers.borrow().is_empty(), "the place is free again");
    }

    #[tokio::test]
    async fn one_who_is_too_slow_is_told_so() {
        let (bus, me) = (Bus::default(), UserId::new());
        let live = bus.subscribe();
        for _ in 0..5000 {
            bus.publish(news(me, None));
        }
        let place = Place::take(&Arc::default(), me);
        let mut heard = Box::pin(from_now(live, me, HashSet::new(), place));
        assert!(matches!(heard.next().await, Some(Heard::Resync)));
        assert!(matches!(heard.next().await, Some(Heard::News(_))));
    }

    #[test]
    fn places_are_counted() {
        let (watchers, me): (Followers, _) = (Arc::default(), UserId::new());
        let places: Vec<_> = (0..3).map(|_| Place::take(&watchers, me)).collect();
        let other = Place::take(&watchers, UserId::new());
        assert_eq!((watchers.borrow().len(), watchers.borrow()[&me]), (2, 3));
        drop((places, other));
        assert!(watchers.borrow().is_empty());
    }
}
