//! Whose an SSH key is, and whether it still is; and how long a certificate holds.
//!
//! Invariant: that whoever shows a key has its private half was proven by a signature before an actor is made of it.

use super::{Auth, STANDINGS_MAX};
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::ssh_keys::store::{self, SshKey};
use crate::time::now_ms;
use rexec_api::error::ErrorCode;
use rexec_api::ids::SshKeyId;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a key is believed to be there. With the period of those who ask, it stays under a second.
const KEY_CACHE: Duration = Duration::from_millis(500);
/// How much older `last_used_ms` may be than the truth.
const TOUCH_MS: i64 = 10_000;

/// When each key was last seen to be there.
#[derive(Default)]
pub(super) struct Known(Mutex<HashMap<SshKeyId, Instant>>);

impl Known {
    fn lock(&self) -> MutexGuard<'_, HashMap<SshKeyId, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Auth {
    /// Whoever's this key is, as it comes over the wire; `None`: nobody's.
    pub(crate) async fn owner_of_ssh_key(&self, blob: &[u8]) -> Result<Option<SshKey>> {
        Ok(store::by_blob(self.inner.db.read(), blob).await?)
    }

    /// Whoever has shown this key and has its private half; notes that it was used.
    pub(crate) async fn actor_of_ssh_key(&self, key: &SshKey) -> Actor {
        let now = now_ms();
        if key.last_used_ms.is_none_or(|used| now - used >= TOUCH_MS)
            && let Err(error) = store::touch(self.inner.db.write(), key.id, now).await
        {
            tracing::debug!(%error, "the use of an SSH key could not be noted");
        }
        Actor::of_ssh_key(key.user, key.id)
    }

    /// Whether a key still opens the account.
    pub(super) async fn check_ssh_key(&self, id: SshKeyId) -> Result<()> {
        let seen = self.inner.ssh_keys.lock().get(&id).copied();
        if seen.is_some_and(|at| at.elapsed() < KEY_CACHE) {
            return Ok(());
        }
        // Taken before the query: what changes during it must count as older.
        let at = Instant::now();
        let is_there = store::is_there(self.inner.db.read(), id).await?;
        let mut known = self.inner.ssh_keys.lock();
        if !is_there {
            known.remove(&id);
            return Err(Error::new(ErrorCode::TokenRevoked, "The SSH key that let you in was deleted."));
        }
        if known.len() >= STANDINGS_MAX {
            known.clear();
        }
        known.insert(id, at);
        Ok(())
    }
}

/// Whether a certificate is valid still: what it let in ends with it.
pub(super) fn check_certificate(until_ms: i64) -> Result<()> {
    if now_ms() < until_ms {
        return Ok(());
    }
    Err(Error::new(ErrorCode::TokenExpired, "The SSH certificate that let you in has run out. Get a new one signed."))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_opens_until_it_has_run_out() {
        assert!(check_certificate(i64::MAX).is_ok());
        assert_eq!(check_certificate(now_ms() - 1).unwrap_err().code, ErrorCode::TokenExpired);
    }
}
