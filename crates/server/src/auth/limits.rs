//! How often one may ask: requests by user and by address, sign-ins by address and e-mail.
//!
//! Each key has a bucket that refills steadily. Bounds: a map holds [`KEYS_MAX`] keys; beyond
//! that, new keys share one bucket, so that a flood of addresses costs no memory.

use crate::config;
use crate::error::{Error, Result};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use rexec_api::error::ErrorCode;
use rexec_api::ids::UserId;
use sha2::{Digest as _, Sha256};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

/// Keys of one map at most.
const KEYS_MAX: usize = 50_000;
/// Seconds' worth of requests that may come at once.
const REQUEST_BURST_SECONDS: u32 = 10;
/// Sign-ins and registrations of one address, as a multiple of those for one e-mail: many people
/// may sit behind one address.
const ADDRESS_FACTOR: u32 = 10;

/// One bucket per key; `None` lets everything through.
struct Buckets<K: Clone + Hash + Eq>(Option<Keyed<K>>);

struct Keyed<K: Clone + Hash + Eq> {
    by_key: DefaultKeyedRateLimiter<K>,
    /// For keys that found no room.
    shared: DefaultDirectRateLimiter,
}

impl<K: Clone + Hash + Eq> Buckets<K> {
    /// `per` refills a bucket of `burst` whole.
    fn new(burst: u32, per: Duration) -> Self {
        let quota =
            NonZeroU32::new(burst).and_then(|burst| Some(Quota::with_period(per / burst.get())?.allow_burst(burst)));
        Self(quota.map(|quota| Keyed { by_key: RateLimiter::dashmap(quota), shared: RateLimiter::direct(quota) }))
    }

    /// Takes one from the key's bucket, or tells how long until there is one.
    fn take(&self, key: &K) -> Result<(), Duration> {
        let Some(keyed) = &self.0 else {
            return Ok(());
        };
        let now = DefaultClock::default().now();
        let full = keyed.by_key.len() >= KEYS_MAX;
        let refused = if full { keyed.shared.check().err() } else { keyed.by_key.check_key(key).err() };
        refused.map_or(Ok(()), |not_until| Err(not_until.wait_time_from(now)))
    }

    /// Forgets keys whose buckets are full again.
    fn prune(&self) {
        if let Some(keyed) = &self.0 {
            keyed.by_key.retain_recent();
            keyed.by_key.shrink_to_fit();
        }
    }
}

/// An address as far as one customer of a network has it to himself: a /64 of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct AddressKey(IpAddr);

impl From<IpAddr> for AddressKey {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => {
                let network = u128::from(v6) & (u128::MAX << 64);
                Self(IpAddr::V6(Ipv6Addr::from(network)))
            }
            v4 => Self(v4),
        }
    }
}

/// All limits of one server.
pub struct Limits {
    by_user: Buckets<UserId>,
    by_address: Buckets<AddressKey>,
    /// The e-mail is kept as a hash: bounded, and nobody's address in memory.
    sign_ins: Buckets<(AddressKey, [u8; 32])>,
    sign_ins_of_address: Buckets<AddressKey>,
    device_logins: Buckets<AddressKey>,
    user_codes: Buckets<UserId>,
    user_codes_of_address: Buckets<AddressKey>,
}

impl Limits {
    pub fn new(config: &config::Limits) -> Self {
        let burst = config.requests_per_second.saturating_mul(REQUEST_BURST_SECONDS);
        let window = Duration::from_secs(u64::from(REQUEST_BURST_SECONDS));
        let minute = Duration::from_secs(60);
        let per_address = config.sign_ins_per_minute.saturating_mul(ADDRESS_FACTOR);
        Self {
            by_user: Buckets::new(burst, window),
            by_address: Buckets::new(burst, window),
            sign_ins: Buckets::new(config.sign_ins_per_minute, minute),
            sign_ins_of_address: Buckets::new(per_address, minute),
            device_logins: Buckets::new(per_address, minute),
            user_codes: Buckets::new(config.sign_ins_per_minute, minute),
            user_codes_of_address: Buckets::new(per_address, minute),
        }
    }

