//! Whether a region needs another machine, or one less: pure.
//!
//! A region is to have so much free that whoever comes next finds room at once, since a machine takes minutes to come.
//! What is under way counts as if it were there. Less is done in two steps: a machine is *drained*, which takes nothing
//! from whoever is on it, and deleted once nothing lies there any more; until then more demand takes it back into use.
//!
//! ```text
//!   (none) --Create--> under way --it answers--> active --Drain--> draining --empty--> Delete --> (none)
//!                                                   ^----------Reinstate------|
//! ```
//!
//! Invariants, each held by a test: machines of ours never exceed `max`, those under way and those draining counted; a
//! deletion or draining never leaves fewer than `min`; only what is ours, draining and empty is deleted; what another
//! drained is not reinstated; what follows at once from one decision is never its opposite; equal input gives equal output,
//! in any order of hosts.

use std::time::Duration;

/// The longest pause after failures, however many there were.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(30 * 60);
/// The pause after one failure; it doubles with each that follows.
pub const BACK_OFF_FIRST: Duration = Duration::from_secs(30);

/// Cores and memory, of a machine or of what is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Room {
    pub cpu_milli: u64,
    pub memory_mb: u64,
}

impl Room {
    /// Whether that much is in this.
    pub fn holds(self, other: Self) -> bool {
        self.cpu_milli >= other.cpu_milli && self.memory_mb >= other.memory_mb
    }

    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_add(other.cpu_milli),
            memory_mb: self.memory_mb.saturating_add(other.memory_mb),
        }
    }

    #[must_use]
    pub fn less(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_sub(other.cpu_milli),
            memory_mb: self.memory_mb.saturating_sub(other.memory_mb),
        }
    }
}

/// What is wanted of one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Machines of ours, at the least and at the most.
    pub min: u32,
    pub max: u32,
    /// What one machine gives.
    pub machine: Room,
    /// To be free at any time, on all hosts together.
    pub spare: Room,
    /// To be free beyond `spare` after a machine was taken away: what demand may swing without bringing it back.
    pub headroom: Room,
    /// Less than this in one piece is of no use to anybody, and does not count as free.
    pub piece: Room,
    /// Between two machines that are made.
    pub up_pause: Duration,
    /// From anything that was done, or a machine's coming, to a draining; and from the draining to the deletion.
    pub down_pause: Duration,
}

/// Whose a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Made by us: it may be taken away.
    Ours,
    /// The operator's: it counts, and is left alone.
    Operators,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Active,
    /// It takes nothing new. `by_us`: by a decision of this kind, and not by a person.
    Draining {
        since_ms: i64,
        by_us: bool,
    },
}

/// A host of the region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host<Id> {
    pub id: Id,
    pub whose: Whose,
    pub state: State,
    /// It answers. What does not takes nobody, and is not free.
    pub is_ready: bool,
    /// 0 of either: without a limit.
    pub capacity: Room,
    pub used: Room,
    /// All that lies there: what runs, what is stopped, files that are kept.
    pub lies: u64,
    /// Since when it is one of the region's.
    pub since_ms: i64,
}

/// What is known of one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round<Id> {
    pub now_ms: i64,
    pub hosts: Vec<Host<Id>>,
    /// Machines of ours that were asked for and are no hosts yet.
    pub coming: u32,
    /// Machines of ours that are being removed, or were and may still be there.
    pub going: u32,
    /// The largest that was refused of late for want of room.
    pub refused: Option<Room>,
    /// When something was last done here, and when a machine was last asked for.
    pub acted_ms: Option<i64>,
    pub created_ms: Option<i64>,
    pub failures: Failures,
}

/// Creations that failed, since one succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Failures {
    pub in_a_row: u32,
    pub last_ms: i64,
}

impl Failures {
    /// Until when nothing is tried again.
    pub fn until_ms(self) -> i64 {
        if self.in_a_row == 0 {
            return i64::MIN;
        }
        let doubled = 2u32.saturating_pow(self.in_a_row - 1);
        self.last_ms.saturating_add(ms(BACK_OFF_FIRST.saturating_mul(doubled).min(BACK_OFF_MAX)))
    }
}

/// One thing to do, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<Id> {
    Create(Need),
    /// Have workspaces made there again.
    Reinstate(Id, Need),
    /// Have no more made there.
    Drain(Id),
    Delete(Id),
    Nothing(Rest),
}

/// Why more is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    BelowMin,
    /// Less is free than is to be.
    LittleFree,
    /// Somebody was refused, whom a machine would hold.
    Refused,
}

/// Why nothing is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    Enough,
    /// More is needed, and there are as many machines as there may be.
    AtMax,
    /// More is needed, and the last was asked for a moment ago.
    UpPause,
    /// More is needed, and creations fail.
    BackOff,
    /// Less would do, and something was done a while ago only.
    DownPause,
}

impl Need {
    /// Stable, for programs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::BelowMin => "below_min",
            Self::LittleFree => "little_free",
            Self::Refused => "refused",
        }
    }
}

impl Rest {
    /// Stable, for programs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Enough => "enough",
            Self::AtMax => "at_max",
            Self::UpPause => "up_pause",
            Self::BackOff => "back_off",
            Self::DownPause => "down_pause",
        }
    }
}

/// What is to be done in a region now.
pub fn decide<Id: Copy + Ord>(policy: &Policy, round: &Round<Id>) -> Action<Id> {
    match need(policy, round) {
        Some(need) => more(policy, round, need),
        None => less(policy, round),
    }
}

