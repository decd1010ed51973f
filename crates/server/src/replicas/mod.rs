//! Several servers on one PostgreSQL: who is there, and who of them looks after what.
//!
//! They are several once each says how the others reach it (`REXEC_ADVERTISE_URL`); a server that does not is alone, as on
//! SQLite, and does not start beside others. Each is a *replica* with an id that its data directory keeps and a term that it prolongs every few seconds. What only
//! one may do has a *lease* by name, with an epoch that rises whenever another takes it: `host:<id>` (the drivers and all
//! else that tends a host), `machine:<workspace>` (a joined machine, which belongs to whom it connected to) and `upkeep`
//! (hosts that come and go). A lease lasts as long as its holder's term. On SQLite there is one server: every lease is
//! held, with no rows and at no cost ([`Hold::alone`]).
//!
//! ```text
//!   mod.rs     terms and leases: a round every ROUND_EVERY renews, reads, and notices what was lost
//!   lease.rs   what is held, and work that stands still or ends with it
//!   tenure.rs  a host under its lease, and what others are told of it
//!   news.rs    LISTEN/NOTIFY: news of workspaces, and that there is something to be read
//!   peers.rs, http.rs, sign.rs  requests between replicas
//! ```
//!
//! Invariant: whoever has not renewed its term in time stands still before the term ends by the database's clock, and a
//! write under a lease meets its epoch or changes nothing.

mod carry;
pub mod http;
mod lease;
pub(crate) mod news;
pub mod peers;
pub mod sign;
mod store;
mod table;
pub mod tenure;

pub use lease::Hold;
pub(crate) use store::NOW as DATABASE_NOW;
pub use table::{Replica, Table};

use crate::config::{Config, DatabaseUrl};
use crate::db::Db;
use crate::tasks::Tasks;
use news::Word;
use rexec_api::ids::{HostId, WorkspaceId};
use sea_orm::DbErr;
use sign::Signer;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use uuid::Uuid;

/// How long a replica counts as there that says nothing.
pub(crate) const TERM: Duration = Duration::from_secs(10);
/// It stands still so long before that.
const MARGIN: Duration = Duration::from_secs(5);
const ROUND_EVERY: Duration = Duration::from_secs(2);
/// How long the database may take in a round.
const ROUND_PATIENCE: Duration = Duration::from_millis(1500);
/// Replicas that were not there for so long are forgotten.
const GONE: Duration = Duration::from_secs(24 * 3600);
/// What nobody needs any more is removed so often.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// On `/metrics`.
const METRIC_REPLICAS: &str = "rexec_replicas";
const METRIC_LEASES: &str = "rexec_leases_held";
const METRIC_FIRM: &str = "rexec_replica_firm";
/// Where the data directory keeps the id.
const ID_FILE: &str = "replica.id";
/// News that may wait to be told to others.
const WORDS_MAX: usize = 4096;

/// The lease of work of which there is one for all.
pub const UPKEEP: &str = "upkeep";
/// Looking for joined machines that nobody looks after.
pub const MACHINES: &str = "machines";

/// A server among those on one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ReplicaId(Uuid);

impl ReplicaId {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self(Uuid::new_v4())
    }

    /// Enough of it to tell it from the others.
    pub fn short(&self) -> String {
        self.0.simple().to_string()[..8].to_owned()
    }
}

impl std::fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for ReplicaId {
    type Err = uuid::Error;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse().map(Self)
    }
}

/// The lease of a host.
pub fn of_host(id: HostId) -> String {
    format!("host:{id}")
}

/// The lease of a joined machine.
pub fn of_machine(id: WorkspaceId) -> String {
    format!("machine:{id}")
}

/// Who looks after something now.
pub enum Whose {
    Ours(Hold),
    Theirs(Replica),
    /// Nobody is there who does; somebody may in a moment.
    Nobodys,
}

