//! Where the dashboard's news comes from, and who does what it wishes: the server, asked in the background.
//!
//! One task lists, as often as something happens and now and then besides; one follows what happens; one for each
//! workspace that runs follows its figures. Each wish is a task of its own. All end with the [`Source`].

use super::model::{Action, News, Wish, is_measured};
use crate::connection::workspaces;
use crate::show::Tint;
use rexec_api::ids::WorkspaceId;
use rexec_api::workspaces::{NewWorkspace, WorkspaceView};
use rexec_client::{Client, ClientError, Heard, StatsHeard};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinSet};

/// News on its way to the screen; who brings more waits.
const NEWS_MAX: usize = 256;
/// Wishes that wait to be begun; more keys than that do nothing.
const WISHES_MAX: usize = 16;
/// Workspaces whose figures are followed at once.
const FOLLOWED_MAX: usize = 48;
/// How often it is listed though nothing is heard.
const LIST_EVERY: Duration = Duration::from_secs(5);
/// What happens together is listed once.
const TOGETHER: Duration = Duration::from_millis(100);
/// Between attempts to hear again.
const RETRY_EVERY: Duration = Duration::from_secs(2);
/// Entries of a log.
const LOG_ENTRIES: usize = 200;

/// The dashboard's end. Everything in the background ends when this is dropped.
pub struct Source {
    pub news: mpsc::Receiver<News>,
    pub wishes: mpsc::Sender<Wish>,
    _tasks: JoinSet<()>,
}

impl Source {
    pub fn start(client: Client) -> Self {
        let (tell, news) = mpsc::channel(NEWS_MAX);
        let (wishes, wished) = mpsc::channel(WISHES_MAX);
        let server = Server { client, tell, changed: Arc::new(Notify::new()) };
        let mut tasks = JoinSet::new();
        tasks.spawn(server.clone().list());
        tasks.spawn(server.clone().follow());
        tasks.spawn(server.fulfil(wished));
        Self { news, wishes, _tasks: tasks }
    }
}

#[derive(Clone)]
struct Server {
    client: Client,
    tell: mpsc::Sender<News>,
    /// Something has happened: list again.
    changed: Arc<Notify>,
}

impl Server {
    async fn tell(&self, news: News) {
        // Nobody looks any more: all of this is about to end.
        let _ = self.tell.send(news).await;
    }

    async fn failed(&self, what: &str, error: &ClientError) {
        let said = match error {
            ClientError::Refused(refused) => refused.message.clone(),
            error => error.to_string(),
        };
        self.tell(News::Said(format!("{what}: {said}"), Tint::Bad)).await;
    }

    async fn list(self) {
        let mut figures = Figures { server: self.clone(), tasks: JoinSet::new(), of: HashMap::new() };
        loop {
            match workspaces(&self.client).await {
                Ok(list) => {
                    figures.follow(&list);
                    self.tell(News::List(list)).await;
                }
                Err(failure) => self.tell(News::Lost(failure.to_string())).await,
            }
            let _ = tokio::time::timeout(LIST_EVERY, self.changed.notified()).await;
            tokio::time::sleep(TOGETHER).await;
        }
    }

    async fn follow(self) {
        loop {
            if let Ok(mut live) = self.client.follow_events(None).await {
                while let Ok(Some(Heard::News(_) | Heard::Resync {})) = live.next().await {
                    self.changed.notify_one();
                }
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }

    async fn fulfil(self, mut wished: mpsc::Receiver<Wish>) {
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                wish = wished.recv() => match wish {
                    Some(wish) => drop(tasks.spawn(self.clone().grant(wish))),
                    None => return,
                },
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    async fn grant(self, wish: Wish) {
        match wish {
            Wish::Do(id, action) => self.act(id, action).await,
            Wish::New(name) => {
                let new = NewWorkspace { name, wait_ms: Some(0), ..Default::default() };
                match self.client.create_workspace(&new).await {
                    Ok(made) => self.tell(News::Said(format!("{} is being made.", made.name), Tint::Good)).await,
                    Err(error) => self.failed("Not made", &error).await,
                }
            }
            Wish::Log(id) => match crate::commands::logs::newest(&self.client, id, LOG_ENTRIES).await {
                Ok(newest) => self.tell(News::Log(id, newest)).await,
                Err(failure) => self.tell(News::Said(failure.to_string(), Tint::Bad)).await,
            },
            // The screen sees to these itself.
            Wish::Quit | Wish::Open(_) => {}
        }
        self.changed.notify_one();
    }

    async fn act(&self, id: WorkspaceId, action: Action) {
        let done = match action.lifecycle() {
            Some(request) => self.client.lifecycle(id, request).await.map(drop),
            None => self.client.delete_workspace(id).await,
        };
        if let Err(error) = done {
            self.failed("Refused", &error).await;
        }
    }
}

/// Who follows which workspace's figures.
struct Figures {
    server: Server,
    tasks: JoinSet<()>,
    of: HashMap<WorkspaceId, AbortHandle>,
}

impl Figures {
    fn follow(&mut self, list: &[WorkspaceView]) {
        let wanted: Vec<_> =
            list.iter().filter(|one| is_measured(one.status)).map(|one| one.id).take(FOLLOWED_MAX).collect();
        self.of.retain(|id, task| {
            let stays = wanted.contains(id) && !task.is_finished();
            if !stays {
                task.abort();
            }
            stays
        });
        while self.tasks.try_join_next().is_some() {}
        for id in wanted {
            let server = self.server.clone();
            let tasks = &mut self.tasks;
            self.of.entry(id).or_insert_with(|| tasks.spawn(figures(server, id)));
        }
    }
}

/// To the end of the stream; the next listing begins another.
async fn figures(server: Server, id: WorkspaceId) {
    if let Ok(mut live) = server.client.watch_stats(id).await {
        while let Ok(Some(StatsHeard::Sample(sample))) = live.next().await {
            server.tell(News::Sample(id, sample)).await;
        }
    }
    // One that ends at once is not asked for again at once.
    tokio::time::sleep(RETRY_EVERY).await;
}
