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
    /// Of whatever stop that was.
    pub warned: Option<Warning>,
}

/// What its owner was last told of its deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Warning {
    pub at_ms: i64,
    /// When it was said to be deleted.
    pub deletes_ms: i64,
}

impl Stopped {
    /// A warning of an earlier stop is none.
    fn warned(&self) -> Option<Warning> {
        self.warned.filter(|warned| warned.at_ms >= self.since_ms)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is to be done before this time, if ever.
    Keep(Option<i64>),
    /// Its owner is to hear that it will be deleted then; anew where they were told another time.
    Warn {
        deletes_ms: i64,
    },
    /// Its owner was told that it will be deleted, and it will not.
    Withdraw,
    Delete(String),
}

/// When it is deleted if nobody starts it.
pub fn deletion(stopped: &Stopped, delete_after: Option<Duration>, grace: Duration) -> Option<i64> {
    let due = stopped.since_ms.saturating_add(millis(delete_after?));
    let warned_ms = stopped.warned().map_or_else(|| warn_at(stopped, due, grace), |warned| warned.at_ms);
    Some(due.max(warned_ms.saturating_add(millis(grace))))
}

/// Whether its owner knows of that time.
pub fn is_announced(stopped: &Stopped, deletes_ms: i64) -> bool {
    stopped.warned().is_some_and(|warned| warned.deletes_ms == deletes_ms)
}

pub fn judge(stopped: &Stopped, delete_after: Option<Duration>, grace: Duration, now_ms: i64) -> Verdict {
    let Some(after) = delete_after else {
        return if stopped.warned().is_some() { Verdict::Withdraw } else { Verdict::Keep(None) };
    };
    let due = stopped.since_ms.saturating_add(millis(after));
    let warn_now = Verdict::Warn { deletes_ms: due.max(now_ms.saturating_add(millis(grace))) };
    match stopped.warned() {
        None if warn_at(stopped, due, grace) <= now_ms => warn_now,
        None => Verdict::Keep(Some(warn_at(stopped, due, grace))),
        Some(warned) => match due.max(warned.at_ms.saturating_add(millis(grace))) {
            // Somebody has changed when, since they were told.
            at if at != warned.deletes_ms => warn_now,
            at if at <= now_ms => Verdict::Delete(format!("Deleted after it had been stopped for {}.", spell(after))),
            at => Verdict::Keep(Some(at)),
        },
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
        let warned = |at_ms, deletes_ms| Some(Warning { at_ms, deletes_ms });
        let fresh = Stopped { since_ms: 0, warned: warned(-5, 7 * DAY_MS) };
        assert_eq!(
            judge(&fresh, after, DAY, 0),
            Verdict::Keep(Some(6 * DAY_MS)),
            "that warning was of an earlier stop"
        );
        assert_eq!(judge(&fresh, after, DAY, 6 * DAY_MS), Verdict::Warn { deletes_ms: 7 * DAY_MS });
        let told = Stopped { warned: warned(6 * DAY_MS, 7 * DAY_MS), ..fresh };
        assert_eq!(judge(&told, after, DAY, 7 * DAY_MS - 1), Verdict::Keep(Some(7 * DAY_MS)));
        let why = "Deleted after it had been stopped for 7 days.";
        assert_eq!(judge(&told, after, DAY, 7 * DAY_MS), Verdict::Delete(why.into()));
        assert_eq!(judge(&fresh, None, DAY, i64::MAX), Verdict::Keep(None));
        // After a month away the server warns first.
        assert_eq!(judge(&fresh, after, DAY, 30 * DAY_MS), Verdict::Warn { deletes_ms: 31 * DAY_MS });
        let late = Stopped { warned: warned(30 * DAY_MS, 31 * DAY_MS), ..fresh };
        assert_eq!(deletion(&late, after, DAY), Some(31 * DAY_MS));
        assert_eq!(deletion(&fresh, after, DAY), Some(7 * DAY_MS));
    }

    #[test]
    fn another_time_is_announced_anew() {
        let told = |at_ms, deletes_ms| Stopped { since_ms: 0, warned: Some(Warning { at_ms, deletes_ms }) };
        let stopped = told(6 * DAY_MS, 7 * DAY_MS);
        let now = 6 * DAY_MS + 5;
        let later = judge(&stopped, Some(9 * DAY), DAY, now);
        assert_eq!(later, Verdict::Warn { deletes_ms: 9 * DAY_MS });
        assert!(is_announced(&stopped, 7 * DAY_MS) && !is_announced(&stopped, 9 * DAY_MS));
        let stopped = told(now, 9 * DAY_MS);
        assert_eq!(judge(&stopped, Some(9 * DAY), DAY, now), Verdict::Keep(Some(9 * DAY_MS)));
        // Sooner again: they have a whole grace period from now on, and not what is left of the first.
        let sooner = judge(&stopped, Some(2 * DAY), DAY, 8 * DAY_MS);
        assert_eq!(sooner, Verdict::Warn { deletes_ms: 9 * DAY_MS });
        // A longer grace period is another time, too.
        assert_eq!(judge(&stopped, Some(9 * DAY), 5 * DAY, now), Verdict::Warn { deletes_ms: now + 5 * DAY_MS });
        // Never is told at once, and what follows it begins with a warning.
        assert_eq!(judge(&stopped, None, DAY, now), Verdict::Withdraw);
        let unwarned = Stopped { since_ms: 0, warned: None };
        assert_eq!(judge(&unwarned, Some(DAY), DAY, 40 * DAY_MS), Verdict::Warn { deletes_ms: 41 * DAY_MS });
    }

    #[test]
    fn a_lifetime_counts_from_the_start() {
        assert_eq!(lifetime_ends(Some(5), Some(DAY)), Some(DAY_MS + 5));
        assert_eq!(lifetime_ends(None, Some(DAY)), None);
        assert_eq!(lifetime_ends(Some(5), None), None);
        assert!(lifetime_reason(DAY).starts_with("Stopped after it had run for 1 day,"));
    }

    proptest! {
        /// Looked at whenever that is, and however often its time is changed: a deletion comes a grace period
        /// after its last warning at the earliest, never before the time that was told, and comes at last.
        #[test]
        fn nobody_is_surprised(after in 0..1_000_000u64, grace in 0..1_000_000u64,
            looks in prop::collection::vec((0..400_000_000i64, prop::option::of(prop::option::of(0..1_000_000u64))), 1..40)) {
            let (mut limit, grace) = (Some(Duration::from_secs(after)), Duration::from_secs(grace));
            let (mut stopped, mut now) = (Stopped { since_ms: 0, warned: None }, 0);
            let last = [(4_000_000_000, Some(Some(after))), (4_000_000_000, None), (4_000_000_000, None)];
            for (pause, change) in looks.into_iter().chain(last) {
                now += pause;
                limit = change.map_or(limit, |change| change.map(Duration::from_secs));
                match judge(&stopped, limit, grace, now) {
                    Verdict::Keep(at) => prop_assert!(limit.is_none() || at.is_some_and(|at| at > now)),
                    Verdict::Warn { deletes_ms } => {
                        stopped.warned = Some(Warning { at_ms: now, deletes_ms });
                        prop_assert_eq!(deletion(&stopped, limit, grace), Some(deletes_ms));
                        prop_assert!(is_announced(&stopped, deletes_ms));
                    }
                    Verdict::Withdraw => stopped.warned = None,
                    Verdict::Delete(_) => {
                        let warned = stopped.warned.unwrap_or(Warning { at_ms: i64::MAX, deletes_ms: i64::MAX });
                        prop_assert!(now - warned.at_ms >= millis(grace) && now >= warned.deletes_ms);
                        prop_assert!(limit.is_some_and(|limit| now >= millis(limit)));
                        return Ok(());
                    }
                }
            }
            prop_assert!(false, "it was never deleted");
        }
    }
}
