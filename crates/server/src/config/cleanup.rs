//! When workspaces that nobody uses are paused, stopped and deleted, and what counts as use.
//!
//! The defaults are those of the mode: a place to develop tidies up sooner than one where people work.

use super::Mode;
use super::sources::Reader;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// A hundred years: nobody means more, and milliseconds of it can be added to any time.
pub const SECONDS_MAX: u64 = 100 * 365 * 24 * 3600;

/// A way to use a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Something was typed into a terminal, or somebody opened one.
    Input,
    /// A terminal showed something.
    Output,
    /// A program runs in the foreground of a terminal.
    Processes,
    Ssh,
    /// A command, or files read and written from outside.
    Exec,
    Preview,
}

impl Use {
    pub const COUNT: usize = 6;
    pub const ALL: [Self; Self::COUNT] =
        [Self::Input, Self::Output, Self::Processes, Self::Ssh, Self::Exec, Self::Preview];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::Processes => "processes",
            Self::Ssh => "ssh",
            Self::Exec => "exec",
            Self::Preview => "preview",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|using| using.as_str() == text)
    }
}

/// Which ways to use a workspace keep it awake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uses(u8);

impl Uses {
    pub const ALL: Self = Self((1 << Use::COUNT) - 1);

    pub fn of(uses: impl IntoIterator<Item = Use>) -> Self {
        Self(uses.into_iter().fold(0, |set, using| set | 1 << using as u8))
    }

    pub const fn has(self, using: Use) -> bool {
        self.0 & (1 << using as u8) != 0
    }
}

/// After how long what happens to a workspace; absent: never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Without use.
    pub pause_after: Option<Duration>,
    /// Without use, whether it is paused by then or not.
    pub stop_after: Option<Duration>,
    /// Running or paused at a stretch, used or not: then it is stopped.
    pub lifetime: Option<Duration>,
    /// Stopped at a stretch.
    pub delete_after: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CleanupConfig {
    /// Of a workspace that does not say otherwise.
    pub thresholds: Thresholds,
    /// How long before its deletion a workspace's owner is warned, at least.
    pub delete_grace: Duration,
    pub counts: Uses,
}

pub(super) fn take(reader: &mut Reader, mode: Mode) -> CleanupConfig {
    let usual = usual(mode);
    let mut after = |names: &[&str], usual: Option<Duration>| match reader.number(names, 0, SECONDS_MAX) {
        Some(0) => None,
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => usual,
    };
    let stop = ["REXEC_IDLE_STOP_SECONDS", "REXEC_IDLE_TIMEOUT", "COMPUTE_WORKSPACE_TIMEOUT"];
    let thresholds = Thresholds {
        pause_after: after(&["REXEC_IDLE_PAUSE_SECONDS"], usual.pause_after),
        stop_after: after(&stop, usual.stop_after),
        lifetime: after(&["REXEC_LIFETIME_SECONDS"], usual.lifetime),
        delete_after: after(&["REXEC_DELETE_AFTER_SECONDS"], usual.delete_after),
    };
    let grace = reader.number(&["REXEC_DELETE_GRACE_SECONDS"], 0, SECONDS_MAX);
    CleanupConfig { thresholds, delete_grace: grace.map_or(DAY, Duration::from_secs), counts: counts(reader) }
}

const fn usual(mode: Mode) -> Thresholds {
    match mode {
        Mode::Release => Thresholds {
            pause_after: Some(Duration::from_secs(15 * MINUTE.as_secs())),
            stop_after: Some(Duration::from_secs(2 * HOUR.as_secs())),
            lifetime: None,
            delete_after: None,
        },
        Mode::Debug => Thresholds {
            pause_after: Some(Duration::from_secs(5 * MINUTE.as_secs())),
            stop_after: Some(Duration::from_secs(30 * MINUTE.as_secs())),
            lifetime: Some(DAY),
            delete_after: Some(Duration::from_secs(7 * DAY.as_secs())),
        },
    }
}

fn counts(reader: &mut Reader) -> Uses {
    let Some((name, text)) = reader.text(&["REXEC_IDLE_COUNTS"]) else { return Uses::ALL };
    let uses: Option<Vec<Use>> = text.split(',').map(|part| Use::parse(part.trim())).collect();
    uses.map_or_else(
        || {
            let all = Use::ALL.map(Use::as_str).join(", ");
            reader.fault(&name, &format!("must be some of {all}, separated by commas"));
            Uses::ALL
        },
        Uses::of,
    )
}
