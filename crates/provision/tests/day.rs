//! A day of demand against the decision: workspaces come by a curve and in bursts, machines take 90 s to come, and the API
//! fails. Simulated: nothing waits.
#![allow(clippy::unwrap_used)]

use rexec_provision::decision::{Action, Failures, Host, Policy, Room, Round, State, Whose, decide};
use std::time::Duration;

const STEP_MS: i64 = 10_000;
const DAY_MS: i64 = 24 * 3600 * 1000;
const BOOT_MS: i64 = 90_000;
/// How long what was refused is remembered.
const REFUSED_MS: i64 = 120_000;
/// What each workspace takes.
const ONE: Room = Room { cpu_milli: 1000, memory_mb: 2048 };
const PER_MACHINE: u64 = 8;

fn policy() -> Policy {
    let times = |n: u64| Room { cpu_milli: ONE.cpu_milli * n, memory_mb: ONE.memory_mb * n };
    Policy {
        min: 1,
        max: 24,
        machine: times(PER_MACHINE),
        spare: times(8),
        headroom: times(4),
        piece: ONE,
        up_pause: Duration::from_secs(20),
        down_pause: Duration::from_secs(600),
    }
}

/// The same numbers in every run.
struct Dice(u64);

impl Dice {
    /// From 0 to 1.
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[derive(Default)]
struct Day {
    hosts: Vec<Host<u32>>,
    /// When each machine that was asked for comes.
    coming: Vec<i64>,
    /// Host and end of each workspace.
    workspaces: Vec<(u32, i64)>,
    refused_ms: Option<i64>,
    acted_ms: Option<i64>,
    created_ms: Option<i64>,
    failures: Failures,
    next_id: u32,
    asked: u64,
    unmet: u64,
    unmet_steps: u64,
    machine_ms: i64,
    /// Machines that the workspaces of the moment fill, at the least.
    least_ms: i64,
    turns: u64,
    was_more: Option<bool>,
    most: usize,
}

impl Day {
    fn round(&self, now_ms: i64) -> Round<u32> {
        Round {
            now_ms,
            hosts: self.hosts.clone(),
            coming: self.coming.len() as u32,
            going: 0,
            refused: self.refused_ms.filter(|at| now_ms - at < REFUSED_MS).map(|_| ONE),
            acted_ms: self.acted_ms,
            created_ms: self.created_ms,
            failures: self.failures,
        }
    }

    fn of(&mut self, id: u32) -> &mut Host<u32> {
        self.hosts.iter_mut().find(|host| host.id == id).unwrap()
    }

    fn ask(&mut self, now_ms: i64, lasts_ms: i64, packs: bool) -> bool {
        self.asked += 1;
        let fits = |host: &&mut Host<u32>| host.state == State::Active && host.capacity.less(host.used).holds(ONE);
        let free = self.hosts.iter_mut().filter(fits);
        let chosen = if packs { free.max_by_key(|host| host.lies) } else { free.min_by_key(|host| host.lies) };
        let Some(host) = chosen else {
            self.unmet += 1;
            self.refused_ms = Some(now_ms);
            return false;
        };
        host.used = host.used.plus(ONE);
        host.lies += 1;
        let id = host.id;
        self.workspaces.push((id, now_ms + lasts_ms));
        true
    }

    fn act(&mut self, policy: &Policy, now_ms: i64, api_fails: bool) {
        let action = decide(policy, &self.round(now_ms));
        let is_more = match action {
            Action::Nothing(_) => return,
            Action::Create(_) | Action::Reinstate(..) => true,
            Action::Drain(_) | Action::Delete(_) => false,
        };
        match action {
            Action::Create(_) if api_fails => {
                self.failures = Failures { in_a_row: self.failures.in_a_row + 1, last_ms: now_ms };
                return;
            }
            Action::Create(_) => {
                self.failures = Failures::default();
                self.coming.push(now_ms + BOOT_MS);
                self.created_ms = Some(now_ms);
            }
            Action::Reinstate(id, _) => self.of(id).state = State::Active,
            Action::Drain(id) => self.of(id).state = State::Draining { since_ms: now_ms, by_us: true },
            Action::Delete(id) => {
                assert_eq!(self.workspaces.iter().filter(|(host, _)| *host == id).count(), 0, "somebody is on it");
                assert!(matches!(self.of(id).state, State::Draining { .. }));
                self.hosts.retain(|host| host.id != id);
            }
            Action::Nothing(_) => {}
        }
        self.turns += u64::from(self.was_more.is_some_and(|was| was != is_more));
        (self.was_more, self.acted_ms) = (Some(is_more), Some(now_ms));
    }