    /// Counts a request of a user.
    pub fn request_of_user(&self, user: UserId) -> Result<()> {
        self.by_user
            .take(&user)
            .map_err(|wait| limited(wait, "Too many requests from this account. Wait a moment and go on more slowly."))
    }

    /// Counts a request from an address.
    pub fn request_from(&self, address: IpAddr) -> Result<()> {
        self.by_address
            .take(&address.into())
            .map_err(|wait| limited(wait, "Too many requests from this address. Wait a moment and go on more slowly."))
    }

    /// Counts an attempt to sign in or to register, before any password is looked at.
    pub fn sign_in(&self, address: IpAddr, email: &str) -> Result<()> {
        let address = AddressKey::from(address);
        let email: [u8; 32] = Sha256::digest(email.as_bytes()).into();
        self.sign_ins_of_address
            .take(&address)
            .and_then(|()| self.sign_ins.take(&(address, email)))
            .map_err(|wait| limited(wait, "Too many attempts to sign in. Wait before you try again."))
    }

    /// Counts the beginning of a machine's sign-in.
    pub fn device_login(&self, address: IpAddr) -> Result<()> {
        self.device_logins
            .take(&address.into())
            .map_err(|wait| limited(wait, "Too many sign-ins were begun from this address. Wait before you try again."))
    }

    /// Counts a code that somebody types, before it is looked for.
    pub fn user_code(&self, user: UserId, address: IpAddr) -> Result<()> {
        self.user_codes_of_address
            .take(&address.into())
            .and_then(|()| self.user_codes.take(&user))
            .map_err(|wait| limited(wait, "Too many codes were tried. Wait before you try again."))
    }

    /// Forgets what no longer limits anyone; called now and then.
    pub fn prune(&self) {
        self.by_user.prune();
        self.by_address.prune();
        self.sign_ins.prune();
        self.sign_ins_of_address.prune();
        self.device_logins.prune();
        self.user_codes.prune();
        self.user_codes_of_address.prune();
    }
}

fn limited(wait: Duration, message: &'static str) -> Error {
    Error::new(ErrorCode::RateLimited, message).retry_after(wait)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn limits(sign_ins_per_minute: u32) -> Limits {
        Limits::new(&config::Limits { requests_per_second: 0, sign_ins_per_minute })
    }

    #[test]
    fn attempts_run_out_by_address_and_email() {
        let limits = limits(3);
        let here: IpAddr = "192.0.2.1".parse().unwrap();
        let there: IpAddr = "192.0.2.2".parse().unwrap();
        for _ in 0..3 {
            limits.sign_in(here, "ann@example.com").unwrap();
        }
        let refused = limits.sign_in(here, "ann@example.com").unwrap_err();
        assert_eq!(refused.code, ErrorCode::RateLimited);
        assert!(refused.retry_after.unwrap() <= Duration::from_secs(20));
        limits.sign_in(here, "bob@example.com").unwrap();
        limits.sign_in(there, "ann@example.com").unwrap();
    }

    #[test]
    fn codes_run_out_by_user_and_machines_by_address() {
        let limits = limits(2);
        let here: IpAddr = "192.0.2.1".parse().unwrap();
        let (ann, bob) = (UserId::new(), UserId::new());
        limits.user_code(ann, here).unwrap();
        limits.user_code(ann, here).unwrap();
        assert_eq!(limits.user_code(ann, here).unwrap_err().code, ErrorCode::RateLimited);
        limits.user_code(bob, here).unwrap();
        // Whoever makes accounts to try more is told by the address.
        let refused = (0..100).filter(|_| limits.user_code(UserId::new(), here).is_err()).count();
        assert!(refused > 50, "{refused}");
        let refused = (0..100).filter(|_| limits.device_login(here).is_err()).count();
        assert!(refused > 50, "{refused}");
    }

    #[test]
    fn zero_means_no_limit() {
        let limits = limits(0);
        let here: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..1000 {
            limits.sign_in(here, "ann@example.com").unwrap();
            limits.request_from(here).unwrap();
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let key = |a: &str| AddressKey::from(a.parse::<IpAddr>().unwrap());
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
    }
}
