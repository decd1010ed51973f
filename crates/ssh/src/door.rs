//! Who may knock: how many connections there are, and how soon an address that was refused may come again.
//! All of it is a value; time is passed in.
//!
//! A connection that ends without having been let in costs its address a penalty, by what it did. Penalties add
//! up and run off with time; one that has become longer than [`PENALTY_MIN`] shuts the door until it has run off.
//! Addresses are remembered up to [`ADDRESSES_MAX`]; beyond it the ones nearest to being forgiven are forgotten.

use crate::settings::Bounds;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// For an end without any attempt to be let in: a port scan, a health check.
const PENALTY_SILENT: Duration = Duration::from_secs(1);
/// For an end after refusals.
const PENALTY_REFUSED: Duration = Duration::from_secs(5);
/// For having used up the time.
const PENALTY_SLOW: Duration = Duration::from_secs(20);
/// Shorter ones are only remembered.
const PENALTY_MIN: Duration = Duration::from_secs(15);
const PENALTY_MAX: Duration = Duration::from_secs(600);
/// Addresses with a penalty or a stranger. About 100 bytes each.
const ADDRESSES_MAX: usize = 16 * 1024;

/// How a connection ended that had not been let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    Silent,
    Refused,
    Slow,
}

#[derive(Default)]
struct Address {
    strangers: usize,
    penalty_until: Option<Instant>,
}

#[derive(Default)]
struct Ledger {
    connections: usize,
    strangers: usize,
    addresses: HashMap<IpAddr, Address>,
}

/// IPv6 is handed out by networks of 64 bits: they count as one.
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(network.into())
        }
        v4 => v4,
    }
}

impl Ledger {
    fn admit(&mut self, address: IpAddr, bounds: &Bounds, now: Instant) -> bool {
        if self.connections >= bounds.connections_max || self.strangers >= bounds.strangers_max {
            return false;
        }
        self.forget(now);
        let known = self.addresses.entry(address).or_default();
        let shut = known.penalty_until.is_some_and(|until| until.saturating_duration_since(now) > PENALTY_MIN);
        if shut || known.strangers >= bounds.strangers_per_address_max {
            return false;
        }
        known.strangers += 1;
        self.strangers += 1;
        self.connections += 1;
        true
    }

    fn known(&mut self, address: IpAddr) {
        self.strangers -= 1;
        if let Some(known) = self.addresses.get_mut(&address) {
            known.strangers -= 1;
        }
    }

    fn blame(&mut self, address: IpAddr, failure: Failure, now: Instant) {
        let penalty = match failure {
            Failure::Silent => PENALTY_SILENT,
            Failure::Refused => PENALTY_REFUSED,
            Failure::Slow => PENALTY_SLOW,
        };
        let known = self.addresses.entry(address).or_default();
        let from = known.penalty_until.map_or(now, |until| until.max(now));
        known.penalty_until = Some((from + penalty).min(now + PENALTY_MAX));
    }

    fn forget(&mut self, now: Instant) {
        if self.addresses.len() < ADDRESSES_MAX {
            return;
        }
        self.addresses.retain(|_, known| known.strangers > 0 || known.penalty_until.is_some_and(|until| until > now));
        while self.addresses.len() >= ADDRESSES_MAX {
            let idle = self.addresses.iter().filter(|(_, known)| known.strangers == 0);
            let Some(first) = idle.min_by_key(|(_, known)| known.penalty_until).map(|(address, _)| *address) else {
                return;
            };
            self.addresses.remove(&first);
        }
    }
}

/// The ledger of one server.
pub(crate) struct Door {
    bounds: Bounds,
    ledger: Mutex<Ledger>,
}

impl Door {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, ledger: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a stranger as far as authentication, or not.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Visit> {
        let address = origin(address);
        let admitted = self.lock().admit(address, &self.bounds, Instant::now());
        admitted.then(|| Visit { door: self.clone(), address, state: Mutex::new(Stranger::Is(Failure::Silent)) })
    }
}

enum Stranger {
    /// What it will have been if it ends now.
    Is(Failure),
    No,
}

/// One connection's place. It is given back on drop, and the address blamed if nobody was let in.
pub(crate) struct Visit {
    door: Arc<Door>,
    address: IpAddr,
    state: Mutex<Stranger>,
}

impl Visit {
    fn state(&self) -> MutexGuard<'_, Stranger> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn failed(&self, failure: Failure) {
        let mut state = self.state();
        if matches!(*state, Stranger::Is(_)) {
            *state = Stranger::Is(failure);
        }
    }

    pub(crate) fn entered(&self) {
        let mut state = self.state();
        if matches!(*state, Stranger::Is(_)) {
            *state = Stranger::No;
            self.door.lock().known(self.address);
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let stranger = match *self.state() {
            Stranger::Is(failure) => Some(failure),
            Stranger::No => None,
        };
        let mut ledger = self.door.lock();
        ledger.connections -= 1;
        if let Some(failure) = stranger {
            ledger.known(self.address);
            ledger.blame(self.address, failure, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds() -> Bounds {
        Bounds { connections_max: 3, strangers_max: 3, strangers_per_address_max: 2, ..Bounds::default() }
    }

    fn address(text: &str) -> IpAddr {
        origin(text.parse().expect("an address"))
    }

    #[test]
    fn counts_in_all_and_by_address() {
        let door = Arc::new(Door::new(bounds()));
        let [first, second] = ["10.0.0.1", "10.0.0.2"].map(address);
        let one = door.admit(first).expect("the first");
        let two = door.admit(first).expect("the second");
        assert!(door.admit(first).is_none(), "a third of one address");
        two.entered();
        let three = door.admit(first).expect("one was let in");
        assert!(door.admit(second).is_none(), "a fourth in all");
        drop((one, two, three));
        assert_eq!(door.lock().connections, 0);
        assert_eq!(door.lock().strangers, 0);
    }

    #[test]
    fn refusals_shut_the_door_until_they_have_run_off() {
        let (mut ledger, bounds, now) = (Ledger::default(), Bounds::default(), Instant::now());
        let guest = address("192.0.2.1");
        for _ in 0..3 {
            ledger.blame(guest, Failure::Refused, now);
        }
        assert!(ledger.admit(guest, &bounds, now), "as much as is overlooked");
        ledger.known(guest);
        ledger.blame(guest, Failure::Refused, now);
        assert!(!ledger.admit(guest, &bounds, now));
        assert!(ledger.admit(address("192.0.2.2"), &bounds, now), "its neighbour did nothing");
        assert!(ledger.admit(guest, &bounds, now + PENALTY_REFUSED), "it has run off");
        for _ in 0..1000 {
            ledger.blame(guest, Failure::Slow, now);
        }
        assert!(ledger.admit(guest, &bounds, now + PENALTY_MAX), "never longer than the longest");
    }

    #[test]
    fn a_flood_of_addresses_is_forgotten_in_part() {
        let (mut ledger, bounds, now) = (Ledger::default(), Bounds::default(), Instant::now());
        for number in 0..ADDRESSES_MAX as u32 + 10 {
            ledger.blame(IpAddr::V4(number.into()), Failure::Silent, now + Duration::from_millis(number.into()));
        }
        assert!(ledger.admit(address("2001:db8::1"), &bounds, now));
        assert!(ledger.addresses.len() <= ADDRESSES_MAX);
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:1"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_eq!(address("::ffff:10.0.0.1"), address("10.0.0.1"));
    }
}
