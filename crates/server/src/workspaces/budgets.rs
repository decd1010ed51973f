//! What the guests of one user may hold of the server's memory, all of them together.

use rexec_api::ids::UserId;
use rexec_channel::Budget;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Of every user who has a guest.
#[derive(Default)]
pub struct Budgets(Mutex<HashMap<UserId, Budget>>);

impl Budgets {
    pub fn of(&self, user: UserId) -> Budget {
        let mut budgets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        budgets.retain(|_, budget| budget.is_shared());
        budgets.entry(user).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_lasts_as_long_as_somebody_has_it() {
        let budgets = Budgets::default();
        let (one, other) = (UserId::new(), UserId::new());
        let held = (budgets.of(one), budgets.of(one));
        drop(budgets.of(other));
        drop(budgets.of(one));
        assert_eq!(budgets.0.lock().map(|all| all.len()).ok(), Some(1));
        drop(held);
    }
}
