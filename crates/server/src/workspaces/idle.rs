//! Idleness as a pure decision: from when and how a workspace was last used, whether it is to be
//! paused or stopped now, and why, in a sentence for its owner.
//!
//! A workspace that runs is paused after one threshold without use and stopped after another; one
//! that is asleep is stopped after the same time without use. What a person has paused is left alone:
//! they froze it to keep what runs in it.
//!
//! Invariant: nothing here does I/O or knows the time. A guest's times are a tenant's word: they may
//! keep the tenant's own workspace awake, never for longer than its lifetime.

use crate::config::{Thresholds, Use, Uses};
use rexec_api::idle::IdleSettings;
use std::time::Duration;

/// When a workspace was last used, each way; milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    pub at: [Option<i64>; Use::COUNT],
    /// What is recorded of its use: at least when it was last started or resumed.
    pub recorded_ms: i64,
}

impl Activity {
    /// The last use that counts; nothing has happened after now, whatever a guest says.
    pub fn last_ms(&self, counts: Uses, now_ms: i64) -> i64 {
        let uses = Use::ALL.into_iter().filter(|using| counts.has(*using)).filter_map(|using| self.at[using as usize]);
        uses.chain([self.recorded_ms]).max().unwrap_or(self.recorded_ms).min(now_ms)
    }
}

/// How a workspace is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Up {
    Running,
    /// Paused because nobody used it.
    Asleep,
    /// Paused by a person.
    Held,
}

/// When what would happen if nobody used the workspace from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prospect {
    pub pauses_ms: Option<i64>,
    pub stops_ms: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is to be done before this time, if ever.
    Leave(Option<i64>),
    Pause(String),
    Stop(String),
}

pub fn prospect(up: Up, last_ms: i64, thresholds: &Thresholds) -> Prospect {
    let at = |after: Option<Duration>| after.map(|after| last_ms.saturating_add(millis(after)));
    let stops_ms = at(thresholds.stop_after).filter(|_| up != Up::Held);
    // Where it stops first, there is nothing to pause.
    let pauses_ms =
        at(thresholds.pause_after).filter(|at| up == Up::Running && stops_ms.is_none_or(|stops| *at < stops));
    Prospect { pauses_ms, stops_ms }
}

pub fn judge(up: Up, activity: &Activity, thresholds: &Thresholds, counts: Uses, now_ms: i64) -> Verdict {
    let Prospect { pauses_ms, stops_ms } = prospect(up, activity.last_ms(counts, now_ms), thresholds);
    let due = |at: Option<i64>| at.is_some_and(|at| at <= now_ms);
    match (thresholds.pause_after, thresholds.stop_after) {
        (_, Some(after)) if due(stops_ms) => Verdict::Stop(format!(
            "Stopped after {} without {}. Its files are kept; start it to go on.",
            spell(after),
            uses(counts)
        )),
        (Some(after), _) if due(pauses_ms) => Verdict::Pause(format!(
            "Paused after {} without {}. It wakes as soon as it is used.",
            spell(after),
            uses(counts)
        )),
        _ => Verdict::Leave(pauses_ms.or(stops_ms)),
    }
}

/// How often a running workspace is looked at, so that its owner sees what is so: a tenth of what is
/// to be noticed, once a second at most and once a minute at least. `None`: nobody need look.
pub fn pace(thresholds: &Thresholds) -> Option<Duration> {
    const EVERY_MIN: Duration = Duration::from_secs(1);
    const EVERY_MAX: Duration = Duration::from_secs(60);
    let after = [thresholds.pause_after, thresholds.stop_after].into_iter().flatten().min()?;
    Some((after / 10).clamp(EVERY_MIN, EVERY_MAX))
}

