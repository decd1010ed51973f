//! Where this user is signed in: a file of servers and tokens that only they may read.
//!
//! `$XDG_CONFIG_HOME/rexec/logins.json`, else `~/.config/rexec/logins.json`; written beside and renamed, mode 0600.

use crate::failure::{Failure, Result};
use crate::private_file;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

#[derive(Default, Serialize, Deserialize)]
pub struct Logins {
    /// The server of commands that name none.
    pub current: Option<String>,
    /// By address, without a trailing slash.
    #[serde(default)]
    pub servers: BTreeMap<String, Login>,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Login {
    pub email: String,
    pub token: String,
}

impl Logins {
    pub fn load() -> Result<Self> {
        let path = path()?;
        let shown = path.display().to_string();
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| Failure::Other(format!("{shown} is damaged ({error}). Remove it and sign in again."))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Failure::io(shown)(error)),
        }
    }

    pub fn store(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| Failure::Other(error.to_string()))?;
        private_file::write(&path()?, &text)
    }
}

fn path() -> Result<PathBuf> {
    Ok(private_file::directory()?.join("logins.json"))
}
