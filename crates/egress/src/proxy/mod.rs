//! The proxy's port: one of three protocols, told apart by the first byte. HTTP requests and CONNECT (`http.rs`), SOCKS 5
//! (`socks.rs`); what either asks for becomes a tunnel (`tunnel.rs`) or a request of our own, also within TLS that ends here
//! (`tls.rs`) where a secret is to be put in, or each is to be judged. And the web's own ports, for programs that know no proxies: names lead to the
//! gateway itself, and the host is the one that the first bytes name (`direct.rs`).

mod current;
mod direct;
mod fault;
mod github;
mod head;
mod http;
mod kept;
mod models;
mod prefixed;
mod socks;
mod tls;
mod tunnel;
mod upgrade;

pub use http::Outward;
pub use models::BODY_UNIT;

use crate::gateway::{Gateway, Opened, Way, ready, record};
use crate::host::Host;
use crate::record::{Ended, How, Record};
use crate::refusal::Refusal;
use crate::table::{Pass, Tenant};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::net::TcpStream;
use tunnel::Target;

/// For the first byte, and for whatever a protocol asks next.
const GREETING_MAX: Duration = Duration::from_secs(15);
const SOCKS_VERSION: u8 = 5;
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;
/// Where what is said first names the host: by its `Host`, and by TLS.
pub const DIRECT_PORTS: [u16; 2] = [HTTP_PORT, HTTPS_PORT];

/// What a connection was made to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Proxy,
    /// One of [`DIRECT_PORTS`].
    Direct(u16),
}

/// Whether models are asked for by this name.
pub fn is_models(host: &Host) -> bool {
    matches!(host, Host::Name(name) if name.as_str() == models::NAME)
}

/// One accepted connection of a workspace.
struct Visit {
    gateway: Arc<Gateway>,
    tenant: Arc<Tenant>,
    _pass: Pass,
}

/// Serves one connection until it ends, or its address is no longer its workspace's.
pub async fn serve(gateway: &Arc<Gateway>, tenant: Arc<Tenant>, stream: TcpStream, door: Door) {
    ready(&stream);
    let Some(pass) = tenant.enter() else {
        if door != Door::Direct(HTTPS_PORT)
            && let Ok(_place) = gateway.turned_away.try_acquire()
        {
            http::turn_away(stream).await;
        }
        return;
    };
    let visit = Arc::new(Visit { gateway: gateway.clone(), tenant, _pass: pass });
    let mut first = [0];
    let Ok(Ok(1)) = tokio::time::timeout(GREETING_MAX, stream.peek(&mut first)).await else { return };
    let gone = visit.gone();
    let served = async {
        match (door, first[0]) {
            (Door::Direct(HTTPS_PORT), _) => direct::serve(visit.clone(), stream).await,
            (Door::Direct(_), _) => http::serve_direct(visit.clone(), stream).await,
            (Door::Proxy, SOCKS_VERSION) => socks::serve(visit.clone(), stream).await,
            (Door::Proxy, _) => http::serve(visit.clone(), stream).await,
        }
    };
    tokio::select! {
        () = served => {}
        () = gone => {}
    }
}

impl Visit {
    /// For bytes that nobody reads.
    async fn open(&self, how: How, way: Way, host: &Host, port: u16) -> Result<(Opened, Arc<Flow>), Refusal> {
        if self.tenant.bound().is_some_and(|bound| bound.policy.reads(host, port)) {
            self.deny(how, host, port, Refusal::Unreadable.code());
            return Err(Refusal::Unreadable);
        }
        self.open_with(how, way, host, port, Vec::new()).await
    }

    /// For what has these secrets' values in it.
    async fn open_with(
        &self,
        how: How,
        way: Way,
        host: &Host,
        port: u16,
        secrets: Vec<String>,
    ) -> Result<(Opened, Arc<Flow>), Refusal> {
        let opened = self.gateway.open(&self.tenant, (how, way), host, port, secrets).await?;
        let flow = self.flow(record(&opened.bound, how, host, port, Ok(opened.rule.clone())), opened.address);
        Ok((opened, flow))
    }

    /// Whether TLS to there ends here.
    fn reads_tls(&self, target: &Target<'_>) -> bool {
        self.tenant.bound().is_some_and(|bound| bound.reads(target.host, target.port).is_some())
    }

    /// Whether a tunnel to there is one whose requests are judged one by one.
    fn reads(&self, host: &Host, port: u16) -> bool {
        port == HTTP_PORT || self.tenant.bound().is_some_and(|bound| bound.reads(host, port).is_some())
    }

    fn flow(&self, record: Record, address: Option<IpAddr>) -> Arc<Flow> {
        Arc::new(Flow {
            gateway: self.gateway.clone(),
            tenant: self.tenant.clone(),
            record,
            address,
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            began: Instant::now(),
        })
    }

    /// Tells that something was refused after it was allowed.
    fn deny(&self, how: How, host: &Host, port: u16, code: &'static str) {
        if let Some(bound) = self.tenant.bound() {
            self.gateway.deny(&self.tenant, &bound, how, (host, port), code);
        }
    }

    /// Waits until the address is no longer this workspace's.
    fn gone(&self) -> impl Future<Output = ()> + use<> {
        let mut watch = self.tenant.watch();
        async move {
            // The end of the sender is the end of the tenant.
            let _ = watch.wait_for(Option::is_none).await;
        }
    }

    /// Waits until this may no longer be reached.
    async fn revoked(&self, host: &Host, port: u16, address: Option<IpAddr>) {
        let mut watch = self.tenant.watch();
        let is_over = |bound: &Option<Arc<crate::table::Bound>>| {
            bound.as_ref().is_none_or(|bound| bound.policy.reach(host, port, address).is_err())
        };
        let _ = watch.wait_for(is_over).await;
    }
}

/// What goes through a connection that was allowed; its end is told when it is dropped.
struct Flow {
    gateway: Arc<Gateway>,
    tenant: Arc<Tenant>,
    record: Record,
    address: Option<IpAddr>,
    up: AtomicU64,
    down: AtomicU64,
    began: Instant,
}

impl Flow {
    fn went_up(&self, bytes: usize) {
        self.up.fetch_add(bytes as u64, Ordering::Relaxed);
        self.tenant.totals.bytes_up.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn went_down(&self, bytes: usize) {
        self.down.fetch_add(bytes as u64, Ordering::Relaxed);
        self.tenant.totals.bytes_down.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn bytes(&self) -> u64 {
        self.up.load(Ordering::Relaxed) + self.down.load(Ordering::Relaxed)
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        let end = Ended {
            address: self.address,
            bytes_up: self.up.load(Ordering::Relaxed),
            bytes_down: self.down.load(Ordering::Relaxed),
            lasted: self.began.elapsed(),
        };
        self.gateway.tell(Record { at: SystemTime::now(), end: Some(end), ..self.record.clone() });
    }
}
