//! What changes below a path of this machine, as a moment at which it has become quiet again.

use crate::failure::{Failure, Result};
use notify::event::{AccessKind, AccessMode};
use notify::{ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// How long nothing has to change for a change to be over: an editor writes a file in several steps.
const QUIET: Duration = Duration::from_millis(150);
/// After so long it is over all the same, such as under a build.
const QUIET_MAX: Duration = Duration::from_secs(2);

pub struct Changes {
    /// Watches until dropped.
    _watcher: RecommendedWatcher,
    /// However much changes, it is one thing to be done.
    changed: Arc<Notify>,
}

impl Changes {
    pub fn watch(path: &Path) -> Result<Self> {
        let changed = Arc::new(Notify::new());
        let tell = changed.clone();
        let heard = move |event: notify::Result<Event>| {
            // What could not be heard may have been a change.
            if event.map_or(true, |event| event.need_rescan() || is_change(&event.kind)) {
                tell.notify_one();
            }
        };
        let mut watcher = notify::recommended_watcher(heard).map_err(|error| refused(path, &error))?;
        let is_folder = std::fs::metadata(path).map_err(Failure::io(path.display().to_string()))?.is_dir();
        let watched = if is_folder {
            watcher.watch(path, RecursiveMode::Recursive)
        } else {
            // A file is replaced by another of its name more often than it is written to.
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            watcher.watch(folder, RecursiveMode::NonRecursive)
        };
        watched.map_err(|error| refused(path, &error))?;
        Ok(Self { _watcher: watcher, changed })
    }

    /// Resolves once something has changed since it last did, and nothing for a moment.
    pub async fn settled(&self) {
        self.changed.notified().await;
        let latest = Instant::now() + QUIET_MAX;
        loop {
            let quiet = (Instant::now() + QUIET).min(latest);
            if timeout_at(quiet, self.changed.notified()).await.is_err() || Instant::now() >= latest {
                return;
            }
        }
    }
}

/// Reading is none, or rsync itself would be.
fn is_change(kind: &EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if *access != AccessKind::Close(AccessMode::Write))
}

fn refused(path: &Path, error: &notify::Error) -> Failure {
    let path = path.display();
    Failure::Other(match error.kind {
        ErrorKind::MaxFilesWatch => format!(
            "{path} has more folders than this machine may watch. Raise the limit: sudo sysctl fs.inotify.max_user_watches=524288"
        ),
        _ => format!("{path} cannot be watched: {error}"),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn changes_are_heard_below_a_folder_and_beside_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("deep");
        std::fs::create_dir(&deep).unwrap();
        std::fs::write(deep.join("a"), "1").unwrap();
        let (whole, one) = (Changes::watch(folder.path()).unwrap(), Changes::watch(&deep.join("a")).unwrap());
        std::fs::write(deep.join("b"), "2").unwrap();
        std::fs::rename(deep.join("b"), deep.join("a")).unwrap();
        whole.settled().await;
        one.settled().await;
        std::fs::remove_file(deep.join("a")).unwrap();
        whole.settled().await;
    }

    #[test]
    fn only_what_is_written_counts() {
        use notify::event::{CreateKind, ModifyKind};
        for kind in [
            EventKind::Create(CreateKind::File),
            EventKind::Modify(ModifyKind::Any),
            EventKind::Access(AccessKind::Close(AccessMode::Write)),
        ] {
            assert!(is_change(&kind), "{kind:?}");
        }
        for kind in [AccessKind::Open(AccessMode::Any), AccessKind::Read, AccessKind::Close(AccessMode::Read)] {
            assert!(!is_change(&EventKind::Access(kind)), "{kind:?}");
        }
    }
}
