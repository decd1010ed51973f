//! How long an engine takes to answer, there and back: an average that leans towards what was measured last.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a measurement moves the average by is this part of how far it is away.
const WEIGHT: u64 = 4;

/// In microseconds; 0: not measured yet.
#[derive(Debug, Default)]
pub struct RoundTrip(AtomicU64);

impl RoundTrip {
    /// One task measures.
    pub fn tell(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let next = match self.0.load(Ordering::Relaxed) {
            0 => took,
            before => (before - before / WEIGHT).saturating_add(took / WEIGHT).max(1),
        };
        self.0.store(next, Ordering::Relaxed);
    }

    /// In milliseconds, to a tenth.
    pub fn ms(&self) -> Option<f64> {
        let micros = self.0.load(Ordering::Relaxed);
        (micros > 0).then(|| (micros as f64 / 100.0).round() / 10.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_leans_towards_what_was_last() {
        let trip = RoundTrip::default();
        assert_eq!(trip.ms(), None);
        trip.tell(Duration::from_millis(8));
        assert_eq!(trip.ms(), Some(8.0));
        trip.tell(Duration::from_millis(16));
        assert_eq!(trip.ms(), Some(10.0));
        for _ in 0..40 {
            trip.tell(Duration::from_millis(16));
        }
        assert!(trip.ms().is_some_and(|ms| (15.9..=16.0).contains(&ms)), "{trip:?}");
        trip.tell(Duration::MAX);
        trip.tell(Duration::ZERO);
        assert!(trip.ms().is_some());
    }
}
