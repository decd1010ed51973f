//! The dashboard: what `ssh <host>` alone shows on a terminal.
//!
//! ```text
//!   list --Enter--> shell of a workspace --its end--> list --q--> end
//! ```
//!
//! Invariant: keys go to the list or to the shell, never to both; one thing is done at a time, and the list is drawn while
//! it is under way. How it is drawn, and what keys mean, is `list.rs`.

use super::journal::Kind;
use super::list::{self, Key, List};
use super::session::Visit;
use super::shell;
use crate::error::Result;
use crate::workspaces::lifecycle::Request;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use rexec_api::ids::WorkspaceId;
use rexec_api::tokens::Scope;
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus};
use rexec_ssh::{Control, Event, Exit, Input, Output, Pty, Running, Size, Work};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Pieces of input that the list may be behind. More are lost.
const KEYS_MAX: usize = 64;
/// How often the list is read anew.
const REFRESH_EVERY: Duration = Duration::from_secs(2);
/// How long a start, a stop or a creation may take to be told of.
const PATIENCE: Duration = Duration::from_secs(120);

/// Shows the user's workspaces.
pub(super) async fn open(visit: Arc<Visit>, said: &str, pty: Pty, env: Vec<(String, String)>) -> Result<Running> {
    let items = visit.deps.workspaces.list(&visit.actor, None).await?.items;
    let mut list = List::new(items);
    if !said.is_empty() {
        list.message = format!("No workspace is called `{said}`. These are yours.");
    }
    let (to_list, keys) = mpsc::channel(KEYS_MAX);
    let helm = Arc::new(Helm { open: Mutex::default(), size: watch::Sender::new(pty.size), to_list });
    let mut refresh = interval(REFRESH_EVERY);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let sized = helm.size.subscribe();
    let out = list::ENTER.to_owned();
    let dashboard = Dashboard {
        visit,
        helm: helm.clone(),
        keys,
        sized,
        list,
        refresh,
        pty,
        env,
        out,
        work: None,
        shell: None,
        over: false,
    };
    Ok(Running { input: Box::new(Keys(helm.clone())), control: Box::new(Window(helm)), output: Box::new(dashboard) })
}

/// Where keys and sizes go.
struct Helm {
    /// The two ways into the shell that is open; each is taken out while it is in use.
    open: Mutex<Option<Ways>>,
    size: watch::Sender<Size>,
    to_list: mpsc::Sender<Bytes>,
}

struct Ways {
    input: Option<Box<dyn Input>>,
    control: Option<Box<dyn Control>>,
}

impl Helm {
    fn lock(&self) -> MutexGuard<'_, Option<Ways>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Keys(Arc<Helm>);

#[async_trait]
impl Input for Keys {
    async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        let input = self.0.lock().as_mut().map(|ways| ways.input.take());
        match input {
            Some(Some(mut input)) => {
                // A shell that has ended takes nothing more; the list is drawn by then.
                let _ = input.write(bytes).await;
                if let Some(ways) = self.0.lock().as_mut() {
                    ways.input = Some(input);
                }
            }
            Some(None) => {}
            None => {
                let _ = self.0.to_list.try_send(bytes);
            }
        }
        Ok(())
    }

    async fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Window(Arc<Helm>);

#[async_trait]
impl Control for Window {
    async fn resize(&mut self, size: Size) {
        self.0.size.send_replace(size);
        let control = self.0.lock().as_mut().and_then(|ways| ways.control.take());
        if let Some(mut control) = control {
            control.resize(size).await;
            if let Some(ways) = self.0.lock().as_mut() {
                ways.control = Some(control);
            }
        }
    }

