//! News of workspaces, from whoever makes them to whoever watches, at this server and, where there are several, at the
//! others (`replicas/news.rs`).
//!
//! Told after the commit of what they tell. News may be lost on a watcher that is too slow: it
//! learns that it was, and reads anew what it shows.

use super::Logged;
use crate::time::now_ms;
use rexec_api::ids::{EventId, UserId, WorkspaceId};
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use tokio::sync::{broadcast, mpsc};

/// News that a slow watcher may be behind before it loses the oldest.
const NEWS_MAX: usize = 4096;

/// Something that happened to a workspace, for its owner.
#[derive(Debug, Clone)]
pub struct News {
    /// Only what stands in the log has one, and can be told again.
    pub id: Option<EventId>,
    pub at_ms: i64,
    /// Whose news it is.
    pub user: UserId,
    pub workspace: WorkspaceId,
    /// `noun.happened`.
    pub kind: Cow<'static, str>,
    pub data: serde_json::Value,
}

impl News {
    /// Not news, but that some was lost.
    pub fn is_gap(&self) -> bool {
        self.kind == GAP
    }

    /// A workspace whose making was told of has been refused after all and is taken back, its event with it.
    pub fn unmade(user: UserId, workspace: WorkspaceId) -> Self {
        let (kind, data) = ("workspace.unmade".into(), serde_json::json!({}));
        Self { id: None, at_ms: now_ms(), user, workspace, kind, data }
    }
}

/// Instead of news that was lost on the way from another server.
const GAP: &str = "gap";

/// A handle to the bus. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bus {
    sender: broadcast::Sender<Arc<News>>,
    /// To the other servers.
    abroad: Arc<OnceLock<mpsc::Sender<Arc<News>>>>,
}

impl Default for Bus {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(NEWS_MAX), abroad: Arc::default() }
    }
}

impl Bus {
    pub fn publish(&self, news: News) {
        let news = Arc::new(news);
        if let Some(abroad) = self.abroad.get()
            && abroad.try_send(news.clone()).is_err()
        {
            tracing::debug!("the other servers are behind; news is not told to them");
        }
        // That nobody watches is no failure.
        let _ = self.sender.send(news);
    }

    /// Tells those who watch at this server alone: what another has told it, or what each finds out itself.
    pub fn publish_here(&self, news: News) {
        let _ = self.sender.send(Arc::new(news));
    }

    /// From now on others are told what is published.
    pub fn tell_abroad(&self, abroad: mpsc::Sender<Arc<News>>) {
        let _ = self.abroad.set(abroad);
    }

    /// News of another server was lost: whoever watches is to read anew.
    pub fn gap(&self) {
        let (user, workspace) = (UserId(uuid::Uuid::nil()), WorkspaceId(uuid::Uuid::nil()));
        let data = serde_json::Value::Null;
        self.publish_here(News { id: None, at_ms: now_ms(), user, workspace, kind: GAP.into(), data });
    }

    /// Tells what was just committed to the log, if it is about a workspace.
    pub fn publish_logged(&self, user: UserId, logged: Logged) {
        let Logged { id, at_ms, event } = logged;
        if let Some(workspace) = event.workspace {
            self.publish(News { id: Some(id), at_ms, user, workspace, kind: event.kind.into(), data: event.data });
        }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<News>> {
        self.sender.subscribe()
    }
}
