//! When to walk the engine's disk next, and when to count files: pure. Either reads the record of every file there is.

use rexec_api::guest::FILE_BYTES_MIN;
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
const CHANGED_FILES: u64 = CHANGED_BYTES / FILE_BYTES_MIN;

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

/// What is free on the disk, each where it can be seen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Free {
    pub bytes: Option<u64>,
    pub files: Option<u64>,
}

/// The last walk, or the last count of files.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    pub took: Duration,
    pub free: Free,
}

/// Whether it is time to count files, so long after the last count.
pub fn is_count_due(last: Option<Walk>, since: Duration, free: Free, is_pressing: bool, rest_times: u32) -> bool {
    let Some(last) = last else { return true };
    if !is_rested(Some(last), since, rest_times) {
        return false;
    }
    match change(last.free.files, free.files) {
        Some(files) if files >= CHANGED_FILES => true,
        Some(_) if is_pressing => since >= PRESSING_EVERY,
        Some(_) => false,
        None => since >= LIMITED_EVERY,
    }
}

fn change(before: Option<u64>, now: Option<u64>) -> Option<u64> {
    before.zip(now).map(|(before, now)| before.abs_diff(now))
}

/// Whether it has rested since the last walk, or count, for as long as it is to.
pub fn is_rested(last: Option<Walk>, since: Duration, rest_times: u32) -> bool {
    last.is_none_or(|last| since >= last.took * rest_times)
}

/// Whether it is time, so long after the last walk.
/// After a walk it rests `rest_times` as long as that took.
pub fn is_due(last: Option<Walk>, since: Duration, free: Free, need: Need, rest_times: u32) -> bool {
    let Some(last) = last else { return true };
    if !is_rested(Some(last), since, rest_times) {
        return false;
    }
    let changed = change(last.free.bytes, free.bytes);
    let files = change(last.free.files, free.files);
    match (need, changed) {
        (Need::Statistics, _) => since >= UNLIMITED_EVERY,
        (Need::First, _) => since >= FIRST_EVERY,
        (_, Some(bytes)) if bytes >= CHANGED_BYTES => true,
        _ if files >= Some(CHANGED_FILES) => true,
        (Need::Limits, Some(_)) => since >= LIMITED_EVERY,
        (Need::Limits, None) | (Need::Pressing, _) => since >= PRESSING_EVERY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_due(last: Option<Walk>, since: Duration, bytes: Option<u64>, need: Need) -> bool {
        super::is_due(last, since, Free { bytes, files: None }, need, 20)
    }

    #[test]
    fn files_are_counted_when_there_are_many_more_or_fewer() {
        let free = |files| Free { bytes: None, files };
        let full = Some(1 << 20);
        let last = |files| Some(Walk { took: Duration::from_secs(1), free: free(files) });
        let (soon, later) = (Duration::from_secs(21), Duration::from_secs(301));
        let due = |last, since, files, pressing| is_count_due(last, since, free(files), pressing, 20);
        assert!(due(None, Duration::ZERO, full, false), "nothing is known yet");
        assert!(!due(last(full), later, full, false), "nobody has made any");
        assert!(due(last(full), soon, Some((1 << 20) - CHANGED_FILES), false));
        assert!(!due(last(full), Duration::from_secs(19), Some(0), true), "the last was long");
        assert!(!due(last(full), soon, full, true) && due(last(full), later, full, true), "somebody may tidy up");
        assert!(!due(last(None), soon, None, false) && due(last(None), later, None, false));
        let limits = |files| super::is_due(last(full), soon, free(files), Need::Limits, 20);
        assert!(!limits(full) && limits(Some((1 << 20) + CHANGED_FILES)), "a walk follows them, too");
    }

    #[test]
    fn growth_hastens_and_long_walks_delay() {
        let last = |bytes| Some(Walk { took: Duration::from_secs(1), free: Free { bytes, files: None } });
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
