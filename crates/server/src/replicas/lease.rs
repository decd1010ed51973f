//! A lease that is held, and work that goes on only while it is.
//!
//! ```text
//!   firm --the term could not be renewed in time--> doubtful --renewed, same epoch--> firm
//!   either --another has taken it, it was given up, or a write met another epoch--> lost, for good
//! ```
//!
//! Work under a doubtful lease is not ended but stands still: what it holds open, such as the connections to guests, lives
//! on, so that a database that is away for a minute ends nobody's terminal.
//!
//! Invariant: a write through [`Hold::begin`] is committed only while the lease has the epoch of its hold.

use super::{ReplicaId, store};
use crate::db::{self, Db};
use sea_orm::{DatabaseTransaction, DbErr, Value};
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Cheap to clone.
#[derive(Clone)]
pub struct Hold(Option<Arc<Held>>);

struct Held {
    name: String,
    holder: ReplicaId,
    epoch: i64,
    lost: CancellationToken,
    /// Whether the term of the replica is known not to have ended.
    firm: watch::Receiver<bool>,
}

impl Hold {
    /// Of the only server: never lost, and without any cost.
    pub const fn alone() -> Self {
        Self(None)
    }

    pub(super) fn new(name: &str, holder: ReplicaId, epoch: i64, firm: watch::Receiver<bool>) -> Self {
        Self(Some(Arc::new(Held { name: name.into(), holder, epoch, lost: CancellationToken::new(), firm })))
    }

    pub(super) fn epoch(&self) -> i64 {
        self.0.as_ref().map_or(0, |held| held.epoch)
    }

    pub(crate) fn is_of(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|held| held.name == name)
    }

    pub(super) fn lose(&self) {
        if let Some(held) = &self.0 {
            held.lost.cancel();
        }
    }

    /// Resolves when another has taken it.
    pub async fn lost(&self) {
        match &self.0 {
            Some(held) => held.lost.cancelled().await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.0.as_ref().is_some_and(|held| held.lost.is_cancelled())
    }

    /// Begins a transaction that is committed only under this lease: it fails, and the lease is lost, where another epoch
    /// stands.
    pub async fn begin(&self, db: &Db) -> Result<DatabaseTransaction, DbErr> {
        let tx = db.begin().await?;
        if let Some(held) = &self.0
            && !store::stands(&tx, &held.name, held.holder, held.epoch).await?
        {
            held.lost.cancel();
            return Err(DbErr::Custom(format!("the lease {} is another's now", held.name)));
        }
        Ok(tx)
    }

    /// Runs a statement that ends in a condition and has its effect only under this lease; as [`Self::begin`] else.
    pub async fn execute(&self, db: &Db, text: &str, mut values: Vec<Value>) -> Result<u64, DbErr> {
        let Some(held) = &self.0 else { return db::execute(db.write(), text, values).await };
        let n = values.len();
        values.extend([held.name.clone().into(), held.holder.to_string().into(), held.epoch.into()]);
        let fenced = format!(
            "WITH lease AS (SELECT 1 FROM leases WHERE name = ${} AND holder = ${} AND epoch = ${} FOR SHARE) \
             {text} AND EXISTS (SELECT 1 FROM lease)",
            n + 1,
            n + 2,
            n + 3
        );
        let changed = db::execute(db.write(), &fenced, values).await?;
        if changed == 0 && !store::stands(db.read(), &held.name, held.holder, held.epoch).await? {
            held.lost.cancel();
            return Err(DbErr::Custom(format!("the lease {} is another's now", held.name)));
        }
        Ok(changed)
    }

    /// Does this for as long as the lease is firm; `None`: it was lost before the end.
    pub async fn run_while<F: Future>(&self, work: F) -> Option<F::Output> {
        let Some(held) = &self.0 else { return Some(work.await) };
        let mut work = pin!(work);
        let mut firm = held.firm.clone();
        loop {
            let is_firm = *firm.borrow_and_update();
            tokio::select! {
                biased;
                () = held.lost.cancelled() => return None,
                changed = firm.changed() => if changed.is_err() { return None },
                done = &mut work, if is_firm => return Some(done),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn work_stands_still_while_its_lease_is_in_doubt_and_ends_when_it_is_lost() {
        let (firm, seen) = watch::channel(true);
        let hold = Hold::new("a", ReplicaId::new(), 1, seen);
        let (asked, mut asks) = mpsc::unbounded_channel();
        let (done, mut count) = watch::channel(0);
        let held = hold.clone();
        let work = tokio::spawn(async move {
            held.run_while(async {
                while asks.recv().await == Some(()) {
                    done.send_modify(|count| *count += 1);
                }
            })
            .await
        });
        asked.send(()).unwrap();
        count.wait_for(|count| *count == 1).await.unwrap();
        firm.send_replace(false);
        asked.send(()).unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(*count.borrow(), 1);
        firm.send_replace(true);
        count.wait_for(|count| *count == 2).await.unwrap();
        hold.lose();
        assert!(work.await.unwrap().is_none());
    }
}