/// Why a server cannot be one of those on its database.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(
        "{0} other servers run on this database; set REXEC_ADVERTISE_URL on each of them and on this one (docs/deploy-fleet.md), or stop them first"
    )]
    NotAlone(usize),
    #[error("cannot keep {ID_FILE} in the data directory")]
    Id(#[source] std::io::Error),
    #[error("the database does not tell which servers are on it")]
    Database(#[from] DbErr),
}

/// A handle to the service. Cheap to clone.
#[derive(Clone)]
pub struct Replicas(Option<Arc<Inner>>);

struct Inner {
    id: ReplicaId,
    /// Of this process; another that runs as the same replica has another.
    run: Uuid,
    url: Option<String>,
    db: Db,
    database: DatabaseUrl,
    signer: Signer,
    http: reqwest::Client,
    table: watch::Sender<Arc<Table>>,
    holds: Mutex<HashMap<String, Holding>>,
    firm: watch::Sender<bool>,
    /// One reads the table or takes a lease at a time: what was read before a lease was taken does not make it lost.
    turn: tokio::sync::Mutex<()>,
    look: Notify,
    words: mpsc::Sender<Word>,
    said: Mutex<Option<mpsc::Receiver<Word>>>,
    /// Moves when servers of the fleet were changed elsewhere.
    fleet: watch::Sender<u64>,
}

struct Holding {
    hold: Hold,
    /// What is to be done before anything else under it has been done.
    open: bool,
}

impl Replicas {
    /// One server, with a database that has no others.
    pub const fn alone() -> Self {
        Self(None)
    }

    /// Among those on this database from now on; alone where it can have no others, or says nowhere how others reach it.
    pub async fn join(db: &Db, config: &Config, key: &[u8; 32]) -> Result<Self, JoinError> {
        if !db.is_postgres() {
            return Ok(Self::alone());
        }
        if config.advertise_url.is_none() {
            require_alone(db, &config.data_dir).await?;
            return Ok(Self::alone());
        }
        let db = db.beside(ROUND_PATIENCE);
        let id = kept_id(&config.data_dir).map_err(JoinError::Id)?;
        let http = reqwest::Client::builder()
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(peers::CONNECT_PATIENCE);
        let http = http.build().map_err(|error| DbErr::Custom(error.to_string()))?;
        let (words, said) = mpsc::channel(WORDS_MAX);
        let inner = Inner {
            id,
            run: Uuid::new_v4(),
            url: config.advertise_url.clone(),
            db: db.clone(),
            database: config.database.clone(),
            signer: Signer::new(key),
            http,
            table: watch::Sender::default(),
            holds: Mutex::default(),
            firm: watch::Sender::new(true),
            turn: tokio::sync::Mutex::default(),
            look: Notify::new(),
            words,
            said: Mutex::new(Some(said)),
            fleet: watch::Sender::default(),
        };
        store::join(db.write(), id, inner.run, inner.url.as_deref(), millis(TERM)).await?;
        inner.table.send_replace(Arc::new(store::table(db.read()).await?));
        tracing::info!(replica = %id, others = inner.table.borrow().alive().saturating_sub(1), "one of the servers on this database");
        Ok(Self(Some(Arc::new(inner))))
    }

    pub fn is_alone(&self) -> bool {
        self.0.is_none()
    }

    /// Which one this is; `None` where there can be no others.
    pub fn id(&self) -> Option<ReplicaId> {
        self.0.as_ref().map(|inner| inner.id)
    }

    /// How many are there, this one among them.
    pub fn count(&self) -> usize {
        self.0.as_ref().map_or(1, |inner| inner.table.borrow().alive().max(1))
    }

    /// Whether that is the name of another that is there.
    pub(crate) fn is_another(&self, id: &str) -> bool {
        let (Some(inner), Ok(id)) = (&self.0, id.parse::<ReplicaId>()) else { return false };
        id != inner.id && inner.table.borrow().replicas.get(&id).is_some_and(|replica| replica.alive)
    }

    /// Whether this one can be relied upon to know what it holds.
    pub fn is_firm(&self) -> bool {
        self.0.as_ref().is_none_or(|inner| *inner.firm.borrow())
    }

    /// How many leases it holds.
    pub fn held(&self) -> usize {
        self.0.as_ref().map_or(0, |inner| inner.holds().len())
    }

    /// Changes whenever a lease changes hands.
    pub(crate) fn table(&self) -> watch::Receiver<Arc<Table>> {
        match &self.0 {
            Some(inner) => inner.table.subscribe(),
            None => watch::channel(Arc::default()).1,
        }
    }

    pub(crate) fn fleet_news(&self) -> watch::Receiver<u64> {
        match &self.0 {
            Some(inner) => inner.fleet.subscribe(),
            None => watch::channel(0).1,
        }
    }

    /// The others are to read what servers there are.
    pub(crate) fn tell_fleet(&self) {
        self.say(Word::Fleet);
    }

    /// Somebody was refused here for want of a server.
    pub(crate) fn tell_missed(&self, region: Option<String>, amount: crate::hosts::placement::Amount) {
        self.say(Word::Missed { region, amount });
    }

    fn say(&self, word: Word) {
        if let Some(inner) = &self.0
            && inner.words.try_send(word).is_err()
        {
            tracing::warn!("more is to be told to the other servers than they can be told");
        }
    }

    /// Who looks after what has this lease.
    pub(crate) fn whose(&self, name: &str) -> Whose {
        let Some(inner) = &self.0 else { return Whose::Ours(Hold::alone()) };
        if let Some(holding) = inner.holds().get(name).filter(|holding| !holding.hold.is_lost()) {
            return if holding.open { Whose::Ours(holding.hold.clone()) } else { Whose::Nobodys };
        }
        match inner.table.borrow().holder(name).filter(|holder| holder.id != inner.id) {
            Some(holder) => Whose::Theirs(holder.clone()),
            None => Whose::Nobodys,
        }
    }

    /// The hold on a lease, open or not.
    fn hold_of(&self, name: &str) -> Option<Hold> {
        let Some(inner) = &self.0 else { return Some(Hold::alone()) };
        let holds = inner.holds();
        holds.get(name).map(|holding| holding.hold.clone()).filter(|hold| !hold.is_lost())
    }

    fn is_open(&self, name: &str) -> bool {
        matches!(self.whose(name), Whose::Ours(_))
    }

    /// Takes a lease that nobody has, not open yet.
    async fn acquire(&self, name: &str) -> Option<Hold> {
        self.take(name, false, false).await
    }

    /// Takes the lease of work that needs no preparation, if nobody has it.
    pub async fn acquire_open(&self, name: &str) -> Option<Hold> {
        self.take(name, false, true).await
    }

    /// Takes a lease from whoever has it: what it stands for has come here.
    pub async fn take_over(&self, name: &str) -> Option<Hold> {
        self.take(name, true, true).await
    }

    async fn take(&self, name: &str, from_anyone: bool, open: bool) -> Option<Hold> {
        let Some(inner) = &self.0 else { return Some(Hold::alone()) };
        let _turn = inner.turn.lock().await;
        if let Some(holding) = inner.holds().get(name).filter(|holding| !holding.hold.is_lost()) {
            return Some(holding.hold.clone());
        }
        if !*inner.firm.borrow() {
            return None;
        }
        let epoch = match store::acquire(inner.db.write(), name, inner.id, from_anyone).await {
            Ok(epoch) => epoch?,
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, lease = name, "a lease could not be taken");
                return None;
            }
        };
        tracing::info!(lease = name, epoch, "took a lease");
        let hold = Hold::new(name, inner.id, epoch, inner.firm.subscribe());
        inner.holds().insert(name.to_owned(), Holding { hold: hold.clone(), open });
        if open {
            inner.table.send_modify(|_| {});
        }
        self.say(Word::Leases);
        Some(hold)
    }

    /// What had to be done first has been done.
    fn open(&self, name: &str) {
        let Some(inner) = &self.0 else { return };
        if let Some(holding) = inner.holds().get_mut(name) {
            holding.open = true;
        }
        inner.table.send_modify(|_| {});
    }

    /// Gives a lease up, for others to take.
    async fn release(&self, name: &str) {
        let Some(inner) = &self.0 else { return };
        let held = inner.holds().remove(name);
        if let Some(holding) = held {
            holding.hold.lose();
            if let Err(error) = store::release(inner.db.write(), name, inner.id, holding.hold.epoch()).await {
                tracing::warn!(error = &error as &dyn std::error::Error, lease = name, "a lease is not given up");
            }
            inner.table.send_modify(|_| {});
            self.say(Word::Leases);
        }
    }

    /// Lets the others know something of what is held.
    async fn tell(&self, name: &str, told: &str) {
        let (Some(inner), Some(hold)) = (&self.0, self.hold_of(name)) else { return };
        match store::tell(inner.db.write(), name, inner.id, hold.epoch(), told).await {
            Ok(()) => self.say(Word::Leases),
            Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "the others are not told"),
        }
    }

    /// Does this for as long as the lease of that name is held here, again with each time that it comes to be.
    pub(crate) async fn whenever_held<F: Future<Output = ()>>(&self, name: &str, work: impl Fn() -> F) {
        let mut table = self.table();
        loop {
            table.borrow_and_update();
            match self.acquire_open(name).await {
                Some(hold) => {
                    if hold.run_while(work()).await.is_some() {
                        return;
                    }
                }
                None => {
                    let _ = tokio::time::timeout(ROUND_EVERY, table.changed()).await;
                }
            }
        }
    }

    /// Renews, reads and tells for as long as the server runs.
    pub fn start(&self, tasks: &Tasks, bus: crate::events::bus::Bus, fleet: crate::hosts::Fleet) {
        let Some(inner) = &self.0 else { return };
        tasks.spawn_abortable("replica", self.clone().keep());
        let (heard, abroad) = mpsc::channel(WORDS_MAX);
        bus.tell_abroad(heard);
        let said = inner.said.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(said) = said {
            tasks.spawn_abortable("replica-news", news::speak(inner.db.clone(), inner.id, said, abroad));
        }
        tasks.spawn_abortable("replica-listen", news::listen(self.clone(), bus, fleet));
    }

    async fn keep(self) {
        let Some(inner) = self.0.clone() else { return };
        let mut period = tokio::time::interval(ROUND_EVERY);
        period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ends = Instant::now() + TERM - MARGIN;
        let mut forgets = Instant::now();
        loop {
            tokio::select! {
                _ = period.tick() => {}
                () = inner.look.notified() => {}
            }
            if self.is_firm() && Instant::now() >= forgets {
                forgets = Instant::now() + FORGET_EVERY;
                let forgotten = tokio::time::timeout(ROUND_PATIENCE, store::forget(inner.db.write(), millis(GONE)));
                if let Ok(Err(error)) = forgotten.await {
                    tracing::debug!(error = &error as &dyn std::error::Error, "what is gone is not forgotten");
                }
            }
            let began = Instant::now();
            match tokio::time::timeout(ROUND_PATIENCE, inner.renew()).await {
                Ok(Ok(true)) => {
                    // Whoever takes a lease may have to wait for it, and holds this up; the term goes on meanwhile.
                    let is_read = matches!(tokio::time::timeout(ROUND_PATIENCE, inner.read()).await, Ok(Ok(())));
                    if is_read || self.is_firm() {
                        ends = began + TERM - MARGIN;
                    }
                    if is_read && !inner.firm.send_replace(true) {
                        tracing::info!("what this server holds is certain again");
                    }
                }
                Ok(Ok(false)) => inner.superseded().await,
                Ok(Err(error)) => tracing::debug!(error = &error as &dyn std::error::Error, "a term is not renewed"),
                Err(_) => {}
            }
            metrics::gauge!(METRIC_REPLICAS).set(self.count() as f64);
            metrics::gauge!(METRIC_LEASES).set(self.held() as f64);
            metrics::gauge!(METRIC_FIRM).set(f64::from(u8::from(self.is_firm())));
            if Instant::now() >= ends && inner.firm.send_replace(false) {
                tracing::warn!(
                    "the database does not answer: what this server holds may be another's soon, so all that stands still"
                );
            }
        }
    }

    /// Lets go of the database.
    pub async fn close(&self) {
        if let Some(inner) = &self.0 {
            inner.db.close().await;
        }
    }

    /// Gives up all that is held, at once: the server ends in good order.
    pub async fn leave(&self) {
        let Some(inner) = &self.0 else { return };
        let left = async {
            store::leave(inner.db.write(), inner.id, inner.run).await?;
            news::notify(&inner.db, inner.id, &Word::Leases).await
        };
        if !matches!(tokio::time::timeout(ROUND_PATIENCE, left).await, Ok(Ok(()))) {
            tracing::warn!("the others are not told that this server ends; they will see it by its term");
        }
    }
}

