//! The servers that this machine has joined: a file for each, with the credential, that only its user may read.
//!
//! `$XDG_CONFIG_HOME/rexec/machines/`, else `~/.config/rexec/machines/`. Invariant: one process is the machine at a
//! time, by a lock that the kernel lets go of with it.

use crate::failure::{Failure, Result};
use crate::private_file;
use rexec_api::ids::WorkspaceId;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

/// What this machine is to a server.
#[derive(Clone, Serialize, Deserialize)]
pub struct Known {
    /// Its address, as `connection` writes them.
    pub server: String,
    pub workspace_id: WorkspaceId,
    pub name: String,
    pub credential: String,
}

/// Held by the process that is the machine.
pub struct Lock(#[expect(dead_code, reason = "it is held, not used")] File);

impl Known {
    pub fn load(server: &str) -> Result<Option<Self>> {
        let path = path(server)?;
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| {
                Failure::Other(format!("{} is damaged ({error}). Remove it and join again.", path.display()))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::io(path.display().to_string())(error)),
        }
    }

    /// All there are.
    pub fn every() -> Result<Vec<Self>> {
        let directory = directory()?;
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(Failure::io(directory.display().to_string()))?,
        };
        let files =
            entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "json"));
        Ok(files.filter_map(|path| serde_json::from_slice(&fs::read(path).ok()?).ok()).collect())
    }

    pub fn store(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| Failure::Other(error.to_string()))?;
        private_file::write(&path(&self.server)?, &text)
    }

    pub fn forget(&self) -> Result<()> {
        let path = path(&self.server)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Failure::io(path.display().to_string())(error))
            }
            _ => Ok(()),
        }
    }
}

impl Lock {
    /// `None`: another process is the machine.
    pub fn take(server: &str) -> Result<Option<Self>> {
        let path = path(server)?.with_extension("lock");
        let shown = path.display().to_string();
        let taken = || {
            if let Some(directory) = path.parent() {
                private_file::make_directory(directory)?;
            }
            // Whoever may open it could lock it.
            let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => Ok(Some(Self(file))),
                Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        taken().map_err(Failure::io(shown))
    }
}

fn directory() -> Result<PathBuf> {
    Ok(private_file::directory()?.join("machines"))
}

fn path(server: &str) -> Result<PathBuf> {
    Ok(directory()?.join(format!("{}.json", file_name(server))))
}

/// An address as a file's name: what is no letter or digit is told by its number, so that two are never one.
fn file_name(server: &str) -> String {
    let mut name = String::new();
    for byte in server.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-') {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("_{byte:02x}"));
        }
    }
    name
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn two_servers_have_two_files() {
        assert_eq!(file_name("https://a.example:1"), "https_3a_2f_2fa.example_3a1");
        assert_ne!(file_name("http://a_b"), file_name("http://a/b"));
    }
}