/// The thresholds of a workspace that says so much itself.
pub fn with_own(usual: &Thresholds, own: &IdleSettings) -> Thresholds {
    let one = |own: Option<u64>, usual: Option<Duration>| match own {
        Some(0) => None,
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => usual,
    };
    Thresholds {
        pause_after: one(own.pause_after_s, usual.pause_after),
        stop_after: one(own.stop_after_s, usual.stop_after),
        lifetime: one(own.lifetime_s, usual.lifetime),
        delete_after: one(own.delete_after_s, usual.delete_after),
    }
}

/// As they are told: every one of them, 0 being never.
pub fn told(thresholds: &Thresholds) -> IdleSettings {
    let seconds = |after: Option<Duration>| Some(after.map_or(0, |after| after.as_secs()));
    IdleSettings {
        pause_after_s: seconds(thresholds.pause_after),
        stop_after_s: seconds(thresholds.stop_after),
        lifetime_s: seconds(thresholds.lifetime),
        delete_after_s: seconds(thresholds.delete_after),
    }
}

pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// What was missed, as in "without input or output".
pub fn uses(counts: Uses) -> String {
    if counts == Uses::ALL {
        return "input, output or any other use".into();
    }
    let words: Vec<&str> = Use::ALL.into_iter().filter(|using| counts.has(*using)).map(word).collect();
    match words.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => "use".into(),
    }
}

const fn word(using: Use) -> &'static str {
    match using {
        Use::Input => "input",
        Use::Output => "output",
        Use::Processes => "a program in a terminal",
        Use::Ssh => "SSH",
        Use::Exec => "commands",
        Use::Preview => "visits to a preview",
    }
}

