//! A day of a workspace's use at decreasing resolution: pure, and bounded whatever comes.
//!
//! Every span goes into the bucket of its end in each tier that is not finer than itself. What is
//! shown is the finest that covers what a coarser bucket knows. Some 20 KiB at most.

use super::meter::Usage;
use std::collections::VecDeque;

/// How long a bucket lasts, and how many are kept.
struct Tier {
    step_ms: i64,
    keep: usize,
}

/// A quarter of an hour, two hours, and a day; each step is a multiple of the one before.
const TIERS: [Tier; 3] =
    [Tier { step_ms: 10_000, keep: 90 }, Tier { step_ms: 60_000, keep: 120 }, Tier { step_ms: 600_000, keep: 144 }];
const COARSE: usize = TIERS.len() - 1;
/// How long the coarsest buckets last: the only ones that are stored.
pub const COARSE_STEP_MS: i64 = TIERS[COARSE].step_ms;
/// How long a bucket can be kept.
pub const KEPT_MS: i64 = TIERS[COARSE].step_ms * TIERS[COARSE].keep as i64;
/// A span this many times as long as a tier's step says nothing at that resolution.
const SPAN_STEPS_MAX: i64 = 2;
/// Finer buckets stand for a coarser one when they cover so much of what it covers.
const COVER_PERCENT: i64 = 90;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    pub at_ms: i64,
    /// How much of it was seen.
    pub covered_ms: i64,
    /// Milliseconds of one core.
    pub cpu_ms: f64,
    pub memory_bytes: u64,
    pub disk_bytes: Option<u64>,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub pids: u64,
}

impl Bucket {
    fn add(&mut self, used: &Usage) {
        self.covered_ms += used.span_ms;
        self.cpu_ms += used.cpu * used.span_ms as f64;
        self.memory_bytes = self.memory_bytes.max(used.memory_bytes);
        self.disk_bytes = used.disk_bytes.or(self.disk_bytes);
        self.rx_bytes += used.rx_bytes;
        self.tx_bytes += used.tx_bytes;
        self.pids = self.pids.max(used.pids);
    }

    /// Cores, on average.
    pub fn cpu(&self) -> f64 {
        self.cpu_ms / (self.covered_ms as f64).max(1.0)
    }
}

/// A bucket, and how long it lasts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub step_ms: i64,
    pub bucket: Bucket,
}

#[derive(Debug, Default)]
pub struct History {
    tiers: [VecDeque<Bucket>; TIERS.len()],
    /// Coarse buckets from here on have changed since they were last stored.
    unsaved_from_ms: Option<i64>,
}

impl History {
    /// What was stored, oldest first, of a time before anything was added here.
    pub fn recall(&mut self, stored: Vec<Bucket>) {
        for bucket in stored {
            keep(&mut self.tiers[COARSE], &TIERS[COARSE], bucket.at_ms, |kept| *kept = bucket);
        }
    }

    pub fn add(&mut self, used: &Usage) {
        for (tier, buckets) in TIERS.iter().zip(&mut self.tiers) {
            if used.span_ms <= tier.step_ms * SPAN_STEPS_MAX {
                keep(buckets, tier, start(used.at_ms, tier.step_ms), |bucket| bucket.add(used));
            }
        }
        let changed = start(used.at_ms, COARSE_STEP_MS);
        self.unsaved_from_ms = Some(self.unsaved_from_ms.map_or(changed, |from| from.min(changed)));
    }

    /// The coarse buckets that are to be stored; from now on they count as stored.
    pub fn take_unsaved(&mut self) -> Vec<Bucket> {
        let Some(from) = self.unsaved_from_ms.take() else { return Vec::new() };
        self.tiers[COARSE].iter().filter(|bucket| bucket.at_ms >= from).copied().collect()
    }

    /// They could not be stored after all.
    pub fn unsaved_again(&mut self, from_ms: i64) {
        self.unsaved_from_ms = Some(self.unsaved_from_ms.map_or(from_ms, |from| from.min(from_ms)));
    }

    /// Whether nothing of it would be shown now.
    pub fn is_over(&self, now_ms: i64) -> bool {
        self.tiers[COARSE].back().is_none_or(|bucket| bucket.at_ms < now_ms - KEPT_MS)
    }

    /// The finest there is, oldest first, of what ends after `since_ms` and is not too old.
    pub fn points(&self, since_ms: i64, now_ms: i64) -> Vec<Point> {
        let mut points = Vec::new();
        for bucket in &self.tiers[COARSE] {
            self.resolve(COARSE, bucket, &mut points);
        }
        // What has not come into a coarse bucket cannot be: each span goes into all that are coarse enough.
        let since_ms = since_ms.max(now_ms - KEPT_MS);
        points.retain(|point| point.bucket.at_ms + point.step_ms > since_ms);
        points
    }