impl Inner {
    fn holds(&self) -> std::sync::MutexGuard<'_, HashMap<String, Holding>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `false`: another process runs as this replica.
    async fn renew(&self) -> Result<bool, DbErr> {
        // A row that is gone, or of a term that has long ended, is no other's: the database may have been restored.
        Ok(store::renew(self.db.write(), self.id, self.run, millis(TERM)).await?
            || store::join_anew(self.db.write(), self.id, self.run, self.url.as_deref(), millis(TERM)).await?)
    }

    /// Whether that is a server that is there; one that has just come may not have been read of yet.
    async fn knows(&self, id: ReplicaId) -> bool {
        let is_there = || self.table.borrow().replicas.get(&id).is_some_and(|replica| replica.alive);
        is_there() || tokio::time::timeout(ROUND_PATIENCE, self.read()).await.is_ok() && is_there()
    }

    /// Who is there and has what; what is another's now is lost.
    async fn read(&self) -> Result<(), DbErr> {
        let _turn = self.turn.lock().await;
        let table = Arc::new(store::table(self.db.read()).await?);
        let mut lost = false;
        self.holds().retain(|name, holding| {
            let stands = table.leases.get(name).is_some_and(|lease| {
                lease.holder == Some(self.id) && lease.epoch == holding.hold.epoch() && !holding.hold.is_lost()
            });
            if !stands {
                tracing::warn!(lease = name, "a lease is another's now");
                holding.hold.lose();
                lost = true;
            }
            stands
        });
        self.table.send_if_modified(|known| {
            let changed = lost || **known != *table;
            *known = table;
            changed
        });
        Ok(())
    }