    async fn signal(&mut self, _name: &str) {}
}

/// What came of something that was asked for.
enum Done {
    Said(String),
    Opened(Running),
}

struct Dashboard {
    visit: Arc<Visit>,
    helm: Arc<Helm>,
    keys: mpsc::Receiver<Bytes>,
    sized: watch::Receiver<Size>,
    list: List,
    refresh: Interval,
    pty: Pty,
    env: Vec<(String, String)>,
    /// To be shown before anything else.
    out: String,
    /// What is under way.
    work: Option<BoxFuture<'static, Done>>,
    shell: Option<Box<dyn Output>>,
    over: bool,
}

/// Something that the list waits for.
enum Turn {
    Pressed(Bytes),
    Done(Done),
    Refresh,
    Resized,
}

impl Dashboard {
    async fn turn(&mut self) -> Turn {
        let Self { keys, sized, refresh, work, .. } = self;
        let done = async {
            match work {
                Some(work) => work.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(bytes) = keys.recv() => Turn::Pressed(bytes),
            done = done => Turn::Done(done),
            Ok(()) = sized.changed() => Turn::Resized,
            _ = refresh.tick() => Turn::Refresh,
        }
    }

    async fn take(&mut self, turn: Turn) {
        match turn {
            Turn::Pressed(bytes) => list::keys(&bytes).into_iter().for_each(|key| self.press(key)),
            Turn::Done(done) => {
                self.work = None;
                match done {
                    Done::Said(message) => self.list.message = message,
                    Done::Opened(running) => return self.enter(running),
                }
                self.read().await;
            }
            Turn::Refresh => self.read().await,
            Turn::Resized => {}
        }
        if !self.over {
            self.out.push_str(&self.list.draw(*self.sized.borrow()));
        }
    }

    /// Reads the list anew. What cannot be read is shown as it was.
    async fn read(&mut self) {
        if let Ok(page) = self.visit.deps.workspaces.list(&self.visit.actor, None).await {
            self.list.update(page.items);
        }
    }

    fn press(&mut self, key: Key) {
        match key {
            Key::Up => self.list.step(-1),
            Key::Down => self.list.step(1),
            Key::Quit => {
                self.over = true;
                self.out.push_str(list::LEAVE);
            }
            // One thing at a time.
            _ if self.work.is_some() => {}
            Key::New => {
                self.list.message = "Making a workspace...".to_owned();
                self.work = Some(Box::pin(create(self.visit.clone())));
            }
            Key::Open | Key::Toggle => {
                let Some(view) = self.list.chosen() else { return };
                let (id, name, runs) = (view.id, view.name.clone(), view.status == WorkspaceStatus::Running);
                if key == Key::Open {
                    self.list.message = format!("Opening `{name}`...");
                    let pty = Pty { term: self.pty.term.clone(), size: *self.sized.borrow() };
                    self.work = Some(Box::pin(enter(self.visit.clone(), id, pty, self.env.clone())));
                } else {
                    let request = if runs { Request::Stop } else { Request::Start };
                    self.list.message = format!("{} `{name}`...", if runs { "Stopping" } else { "Starting" });
                    self.work = Some(Box::pin(bring(self.visit.clone(), id, request)));
                }
            }
        }
    }

    /// Shows a shell in place of the list.
    fn enter(&mut self, running: Running) {
        let Running { input, control, output } = running;
        *self.helm.lock() = Some(Ways { input: Some(input), control: Some(control) });
        self.shell = Some(output);
        self.list.message.clear();
        self.out.push_str(list::LEAVE);
    }

    async fn leave_shell(&mut self) {
        *self.helm.lock() = None;
        self.shell = None;
        self.read().await;
        self.out.push_str(list::ENTER);
        self.out.push_str(&self.list.draw(*self.sized.borrow()));
    }
}

#[async_trait]
impl Output for Dashboard {
    async fn next(&mut self) -> Event {
        loop {
            if !self.out.is_empty() {
                return Event::Out(std::mem::take(&mut self.out).into());
            }
            if self.over {
                return Event::Exit(Exit::Code(0));
            }
            if let Some(shell) = &mut self.shell {
                match shell.next().await {
                    Event::Exit(_) => self.leave_shell().await,
                    event => return event,
                }
                continue;
            }
            let turn = self.turn().await;
            self.take(turn).await;
        }
    }
}

async fn enter(visit: Arc<Visit>, id: WorkspaceId, pty: Pty, env: Vec<(String, String)>) -> Done {
    let opened = async {
        let reach = visit.reach(id, Scope::Terminals, Kind::Shell, None).await?;
        shell::open(reach, Work::Shell, pty, env, visit.peer.address).await
    };
    opened.await.map_or_else(|error| Done::Said(error.message.into_owned()), Done::Opened)
}

async fn bring(visit: Arc<Visit>, id: WorkspaceId, request: Request) -> Done {
    let asked = visit.deps.workspaces.request(&visit.actor, id, request, PATIENCE).await;
    Done::Said(asked.map_or_else(|error| error.message.into_owned(), |_| String::new()))
}

async fn create(visit: Arc<Visit>) -> Done {
    let new = NewWorkspace { wait_ms: Some(PATIENCE.as_millis() as u64), ..NewWorkspace::default() };
    let made = visit.deps.workspaces.create(&visit.actor, new).await;
    Done::Said(
        made.map_or_else(|error| error.message.into_owned(), |outcome| format!("`{}` is there.", outcome.view.name)),
    )
}
