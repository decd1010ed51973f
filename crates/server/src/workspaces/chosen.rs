//! Hosts that were chosen for what is not recorded yet. Of many workspaces that are asked for at once each counts in the choice
//! of the next, so that they spread, or pack, as if they had been asked for one after the other.
//!
//! Invariant: it orders hosts that fit and rejects none: what fits, by what is recorded, is for `hosts/reserve.rs` to say.

use crate::hosts::placement::{Ahead, Candidate, Rejection, Strategy, Wanted, place_behind};
use rexec_api::ids::HostId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What this server is about to record, by host.
#[derive(Clone, Default)]
pub(super) struct Choices(Arc<Mutex<HashMap<HostId, Ahead>>>);

/// The first of the hosts that were chosen; counts until dropped.
pub(super) struct Chosen {
    choices: Choices,
    host: HostId,
    ahead: Ahead,
}

impl Choices {
    /// Those that could take it, the best first; the first of them is chosen.
    #[allow(clippy::type_complexity)]
    pub fn choose<'a>(
        &self,
        strategy: Strategy,
        wanted: &Wanted,
        hosts: &'a [Candidate],
    ) -> Result<(Vec<&'a Candidate>, Option<Chosen>), Vec<(&'a Candidate, Rejection)>> {
        let mut behind = self.lock();
        let fit = place_behind(strategy, wanted, hosts, &behind)?;
        let chosen = fit.first().map(|best| {
            let ahead = Ahead { amount: wanted.fitted(best), workspaces: 1 };
            let before = behind.get(&best.id).copied().unwrap_or_default();
            behind.insert(best.id, before.and(ahead));
            Chosen { choices: self.clone(), host: best.id, ahead }
        });
        Ok((fit, chosen))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<HostId, Ahead>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Chosen {
    fn drop(&mut self) {
        let mut all = self.choices.lock();
        let before = all.remove(&self.host).unwrap_or_default();
        let left = before.less(self.ahead);
        if left.workspaces > 0 {
            all.insert(self.host, left);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::hosts::placement::Amount;
    use std::collections::BTreeMap;

    fn host(name: &str) -> Candidate {
        Candidate {
            id: HostId::new(),
            name: name.into(),
            region: String::new(),
            region_is_full: false,
            is_active: true,
            away: None,
            labels: BTreeMap::new(),
            runtimes: Vec::new(),
            architecture: String::new(),
            cores_milli: Some(8000),
            memory_mb: Some(8192),
            total: Amount { cpu_milli: 8000, memory_mb: 8192, disk_mb: 0 },
            used: Amount::default(),
            workspaces: 0,
            workspaces_max: None,
        }
    }

    #[test]
    fn many_at_once_spread_before_any_is_recorded() {
        let (hosts, choices) = (["a", "b", "c"].map(host), Choices::default());
        let wanted = Wanted { amount: Amount { cpu_milli: 1000, memory_mb: 64, disk_mb: 0 }, ..Wanted::default() };
        let choose = |strategy| choices.choose(strategy, &wanted, &hosts).unwrap();
        let mut held = Vec::new();
        let mut names = Vec::new();
        for _ in 0..30 {
            let (fit, chosen) = choose(Strategy::Spread);
            assert_eq!(fit.len(), 3, "more than fit are none the less for the reservation to refuse");
            names.push(fit[0].name.clone());
            held.extend(chosen);
        }
        for name in ["a", "b", "c"] {
            assert_eq!(names.iter().filter(|other| *other == name).count(), 10, "{names:?}");
        }
        assert!(names[..3] == ["a", "b", "c"], "{names:?}");
        drop(held);
        assert!(choices.lock().is_empty());
        let (fit, _chosen) = choose(Strategy::Pack);
        let (next, _another) = choose(Strategy::Pack);
        assert_eq!((fit[0].name.as_str(), next[0].name.as_str()), ("a", "a"));
    }
}
