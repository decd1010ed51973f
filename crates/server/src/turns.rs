//! Turns at what keeps the server or a host busy for long: so many at once, and of one user fewer, so that one who
//! is slow, or means ill, leaves room for others. Cheap to clone.

use rexec_api::ids::UserId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Clone)]
pub struct Turns {
    taken: Arc<Mutex<HashMap<UserId, usize>>>,
    all_max: usize,
    user_max: usize,
}

/// Held until dropped.
pub struct Turn {
    turns: Turns,
    user: UserId,
}

/// Whose turns are all taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    User,
    All,
}

impl Turns {
    pub fn new(all_max: usize, user_max: usize) -> Self {
        Self { taken: Arc::default(), all_max, user_max }
    }

    pub fn take(&self, user: UserId) -> Result<Turn, Full> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(&user).copied().unwrap_or(0);
        if own >= self.user_max {
            return Err(Full::User);
        }
        if taken.values().sum::<usize>() >= self.all_max {
            return Err(Full::All);
        }
        taken.insert(user, own + 1);
        Ok(Turn { turns: self.clone(), user })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut taken = self.turns.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.user) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(taken.remove(&self.user)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_user_leaves_room_for_others() {
        let (turns, ada) = (Turns::new(8, 2), UserId::new());
        let own: Vec<_> = (0..2).map(|_| turns.take(ada).ok().unwrap()).collect();
        assert_eq!(turns.take(ada).err(), Some(Full::User));
        let others: Vec<_> = (2..8).map(|_| turns.take(UserId::new()).ok().unwrap()).collect();
        assert_eq!(turns.take(UserId::new()).err(), Some(Full::All));
        drop(own);
        turns.take(ada).ok().unwrap();
        drop(others);
        assert!(turns.taken.lock().unwrap().is_empty());
    }
}
