//! Files of this user's that nobody else may read, changed as a whole.

use crate::failure::{Failure, Result};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Writes beside and renames, mode 0600 unless the file has another; a link is followed to what it names.
pub fn write(path: &Path, content: &[u8]) -> Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut beside = path.clone().into_os_string();
    beside.push(format!(".{}.partial", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = || {
        if let Some(directory) = path.parent() {
            make_directory(directory)?;
        }
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        if let Ok(known) = fs::metadata(&path) {
            file.set_permissions(fs::Permissions::from_mode(known.permissions().mode() & 0o777))?;
        }
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, &path)
    };
    written().map_err(|error| {
        let _ = fs::remove_file(&beside);
        Failure::io(path.display().to_string())(error)
    })
}

/// Makes a directory, and those above it that are missing, for this user alone.
pub fn make_directory(path: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Where files of ours are kept: in `$XDG_CONFIG_HOME`, else in `~/.config`.
pub fn directory() -> Result<PathBuf> {
    let set = std::env::var_os("XDG_CONFIG_HOME").filter(|value| !value.is_empty());
    let base = match set {
        Some(set) => PathBuf::from(set),
        None => home()?.join(".config"),
    };
    Ok(base.join("rexec"))
}

/// A directory of this user's: of `HOME`.
pub fn home() -> Result<PathBuf> {
    let home = std::env::var_os("HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
    home.ok_or_else(|| Failure::Other("HOME is not set: there is no place for files of yours.".into()))
}
