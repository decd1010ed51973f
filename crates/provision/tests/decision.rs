//! The decision: single cases, properties, and a day of demand.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use rexec_provision::decision::{Action, Failures, Host, Need, Policy, Rest, Room, Round, State, Whose, decide};
use std::time::Duration;

const MINUTE_MS: i64 = 60_000;

fn room(cores: u64, gb: u64) -> Room {
    Room { cpu_milli: cores * 1000, memory_mb: gb * 1024 }
}

fn policy() -> Policy {
    Policy {
        min: 1,
        max: 5,
        machine: room(8, 16),
        spare: room(4, 8),
        headroom: room(2, 4),
        piece: room(1, 2),
        up_pause: Duration::from_secs(60),
        down_pause: Duration::from_secs(600),
    }
}

fn host(id: u32, used: u64) -> Host<u32> {
    Host {
        id,
        whose: Whose::Ours,
        state: State::Active,
        is_ready: true,
        capacity: room(8, 16),
        used: room(used, used * 2),
        lies: used,
        since_ms: 0,
    }
}

fn round(hosts: Vec<Host<u32>>) -> Round<u32> {
    Round {
        now_ms: 1000 * MINUTE_MS,
        hosts,
        coming: 0,
        going: 0,
        refused: None,
        acted_ms: None,
        created_ms: None,
        failures: Failures::default(),
    }
}

fn draining(id: u32, used: u64, by_us: bool) -> Host<u32> {
    Host { state: State::Draining { since_ms: 0, by_us }, ..host(id, used) }
}

#[test]
fn more_is_asked_for_when_little_is_free() {
    let policy = policy();
    assert_eq!(decide(&policy, &round(Vec::new())), Action::Create(Need::BelowMin));
    assert_eq!(decide(&policy, &round(vec![host(1, 3)])), Action::Nothing(Rest::Enough));
    let full = round(vec![host(1, 5)]);
    assert_eq!(decide(&policy, &full), Action::Create(Need::LittleFree));
    // What comes counts as if it were there.
    assert_eq!(decide(&policy, &Round { coming: 1, ..full.clone() }), Action::Nothing(Rest::Enough));
    // What does not answer is not free, and neither is a piece that nobody could use.
    let away = Host { is_ready: false, ..host(1, 0) };
    assert_eq!(decide(&policy, &round(vec![away])), Action::Create(Need::LittleFree));
    let crumbs = |id| Host { used: Room { cpu_milli: 7500, memory_mb: 0 }, ..host(id, 7) };
    let crumbs = Round { hosts: (0..12).map(crumbs).collect(), ..full.clone() };
    assert_eq!(decide(&Policy { max: 20, ..policy.clone() }, &crumbs), Action::Create(Need::LittleFree));
    // An operator's host without a limit is enough for everybody.
    let endless = Host { whose: Whose::Operators, capacity: Room::default(), ..host(2, 50) };
    assert_eq!(decide(&policy, &round(vec![host(1, 8), endless])), Action::Nothing(Rest::Enough));
}

#[test]
fn bounds_and_pauses_hold_it_back() {
    let policy = policy();
    let full = |hosts: u32| round((0..hosts).map(|id| host(id, 8)).collect());
    assert_eq!(decide(&policy, &full(5)), Action::Nothing(Rest::AtMax));
    assert_eq!(decide(&policy, &Round { going: 1, ..full(4) }), Action::Nothing(Rest::AtMax), "it may be there still");
    let now = full(2).now_ms;
    let recent = Round { created_ms: Some(now - 59_000), ..full(2) };
    assert_eq!(decide(&policy, &recent), Action::Nothing(Rest::UpPause));
    let failed = |in_a_row, ago_ms| Round { failures: Failures { in_a_row, last_ms: now - ago_ms }, ..full(2) };
    assert_eq!(decide(&policy, &failed(3, 119_000)), Action::Nothing(Rest::BackOff));
    assert_eq!(decide(&policy, &failed(3, 120_000)), Action::Create(Need::LittleFree));
    assert_eq!(decide(&policy, &failed(60, 29 * MINUTE_MS)), Action::Nothing(Rest::BackOff));
    assert_eq!(decide(&policy, &failed(60, 30 * MINUTE_MS)), Action::Create(Need::LittleFree), "never for ever");
}

#[test]
fn who_was_refused_gets_a_machine_that_would_hold_it() {
    let policy = policy();
    let spread = |refused| Round { refused: Some(refused), ..round(vec![host(1, 4), host(2, 4)]) };
    assert_eq!(decide(&policy, &spread(room(6, 8))), Action::Create(Need::Refused));
    assert_eq!(decide(&policy, &spread(room(9, 8))), Action::Nothing(Rest::Enough), "no machine would");
    assert_eq!(decide(&policy, &spread(room(4, 8))), Action::Nothing(Rest::Enough), "there is room by now");
    assert_eq!(decide(&policy, &Round { coming: 1, ..spread(room(6, 8)) }), Action::Nothing(Rest::Enough));
    // And then that machine is kept for it.
    let there = Round { refused: Some(room(6, 8)), ..round(vec![host(1, 1), host(2, 3), host(3, 3)]) };
    assert_eq!(decide(&policy, &there), Action::Drain(2));
}

