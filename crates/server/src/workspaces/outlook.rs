//! What is to come for a workspace if nobody uses it from now on, in times and in a sentence: pure.

use super::idle::{self, Prospect, Up, spell, uses};
use super::retention::{self, Stopped};
use crate::config::{Thresholds, Uses};
use crate::time::rfc3339;
use std::time::Duration;

/// Where a workspace stands.
#[derive(Debug, Clone, Copy)]
pub enum Standing {
    Up {
        how: Up,
        last_ms: i64,
        /// Something goes on in it that keeps it awake.
        is_busy: bool,
        started_ms: Option<i64>,
    },
    Stopped(Stopped),
    /// On its way, out of reach or in error.
    Elsewhere,
}

/// What the server and the workspace itself say.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub thresholds: Thresholds,
    pub counts: Uses,
    pub delete_grace: Duration,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outlook {
    pub pauses_ms: Option<i64>,
    pub stops_ms: Option<i64>,
    pub deletes_ms: Option<i64>,
    /// Its owner has been warned of its deletion.
    pub announced: bool,
    pub sentence: String,
}

pub fn outlook(standing: Standing, rules: &Rules) -> Outlook {
    match standing {
        Standing::Up { how, last_ms, is_busy, started_ms } => up(how, last_ms, is_busy, started_ms, rules),
        Standing::Stopped(stopped) => of_stopped(&stopped, rules),
        Standing::Elsewhere => Outlook::default(),
    }
}

fn up(how: Up, last_ms: i64, is_busy: bool, started_ms: Option<i64>, rules: &Rules) -> Outlook {
    let thresholds = &rules.thresholds;
    let ends = retention::lifetime_ends(started_ms, thresholds.lifetime);
    let is_busy = is_busy && how == Up::Running;
    let Prospect { pauses_ms, stops_ms } =
        if is_busy { Prospect { pauses_ms: None, stops_ms: None } } else { idle::prospect(how, last_ms, thresholds) };
    let mut sentences = vec![match how {
        Up::Running if is_busy => "Something runs in it, which keeps it awake.".to_owned(),
        Up::Running => when_idle(thresholds, pauses_ms.is_some(), rules.counts),
        Up::Asleep => match thresholds.stop_after {
            Some(after) => format!("It wakes as soon as it is used, and stops {} after its last use.", spell(after)),
            None => "It wakes as soon as it is used.".to_owned(),
        },
        Up::Held => "It stays paused until it is resumed.".to_owned(),
    }];
    if let (Some(lifetime), Some(_)) = (thresholds.lifetime, ends) {
        sentences.push(format!("It stops once it has run for {}.", spell(lifetime)));
    }
    let stops_ms = [stops_ms, ends].into_iter().flatten().min();
    Outlook { pauses_ms, stops_ms, sentence: sentences.join(" "), ..Outlook::default() }
}

fn when_idle(thresholds: &Thresholds, pauses: bool, counts: Uses) -> String {
    match (thresholds.pause_after.filter(|_| pauses), thresholds.stop_after) {
        (Some(pause), Some(stop)) => {
            format!("It pauses after {} without {}, and stops after {}.", spell(pause), uses(counts), spell(stop))
        }
        (Some(pause), None) => format!("It pauses after {} without {}.", spell(pause), uses(counts)),
        (None, Some(stop)) => format!("It stops after {} without {}.", spell(stop), uses(counts)),
        (None, None) => "It stays awake, used or not.".into(),
    }
}

fn of_stopped(stopped: &Stopped, rules: &Rules) -> Outlook {
    let deletes_ms = retention::deletion(stopped, rules.thresholds.delete_after, rules.delete_grace);
    let announced = deletes_ms.is_some_and(|at| retention::is_announced(stopped, at));
    let sentence = match (rules.thresholds.delete_after, deletes_ms) {
        (_, Some(at)) if announced => {
            format!("It will be deleted at {} unless it is started before.", rfc3339(at))
        }
        (Some(after), _) => format!("It is deleted once it has been stopped for {}.", spell(after)),
        (None, _) => "It stays as it is until it is started.".into(),
    };
    Outlook { deletes_ms, announced, sentence, ..Outlook::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn rules(lifetime: Option<Duration>) -> Rules {
        let thresholds = Thresholds {
            pause_after: Some(15 * MINUTE),
            stop_after: Some(120 * MINUTE),
            lifetime,
            delete_after: Some(7 * 1440 * MINUTE),
        };
        Rules { thresholds, counts: Uses::ALL, delete_grace: 1440 * MINUTE }
    }

    fn running(is_busy: bool) -> Standing {
        Standing::Up { how: Up::Running, last_ms: 0, is_busy, started_ms: Some(0) }
    }

    #[test]
    fn the_future_is_told() {
        let idle = outlook(running(false), &rules(None));
        assert_eq!((idle.pauses_ms, idle.stops_ms), (Some(900_000), Some(7_200_000)));
        let sentence = "It pauses after 15 minutes without input, output or any other use, and stops after 2 hours.";
        assert_eq!(idle.sentence, sentence);

        let busy = outlook(running(true), &rules(Some(1440 * MINUTE)));
        assert_eq!((busy.pauses_ms, busy.stops_ms), (None, Some(86_400_000)), "but its lifetime ends");
        let sentence = "Something runs in it, which keeps it awake. It stops once it has run for 1 day.";
        assert_eq!(busy.sentence, sentence);

        let asleep = Standing::Up { how: Up::Asleep, last_ms: 0, is_busy: true, started_ms: Some(0) };
        let asleep = outlook(asleep, &rules(None));
        assert_eq!((asleep.pauses_ms, asleep.stops_ms), (None, Some(7_200_000)));
        let held = Standing::Up { how: Up::Held, last_ms: 0, is_busy: false, started_ms: Some(0) };
        assert_eq!(outlook(held, &rules(None)).stops_ms, None);
    }

    #[test]
    fn a_deletion_is_told_before_it_comes() {
        let stopped = Stopped { since_ms: 0, warned: None };
        let before = outlook(Standing::Stopped(stopped), &rules(None));
        assert_eq!((before.deletes_ms, before.announced), (Some(7 * 86_400_000), false));
        assert_eq!(before.sentence, "It is deleted once it has been stopped for 7 days.");
        let warning = retention::Warning { at_ms: 6 * 86_400_000, deletes_ms: 7 * 86_400_000 };
        let warned = Stopped { warned: Some(warning), ..stopped };
        let after = outlook(Standing::Stopped(warned), &rules(None));
        assert!(
            after.announced && after.sentence.starts_with("It will be deleted at 1970-01-08T00:00:00"),
            "{after:?}"
        );
    }
}
