//! Who was refused of late for want of a host, by region: what a new machine could be for.
//!
//! Kept in memory: whoever still wants it asks again. The seam for many servers is here: each would tell of its own.

use super::super::placement::Amount;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// How long it counts: whoever waits for it asks again within this.
const REMEMBERED_MS: i64 = 5 * 60 * 1000;
/// Regions are users' words; of more, the oldest is forgotten.
const REGIONS_MAX: usize = 64;

#[derive(Default)]
pub struct Missed {
    of: Mutex<BTreeMap<Option<String>, (i64, Amount)>>,
    /// Somebody was refused just now.
    pub news: Notify,
}

impl Missed {
    /// `region`: the one that was asked for, if any was.
    pub fn tell(&self, region: Option<String>, amount: Amount, now_ms: i64) {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let is_less = |old: &Amount| amount.cpu_milli < old.cpu_milli || amount.memory_mb < old.memory_mb;
        let before = of.get(&region).filter(|(at, _)| now_ms - at < REMEMBERED_MS).map(|(_, old)| *old);
        if before.is_some_and(|old| is_less(&old)) {
            return;
        }
        of.insert(region, (now_ms, amount));
        if before == Some(amount) {
            return;
        }
        while of.len() > REGIONS_MAX {
            let oldest = of.iter().min_by_key(|(_, (at, _))| *at).map(|(region, _)| region.clone());
            oldest.map(|oldest| of.remove(&oldest));
        }
        self.news.notify_one();
    }

    pub fn of(&self, region: Option<&str>, now_ms: i64) -> Option<Amount> {
        let of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, amount) = of.get(&region.map(str::to_owned))?;
        (now_ms - at < REMEMBERED_MS).then_some(*amount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cores(cores: i64) -> Amount {
        Amount { cpu_milli: cores * 1000, memory_mb: 1024, disk_mb: 0 }
    }

    #[test]
    fn the_largest_counts_for_a_while() {
        let missed = Missed::default();
        let region = || Some("eu".to_owned());
        missed.tell(region(), cores(4), 0);
        missed.tell(region(), cores(2), 1000);
        assert_eq!(missed.of(Some("eu"), 2000), Some(cores(4)));
        assert_eq!((missed.of(None, 2000), missed.of(Some("eu"), REMEMBERED_MS)), (None, None));
        missed.tell(region(), cores(2), REMEMBERED_MS);
        assert_eq!(missed.of(Some("eu"), REMEMBERED_MS), Some(cores(2)));
        for n in 0..1000 {
            missed.tell(Some(format!("r{n}")), cores(1), REMEMBERED_MS + n);
        }
        assert_eq!(missed.of(Some("eu"), REMEMBERED_MS + 1000), None);
        assert_eq!(missed.of(Some("r999"), REMEMBERED_MS + 1000), Some(cores(1)));
    }
}
