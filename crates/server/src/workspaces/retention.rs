//! How long a workspace is kept up and kept at all, as pure decisions: its lifetime, and its deletion
//! after a warning and a grace period.
//!
//! Invariant: nothing is deleted that its owner was not warned of a whole grace period before, however
//! long the server was away.

use super::idle::{millis, spell};
use std::time::Duration;

/// When a workspace that began to run then has run for as long as it may.
pub fn lifetime_ends(started_ms: Option<i64>, lifetime: Option<Duration>) -> Option<i64> {
    Some(started_ms?.saturating_add(millis(lifetime?)))
}

pub fn lifetime_reason(lifetime: Duration) -> String {
    format!(
        "Stopped after it had run for {}, which is as long as it may. Its files are kept; start it to go on.",
        spell(lifetime)
    )
}

/// A workspace that is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    pub since_ms: i64,
    /// When its owner was last warned, of whatever stop that was.
    pub warned_ms: Option<i64>,
}

impl Stopped {
    /// A warning of an earlier stop is none.
    fn warned(&self) -> Option<i64> {
        self.warned_ms.filter(|warned| *warned >= self.since_ms)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is to be done before this time, if ever.
    Keep(Option<i64>),
    /// Its owner is to hear that it will be deleted then.
    Warn {
        deletes_ms: i64,
    },
    Delete(String),
}

/// When it is deleted if nobody starts it, and whether its owner knows.
pub fn deletion(stopped: &Stopped, delete_after: Option<Duration>, grace: Duration) -> Option<i64> {
    let due = stopped.since_ms.saturating_add(millis(delete_after?));
    let warned = stopped.warned().unwrap_or_else(|| warn_at(stopped, due, grace));
    Some(due.max(warned.saturating_add(millis(grace))))
}

pub fn is_warned(stopped: &Stopped) -> bool {
    stopped.warned().is_some()
}

pub fn judge(stopped: &Stopped, delete_after: Option<Duration>, grace: Duration, now_ms: i64) -> Verdict {
    let Some(after) = delete_after else { return Verdict::Keep(None) };
    let due = stopped.since_ms.saturating_add(millis(after));
    match stopped.warned() {
        None if warn_at(stopped, due, grace) <= now_ms => {
            Verdict::Warn { deletes_ms: due.max(now_ms.saturating_add(millis(grace))) }
        }
        None => Verdict::Keep(Some(warn_at(stopped, due, grace))),
        Some(warned) => {
            let at = due.max(warned.saturating_add(millis(grace)));
            if at <= now_ms {
                Verdict::Delete(format!("Deleted after it had been stopped for {}.", spell(after)))
            } else {
                Verdict::Keep(Some(at))
            }
        }
    }
}

fn warn_at(stopped: &Stopped, due: i64, grace: Duration) -> i64 {
    due.saturating_sub(millis(grace)).max(stopped.since_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const DAY_MS: i64 = 86_400_000;

    #[test]
    fn it_is_warned_of_and_then_deleted() {
        let after = Some(7 * DAY);
        let fresh = Stopped { since_ms: 0, warned_ms: Some(-5) };
        assert_eq!(
            judge(&fresh, after, DAY, 0),
            Verdict::Keep(Some(6 * DAY_MS)),
            "that warning was of an earlier stop"
        );
        assert_eq!(judge(&fresh, after, DAY, 6 * DAY_MS), Verdict::Warn { deletes_ms: 7 * DAY_MS });
        let warned = Stopped { warned_ms: Some(6 * DAY_MS), ..fresh };
        assert_eq!(judge(&warned, after, DAY, 7 * DAY_MS - 1), Verdict::Keep(Some(7 * DAY_MS)));
        let why = "Deleted after it had been stopped for 7 days.";
        assert_eq!(judge(&warned, after, DAY, 7 * DAY_MS), Verdict::Delete(why.into()));
        assert_eq!(judge(&warned, None, DAY, i64::MAX), Verdict::Keep(None));
        // After a month away the server warns first.
        assert_eq!(judge(&fresh, after, DAY, 30 * DAY_MS), Verdict::Warn { deletes_ms: 31 * DAY_MS });
        let late = Stopped { warned_ms: Some(30 * DAY_MS), ..fresh };
        assert_eq!(deletion(&late, after, DAY), Some(31 * DAY_MS));
        assert_eq!(deletion(&fresh, after, DAY), Some(7 * DAY_MS));
    }

    #[test]
    fn a_lifetime_counts_from_the_start() {
        assert_eq!(lifetime_ends(Some(5), Some(DAY)), Some(DAY_MS + 5));
        assert_eq!(lifetime_ends(None, Some(DAY)), None);
        assert_eq!(lifetime_ends(Some(5), None), None);
        assert!(lifetime_reason(DAY).starts_with("Stopped after it had run for 1 day,"));
    }

    proptest! {
        /// Looked at whenever that is, a deletion comes a grace period after its warning at the earliest,
        /// never before its time, and comes at last.
        #[test]
        fn nobody_is_surprised(after in 0..1_000_000u64, grace in 0..1_000_000u64,
            pauses in prop::collection::vec(0..400_000_000i64, 1..40)) {
            let (limit, grace) = (Duration::from_secs(after), Duration::from_secs(grace));
            let (mut stopped, mut now) = (Stopped { since_ms: 0, warned_ms: None }, 0);
            for pause in pauses.into_iter().chain([4_000_000_000, 4_000_000_000]) {
                now += pause;
                match judge(&stopped, Some(limit), grace, now) {
                    Verdict::Keep(at) => prop_assert!(at.is_some_and(|at| at > now)),
                    Verdict::Warn { deletes_ms } => {
                        stopped.warned_ms = Some(now);
                        prop_assert_eq!(deletion(&stopped, Some(limit), grace), Some(deletes_ms));
                    }
                    Verdict::Delete(_) => {
                        let warned = stopped.warned_ms.unwrap_or(i64::MAX);
                        prop_assert!(now - warned >= millis(grace) && now >= millis(limit));
                        return Ok(());
                    }
                }
            }
            prop_assert!(false, "it was never deleted");
        }
    }
}
