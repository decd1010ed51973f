//! Whose an address is, and what it may reach: the gateway's whole knowledge of workspaces.
//!
//! Invariants: an address that is not here reaches nothing. One lookup gives one policy, whole: a change is the exchange of
//! a pointer, and what is decided after it is decided by the new one. Whoever has a connection open is told of each change
//! and looks again; an address that becomes another workspace's is a new tenant, and nothing of the old one stays open.

use crate::github::{AtGithub, Grant, Tokens};
use crate::host::{Host, HostName};
use crate::policy::Policy;
use crate::proxy::BODY_UNIT;
use crate::reading::Reading;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Connections of one workspace at once.
pub const CONNECTIONS_MAX: u32 = 256;
/// Questions for names of one workspace that are answered at once; a resolver asks one or two.
pub const QUESTIONS_MAX: usize = 32;
/// Connections of one workspace that are read at once: each holds some 200 kB.
pub const READINGS_MAX: usize = 64;
/// Requests for models of one workspace that are answered at once.
const MODELS_MAX: usize = 32;
/// What their bodies hold together; one of the longest fits.
const BODIES_BYTES_MAX: usize = 40 << 20;
/// Connections that are made for one workspace, and requests for models: so many at once, and one more in each such time.
pub const DIALS: Pace = Pace { burst: 200, every: Duration::from_millis(5) };
/// Its questions for names, of which each may go to another server.
pub const QUESTIONS: Pace = Pace { burst: 200, every: Duration::from_millis(20) };
/// Records of what it was refused, and of names: more are counted and not told.
pub const RECORDS: Pace = Pace { burst: 200, every: Duration::from_millis(20) };

/// Where requests are read that a token is put into.
const HTTPS_PORT: u16 = 443;

/// So many at once, and one more in each such time.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    pub burst: u32,
    pub every: Duration,
}

/// How far something is ahead of its pace.
#[derive(Debug)]
pub struct Bucket {
    pace: Pace,
    /// When the next would be on time, were they evenly spread.
    due: Mutex<Instant>,
}

impl Bucket {
    fn new(pace: Pace) -> Self {
        Self { pace, due: Mutex::new(Instant::now()) }
    }

    /// Whether one more keeps to the pace; it counts if so.
    pub fn take(&self) -> bool {
        let now = Instant::now();
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let next = (*due).max(now) + self.pace.every;
        let keeps = next.saturating_duration_since(now) <= self.pace.every * self.pace.burst;
        if keeps {
            *due = next;
        }
        keeps
    }
}

/// One workspace behind the gateway, as it was told.
#[derive(Debug)]
pub struct Bound {
    /// What the server calls it; only passed on.
    pub workspace: String,
    /// Grows with every change.
    pub version: u64,
    pub policy: Policy,
    /// Of one that has secrets, or rules about requests.
    pub reading: Option<Reading>,
    /// Of one that may ask for models.
    pub models: Option<Budget>,
    /// Of one that may use repositories at GitHub.
    pub github: Option<AtGithub>,
}

/// How many tokens of models a workspace may use from when this was told; `None`: as many as it likes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    pub left: Option<u64>,
}

impl Bound {
    /// What its requests to this host are read with, if they are.
    pub fn reads(&self, host: &Host, port: u16) -> Option<&Reading> {
        let is_read = |reading: &&Reading| {
            reading.is_for(host, port) || self.policy.reads(host, port) || self.at_github(host, port).is_some()
        };
        self.reading.as_ref().filter(is_read)
    }

    /// Whether what was judged by a grant would be judged so again.
    pub fn still_grants(&self, host: &Host, port: u16, grant: Option<&Grant>) -> bool {
        let is_same = |grant: &Grant| self.at_github(host, port).is_some_and(|(at, _)| at.grant == *grant);
        grant.is_none_or(is_same)
    }

    /// What it may do at this host, if that is GitHub.
    pub fn at_github<'a>(&'a self, host: &'a Host, port: u16) -> Option<(&'a AtGithub, &'a HostName)> {
        match (&self.github, host) {
            (Some(at), Host::Name(name)) if port == HTTPS_PORT && at.grant.is_for(name) => Some((at, name)),
            _ => None,
        }
    }
}

/// What a workspace has done through the gateway, since its address was bound.
#[derive(Debug, Default)]
pub struct Totals {
    /// From the workspace, and to it.
    pub bytes_up: AtomicU64,
    pub bytes_down: AtomicU64,
    pub allowed: AtomicU64,
    pub denied: AtomicU64,
}

