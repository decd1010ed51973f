//! What is to be done about a workspace's use of its disk, where the engine itself holds no limit: pure.
//!
//! ```text
//!   fine --90 %--> warned --full--> over, with a time to tidy up --time is up, or it keeps growing--> stopped
//! ```
//!
//! One that was stopped may be started again and begins with a time to tidy up: files can only be
//! removed in a workspace that runs.

use std::time::Duration;

/// From here on it is warned of, and below the second it is no more: at the edge it would come and go.
const WARN_PERCENT: u64 = 90;
const CALM_PERCENT: u64 = 85;
/// While there is time to tidy up it may grow by this part of its limit.
const GROWTH_PERCENT: u64 = 25;

/// What is remembered of one boot of a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    #[default]
    Fine,
    Warned,
    Over {
        since_ms: i64,
        /// How much it had when that began.
        bytes: u64,
    },
}

/// What follows from a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Nothing,
    /// It has just come near its limit, or over it.
    Tell,
    Stop,
}

pub fn judge(state: State, used: u64, limit: u64, now_ms: i64, grace: Duration) -> (State, Verdict) {
    let percent = |part: u64| limit / 100 * part;
    match state {
        State::Over { since_ms, bytes } if used >= limit => {
            let grace_ms = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
            let is_up =
                now_ms >= since_ms.saturating_add(grace_ms) || used >= bytes.saturating_add(percent(GROWTH_PERCENT));
            (state, if is_up { Verdict::Stop } else { Verdict::Nothing })
        }
        _ if used >= limit => (State::Over { since_ms: now_ms, bytes: used }, Verdict::Tell),
        State::Fine if used >= percent(WARN_PERCENT) => (State::Warned, Verdict::Tell),
        State::Warned | State::Over { .. } if used >= percent(CALM_PERCENT) => (State::Warned, Verdict::Nothing),
        _ => (State::Fine, Verdict::Nothing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_millis(100);

    #[test]
    fn it_is_warned_first_and_stopped_last() {
        let mut state = State::default();
        let mut see = |used, now_ms| {
            let (next, verdict) = judge(state, used, 1000, now_ms, GRACE);
            state = next;
            verdict
        };
        assert_eq!(see(500, 0), Verdict::Nothing);
        assert_eq!(see(900, 1), Verdict::Tell);
        assert_eq!(see(950, 2), Verdict::Nothing, "told once");
        assert_eq!(see(860, 3), Verdict::Nothing);
        assert_eq!(see(900, 4), Verdict::Nothing, "it has not been calm in between");
        assert_eq!(see(1000, 5), Verdict::Tell);
        assert_eq!(see(1100, 104), Verdict::Nothing, "there is time to tidy up");
        assert_eq!(see(1000, 105), Verdict::Stop);
    }

    #[test]
    fn tidying_up_in_time_is_enough() {
        let over = State::Over { since_ms: 0, bytes: 1000 };
        assert_eq!(judge(over, 800, 1000, 500, GRACE), (State::Fine, Verdict::Nothing));
        assert_eq!(judge(over, 950, 1000, 500, GRACE), (State::Warned, Verdict::Nothing));
    }

    #[test]
    fn what_keeps_growing_is_stopped_at_once() {
        let (over, verdict) = judge(State::Fine, 3000, 1000, 0, GRACE);
        assert_eq!(verdict, Verdict::Tell, "started again with much too much, it may tidy up");
        assert_eq!(judge(over, 3200, 1000, 1, GRACE).1, Verdict::Nothing);
        assert_eq!(judge(over, 3250, 1000, 2, GRACE).1, Verdict::Stop);
    }
}
