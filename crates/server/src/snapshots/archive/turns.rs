//! Who may export and import at the moment: so many at once, and of one user fewer, so that one who is slow, or means
//! ill, leaves room for others.

use super::too_many;
use crate::error::Result;
use rexec_api::ids::UserId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Exports and imports at once; each keeps the engine's disk busy.
const TRANSFERS_MAX: usize = 8;
/// Those of one user.
const USER_TRANSFERS_MAX: usize = 2;

#[derive(Clone, Default)]
pub struct Turns(Arc<Mutex<HashMap<UserId, usize>>>);

/// Held until dropped.
pub struct Turn {
    turns: Turns,
    user: UserId,
}

impl Turns {
    pub fn take(&self, user: UserId) -> Result<Turn> {
        let mut of = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, own) = (of.values().sum::<usize>(), of.get(&user).copied().unwrap_or(0));
        if own >= USER_TRANSFERS_MAX || all >= TRANSFERS_MAX {
            return Err(too_many(own >= USER_TRANSFERS_MAX));
        }
        of.insert(user, own + 1);
        Ok(Turn { turns: self.clone(), user })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut of = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        match of.get_mut(&self.user) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(of.remove(&self.user)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_user_leaves_room_for_others() {
        let (turns, ada) = (Turns::default(), UserId::new());
        let own: Vec<_> = (0..USER_TRANSFERS_MAX).map(|_| turns.take(ada).unwrap()).collect();
        assert!(turns.take(ada).is_err());
        let others: Vec<_> = (USER_TRANSFERS_MAX..TRANSFERS_MAX).map(|_| turns.take(UserId::new()).unwrap()).collect();
        assert!(turns.take(UserId::new()).is_err());
        drop(own);
        turns.take(ada).unwrap();
        drop(others);
        assert!(turns.0.lock().unwrap().is_empty());
    }
}
