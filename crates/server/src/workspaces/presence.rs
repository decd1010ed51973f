//! What is known of a workspace's use, in memory: noted wherever it is used, read by the keeper and
//! by whoever looks at the workspace.
//!
//! Invariant: noting is a store to memory and nothing more, so that a keystroke can afford it.

use super::idle::Activity;
use crate::config::{Use, Uses};
use rexec_api::guest::Usage;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

/// Never.
const NEVER: i64 = i64::MIN;

#[derive(Debug)]
pub struct Presence {
    /// Of each way to use it, the last time; milliseconds since 1970.
    at: [AtomicI64; Use::COUNT],
    /// Something goes on in it that keeps it awake by itself, as was seen last.
    busy: AtomicBool,
    /// What goes on at this server: files on their way in or out.
    held: AtomicU32,
}

impl Default for Presence {
    fn default() -> Self {
        Self {
            at: std::array::from_fn(|_| AtomicI64::new(NEVER)),
            busy: AtomicBool::new(false),
            held: AtomicU32::new(0),
        }
    }
}

impl Presence {
    pub fn note(&self, using: Use, at_ms: i64) {
        self.at[using as usize].fetch_max(at_ms, Ordering::Relaxed);
    }

    /// Takes in what a guest tells, which is no later than now.
    pub fn hear(&self, usage: &Usage, counts: Uses, now_ms: i64) {
        let told =
            [(Use::Input, usage.last_input_ms), (Use::Output, usage.last_output_ms), (Use::Exec, usage.last_exec_ms)];
        for (using, at_ms) in told.into_iter().filter(|(_, at_ms)| *at_ms > 0) {
            self.note(using, at_ms.min(now_ms));
        }
        let going_on = [(Use::Processes, usage.foreground > 0), (Use::Exec, usage.execs > 0 || self.is_held())];
        for (using, _) in going_on.into_iter().filter(|(_, is_so)| *is_so) {
            self.note(using, now_ms);
        }
        self.busy.store(going_on.into_iter().any(|(using, is_so)| is_so && counts.has(using)), Ordering::Relaxed);
    }

    /// Something begins that keeps it in use until it is released.
    pub fn hold(&self, at_ms: i64) {
        self.held.fetch_add(1, Ordering::Relaxed);
        self.note(Use::Exec, at_ms);
    }

    pub fn release(&self, at_ms: i64) {
        self.held.fetch_sub(1, Ordering::Relaxed);
        self.note(Use::Exec, at_ms);
    }

    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed) > 0
    }

    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// Through a terminal or over SSH.
    pub fn is_typed_since(&self, at_ms: i64) -> bool {
        [Use::Input, Use::Ssh].into_iter().any(|using| self.at[using as usize].load(Ordering::Relaxed) >= at_ms)
    }

    /// What is known, beside what is recorded.
    pub fn activity(&self, recorded_ms: i64) -> Activity {
        let known = |at: &AtomicI64| Some(at.load(Ordering::Relaxed)).filter(|at| *at != NEVER);
        Activity { at: std::array::from_fn(|using| known(&self.at[using])), recorded_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_known() {
        let presence = Presence::default();
        assert_eq!(presence.activity(3), Activity { at: [None; Use::COUNT], recorded_ms: 3 });
        presence.note(Use::Input, 7);
        presence.note(Use::Input, 5);
        assert_eq!(presence.activity(3).last_ms(Uses::ALL, 100), 7);
        assert_eq!(presence.activity(3).last_ms(Uses::of([Use::Ssh]), 100), 3);
    }

    #[test]
    fn a_guest_is_heard_and_not_believed_beyond_now() {
        let presence = Presence::default();
        let quiet = Usage { last_output_ms: 60, last_input_ms: 1000, ..Usage::default() };
        presence.hear(&quiet, Uses::ALL, 100);
        let activity = presence.activity(0);
        assert_eq!((activity.at[Use::Output as usize], activity.at[Use::Input as usize]), (Some(60), Some(100)));
        assert!(activity.at[Use::Exec as usize].is_none() && !presence.is_busy());

        let at_work = Usage { foreground: 1, ..Usage::default() };
        presence.hear(&at_work, Uses::ALL, 200);
        assert!(presence.is_busy());
        assert_eq!(presence.activity(0).at[Use::Processes as usize], Some(200));
        presence.hear(&at_work, Uses::of([Use::Input]), 300);
        assert!(!presence.is_busy(), "a program does not count there");

        presence.hold(400);
        presence.hear(&Usage::default(), Uses::ALL, 500);
        assert!(presence.is_busy() && presence.activity(0).at[Use::Exec as usize] == Some(500));
        presence.release(600);
        presence.hear(&Usage::default(), Uses::ALL, 700);
        assert!(!presence.is_busy() && presence.activity(0).at[Use::Exec as usize] == Some(600));
    }
}
