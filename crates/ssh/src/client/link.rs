//! The one connection, made when it is first needed and again when it was lost.
//!
//! One task has it: it alone connects, and opens the streams that are asked for. A dial that comes while an attempt goes on
//! waits for that one; one that comes in the pause after a failed attempt hears at once why that failed.

use super::known::KnownHost;
use super::session::Session;
use super::{DialError, Seen, Settings, Stream};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Dials that wait to be looked at.
const ASKS_MAX: usize = 64;
/// After a failed attempt no other is made for so long; twice as long after each further one.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(8);

type Answer = Result<Stream, DialError>;
pub(super) type Ask = oneshot::Sender<Answer>;

/// One connection's handle. When it is dropped, the connection is closed once its last stream is.
pub struct Link {
    settings: Arc<Settings>,
    asks: Mutex<Option<mpsc::Sender<Ask>>>,
    seen: watch::Sender<Option<Seen>>,
}

impl Link {
    pub fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings), asks: Mutex::default(), seen: watch::Sender::new(None) }
    }

    /// What the connections showed; `None` until one was made.
    pub fn seen(&self) -> watch::Receiver<Option<Seen>> {
        self.seen.subscribe()
    }

    /// A stream of one's own.
    pub async fn dial(&self) -> Answer {
        let gone = || DialError::Broken("nobody tends the connection".into());
        let (reply, answer) = oneshot::channel();
        let task = self.task();
        task.send(reply).await.map_err(|_| gone())?;
        let stream = answer.await.map_err(|_| gone())??;
        Ok(stream.keeping(task))
    }

    /// The way to the task, which the first dial starts: there is a runtime then.
    fn task(&self) -> mpsc::Sender<Ask> {
        let mut asks = self.asks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asks) = asks.as_ref().filter(|asks| !asks.is_closed()) {
            return asks.clone();
        }
        let (sender, receiver) = mpsc::channel(ASKS_MAX);
        tokio::spawn(Task::new(self.settings.clone(), self.seen.clone()).run(receiver));
        asks.insert(sender).clone()
    }
}

enum State {
    Down { why: Option<DialError>, until: Instant },
    Connecting(BoxFuture<'static, Result<Session, DialError>>),
    Up { session: Arc<Session>, gone: CancellationToken },
}

struct Task {
    settings: Arc<Settings>,
    known: Option<KnownHost>,
    seen: watch::Sender<Option<Seen>>,
    state: State,
    pause: Duration,
    /// For the attempt that goes on.
    waiting: Vec<Ask>,
    opening: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl Task {
    fn new(settings: Arc<Settings>, seen: watch::Sender<Option<Seen>>) -> Self {
        // What an earlier task has seen stays known.
        let before = seen.borrow().as_ref().map(|seen| KnownHost::Key(seen.host_key.clone()));
        Self {
            known: before.or_else(|| settings.known.clone()),
            settings,
            seen,
            state: State::Down { why: None, until: Instant::now() },
            pause: PAUSE_FIRST,
            waiting: Vec::new(),
            opening: FuturesUnordered::new(),
        }
    }

    async fn run(mut self, mut asks: mpsc::Receiver<Ask>) {
        loop {
            tokio::select! {
                ask = asks.recv() => match ask {
                    Some(ask) => self.ask(ask),
                    None => break,
                },
                change = change(&mut self.state) => match change {
                    Change::Connected(outcome) => self.connected(outcome),
                    Change::Lost => {
                        tracing::debug!("the SSH connection was lost; the next dial makes another");
                        self.state = State::Down { why: None, until: Instant::now() };
                    }
                },
                Some(()) = self.opening.next() => {}
            }
        }
        if let State::Up { session, .. } = &self.state {
            session.farewell().await;
        }
    }

    fn ask(&mut self, ask: Ask) {
        match &self.state {
            State::Up { session, .. } => self.open(session.clone(), ask),
            State::Connecting(_) => self.waiting.push(ask),
            State::Down { why: Some(why), until } if Instant::now() < *until => {
                let _ = ask.send(Err(why.clone()));
            }
            State::Down { .. } => {
                let (settings, known) = (self.settings.clone(), self.known.clone());
                self.state = State::Connecting(Box::pin(async move { Session::connect(&settings, known).await }));
                self.waiting.push(ask);
            }
        }
    }

    fn open(&self, session: Arc<Session>, ask: Ask) {
        // A stream that nobody waits for any more is closed by being dropped.
        self.opening.push(Box::pin(async move {
            let _ = ask.send(session.open().await);
        }));
    }

    fn connected(&mut self, outcome: Result<Box<Session>, DialError>) {
        let waiting = std::mem::take(&mut self.waiting);
        match outcome {
            Ok(session) => {
                self.pause = PAUSE_FIRST;
                self.known = Some(KnownHost::Key(session.seen.host_key.clone()));
                self.seen.send_replace(Some(session.seen.clone()));
                let session = Arc::<Session>::from(session);
                for ask in waiting {
                    self.open(session.clone(), ask);
                }
                self.state = State::Up { gone: session.gone(), session };
            }
            Err(why) => {
                for ask in waiting {
                    let _ = ask.send(Err(why.clone()));
                }
                self.state = State::Down { why: Some(why), until: Instant::now() + self.pause };
                self.pause = (self.pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

/// What becomes of the connection by itself.
enum Change {
    Connected(Result<Box<Session>, DialError>),
    Lost,
}

async fn change(state: &mut State) -> Change {
    match state {
        State::Down { .. } => std::future::pending().await,
        State::Connecting(attempt) => Change::Connected(attempt.as_mut().await.map(Box::new)),
        State::Up { gone, .. } => {
            gone.cancelled().await;
            Change::Lost
        }
    }
}
