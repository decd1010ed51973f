//! When to walk the engine's disk next: pure. A walk reads the record of every file there is.

use std::time::Duration;

/// Where nobody is held to a limit, it is for their statistics only.
const UNLIMITED_EVERY: Duration = Duration::from_secs(600);
/// New ones are told of after so long at most: of many that come one by one each would have a walk of its own.
const FIRST_EVERY: Duration = Duration::from_secs(30);
const LIMITED_EVERY: Duration = Duration::from_secs(300);
/// The same where it cannot be seen how full the disk is, or somebody is near a limit.
const PRESSING_EVERY: Duration = Duration::from_secs(60);
/// When so much more or less of the disk is free, somebody has grown or tidied up.
const CHANGED_BYTES: u64 = 64 << 20;

/// What the walk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Statistics,
    /// The same, with somebody there of whom nothing is known yet.
    First,
    /// Somebody who runs is held to a limit.
    Limits,
    /// Somebody is near one, or over it.
    Pressing,
}

/// The last walk.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    pub took: Duration,
    /// What was free on the disk, where that can be seen.
    pub free_bytes: Option<u64>,
}

/// Whether it is time, so long after the last walk.
/// After a walk it rests `rest_times` as long as that took.
pub fn is_due(last: Option<Walk>, since: Duration, free_bytes: Option<u64>, need: Need, rest_times: u32) -> bool {
    let Some(last) = last else { return true };
    if since < last.took * rest_times {
        return false;
    }
    let changed = last.free_bytes.zip(free_bytes).map(|(before, now)| before.abs_diff(now));
    match (need, changed) {
        (Need::Statistics, _) => since >= UNLIMITED_EVERY,
        (Need::First, _) => since >= FIRST_EVERY,
        (_, Some(bytes)) if bytes >= CHANGED_BYTES => true,
        (Need::Limits, Some(_)) => since >= LIMITED_EVERY,
        (Need::Limits, None) | (Need::Pressing, _) => since >= PRESSING_EVERY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_due(last: Option<Walk>, since: Duration, free_bytes: Option<u64>, need: Need) -> bool {
        super::is_due(last, since, free_bytes, need, 20)
    }

    #[test]
    fn growth_hastens_and_long_walks_delay() {
        let last = |free| Some(Walk { took: Duration::from_secs(1), free_bytes: free });
        let (soon, later) = (Duration::from_secs(21), Duration::from_secs(301));
        let minute = Duration::from_secs(60);
        let full = Some(1 << 30);
        assert!(is_due(None, Duration::ZERO, None, Need::Statistics), "nothing is known yet");
        assert!(!is_due(last(full), soon, full, Need::Limits), "nobody has grown");
        assert!(is_due(last(full), soon, Some((1 << 30) - CHANGED_BYTES), Need::Limits));
        assert!(is_due(last(full), soon, Some((1 << 30) + CHANGED_BYTES), Need::Pressing), "somebody tidies up");
        assert!(!is_due(last(full), Duration::from_secs(19), Some(0), Need::Pressing), "the last was long");
        assert!(!is_due(last(full), soon, Some(0), Need::Statistics), "nobody is held to a limit");
        assert!(!is_due(last(full), soon, Some(0), Need::First) && is_due(last(full), minute, full, Need::First));
        assert!(!is_due(last(full), minute, full, Need::Statistics), "nobody is new");
        assert!(!is_due(last(full), minute, full, Need::Limits) && is_due(last(full), minute, full, Need::Pressing));
        assert!(is_due(last(full), later, full, Need::Limits));
        assert!(!is_due(last(None), soon, None, Need::Limits) && is_due(last(None), minute, None, Need::Limits));
    }
}
