//! How many warm workspaces of which kind a host should have: pure.
//!
//! In all, as many as were asked for in the busiest minute of the last hour, within the bounds that the operator set. They
//! are shared out by recent demand: a request weighs the less the longer it is past. What a request without any wishes gets
//! is always among them.
//!
//! Invariants: the shares add up to the size; equal input gives equal output, in any order.

use super::key::Key;
use std::collections::BTreeMap;

/// Older demand counts no more.
pub const WINDOW_MS: i64 = 3_600_000;
/// The length of the busiest while.
const BURST_MS: i64 = 60_000;
/// One request is no demand yet, except for what everybody gets.
const REQUESTS_MIN: usize = 2;
/// Kinds in one host's pool at most.
const KINDS_MAX: usize = 8;

/// Somebody asked for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    pub key: Key,
    pub at_ms: i64,
}

/// `usual` is what a request without wishes gets.
pub fn targets(size: u32, max: u32, usual: &Key, made: &[Made], now_ms: i64) -> BTreeMap<Key, u32> {
    if size == 0 {
        return BTreeMap::new();
    }
    let recent: Vec<&Made> = made.iter().filter(|made| (now_ms - WINDOW_MS..=now_ms).contains(&made.at_ms)).collect();
    let total = busiest(recent.iter().map(|made| made.at_ms).collect()).clamp(size, max.max(size));
    share(total, &weights(usual, &recent, now_ms))
}

/// The most that came within one while.
fn busiest(mut times: Vec<i64>) -> u32 {
    times.sort_unstable();
    let mut first = 0;
    let most = (0..times.len()).map(|last| {
        while times[last] - times[first] >= BURST_MS {
            first += 1;
        }
        last + 1 - first
    });
    u32::try_from(most.max().unwrap_or(0)).unwrap_or(u32::MAX)
}

fn weights<'a>(usual: &'a Key, recent: &[&'a Made], now_ms: i64) -> Vec<(&'a Key, u64)> {
    let mut of: BTreeMap<&Key, (usize, u64)> = BTreeMap::new();
    for made in recent {
        let (count, weight) = of.entry(&made.key).or_default();
        *count += 1;
        *weight += u64::try_from(WINDOW_MS - (now_ms - made.at_ms)).unwrap_or(0).max(1);
    }
    let all: u64 = of.values().map(|(_, weight)| weight).sum();
    of.retain(|key, (count, _)| *count >= REQUESTS_MIN || *key == usual);
    // At least a quarter is for whoever has no wishes, asked for lately or not.
    let least = (all / 4).max(1);
    let usual_weight = of.remove(usual).map_or(0, |(_, weight)| weight).max(least);
    let mut rest: Vec<_> = of.into_iter().map(|(key, (_, weight))| (key, weight)).collect();
    rest.sort_by(|(key_a, a), (key_b, b)| b.cmp(a).then(key_a.cmp(key_b)));
    rest.truncate(KINDS_MAX - 1);
    rest.insert(0, (usual, usual_weight));
    rest
}

/// By largest remainder; of equals the first, and one at the least for the first of all.
fn share(total: u32, weights: &[(&Key, u64)]) -> BTreeMap<Key, u32> {
    let sum: u128 = weights.iter().map(|(_, weight)| u128::from(*weight)).sum::<u128>().max(1);
    let parts: Vec<(u32, u128)> = weights
        .iter()
        .map(|(_, weight)| {
            let exact = u128::from(total) * u128::from(*weight);
            (u32::try_from(exact / sum).unwrap_or(u32::MAX), exact % sum)
        })
        .collect();
    let mut counts: Vec<u32> = parts.iter().map(|(whole, _)| *whole).collect();
    let mut left = total.saturating_sub(counts.iter().sum());
    if counts[0] == 0 && left > 0 {
        (counts[0], left) = (1, left - 1);
    }
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by(|a, b| parts[*b].1.cmp(&parts[*a].1).then(a.cmp(b)));
    for at in order.into_iter().cycle().take(left as usize) {
        counts[at] += 1;
    }
    if counts[0] == 0 {
        // All is whole already: the largest gives one.
        let largest = (1..counts.len()).max_by_key(|at| (counts[*at], usize::MAX - at)).unwrap_or(0);
        counts[largest] = counts[largest].saturating_sub(1);
        counts[0] = 1;
    }
    weights
        .iter()
        .zip(counts)
        .filter(|(_, count)| *count > 0)
        .map(|((key, _), count)| ((*key).clone(), count))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(image: &str) -> Key {
        Key {
            closed: false,
            image: image.into(),
            runtime: String::new(),
            nested: None,
            cpu_milli: 2000,
            memory_mb: 2048,
            disk_mb: 0,
            pids: 4096,
            guest: "g".into(),
        }
    }

    fn made(image: &str, at_ms: i64) -> Made {
        Made { key: key(image), at_ms }
    }

    #[test]
    fn without_demand_all_are_usual() {
        assert_eq!(targets(5, 20, &key("base"), &[], 1 << 40), BTreeMap::from([(key("base"), 5)]));
        assert!(targets(0, 0, &key("base"), &[made("base", 0)], 1).is_empty());
    }

    #[test]
    fn the_busiest_minute_says_how_many_and_recent_demand_of_what() {
        let now = 1 << 40;
        let burst: Vec<Made> = (0..12).map(|n| made("node", now - 1_000 * n)).collect();
        let targets_now = targets(4, 20, &key("base"), &burst, now);
        assert_eq!(targets_now.values().sum::<u32>(), 12);
        assert!(targets_now[&key("node")] > targets_now[&key("base")] && targets_now[&key("base")] >= 1);
        assert_eq!(targets(4, 6, &key("base"), &burst, now).values().sum::<u32>(), 6, "the operator's bound");
        assert_eq!(targets(4, 20, &key("base"), &burst, now + WINDOW_MS), BTreeMap::from([(key("base"), 4)]));
        let one = [made("rare", now)];
        assert_eq!(targets(4, 20, &key("base"), &one, now), BTreeMap::from([(key("base"), 4)]), "one is no demand");
    }

    proptest! {
        #[test]
        fn shares_add_up(
            size in 1u32..40, more in 0u32..40, demand in prop::collection::vec((0usize..12, 0i64..WINDOW_MS * 2), 0..200),
        ) {
            let now = 1 << 40;
            let made: Vec<Made> = demand.iter().map(|(kind, age)| made(&format!("image-{kind}"), now - age)).collect();
            let (usual, max) = (key("image-0"), size + more);
            let shared = targets(size, max, &usual, &made, now);
            let total: u32 = shared.values().sum();
            prop_assert!((size..=max).contains(&total), "{total} of {size}..={max}");
            prop_assert!(shared[&usual] >= 1 && shared.len() <= KINDS_MAX);
            let mut turned = made.clone();
            turned.reverse();
            prop_assert_eq!(targets(size, max, &usual, &turned, now), shared);
        }
    }
}