/// A duration in its largest unit that leaves no remainder: 90 minutes, 2 hours, 7 days.
pub fn spell(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, "day"), (3600, "hour"), (60, "minute")];
    let fits = units.into_iter().find(|(size, _)| seconds >= *size && seconds.is_multiple_of(*size));
    let (count, unit) = fits.map_or((seconds, "second"), |(size, unit)| (seconds / size, unit));
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn thresholds(pause: Option<u64>, stop: Option<u64>) -> Thresholds {
        let after = |seconds: Option<u64>| seconds.map(Duration::from_secs);
        Thresholds { pause_after: after(pause), stop_after: after(stop), lifetime: None, delete_after: None }
    }

    fn quiet_since(ms: i64) -> Activity {
        Activity { at: [None; Use::COUNT], recorded_ms: ms }
    }

    #[test]
    fn the_reasons_are_sentences() {
        let limits = thresholds(Some(15 * 60), Some(2 * 3600));
        let at = |up, now| judge(up, &quiet_since(0), &limits, Uses::ALL, now);
        assert_eq!(at(Up::Running, 899_999), Verdict::Leave(Some(900_000)));
        let paused = "Paused after 15 minutes without input, output or any other use. It wakes as soon as it is used.";
        assert_eq!(at(Up::Running, 900_000), Verdict::Pause(paused.into()));
        assert_eq!(at(Up::Asleep, 900_000), Verdict::Leave(Some(7_200_000)));
        let two = Uses::of([Use::Input, Use::Output]);
        let stopped = "Stopped after 30 minutes without input or output. Its files are kept; start it to go on.";
        let limits = thresholds(None, Some(30 * 60));
        assert_eq!(judge(Up::Running, &quiet_since(0), &limits, two, 1_800_000), Verdict::Stop(stopped.into()));
        assert_eq!(judge(Up::Held, &quiet_since(0), &limits, two, 1_800_000), Verdict::Leave(None));
    }

    #[test]
    fn only_what_counts_keeps_it_awake() {
        let limits = thresholds(Some(60), None);
        let mut activity = quiet_since(0);
        activity.at[Use::Output as usize] = Some(59_000);
        assert_eq!(judge(Up::Running, &activity, &limits, Uses::ALL, 60_000), Verdict::Leave(Some(119_000)));
        let input = Uses::of([Use::Input]);
        assert!(
            matches!(judge(Up::Running, &activity, &limits, input, 60_000), Verdict::Pause(why) if why.contains("without input."))
        );
        // A guest that speaks of tomorrow is believed for today.
        activity.at[Use::Output as usize] = Some(i64::MAX);
        assert_eq!(judge(Up::Running, &activity, &limits, Uses::ALL, 60_000), Verdict::Leave(Some(120_000)));
    }

    #[test]
    fn durations_are_spelled() {
        for (seconds, text) in
            [(1, "1 second"), (90, "90 seconds"), (60, "1 minute"), (5400, "90 minutes"), (7200, "2 hours")]
        {
            assert_eq!(spell(Duration::from_secs(seconds)), text);
        }
        assert_eq!(spell(Duration::from_secs(7 * 86_400)), "7 days");
        assert_eq!(uses(Uses::of([Use::Input, Use::Ssh, Use::Exec])), "input, SSH or commands");
    }

    #[test]
    fn a_workspace_may_say_itself() {
        let usual = thresholds(Some(60), Some(120));
        let own = IdleSettings { pause_after_s: Some(0), lifetime_s: Some(9), ..Default::default() };
        let both = with_own(&usual, &own);
        assert_eq!((both.pause_after, both.stop_after), (None, usual.stop_after));
        assert_eq!(both.lifetime, Some(Duration::from_secs(9)));
        assert_eq!(with_own(&usual, &told(&both)), both);
        let never: IdleSettings = serde_json::from_str(r#"{"pause_after_s": null}"#).unwrap();
        assert_eq!(never.pause_after_s, Some(0));
    }

    #[test]
    fn it_is_looked_at_as_often_as_is_useful() {
        assert_eq!(pace(&thresholds(Some(5), None)), Some(Duration::from_secs(1)));
        assert_eq!(pace(&thresholds(Some(15 * 60), Some(60 * 60))), Some(MINUTE));
        assert_eq!(pace(&thresholds(Some(300), Some(200))), Some(Duration::from_secs(20)));
        assert_eq!(pace(&thresholds(None, None)), None);
    }

    fn after() -> impl Strategy<Value = Option<u64>> {
        prop::option::of(1..100_000u64)
    }

    proptest! {
        /// What is left alone is left until the time that was told, and judged otherwise then.
        #[test]
        fn the_time_told_is_the_time(pause in after(), stop in after(), now in 0..200_000_000i64,
            used in prop::option::of(0..200_000_000i64), counted in 0..64u8) {
            let limits = thresholds(pause, stop);
            let counts = Uses::of(Use::ALL.into_iter().filter(|using| counted & (1 << *using as u8) != 0));
            let mut activity = quiet_since(0);
            activity.at[Use::Input as usize] = used;
            for up in [Up::Running, Up::Asleep, Up::Held] {
                match judge(up, &activity, &limits, counts, now) {
                    Verdict::Leave(None) => prop_assert!(up == Up::Held || stop.is_none()),
                    Verdict::Leave(Some(at)) => {
                        prop_assert!(at > now);
                        prop_assert!(matches!(judge(up, &activity, &limits, counts, at - 1), Verdict::Leave(Some(_))));
                    }
                    Verdict::Pause(_) => prop_assert_eq!(up, Up::Running),
                    Verdict::Stop(_) => prop_assert!(up != Up::Held),
                }
            }
        }

        /// To use it in a way that counts never brings its pause or its stop nearer.
        #[test]
        fn use_never_hurts(pause in after(), stop in after(), now in 0..200_000_000i64, before in 0..200_000_000i64,
            later in 0..200_000_000i64) {
            let limits = thresholds(pause, stop);
            let last = |used: i64| {
                let mut activity = quiet_since(before.min(now));
                activity.at[Use::Exec as usize] = Some(used);
                prospect(Up::Running, activity.last_ms(Uses::ALL, now), &limits)
            };
            let (without, with) = (last(i64::MIN), last(later));
            prop_assert!(with.pauses_ms >= without.pauses_ms && with.stops_ms >= without.stops_ms);
        }
    }
}
