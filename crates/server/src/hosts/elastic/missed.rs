//! Who was refused of late for want of a host, by region: what a new machine could be for.
//!
//! Kept in memory: whoever still wants it asks again. Of several servers each tells the others (`replicas/news.rs`).

use super::super::placement::Amount;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// How long it counts: whoever waits for it asks again within this.
const REMEMBERED_MS: i64 = 5 * 60 * 1000;
/// How often the same is told to others.
const TOLD_EVERY_MS: i64 = 60 * 1000;
/// Regions are users' words; of more, the oldest is forgotten.
const REGIONS_MAX: usize = 64;

#[derive(Debug, Clone, Copy)]
struct Refusal {
    at_ms: i64,
    amount: Amount,
    told_ms: i64,
}

#[derive(Default)]
pub struct Missed {
    of: Mutex<BTreeMap<Option<String>, Refusal>>,
    /// Somebody was refused just now.
    pub news: Notify,
}

impl Missed {
    /// `region`: the one that was asked for, if any was. `true`: whoever else counts them is to hear of it.
    pub fn tell(&self, region: Option<String>, amount: Amount, now_ms: i64) -> bool {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let is_less = |old: &Amount| amount.cpu_milli < old.cpu_milli || amount.memory_mb < old.memory_mb;
        let before = of.get(&region).filter(|before| now_ms - before.at_ms < REMEMBERED_MS).copied();
        if before.is_some_and(|before| is_less(&before.amount)) {
            return false;
        }
        let told = before.filter(|before| before.amount == amount && now_ms - before.told_ms < TOLD_EVERY_MS);
        let told_ms = told.map_or(now_ms, |before| before.told_ms);
        of.insert(region, Refusal { at_ms: now_ms, amount, told_ms });
        while of.len() > REGIONS_MAX {
            let oldest = of.iter().min_by_key(|(_, refusal)| refusal.at_ms).map(|(region, _)| region.clone());
            oldest.map(|oldest| of.remove(&oldest));
        }
        if before.is_none_or(|before| before.amount != amount) {
            self.news.notify_one();
        }
        told.is_none()
    }

    pub fn of(&self, region: Option<&str>, now_ms: i64) -> Option<Amount> {
        let of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let refusal = of.get(&region.map(str::to_owned))?;
        (now_ms - refusal.at_ms < REMEMBERED_MS).then_some(refusal.amount)
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
        assert!(missed.tell(region(), cores(4), 0));
        assert!(!missed.tell(region(), cores(2), 1000), "it is less");
        assert!(!missed.tell(region(), cores(4), 2000), "it was told");
        assert_eq!(missed.of(Some("eu"), 2000), Some(cores(4)));
        assert_eq!((missed.of(None, 2000), missed.of(Some("eu"), REMEMBERED_MS)), (None, Some(cores(4))));
        assert!(missed.tell(region(), cores(4), TOLD_EVERY_MS), "whoever else counts would forget it");
        assert_eq!(missed.of(Some("eu"), TOLD_EVERY_MS + REMEMBERED_MS), None);
        assert!(missed.tell(region(), cores(2), TOLD_EVERY_MS + REMEMBERED_MS));
        let later = TOLD_EVERY_MS + REMEMBERED_MS;
        assert_eq!(missed.of(Some("eu"), later), Some(cores(2)));
        for n in 0..1000 {
            missed.tell(Some(format!("r{n}")), cores(1), later + n);
        }
        assert_eq!(missed.of(Some("eu"), later + 1000), None);
        assert_eq!(missed.of(Some("r999"), later + 1000), Some(cores(1)));
    }
}