    /// The bucket itself, or the finer ones that cover it.
    fn resolve(&self, tier: usize, bucket: &Bucket, points: &mut Vec<Point>) {
        let step_ms = TIERS[tier].step_ms;
        let whole = Point { step_ms, bucket: *bucket };
        let Some(finer) = tier.checked_sub(1) else { return points.push(whole) };
        let end = bucket.at_ms + step_ms;
        let within = || self.tiers[finer].iter().filter(|b| (bucket.at_ms..end).contains(&b.at_ms));
        let covered: i64 = within().map(|b| b.covered_ms).sum();
        if covered * 100 < bucket.covered_ms * COVER_PERCENT {
            return points.push(whole);
        }
        for bucket in within() {
            self.resolve(finer, bucket, points);
        }
    }
}

fn start(at_ms: i64, step_ms: i64) -> i64 {
    at_ms.div_euclid(step_ms) * step_ms
}

/// Changes the bucket that starts there, which is the newest or a new one: a clock that was set back adds to the newest.
fn keep(buckets: &mut VecDeque<Bucket>, tier: &Tier, at_ms: i64, change: impl FnOnce(&mut Bucket)) {
    if buckets.back().is_none_or(|newest| newest.at_ms < at_ms) {
        if buckets.len() >= tier.keep {
            buckets.pop_front();
        }
        buckets.push_back(Bucket {
            at_ms,
            covered_ms: 0,
            cpu_ms: 0.0,
            memory_bytes: 0,
            disk_bytes: None,
            rx_bytes: 0,
            tx_bytes: 0,
            pids: 0,
        });
    }
    if let Some(newest) = buckets.back_mut() {
        change(newest);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY_MS: i64 = 24 * 3600 * 1000;

    fn used(at_ms: i64, span_ms: i64) -> Usage {
        Usage {
            at_ms,
            span_ms,
            cpu: 0.5,
            memory_bytes: 100,
            disk_bytes: Some(9),
            rx_bytes: span_ms as u64,
            tx_bytes: 1,
            pids: 3,
        }
    }

    #[test]
    fn a_watched_hour_is_fine_first_and_then_coarse() {
        let mut history = History::default();
        let end = DAY_MS;
        for at in (end - 3600 * 1000..end).step_by(2000) {
            history.add(&used(at + 1999, 2000));
        }
        let points = history.points(0, end);
        let of = |step| points.iter().filter(|point| point.step_ms == step).count();
        assert_eq!((of(10_000), of(60_000), of(600_000)), (90, 45, 0));
        assert!(points.is_sorted_by_key(|point| point.bucket.at_ms));
        assert!(points.iter().all(|point| (point.bucket.cpu() - 0.5).abs() < 1e-9));
        let moved: u64 = points.iter().map(|point| point.bucket.rx_bytes).sum();
        assert_eq!(moved, 3600 * 1000, "each byte is told once");
        assert!(history.points(end, end).is_empty() && history.points(end - 1, end).len() == 1);
    }

    #[test]
    fn a_recorded_day_takes_minutes_and_tens_of_them() {
        let mut history = History::default();
        for at in (0..2 * DAY_MS).step_by(60_000) {
            history.add(&used(at + 59_999, 60_000));
        }
        let points = history.points(0, 2 * DAY_MS);
        assert!(points.iter().all(|point| point.step_ms > 10_000));
        assert_eq!(points.iter().filter(|point| point.step_ms == 60_000).count(), 120);
        assert_eq!(points.first().unwrap().bucket.at_ms, DAY_MS);
        assert!(!history.is_over(2 * DAY_MS) && history.is_over(3 * DAY_MS + COARSE_STEP_MS));
    }

    #[test]
    fn what_was_stored_is_gone_on_with() {
        let mut before = History::default();
        before.add(&used(600_000 + 120_000, 60_000));
        let stored = before.take_unsaved();
        assert_eq!(stored.len(), 1);
        assert!(before.take_unsaved().is_empty());
        before.unsaved_again(stored[0].at_ms);
        assert_eq!(before.take_unsaved(), stored);

        let mut after = History::default();
        after.recall(stored);
        assert!(after.take_unsaved().is_empty());
        after.add(&used(600_000 + 240_000, 60_000));
        let points = after.points(0, 1_300_000);
        assert_eq!(points.len(), 1, "minutes of half of it do not stand for the whole");
        assert_eq!((points[0].step_ms, points[0].bucket.covered_ms), (600_000, 120_000));
    }

    proptest! {
        /// Whatever the clock does, it stays bounded and in order.
        #[test]
        fn it_is_bounded(steps in prop::collection::vec((-100_000i64..700_000, 1i64..150_000), 0..2000)) {
            let (mut history, mut now) = (History::default(), DAY_MS);
            for (step, span) in steps {
                now += step;
                history.add(&used(now, span));
            }
            for (tier, buckets) in TIERS.iter().zip(&history.tiers) {
                prop_assert!(buckets.len() <= tier.keep);
                prop_assert!(buckets.iter().is_sorted_by(|a, b| a.at_ms < b.at_ms));
            }
            let points = history.points(i64::MIN, now);
            prop_assert!(points.is_sorted_by(|a, b| a.bucket.at_ms < b.bucket.at_ms));
        }
    }
}