/// Who has an address now.
#[derive(Debug)]
pub struct Tenant {
    bound: watch::Sender<Option<Arc<Bound>>>,
    pub totals: Totals,
    live: AtomicU32,
    /// Questions for names that are being answered.
    asking: Arc<Semaphore>,
    pub dials: Bucket,
    pub questions: Bucket,
    pub records: Bucket,
    /// Records that were not told since the last that was.
    pub untold: AtomicU64,
    /// Tokens of models that are left of its budget.
    left: Mutex<Budget>,
    /// Connections whose TLS ends here.
    pub readings: Arc<Semaphore>,
    /// Requests for models that are being answered, and what their bodies hold meanwhile.
    pub models: Arc<Semaphore>,
    pub bodies: Arc<Semaphore>,
}

/// One connection of a tenant; it counts until dropped.
#[derive(Debug)]
pub struct Pass(Arc<Tenant>);

#[derive(Debug, Default)]
pub struct Table {
    of: RwLock<HashMap<IpAddr, Arc<Tenant>>>,
}

impl Table {
    pub fn find(&self, address: IpAddr) -> Option<Arc<Tenant>> {
        self.read().get(&address.to_canonical()).cloned()
    }

    pub fn len(&self) -> usize {
        self.read().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `false`: a newer policy of the same workspace is there already, and stays.
    pub fn bind(&self, address: IpAddr, bound: Bound) -> bool {
        let address = address.to_canonical();
        let mut of = self.of.write().unwrap_or_else(PoisonError::into_inner);
        match of.get(&address) {
            Some(tenant) if tenant.is(&bound.workspace) => {
                if tenant.bound().is_some_and(|present| present.version > bound.version) {
                    return false;
                }
                if let (Some(before), Some(now)) =
                    (tenant.bound().as_ref().and_then(|of| of.github.as_ref()), &bound.github)
                {
                    // What comes late was made up before these were told.
                    let is_late = tenant.bound().is_some_and(|present| present.version == bound.version);
                    now.take_over(before, is_late);
                }
                tenant.afford(bound.models.unwrap_or_default());
                tenant.bound.send_replace(Some(Arc::new(bound)));
            }
            _ => {
                if let Some(before) = of.insert(address, Arc::new(Tenant::new(bound))) {
                    before.bound.send_replace(None);
                }
            }
        }
        true
    }

    /// It reaches nothing from now on, and what it has open ends.
    pub fn unbind(&self, address: IpAddr) {
        let removed = self.of.write().unwrap_or_else(PoisonError::into_inner).remove(&address.to_canonical());
        if let Some(tenant) = removed {
            tenant.bound.send_replace(None);
        }
    }

    /// Unbinds all that is not among these, by address and workspace; gives the places of those that are not here as they
    /// should be, by their version.
    pub fn keep(&self, all: &[(IpAddr, &str, u64)]) -> Vec<usize> {
        let wanted: HashMap<IpAddr, (&str, u64)> =
            all.iter().map(|(address, id, version)| (address.to_canonical(), (*id, *version))).collect();
        let mut of = self.of.write().unwrap_or_else(PoisonError::into_inner);
        of.retain(|address, tenant| {
            // A newer one than it should have is of a past that was taken back, such as by a restored database.
            let is_past = |version: u64| tenant.bound().is_some_and(|bound| bound.version > version);
            let stays =
                wanted.get(address).is_some_and(|(workspace, version)| tenant.is(workspace) && !is_past(*version));
            if !stays {
                tenant.bound.send_replace(None);
            }
            stays
        });
        let is_here = |(address, _, version): &(IpAddr, &str, u64)| {
            let bound = of.get(&address.to_canonical()).and_then(|tenant| tenant.bound());
            bound.is_some_and(|bound| bound.version == *version)
        };
        (0..all.len()).filter(|place| !is_here(&all[*place])).collect()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<IpAddr, Arc<Tenant>>> {
        self.of.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tenant {
    fn new(bound: Bound) -> Self {
        let left = Mutex::new(bound.models.unwrap_or_default());
        Self {
            bound: watch::Sender::new(Some(Arc::new(bound))),
            totals: Totals::default(),
            live: AtomicU32::new(0),
            asking: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            dials: Bucket::new(DIALS),
            questions: Bucket::new(QUESTIONS),
            records: Bucket::new(RECORDS),
            untold: AtomicU64::new(0),
            left,
            models: Arc::new(Semaphore::new(MODELS_MAX)),
            readings: Arc::new(Semaphore::new(READINGS_MAX)),
            bodies: Arc::new(Semaphore::new(BODIES_BYTES_MAX / BODY_UNIT)),
        }
    }

    pub fn is(&self, workspace: &str) -> bool {
        self.bound.borrow().as_ref().is_some_and(|bound| bound.workspace == workspace)
    }

    /// `None` once the address is no longer its.
    pub fn bound(&self) -> Option<Arc<Bound>> {
        self.bound.borrow().clone()
    }

    pub fn watch(&self) -> watch::Receiver<Option<Arc<Bound>>> {
        self.bound.subscribe()
    }

    /// `None` when it has too many connections.
    pub fn enter(self: &Arc<Self>) -> Option<Pass> {
        let live = self.live.fetch_add(1, Ordering::Relaxed);
        // Whatever follows, it is counted down again by the drop.
        let pass = Pass(self.clone());
        (live < CONNECTIONS_MAX).then_some(pass)
    }

    /// This is left from now on.
    pub fn afford(&self, budget: Budget) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = budget;
    }

    /// Its tokens of GitHub from now on, or why there are none. `false`: it has another version than this, and nothing changes.
    pub fn tell_github(&self, version: u64, tokens: Tokens) -> bool {
        let bound = self.bound().filter(|bound| bound.version == version);
        let at = bound.as_ref().and_then(|bound| bound.github.as_ref());
        if let Some(at) = at {
            at.tokens.send_replace(tokens);
        }
        at.is_some()
    }

    /// Whether anything is left of its budget.
    pub fn has_tokens(&self) -> bool {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).left != Some(0)
    }

    pub fn spend(&self, tokens: u64) {
        let mut budget = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        budget.left = budget.left.map(|left| left.saturating_sub(tokens));
    }

    /// A place for one question for a name; `None` while it asks too many.
    pub fn ask(&self) -> Option<OwnedSemaphorePermit> {
        self.asking.clone().try_acquire_owned().ok()
    }

    /// Units of what its requests' bodies hold.
    pub(crate) fn held_bodies(&self) -> usize {
        BODIES_BYTES_MAX / BODY_UNIT - self.bodies.available_permits()
    }

    pub fn live(&self) -> u32 {
        self.live.load(Ordering::Relaxed)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn bound(workspace: &str, version: u64) -> Bound {
        Bound {
            workspace: workspace.into(),
            version,
            policy: Policy::default(),
            reading: None,
            models: None,
            github: None,
        }
    }

    #[test]
    fn an_address_is_one_workspaces_at_a_time() {
        let table = Table::default();
        let [a, b] = ["10.0.0.2", "10.0.0.3"].map(|address| address.parse::<IpAddr>().unwrap());
        assert!(table.find(a).is_none());
        table.bind(a, bound("one", 1));
        let first = table.find("::ffff:10.0.0.2".parse().unwrap()).unwrap();
        let _pass = first.enter().unwrap();
        table.bind(a, bound("one", 2));
        assert_eq!((first.bound().unwrap().version, first.live()), (2, 1), "the same tenant, told of the change");
        assert!(!table.bind(a, bound("one", 1)), "what comes late changes nothing");
        assert_eq!(first.bound().unwrap().version, 2);

        table.bind(b, bound("two", 1));
        assert_eq!(table.keep(&[(a, "one", 2), (b, "two", 1)]), [0; 0], "all is as it should be");
        assert_eq!(table.keep(&[(a, "one", 3), (b, "two", 1)]), [0], "one has another policy");
        assert_eq!(first.bound().unwrap().version, 2, "and this one, until it is told");
        assert_eq!(table.keep(&[(a, "another", 2), (b, "two", 1)]), [0], "one is another's");
        assert!(first.bound().is_none() && table.find(a).is_none());
        table.bind(a, bound("one", 7));
        assert_eq!(table.keep(&[(a, "one", 6), (b, "two", 1)]), [0], "one has a policy that was taken back");
        assert!(table.find(a).is_none());

        let second = table.find(b).unwrap();
        table.bind(b, bound("three", 1));
        assert!(second.bound().is_none(), "what was another's is over");
        assert_eq!(table.find(b).unwrap().live(), 0);
        table.unbind(b);
        assert!(table.is_empty());
    }

    #[test]
    fn connections_are_bounded_at_once_and_in_time() {
        let table = Table::default();
        let address: IpAddr = "10.0.0.2".parse().unwrap();
        table.bind(address, bound("one", 1));
        let tenant = table.find(address).unwrap();
        let held: Vec<_> = std::iter::from_fn(|| tenant.enter()).take(CONNECTIONS_MAX as usize + 1).collect();
        assert_eq!(held.len(), CONNECTIONS_MAX as usize);
        assert_eq!(tenant.live(), held.len() as u32, "a refused one does not count");
        drop(held);
        assert_eq!(tenant.live(), 0);
        // Never so quick that one more comes into its own meanwhile.
        let slow = Bucket::new(Pace { burst: 3, every: Duration::from_secs(3600) });
        assert_eq!([slow.take(), slow.take(), slow.take(), slow.take()], [true, true, true, false]);
    }
}
