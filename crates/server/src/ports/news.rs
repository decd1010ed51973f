//! Telling a user which ports come and go in the user's running workspaces.
//!
//! Only while the user follows events, and nobody is asked over and over: the guest tells. One task
//! keeps a watch per workspace; a watch ends with the task, with the workspace's run, or when its
//! user follows no more.
//!
//! Guests of before cannot tell; of their ports there is no news, only the list.

use super::{Ports, view};
use crate::error::Result;
use crate::events::bus::News;
use crate::ports::store;
use crate::time::now_ms;
use rexec_api::guest::PortInfo;
use rexec_api::ids::{UserId, WorkspaceId};
use rexec_api::workspaces::WorkspaceStatus;
use rexec_channel::GuestClient;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio_util::task::AbortOnDropHandle;

/// Workspaces of one user that are watched at once.
const WATCHED_MAX: u64 = 100;
/// The pause before a watch that ended is begun anew.
const PAUSE: Duration = Duration::from_secs(2);
/// The pause between two lists of one workspace: a guest may tell as fast as it can, and each list waits in the memory of
/// whoever is slow to follow.
const PACE: Duration = Duration::from_millis(500);
/// The most that a list takes as JSON. Of what is more there is no news, only the list when it is asked for.
const NEWS_BYTES_MAX: usize = 32 * 1024;

struct Watch {
    user: UserId,
    _task: AbortOnDropHandle<()>,
}

/// Watches whatever must be watched, for as long as the server runs.
pub async fn tell(ports: Ports) {
    let mut followers = ports.events.followers();
    let mut news = ports.events.news();
    let mut users: HashSet<UserId> = HashSet::new();
    let mut watches: HashMap<WorkspaceId, Watch> = HashMap::new();
    loop {
        let now: HashSet<UserId> = followers.borrow_and_update().keys().copied().collect();
        watches.retain(|_, watch| now.contains(&watch.user));
        for user in now.difference(&users) {
            ports.watch_all(*user, &mut watches).await;
        }
        users = now;
        tokio::select! {
            changed = followers.changed() => if changed.is_err() { return },
            heard = news.recv() => match heard {
                Ok(news) if users.contains(&news.user) => ports.heard(&news, &mut watches),
                Ok(news) if news.is_gap() => users.clear(),
                Ok(_) => {}
                // Whom it concerned is not known: look at all of them again.
                Err(broadcast::error::RecvError::Lagged(_)) => users.clear(),
                Err(broadcast::error::RecvError::Closed) => return,
            },
        }
    }
}

impl Ports {
    async fn watch_all(&self, user: UserId, watches: &mut HashMap<WorkspaceId, Watch>) {
        match store::running_of(self.db.read(), user, WATCHED_MAX).await {
            Ok(running) => running.into_iter().for_each(|workspace| self.watch(user, workspace, watches)),
            Err(error) => tracing::warn!(%error, "ports cannot be watched"),
        }
    }

    fn heard(&self, news: &News, watches: &mut HashMap<WorkspaceId, Watch>) {
        if news.kind != "workspace.status" {
            return;
        }
        let status = |status: WorkspaceStatus| news.data["status"] == status.as_str();
        if status(WorkspaceStatus::Running) {
            self.watch(news.user, news.workspace, watches);
        } else if !status(WorkspaceStatus::Paused) && watches.remove(&news.workspace).is_some() {
            let (ports, user, workspace) = (self.clone(), news.user, news.workspace);
            self.tasks.spawn_abortable("ports-gone", async move { ports.announce(user, workspace, Vec::new()).await });
        }
    }

    fn watch(&self, user: UserId, workspace: WorkspaceId, watches: &mut HashMap<WorkspaceId, Watch>) {
        let of_user = watches.values().filter(|watch| watch.user == user).count() as u64;
        if watches.contains_key(&workspace) || of_user >= WATCHED_MAX {
            return;
        }
        let follow = self.clone().follow(user, workspace, self.workspaces.link_of(workspace));
        watches.insert(workspace, Watch { user, _task: AbortOnDropHandle::new(tokio::spawn(follow)) });
    }

    /// Tells what listens in one workspace, through every link to it.
    async fn follow(self, user: UserId, workspace: WorkspaceId, mut link: watch::Receiver<Option<GuestClient>>) {
        loop {
            let open = |link: &Option<GuestClient>| link.as_ref().is_some_and(|guest| !guest.is_closed());
            let Some(guest) = link.wait_for(open).await.ok().and_then(|link| link.clone()) else {
                return;
            };
            if let Ok(mut told) = guest.watch_ports().await {
                let mut last = None;
                while let Ok(Some(found)) = told.next().await {
                    if last.as_ref() != Some(&found) {
                        self.announce(user, workspace, found.clone()).await;
                        last = Some(found);
                        tokio::time::sleep(PACE).await;
                    }
                }
            } else {
                guest.closed().await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn announce(&self, user: UserId, workspace: WorkspaceId, found: Vec<PortInfo>) {
        let now = now_ms();
        let settings: Result<_> = store::of_workspace(self.db.read(), workspace).await.map_err(Into::into);
        let items = view::ports(found, &settings.unwrap_or_default(), now);
        let data = json!({ "items": items });
        if data.to_string().len() > NEWS_BYTES_MAX {
            return;
        }
        // Each server watches for those who follow there.
        self.events.tell_here(News { id: None, at_ms: now, user, workspace, kind: "workspace.ports".into(), data });
    }
}