    /// The data directory was copied, and the other one runs. Nothing is held any more; whoever came last goes on.
    async fn superseded(&self) {
        tracing::error!(
            replica = %self.id,
            "another server has begun with a copy of this one's data directory; this one holds nothing any more. Give each a REXEC_DATA_DIR of its own"
        );
        self.firm.send_replace(false);
        self.holds().drain().for_each(|(_, holding)| holding.hold.lose());
        self.table.send_modify(|_| {});
    }
}

/// Waits, for as long as the term of one that has just been killed, until no other server is on this database.
async fn require_alone(db: &Db, dir: &Path) -> Result<(), JoinError> {
    let me = std::fs::read_to_string(dir.join(ID_FILE)).ok().and_then(|text| text.trim().parse().ok());
    let deadline = Instant::now() + TERM + ROUND_EVERY;
    loop {
        let table = store::table(db.read()).await?;
        let others = table.replicas.values().filter(|replica| replica.alive && Some(replica.id) != me).count();
        if others == 0 {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(JoinError::NotAlone(others));
        }
        tokio::time::sleep(ROUND_PATIENCE).await;
    }
}

/// The id that the data directory keeps, made at the first start.
fn kept_id(dir: &Path) -> std::io::Result<ReplicaId> {
    let path = dir.join(ID_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(std::io::Error::other),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let id = ReplicaId::new();
            let half = dir.join(format!("{ID_FILE}.new"));
            std::fs::write(&half, id.to_string())?;
            std::fs::rename(half, path)?;
            Ok(id)
        }
        Err(error) => Err(error),
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