fn need<Id>(policy: &Policy, round: &Round<Id>) -> Option<Need> {
    if active_ours(round) + round.coming < policy.min {
        return Some(Need::BelowMin);
    }
    let free = free(policy, round, |_| true);
    if let Some(refused) = round.refused
        && policy.machine.holds(refused)
        && round.coming == 0
        && !round.hosts.iter().any(|host| takes(host) && free_on(host).holds(refused))
    {
        return Some(Need::Refused);
    }
    (!free.holds(policy.spare)).then_some(Need::LittleFree)
}

fn more<Id: Copy + Ord>(policy: &Policy, round: &Round<Id>, need: Need) -> Action<Id> {
    // The fullest comes back first: an empty one is nearer to its end.
    let back = round
        .hosts
        .iter()
        .filter(|host| host.whose == Whose::Ours && host.is_ready)
        .filter(|host| matches!(host.state, State::Draining { by_us: true, .. }))
        .filter(|host| need != Need::Refused || round.refused.is_some_and(|refused| free_on(host).holds(refused)))
        .max_by_key(|host| (host.lies, host.id));
    if let Some(host) = back {
        return Action::Reinstate(host.id, need);
    }
    if ours(round) >= policy.max {
        return Action::Nothing(Rest::AtMax);
    }
    if round.now_ms < round.failures.until_ms() {
        return Action::Nothing(Rest::BackOff);
    }
    if round.created_ms.is_some_and(|at| round.now_ms < at.saturating_add(ms(policy.up_pause))) {
        return Action::Nothing(Rest::UpPause);
    }
    Action::Create(need)
}

fn less<Id: Copy + Ord>(policy: &Policy, round: &Round<Id>) -> Action<Id> {
    let pause = ms(policy.down_pause);
    // Also from the server's own start, which counts as something done: a database that was restored may be wrong.
    let acted = round.acted_ms.unwrap_or(i64::MIN);
    let gone = round
        .hosts
        .iter()
        .filter(|host| host.whose == Whose::Ours && host.lies == 0)
        .filter(|host| {
            matches!(host.state, State::Draining { since_ms, .. } if round.now_ms >= since_ms.max(acted).saturating_add(pause))
        })
        .min_by_key(|host| host.id);
    // Those that are active or coming are as many as there are to be, or more would be needed.
    if let Some(host) = gone {
        return Action::Delete(host.id);
    }
    // Not while something comes: what it brings would be judged before it is there.
    if round.coming > 0 || active_ours(round) <= policy.min {
        return Action::Nothing(Rest::Enough);
    }
    let keep = policy.spare.plus(policy.headroom);
    let spared = round
        .hosts
        .iter()
        .filter(|host| host.whose == Whose::Ours && host.state == State::Active)
        // What is on it will want to be elsewhere, sooner or later.
        .filter(|host| free(policy, round, |other| other.id != host.id).holds(keep.plus(host.used)))
        .filter(|host| !is_wanted_for(round, host))
        .min_by_key(|host| (host.is_ready, host.lies, host.used.cpu_milli, host.used.memory_mb, host.id));
    let Some(host) = spared else { return Action::Nothing(Rest::Enough) };
    let since = acted.max(host.since_ms);
    if round.now_ms < since.saturating_add(pause) {
        return Action::Nothing(Rest::DownPause);
    }
    Action::Drain(host.id)
}

/// Whether it alone has the room that somebody was refused: without it a machine would be made for that.
fn is_wanted_for<Id: Ord>(round: &Round<Id>, host: &Host<Id>) -> bool {
    let Some(refused) = round.refused else { return false };
    let mut others = round.hosts.iter().filter(|other| other.id != host.id && takes(other));
    takes(host) && free_on(host).holds(refused) && !others.any(|other| free_on(other).holds(refused))
}

/// Machines of ours, whatever becomes of them.
fn ours<Id>(round: &Round<Id>) -> u32 {
    let hosts = round.hosts.iter().filter(|host| host.whose == Whose::Ours).count();
    u32::try_from(hosts).unwrap_or(u32::MAX).saturating_add(round.coming).saturating_add(round.going)
}

fn active_ours<Id>(round: &Round<Id>) -> u32 {
    let hosts = round.hosts.iter().filter(|host| host.whose == Whose::Ours && host.state == State::Active).count();
    u32::try_from(hosts).unwrap_or(u32::MAX)
}

/// What is free of those that `counts`, with what is coming.
fn free<Id>(policy: &Policy, round: &Round<Id>, counts: impl Fn(&Host<Id>) -> bool) -> Room {
    let coming = Room {
        cpu_milli: policy.machine.cpu_milli.saturating_mul(round.coming.into()),
        memory_mb: policy.machine.memory_mb.saturating_mul(round.coming.into()),
    };
    let hosts = round.hosts.iter().filter(|host| takes(host) && counts(host)).map(free_on);
    hosts.filter(|free| free.holds(policy.piece)).fold(coming, Room::plus)
}

fn takes<Id>(host: &Host<Id>) -> bool {
    host.is_ready && host.state == State::Active
}

fn free_on<Id>(host: &Host<Id>) -> Room {
    let left = |capacity: u64, used: u64| if capacity == 0 { u64::MAX } else { capacity.saturating_sub(used) };
    Room {
        cpu_milli: left(host.capacity.cpu_milli, host.used.cpu_milli),
        memory_mb: left(host.capacity.memory_mb, host.used.memory_mb),
    }
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