#[test]
fn less_is_done_in_two_steps_and_only_to_what_is_ours() {
    let policy = policy();
    assert_eq!(decide(&policy, &round(vec![host(1, 1), host(2, 0), host(3, 1)])), Action::Drain(2));
    // What is on it must find room elsewhere.
    assert_eq!(decide(&policy, &round(vec![host(1, 1), host(2, 1)])), Action::Drain(1));
    assert_eq!(decide(&policy, &round(vec![host(1, 2), host(2, 2)])), Action::Nothing(Rest::Enough));
    let theirs = |id, used| Host { whose: Whose::Operators, ..host(id, used) };
    assert_eq!(decide(&policy, &round(vec![host(1, 0), theirs(2, 0)])), Action::Nothing(Rest::Enough), "the least");
    let idle = round(vec![host(1, 0), host(2, 0)]);
    let soon = Round { acted_ms: Some(idle.now_ms - 599_000), ..idle.clone() };
    assert_eq!(decide(&policy, &soon), Action::Nothing(Rest::DownPause));
    let young = round(vec![host(1, 3), Host { since_ms: idle.now_ms - 1, ..host(2, 0) }, host(3, 3)]);
    assert_eq!(decide(&policy, &young), Action::Nothing(Rest::DownPause));
    // What is dead weight goes first.
    let dead = Host { is_ready: false, ..host(3, 0) };
    assert_eq!(decide(&policy, &round(vec![host(1, 0), host(2, 0), dead])), Action::Drain(3));

    assert_eq!(decide(&policy, &round(vec![host(1, 1), draining(2, 0, true)])), Action::Delete(2));
    assert_eq!(
        decide(&policy, &round(vec![host(1, 1), draining(2, 0, false)])),
        Action::Delete(2),
        "whoever drained it"
    );
    assert_eq!(decide(&policy, &round(vec![host(1, 1), draining(2, 1, true)])), Action::Nothing(Rest::Enough));
    // A start counts as something done: what is recorded then may be older than what is.
    let started = Round { acted_ms: Some(idle.now_ms), ..round(vec![host(1, 1), draining(2, 0, true)]) };
    assert_eq!(decide(&policy, &started), Action::Nothing(Rest::Enough));
    let now = Host { state: State::Draining { since_ms: idle.now_ms - 1, by_us: true }, ..host(2, 0) };
    assert_eq!(decide(&policy, &round(vec![host(1, 1), now])), Action::Nothing(Rest::Enough));
    let theirs = Host { whose: Whose::Operators, ..draining(2, 0, true) };
    assert_eq!(decide(&policy, &round(vec![host(1, 1), theirs])), Action::Nothing(Rest::Enough));
    // More demand takes it back, but never against a person.
    let full = |two| round(vec![host(1, 7), two]);
    assert_eq!(decide(&policy, &full(draining(2, 0, true))), Action::Reinstate(2, Need::LittleFree));
    assert_eq!(decide(&policy, &full(draining(2, 0, false))), Action::Create(Need::LittleFree));
}

fn any_host(id: u32) -> impl Strategy<Value = Host<u32>> {
    (0..3u8, any::<bool>(), any::<bool>(), 0..=8u64, 0..=16u64, 0..3u64, 0..2000i64, any::<bool>()).prop_map(
        move |(state, ours, by_us, cores, gb, stopped, minutes, is_ready)| {
            let since_ms = minutes * MINUTE_MS;
            Host {
                id,
                whose: if ours { Whose::Ours } else { Whose::Operators },
                state: if state == 0 { State::Draining { since_ms, by_us } } else { State::Active },
                is_ready,
                capacity: if id == 7 { Room::default() } else { room(8, 16) },
                used: room(cores, gb),
                lies: cores.max(gb) + stopped,
                since_ms,
            }
        },
    )
}

fn any_round() -> impl Strategy<Value = Round<u32>> {
    let hosts = prop::collection::vec(any::<bool>(), 8).prop_flat_map(|there| {
        let ids = there.into_iter().zip(0u32..).filter(|(there, _)| *there).map(|(_, id)| any_host(id));
        ids.collect::<Vec<_>>()
    });
    let refused = prop::option::of((1..10u64, 1..20u64).prop_map(|(cores, gb)| room(cores, gb)));
    let ago = || prop::option::of(0..2000i64);
    (hosts, 0..3u32, 0..2u32, refused, ago(), ago(), (0..5u32, 0..2000i64)).prop_map(
        |(hosts, coming, going, refused, acted, created, (in_a_row, last))| Round {
            now_ms: 2000 * MINUTE_MS,
            hosts,
            coming,
            going,
            refused,
            acted_ms: acted.map(|minutes| minutes * MINUTE_MS),
            created_ms: created.map(|minutes| minutes * MINUTE_MS),
            failures: Failures { in_a_row, last_ms: last * MINUTE_MS },
        },
    )
}

