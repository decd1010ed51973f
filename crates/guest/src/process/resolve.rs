//! Which file a command's name means: the search of `PATH` that a shell would do, with the rights
//! of the user who will run it and not those of the guest.

use super::LaunchError;
use super::identity::Credentials;
use std::path::{Path, PathBuf};

/// The file to execute. A name with a slash is left for `exec` to judge, from the working directory.
pub(super) fn resolve(
    name: &str,
    path: &str,
    directory: &Path,
    credentials: &Credentials,
) -> Result<PathBuf, LaunchError> {
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    let mut found_but_denied = false;
    for entry in path.split(':') {
        // An empty or relative entry means the working directory, as everywhere in Unix.
        let candidate = directory.join(entry).join(name);
        let Ok(metadata) = std::fs::metadata(&candidate) else {
            continue;
        };
        if !metadata.is_file() {
            continue;
        }
        if credentials.may_execute(&metadata) {
            return Ok(candidate);
        }
        found_but_denied = true;
    }
    Err(if found_but_denied { LaunchError::Denied(name.to_owned()) } else { LaunchError::NotFound(name.to_owned()) })
}
