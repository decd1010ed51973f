//! What befell a workspace, in words for its owner, and how much of it is borne.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// So many unexpected ends within the window and the workspace is left alone.
const ENDS_MAX: usize = 5;
const ENDS_WINDOW: Duration = Duration::from_secs(60);

pub const VANISHED: &str = "Its container had vanished and was made again from the image: /home/user is intact, other files are as in the image.";

const RESTARTED: &str = "Restarted: ";

/// Whether a reason tells of an incident, as against trouble that passes.
pub fn is_one(reason: &str) -> bool {
    reason == VANISHED || reason.starts_with(RESTARTED)
}

/// Why the container is not running, as a sentence.
pub fn ended(code: i32, oom_killed: bool) -> String {
    if oom_killed {
        "Restarted: it had run out of memory. Its files are intact, its processes are new.".into()
    } else {
        format!("Restarted: its processes had ended unexpectedly (code {code}). Its files are intact.")
    }
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
        assert!(is_one(VANISHED) && is_one(&ended(137, true)) && is_one(&ended(1, false)));
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
