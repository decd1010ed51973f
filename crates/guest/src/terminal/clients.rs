//! How many input bytes have been taken from each named client, across its reconnects.
//!
//! A client that was cut off sends again what it does not know to have arrived; this count is what
//! it compares with. Invariant: a count never goes down while it is remembered, and the clients
//! heard from least recently are the ones forgotten.

use uuid::Uuid;

/// Clients remembered per terminal. A forgotten one starts from nothing when it comes back.
const CLIENTS_MAX: usize = 64;

/// Ordered from the least to the most recently heard from.
#[derive(Debug, Default)]
pub(super) struct InputAccounts(Vec<(Uuid, u64)>);

impl InputAccounts {
    /// Counts input of this client and returns the sum.
    pub fn take(&mut self, client: Uuid, bytes: u64) -> u64 {
        let before = match self.0.iter().position(|(known, _)| *known == client) {
            Some(index) => self.0.remove(index).1,
            None => 0,
        };
        if self.0.len() == CLIENTS_MAX {
            self.0.remove(0);
        }
        self.0.push((client, before + bytes));
        before + bytes
    }

    pub fn taken(&self, client: Uuid) -> u64 {
        let known = self.0.iter().find(|(known, _)| *known == client);
        known.map_or(0, |(_, bytes)| *bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recent_client_is_forgotten() {
        let mut accounts = InputAccounts::default();
        let id = |n: usize| Uuid::from_u128(n as u128);
        for n in 0..CLIENTS_MAX {
            accounts.take(id(n), 1);
        }
        assert_eq!(accounts.take(id(0), 4), 5);
        accounts.take(id(CLIENTS_MAX), 1);
        assert_eq!((accounts.taken(id(0)), accounts.taken(id(1))), (5, 0));
        assert_eq!(accounts.0.len(), CLIENTS_MAX);
    }
}
