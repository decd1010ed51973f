//! Names to addresses, by the servers that the operator or the machine names; never by the C library, which a static program
//! cannot use, and which would read files of its own.

use crate::host::HostName;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For one server's answer, and how often one is asked.
const ANSWER_MAX: Duration = Duration::from_secs(3);
const ATTEMPTS: usize = 2;
/// All of it.
const LOOKUP_MAX: Duration = Duration::from_secs(10);
/// Names that are remembered, of each [`ADDRESSES_MAX`] addresses at most.
const REMEMBERED_MAX: usize = 4096;
/// However long a name may be remembered: what it leads to is judged anew each time, but should also be true.
const TTL_MAX: Duration = Duration::from_secs(60);
/// However long it may be remembered that there is nothing.
const NOTHING_TTL: Duration = Duration::from_secs(5);
const DNS_PORT: u16 = 53;
/// Servers that are asked; resolv.conf(5) has as many.
const SERVERS_MAX: usize = 3;
/// Addresses of one name that are tried or told.
const ADDRESSES_MAX: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    #[error("there is no such name")]
    NoSuchName,
    #[error("no server of names answers")]
    NoAnswer,
}

/// Remembers what it was told for a while: addresses alone, so that no answer is large in memory.
pub struct Resolver {
    asked: TokioResolver,
    /// What is there, and until when; of no addresses that there is no such name.
    remembered: Mutex<HashMap<HostName, (Instant, Vec<IpAddr>)>>,
}

impl Resolver {
    /// Asks these servers, in their order. Runs on the runtime that asks.
    pub fn new(servers: &[SocketAddr]) -> Result<Self, Unresolved> {
        let servers = servers.iter().take(SERVERS_MAX).map(|server| {
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            connections.iter_mut().for_each(|connection| connection.port = server.port());
            NameServerConfig::new(server.ip(), true, connections)
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.timeout = ANSWER_MAX;
        options.attempts = ATTEMPTS;
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
        let asked = builder.build().map_err(|_| Unresolved::NoAnswer)?;
        Ok(Self { asked, remembered: Mutex::default() })
    }

    /// At least one address.
    pub async fn addresses(&self, name: &HostName) -> Result<Vec<IpAddr>, Unresolved> {
        match self.recall(name) {
            Some(known) if known.is_empty() => return Err(Unresolved::NoSuchName),
            Some(known) => return Ok(known),
            None => {}
        }
        // With its dot it is whole: nothing is put behind it.
        let whole = format!("{}.", name.as_str());
        match tokio::time::timeout(LOOKUP_MAX, self.asked.lookup_ip(whole)).await {
            Ok(Ok(found)) => {
                let until = found.as_lookup().valid_until().min(Instant::now() + TTL_MAX);
                let found: Vec<IpAddr> = found.iter().take(ADDRESSES_MAX).collect();
                self.remember(name, until, &found);
                if found.is_empty() { Err(Unresolved::NoSuchName) } else { Ok(found) }
            }
            Ok(Err(error)) if error.is_nx_domain() || error.is_no_records_found() => {
                self.remember(name, Instant::now() + NOTHING_TTL, &[]);
                Err(Unresolved::NoSuchName)
            }
            Ok(Err(_)) | Err(_) => Err(Unresolved::NoAnswer),
        }
    }

    fn recall(&self, name: &HostName) -> Option<Vec<IpAddr>> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.get(name).filter(|(until, _)| Instant::now() < *until).map(|(_, found)| found.clone())
    }

    fn remember(&self, name: &HostName, until: Instant, found: &[IpAddr]) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, (until, _)| now < *until);
        }
        if remembered.len() >= REMEMBERED_MAX {
            // Some of them, by the chance of their places: nobody empties it for all.
            let some: Vec<HostName> = remembered.keys().take(REMEMBERED_MAX / 8).cloned().collect();
            some.iter().for_each(|name| drop(remembered.remove(name)));
        }
        remembered.insert(name.clone(), (until, found.to_vec()));
    }
}

/// The servers that a resolv.conf(5) names.
pub fn servers_of(resolv_conf: &str) -> Vec<SocketAddr> {
    let lines = resolv_conf.lines().map(|line| line.split(['#', ';']).next().unwrap_or_default());
    let named = lines.filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok()).flatten()
    });
    named.take(SERVERS_MAX).map(|address| SocketAddr::new(address, DNS_PORT)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read() {
        let text =
            "# a\nsearch example.com\nnameserver 10.0.0.2 # near\n nameserver fd00::1\nnameserver x\nnameserver\n";
        let servers = ["10.0.0.2:53", "[fd00::1]:53"].map(|server| server.parse().expect("an address"));
        assert_eq!(servers_of(text), servers);
    }
}
