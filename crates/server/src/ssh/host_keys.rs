//! What the gateway proves itself with: made at the first start, kept sealed, replaced when an administrator asks.
//!
//! Invariant: every server on one database has the same key, and its private half lies there only encrypted.

use super::store::{self, HostKeyRow};
use crate::db::Db;
use crate::error::{Error, Result};
use crate::events::{self, NewEvent};
use crate::sealed::Sealer;
use crate::secret::Secret;
use crate::time::now_ms;
use rexec_api::ids::UserId;
use rexec_ssh::HostKey;
use serde_json::json;

/// Looks at what others wrote meanwhile.
const TRIES: u32 = 4;

#[derive(Clone)]
pub struct HostKeys {
    db: Db,
    sealer: Sealer,
}

impl HostKeys {
    pub fn new(db: Db, sealer: Sealer) -> Self {
        Self { db, sealer }
    }

    /// The key of this installation, made now if there is none, or none that our signing secret opens.
    pub async fn ready(&self) -> Result<HostKey> {
        for _ in 0..TRIES {
            for row in self.list().await? {
                match self.open(&row) {
                    Some(key) => return Ok(key),
                    None => {
                        tracing::warn!(
                            kind = row.kind,
                            "the SSH host key was kept under another JWT_SECRET; another one is made, of which clients will warn"
                        );
                        store::remove_sealed(self.db.write(), &row.private_sealed).await?;
                    }
                }
            }
            let made = self.seal(&HostKey::generate())?;
            store::insert_first(self.db.write(), &made).await?;
        }
        Err(Error::internal("no SSH host key could be kept"))
    }

    /// Puts a new key in the place of the old one, which is gone for good.
    pub async fn rotate(&self, by: UserId) -> Result<()> {
        let key = HostKey::generate();
        let row = self.seal(&key)?;
        let tx = self.db.begin().await?;
        store::put(&tx, &row).await?;
        let data = json!({ "kind": row.kind, "fingerprint": key.public().fingerprint() });
        events::append(&tx, &NewEvent::of_user(by, "ssh.host_key_rotated").data(data)).await?;
        Ok(tx.commit().await?)
    }

    pub async fn list(&self) -> Result<Vec<HostKeyRow>> {
        Ok(store::list(self.db.read()).await?)
    }

    fn seal(&self, key: &HostKey) -> Result<HostKeyRow> {
        let public = key.public();
        let secret = Secret::new(key.secret().map_err(Error::internal)?);
        let kind = public.algorithm();
        Ok(HostKeyRow {
            public_key: public.line(),
            private_sealed: self.sealer.seal(&sealed_for(&kind), &secret).map_err(Error::internal)?,
            kind,
            created_ms: now_ms(),
        })
    }

    fn open(&self, row: &HostKeyRow) -> Option<HostKey> {
        let secret = self.sealer.open(&sealed_for(&row.kind), &row.private_sealed)?;
        HostKey::parse(secret.expose()).ok()
    }
}

fn sealed_for(kind: &str) -> String {
    format!("ssh host key {kind}")
}
