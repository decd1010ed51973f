//! What befell a workspace, in words for its owner, and how much of it is borne.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// So many unexpected ends within the window and the workspace is left alone.
const ENDS_MAX: usize = 5;
const ENDS_WINDOW: Duration = Duration::from_secs(60);

pub const VANISHED: &str = "Its container had vanished and was made again from the image: /home/user is intact, other files are as in the image.";

const SNAPSHOT_GONE: &str = "The snapshot that it was made from is deleted: ";

const RESTARTED: &str = "Restarted: ";

const OUT_OF_MEMORY: &str = "Out of memory: ";

/// Whether a reason tells of an incident, as against trouble that passes.
pub fn is_one(reason: &str) -> bool {
    reason == VANISHED || [SNAPSHOT_GONE, RESTARTED, OUT_OF_MEMORY].iter().any(|what| reason.starts_with(what))
}

/// Its home was restored after the snapshot with its root file system was deleted.
pub fn snapshot_gone(image: &str) -> String {
    format!("{SNAPSHOT_GONE}/home/user is intact, other files are as in the image {image}.")
}

/// Why the container is not running, as a sentence.
pub fn ended(code: i32, oom_killed: bool) -> String {
    if oom_killed {
        "Restarted: it had run out of memory. Its files are intact, its processes are new.".into()
    } else {
        format!("Restarted: its processes had ended unexpectedly (code {code}). Its files are intact.")
    }
}

/// A process was ended for it; the workspace lives on.
pub fn out_of_memory(memory_mb: i64) -> String {
    format!(
        "Out of memory: a process was ended because all {memory_mb} MiB were in use. Give the workspace more, or run less at once."
    )
}

/// Remembers when it ended unexpectedly.
#[derive(Debug, Default)]
pub struct Incidents {
    at: VecDeque<Instant>,
}

impl Incidents {
    /// Notes one more; `false` when that is too many to go on.
    pub fn bearable(&mut self, now: Instant) -> bool {
        while self.at.front().is_some_and(|at| now.duration_since(*at) > ENDS_WINDOW) {
            self.at.pop_front();
        }
        self.at.push_back(now);
        self.at.len() <= ENDS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incidents_are_told_from_passing_trouble() {
        assert!(
            is_one(&snapshot_gone("a"))
                && is_one(VANISHED)
                && is_one(&ended(137, true))
                && is_one(&ended(1, false))
                && is_one(&out_of_memory(1))
        );
        assert!(!is_one("The container engine does not answer."));
    }

    #[test]
    fn many_ends_in_a_short_time_are_too_many() {
        let (mut incidents, start) = (Incidents::default(), Instant::now());
        assert!((0..ENDS_MAX).all(|_| incidents.bearable(start)));
        assert!(!incidents.bearable(start));
        assert!(incidents.bearable(start + ENDS_WINDOW + Duration::from_secs(1)));
    }
}
