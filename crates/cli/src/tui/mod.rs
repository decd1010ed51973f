//! `tui`: the workspaces on a screen, with their figures as they come, and keys for what one does with them.
//!
//! `model` is what is known and what keys mean (pure), `draw` how it looks, `source` the server in the background,
//! `screen` the terminal. The loop here joins them, on a thread that may wait for keys; a shell is a process of its
//! own, which has the terminal meanwhile.

mod draw;
mod model;
mod screen;
mod source;

use crate::connection::Connection;
use crate::failure::{EXIT_OF_OURS, Failure, Result};
use crate::show::{Tint, plain};
use crate::tty;
use draw::Look;
use model::{Model, News, Wish};
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use rexec_api::ids::WorkspaceId;
use rexec_client::Client;
use screen::Screen;
use source::Source;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How long news waits for the screen when no key is pressed.
const TICK: Duration = Duration::from_millis(100);

pub async fn run(connection: &Connection) -> Result<()> {
    if !tty::is_interactive() {
        return Err(Failure::Usage("tui needs a terminal. For programs there is `rexec ls --json`.".into()));
    }
    let client = connection.client()?;
    let user = client.me().await?;
    let server = client.base().split_once("://").map_or(client.base(), |(_, host)| host);
    let dashboard = Dashboard {
        model: Model::new(format!("{} at {server}", user.email)),
        source: Source::start(client.clone()),
        client,
        look: Look { coloured: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) },
        ended: Arc::default(),
    };
    let ended = dashboard.ended.clone();
    let mut terminated = signal(SignalKind::terminate()).map_err(Failure::io("signals"))?;
    let shown = tokio::task::spawn_blocking(move || dashboard.show());
    tokio::pin!(shown);
    let done = tokio::select! {
        done = &mut shown => done,
        // Whoever ends us finds the terminal as it was.
        _ = terminated.recv() => {
            ended.store(true, Ordering::Relaxed);
            (&mut shown).await
        }
    };
    done.map_err(|error| Failure::Other(error.to_string()))?
}

struct Dashboard {
    client: Client,
    model: Model,
    source: Source,
    look: Look,
    /// Somebody wants us gone.
    ended: Arc<AtomicBool>,
}

impl Dashboard {
    fn show(mut self) -> Result<()> {
        let mut screen = Screen::enter()?;
        let mut is_stale = true;
        while !self.ended.load(Ordering::Relaxed) {
            while let Ok(news) = self.source.news.try_recv() {
                self.model.hear(news);
                is_stale = true;
            }
            if std::mem::take(&mut is_stale) {
                screen.draw(|frame| draw::draw(frame, &self.model, self.look))?;
            }
            if !event::poll(TICK).map_err(Failure::io("the terminal"))? {
                continue;
            }
            is_stale = true;
            let Event::Key(key) = event::read().map_err(Failure::io("the terminal"))? else { continue };
            if key.kind == KeyEventKind::Release {
                continue;
            }
            self.model.said = None;
            match self.model.key(key) {
                Some(Wish::Quit) => break,
                Some(Wish::Open(id)) => screen = self.open(screen, id)?,
                // One more than can be waited for is one too many.
                Some(wish) => drop(self.source.wishes.try_send(wish)),
                None => {}
            }
        }
        Ok(())
    }

    /// Gives the terminal to a shell of the workspace, and takes it back.
    fn open(&mut self, screen: Screen, id: WorkspaceId) -> Result<Screen> {
        drop(screen);
        let ours = std::env::current_exe().map_err(Failure::io("this program"))?;
        let mut command = Command::new(ours);
        command.args(["attach", &id.to_string()]);
        command.env("REXEC_URL", self.client.base()).env("REXEC_TOKEN", self.client.token().unwrap_or_default());
        let status = command.status().map_err(Failure::io("this program"))?;
        if status.code() == Some(i32::from(EXIT_OF_OURS)) {
            // What it has said would go with the screen.
            tty::ask("Enter goes back.")?;
        }
        let name = self.model.get(id).map(|one| plain(&one.name)).unwrap_or_default();
        self.model.hear(News::Said(format!("Back from {name}."), Tint::Faint));
        Screen::enter()
    }
}
