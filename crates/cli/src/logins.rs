//! Where this user is signed in: a file of servers and tokens that only they may read.
//!
//! `$XDG_CONFIG_HOME/rexec/logins.json`, else `~/.config/rexec/logins.json`; written beside and renamed, mode 0600.

use crate::failure::{Failure, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
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
        let path = path()?;
        let beside = path.with_extension(format!("{}.partial", std::process::id()));
        let written = || {
            if let Some(directory) = path.parent() {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            }
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.sync_all()?;
            fs::rename(&beside, &path)
        };
        written().map_err(|error| {
            let _ = fs::remove_file(&beside);
            Failure::io(path.display().to_string())(error)
        })
    }
}

fn path() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    let base = base.ok_or_else(|| Failure::Other("HOME is not set: there is no place for sign-ins.".into()))?;
    Ok(base.join("rexec/logins.json"))
}
