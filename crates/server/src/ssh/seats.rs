//! How many connections each user has.

use rexec_api::ids::UserId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Connections of one user at once; one more is told so and can do nothing.
pub(super) const CONNECTIONS_PER_USER_MAX: u32 = 256;

#[derive(Clone, Default)]
pub(super) struct Seats(Arc<Mutex<HashMap<UserId, u32>>>);

impl Seats {
    pub fn take(&self, user: UserId) -> Option<Seat> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(user).or_default();
        if *count >= CONNECTIONS_PER_USER_MAX {
            return None;
        }
        *count += 1;
        Some(Seat { seats: self.clone(), user })
    }
}

/// One of a user's connections; free again when dropped.
pub(super) struct Seat {
    seats: Seats,
    user: UserId,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_each_users_own_and_come_back() {
        let (seats, me) = (Seats::default(), UserId::new());
        let mine: Vec<_> = (0..CONNECTIONS_PER_USER_MAX).map_while(|_| seats.take(me)).collect();
        assert_eq!(mine.len(), CONNECTIONS_PER_USER_MAX as usize);
        assert!(seats.take(me).is_none() && seats.take(UserId::new()).is_some());
        drop(mine);
        assert!(seats.take(me).is_some());
        assert!(seats.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty());
    }
}