    fn step(&mut self, policy: &Policy, now_ms: i64, arrivals: u64, packs: bool, dice: &mut Dice, api_fails: bool) {
        let came = self.coming.iter().filter(|at| **at <= now_ms).count();
        self.coming.retain(|at| *at > now_ms);
        for _ in 0..came {
            self.next_id += 1;
            let id = self.next_id;
            let (capacity, used) = (policy.machine, Room::default());
            let (whose, state) = (Whose::Ours, State::Active);
            self.hosts.push(Host { id, whose, state, is_ready: true, capacity, used, lies: 0, since_ms: now_ms });
        }
        let ended: Vec<u32> = self.workspaces.iter().filter(|(_, end)| *end <= now_ms).map(|(host, _)| *host).collect();
        self.workspaces.retain(|(_, end)| *end > now_ms);
        for id in ended {
            let host = self.of(id);
            host.used = host.used.less(ONE);
            host.lies -= 1;
        }
        let mut all_met = true;
        for _ in 0..arrivals {
            // From 10 to 70 minutes.
            let lasts_ms = (600_000.0 + dice.roll() * 3_600_000.0) as i64;
            all_met &= self.ask(now_ms, lasts_ms, packs);
        }
        self.unmet_steps += u64::from(!all_met);
        self.act(policy, now_ms, api_fails);
        let machines = self.hosts.len() + self.coming.len();
        assert!(machines <= policy.max as usize, "{machines} machines");
        self.most = self.most.max(machines);
        self.machine_ms += machines as i64 * STEP_MS;
        let least = (self.workspaces.len() as u64).div_ceil(PER_MACHINE).max(policy.min.into());
        self.least_ms += least as i64 * STEP_MS;
    }
}

/// Workspaces per hour: few at night, most at noon; at three times 16 more within two minutes.
fn demand(now_ms: i64) -> f64 {
    let hour = now_ms as f64 / 3_600_000.0;
    let height = f64::midpoint(1.0, ((hour - 13.0) * std::f64::consts::PI / 12.0).cos());
    let curve = 15.0 + 120.0 * height.powi(2);
    let is_burst = [9.0, 14.5, 20.0].iter().any(|at| (*at..*at + 2.0 / 60.0).contains(&hour));
    curve + if is_burst { 480.0 } else { 0.0 }
}

fn run(packs: bool, api_fails: impl Fn(i64, f64) -> bool) -> Day {
    let (policy, mut day, mut dice) = (policy(), Day::default(), Dice(7));
    let mut owed = 0.0;
    for now_ms in (0..DAY_MS).step_by(STEP_MS as usize) {
        owed += demand(now_ms) * STEP_MS as f64 / 3_600_000.0 * 2.0 * dice.roll();
        let arrivals = owed.floor();
        owed -= arrivals;
        let fails = api_fails(now_ms, dice.roll());
        // The first machine is there before the first user.
        let arrivals = if now_ms < 2 * BOOT_MS { 0 } else { arrivals as u64 };
        day.step(&policy, now_ms, arrivals, packs, &mut dice, fails);
    }
    let steps = DAY_MS / STEP_MS;
    println!(
        "packs {packs}: {} asked, {} unmet in {} of {steps} steps, {} machines at most, {:.0} machine-hours where {:.0} are the least, {} turns",
        day.asked,
        day.unmet,
        day.unmet_steps,
        day.most,
        day.machine_ms as f64 / 3.6e6,
        day.least_ms as f64 / 3.6e6,
        day.turns
    );
    day
}

#[test]
fn a_day_is_met_at_a_bounded_price() {
    for packs in [true, false] {
        let day = run(packs, |_, chance| chance < 0.1);
        assert!(day.asked > 1000, "{} asked", day.asked);
        assert!(day.unmet * 200 < day.asked, "{} of {} unmet", day.unmet, day.asked);
        assert!(day.unmet_steps * 500 < (DAY_MS / STEP_MS) as u64, "{} steps", day.unmet_steps);
        assert!(day.most > 8, "{} machines at most: the day was too calm", day.most);
        // The spare is one machine, and those that drain are paid until the last workspace has gone.
        assert!(day.machine_ms * 2 < day.least_ms * 3, "{} of {}", day.machine_ms, day.least_ms);
        // Up and down with the curve and each burst, and not with every swing.
        assert!(day.turns < 30, "{} turns", day.turns);
        assert!(day.hosts.len() <= 8, "night again, and {} machines", day.hosts.len());
    }
}

#[test]
fn an_hour_without_the_api_is_survived() {
    let outage = |now_ms: i64| (8 * 3_600_000..9 * 3_600_000).contains(&now_ms);
    let day = run(true, |now_ms, _| outage(now_ms));
    assert!(day.unmet > 0, "the outage was not felt");
    assert!(day.unmet * 10 < day.asked, "{} of {} unmet", day.unmet, day.asked);
    assert_eq!(day.failures, Failures::default(), "it came back");
}