fn any_policy() -> impl Strategy<Value = Policy> {
    (0..4u32, 0..5u32, 0..12u64, 0..6u64).prop_map(|(min, more, spare, headroom)| Policy {
        min,
        max: min + more,
        spare: room(spare, spare * 2),
        headroom: room(headroom, headroom * 2),
        ..policy()
    })
}

fn ours(round: &Round<u32>) -> u32 {
    round.hosts.iter().filter(|host| host.whose == Whose::Ours).count() as u32
}

/// What it comes to, if it succeeds at once.
fn apply(policy: &Policy, round: &mut Round<u32>, action: Action<u32>) {
    let now = round.now_ms;
    match action {
        Action::Create(_) => {
            let id = round.hosts.iter().map(|host| host.id + 1).max().unwrap_or(0);
            round.hosts.push(Host { capacity: policy.machine, since_ms: now, ..host(id, 0) });
            round.created_ms = Some(now);
        }
        Action::Reinstate(id, _) => of(round, id).state = State::Active,
        Action::Drain(id) => of(round, id).state = State::Draining { since_ms: now, by_us: true },
        Action::Delete(id) => round.hosts.retain(|host| host.id != id),
        Action::Nothing(_) => return,
    }
    round.acted_ms = Some(now);
}

fn of(round: &mut Round<u32>, id: u32) -> &mut Host<u32> {
    round.hosts.iter_mut().find(|host| host.id == id).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

    #[test]
    fn what_is_done_keeps_the_bounds(policy in any_policy(), round in any_round()) {
        let active = |round: &Round<u32>| {
            round.hosts.iter().filter(|host| host.whose == Whose::Ours && host.state == State::Active).count() as u32
        };
        let action = decide(&policy, &round);
        match action {
            Action::Create(_) => prop_assert!(ours(&round) + round.coming + round.going < policy.max),
            Action::Delete(id) => {
                let host = round.hosts.iter().find(|host| host.id == id).unwrap();
                prop_assert!(host.whose == Whose::Ours && host.lies == 0);
                prop_assert!(host.state != State::Active);
                prop_assert!(ours(&round) + round.coming > policy.min);
            }
            Action::Drain(id) => {
                let host = round.hosts.iter().find(|host| host.id == id).unwrap();
                prop_assert!(host.whose == Whose::Ours && host.state == State::Active);
                prop_assert!(active(&round) > policy.min);
            }
            Action::Reinstate(id, _) => {
                let host = round.hosts.iter().find(|host| host.id == id).unwrap();
                prop_assert!(host.whose == Whose::Ours && host.is_ready);
                let by_us = matches!(host.state, State::Draining { by_us: true, .. });
                prop_assert!(by_us);
            }
            Action::Nothing(_) => {}
        }
        let mut turned = round.clone();
        turned.hosts.reverse();
        prop_assert_eq!(decide(&policy, &turned), action, "whatever the order");
    }

    #[test]
    fn nothing_is_undone_by_what_follows(policy in any_policy(), round in any_round()) {
        let first = decide(&policy, &round);
        let mut after = round;
        apply(&policy, &mut after, first);
        let then = decide(&policy, &after);
        let is_less = |action: &Action<u32>| matches!(action, Action::Drain(_) | Action::Delete(_));
        let is_more = |action: &Action<u32>| matches!(action, Action::Create(_) | Action::Reinstate(..));
        prop_assert!(!(is_less(&first) && is_more(&then)), "{first:?}, {then:?}");
        // A machine that a person drained is deleted whatever comes.
        prop_assert!(!(is_more(&first) && matches!(then, Action::Drain(_))), "{first:?}, {then:?}");
    }

    /// Demand that stands still: after some steps nothing is done any more, however long one waits.
    #[test]
    fn it_comes_to_rest(policy in any_policy(), round in any_round()) {
        let mut round = Round { coming: 0, going: 0, ..round };
        let mut done = Vec::new();
        for _ in 0..200 {
            let action = decide(&policy, &round);
            if !matches!(action, Action::Nothing(_)) {
                done.push(action);
            }
            apply(&policy, &mut round, action);
            round.now_ms += 15 * MINUTE_MS;
        }
        let most = 3 * (round.hosts.len() + 16);
        prop_assert!(done.len() <= most, "{done:?}");
        for _ in 0..20 {
            prop_assert!(matches!(decide(&policy, &round), Action::Nothing(_)), "{done:?}");
            round.now_ms += 60 * MINUTE_MS;
        }
    }
}
