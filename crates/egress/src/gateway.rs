//! The gateway: who asks, may they, and the connection to what they may have.
//!
//! ```text
//!   accepted -> whose address? --nobody's--> closed without a byte
//!            -> one more connection? -> which protocol? -> Gateway::open: decide -> resolve -> vet -> dial that address
//! ```
//!
//! Invariant: nothing is dialled but by [`Gateway::open`], and there only the very address that was vetted; or, where the
//! operator has everything leave by another proxy, that proxy.

use crate::address::Class;
use crate::dns;
use crate::host::Host;
use crate::own::Own;
use crate::policy::{Decision, Denied};
use crate::proxy;
use crate::reading::Roots;
use crate::record::{How, Record, Records};
use crate::refusal::Refusal;
use crate::resolve::{Resolver, Unresolved};
use crate::rule::Range;
use crate::table::{Bound, Table, Tenant};
use crate::upstream::Upstream;
use crate::vendors::Vendors;
use bytes::Bytes;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::OwnedPermit;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// In a record of a question for a name.
const DNS_PORT: u16 = 53;
/// For one address of a host to answer.
const DIAL_MAX: Duration = Duration::from_secs(5);
/// For all of them together.
const DIALS_MAX: Duration = Duration::from_secs(15);
/// For what a name leads to, where another proxy asks anew.
const KNOWN_MAX: Duration = Duration::from_secs(1);
/// How long a connection is silent before the other end is asked whether it is there.
const ALIVE_EVERY: Duration = Duration::from_secs(60);
/// Waiting after a failed accept: only a lack of descriptors makes one fail.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Questions for names that are answered at once; more are dropped, as a full network would.
const QUESTIONS_MAX: usize = 512;
/// Connections that are told why they are refused, at once; more are closed without a word.
const TURNED_AWAY_MAX: usize = 64;
/// What bodies of requests for models hold at once, of all workspaces.
const BODIES_BYTES_MAX: usize = 160 << 20;
/// How long an answer may be remembered inside: a change of policy is to be felt.
const ANSWER_TTL: Duration = Duration::from_secs(5);
/// For the questions of one connection.
const QUESTION_IDLE: Duration = Duration::from_secs(10);

/// A connection that may be used as long as its policy says so.
pub struct Opened {
    pub stream: TcpStream,
    /// What the other end has said by now.
    pub early: Bytes,
    /// `None`: it is another proxy that has dialled it.
    pub address: Option<IpAddr>,
    pub bound: Arc<Bound>,
    /// By which it was allowed.
    pub rule: String,
}

/// What a connection is for, where it leads to another proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Bytes.
    Tunnel,
    /// Requests that the other end reads.
    Requests,
}

/// One per host, shared by all of its connections.
pub struct Gateway {
    pub table: Table,
    resolver: Resolver,
    upstream: Option<Upstream>,
    roots: Mutex<Arc<Roots>>,
    vendors: Mutex<Arc<Vendors>>,
    /// What bodies of requests for models hold, all workspaces together.
    pub(crate) bodies: Arc<Semaphore>,
    records: Records,
    own: Own,
    /// Its own address, where connections are taken that no proxy was asked for.
    direct: OnceLock<Ipv4Addr>,
    questions: Arc<Semaphore>,
    /// Connections that are being told that there are too many.
    pub(crate) turned_away: Arc<Semaphore>,
    /// Its tasks, and what ends them.
    tasks: TaskTracker,
    over: CancellationToken,
}

impl Gateway {
    /// `closed` is never dialled: the networks of workspaces. With an `upstream` nothing but that is dialled. `roots` tell
    /// who a host is whose requests are read.
    pub fn new(
        resolver: Resolver,
        records: Records,
        closed: Vec<Range>,
        upstream: Option<Upstream>,
        roots: Roots,
    ) -> Arc<Self> {
        Arc::new(Self {
            table: Table::default(),
            resolver,
            upstream,
            roots: Mutex::new(Arc::new(roots)),
            vendors: Mutex::default(),
            bodies: Arc::new(Semaphore::new(BODIES_BYTES_MAX / proxy::BODY_UNIT)),
            records,
            own: Own { ranges: closed },
            direct: OnceLock::new(),
            questions: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY_MAX)),
            tasks: TaskTracker::new(),
            over: CancellationToken::new(),
        })
    }

    /// Ends all connections, and waits for that.
    pub async fn close(&self) {
        self.over.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub(crate) fn upstream(&self) -> Option<&Upstream> {
        self.upstream.as_ref()
    }

    pub(crate) fn roots(&self) -> Arc<Roots> {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// These tell from now on who a host is.
    pub fn trust(&self, roots: Roots) {
        *self.roots.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(roots);
    }

    pub(crate) fn vendors(&self) -> Arc<Vendors> {
        self.vendors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// These are asked for models from now on.
    pub fn offer(&self, vendors: Vendors) {
        *self.vendors.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(vendors);
    }

    /// From now on names lead to this address of the gateway's own, where [`Self::serve_direct`] listens at all of
    /// [`proxy::DIRECT_PORTS`].
    pub fn lead_to(&self, address: Ipv4Addr) {
        // Once: it listens where it was made to listen.
        let _ = self.direct.set(address);
    }

    /// How many connections and questions are being served, and connections carried outward.
    pub fn busy(&self) -> usize {
        self.tasks.len()
    }

    /// Serves proxy requests until it is closed.
    pub async fn serve_proxy(self: Arc<Self>, listener: TcpListener) {
        self.serve(listener, proxy::Door::Proxy).await;
    }

    /// Serves what takes the gateway for the host itself at this port, one of [`proxy::DIRECT_PORTS`], until it is closed.
    pub async fn serve_direct(self: Arc<Self>, listener: TcpListener, port: u16) {
        self.serve(listener, proxy::Door::Direct(port)).await;
    }

    async fn serve(self: Arc<Self>, listener: TcpListener, door: proxy::Door) {
        while let Some((stream, from)) = self.accept(&listener).await {
            // Nobody's: it goes with its descriptor, and nothing is said.
            let Some(tenant) = self.table.find(from.ip()) else { continue };
            let gateway = self.clone();
            self.spawn(async move { proxy::serve(&gateway, tenant, stream, door).await });
        }
    }

    /// Answers questions for names that came in one datagram each.
    pub async fn serve_udp(self: Arc<Self>, socket: Arc<UdpSocket>) {
        let mut message = [0; dns::UDP_BYTES_MAX as usize];
        loop {
            let received = tokio::select! {
                received = socket.recv_from(&mut message) => received,
                () = self.over.cancelled() => return,
            };
            // What failed was about an answer that nobody waits for any more.
            let Ok((length, from)) = received else { continue };
            let Some(tenant) = self.table.find(from.ip()) else { continue };
            let (Some(own), Ok(place)) = (tenant.ask(), self.questions.clone().try_acquire_owned()) else { continue };
            let (gateway, socket, question) = (self.clone(), socket.clone(), message[..length].to_vec());
            self.spawn(async move {
                let _places = (own, place);
                if let Some(answer) = gateway.answer(&tenant, &question, dns::Transport::Udp).await {
                    // A lost datagram is asked for again.
                    let _ = socket.send_to(&answer, from).await;
                }
            });
        }
    }

    /// Answers questions for names over connections.
    pub async fn serve_tcp(self: Arc<Self>, listener: TcpListener) {
        while let Some((stream, from)) = self.accept(&listener).await {
            let Some(pass) = self.table.find(from.ip()).and_then(|tenant| Some((tenant.enter()?, tenant))) else {
                continue;
            };
            let gateway = self.clone();
            self.spawn(async move {
                let (_pass, tenant) = pass;
                let mut watch = tenant.watch();
                tokio::select! {
                    // Whoever breaks off is not waited for.
                    _ = gateway.answer_over(&tenant, stream) => {}
                    _ = watch.wait_for(Option::is_none) => {}
                }
            });
        }
    }

    async fn answer_over(&self, tenant: &Tenant, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let question = async {
                let length = stream.read_u16().await?;
                let mut question = vec![0; usize::from(length)];
                stream.read_exact(&mut question).await?;
                io::Result::Ok(question)
            };
            let question = tokio::time::timeout(QUESTION_IDLE, question).await??;
            let Some(_place) = tenant.ask() else { return Ok(()) };
            let Some(answer) = self.answer(tenant, &question, dns::Transport::Tcp).await else { return Ok(()) };
            let length = u16::try_from(answer.len()).map_err(|_| io::ErrorKind::InvalidData)?;
            let whole = [&length.to_be_bytes()[..], &answer].concat();
            tokio::time::timeout(QUESTION_IDLE, stream.write_all(&whole)).await??;
        }
    }

    /// What a question for a name is answered; `None`: nothing.
    async fn answer(&self, tenant: &Tenant, question: &[u8], transport: dns::Transport) -> Option<Vec<u8>> {
        let query = match dns::parse(question) {
            Ok(query) => query,
            Err(fault) => return fault.answer(),
        };
        if !query.class_in {
            return Some(dns::refused(&query));
        }
        let bound = tenant.bound()?;
        let name = query.name.as_ref().and_then(|name| name.as_str().parse::<crate::host::HostName>().ok());
        let Some(name) = name else { return Some(dns::name_error(&query)) };
        if !tenant.questions.take() {
            return None;
        }
        let host = Host::Name(name.clone());
        if proxy::is_models(&host) && bound.models.is_some() {
            // Nobody else knows it.
            return Some(match self.direct.get() {
                Some(here) if query.kind == dns::Kind::A => dns::answer_a(&query, &[*here], ANSWER_TTL, transport),
                _ => dns::no_data(&query),
            });
        }
        let known = bound.policy.knows(&name);
        let Some((port, rule)) = known else {
            // Not asked of anybody: a name is a message, too.
            self.deny(tenant, &bound, How::Dns, (&host, DNS_PORT), Denied::NoRule.code());
            return Some(dns::name_error(&query));
        };
        tenant.totals.allowed.fetch_add(1, Ordering::Relaxed);
        self.tell_some(tenant, record(&bound, How::Dns, &host, DNS_PORT, Ok(rule)));
        Some(match self.resolver.addresses(&name).await {
            Err(Unresolved::NoSuchName) => dns::name_error(&query),
            Err(Unresolved::NoAnswer) => dns::server_failure(&query),
            Ok(found) if query.kind == dns::Kind::A => {
                let fits = |address: &IpAddr| self.vet(&bound, &host, port, *address).is_ok();
                let found: Vec<Ipv4Addr> = found.into_iter().filter(fits).filter_map(only_v4).collect();
                match self.direct.get().filter(|_| takes_direct(&bound, &host)) {
                    // It may have addresses of another kind, or some that are not for this workspace.
                    _ if found.is_empty() => dns::no_data(&query),
                    Some(here) => dns::answer_a(&query, &[*here], ANSWER_TTL, transport),
                    None => dns::answer_a(&query, &found, ANSWER_TTL, transport),
                }
            }
            Ok(_) => dns::no_data(&query),
        })
    }

    /// Dials what may be had, and says how it was decided, and of what has these secrets' values in it, that.
    pub async fn open(
        &self,
        tenant: &Tenant,
        (how, way): (How, Way),
        host: &Host,
        port: u16,
        secrets: Vec<String>,
    ) -> Result<Opened, Refusal> {
        let bound = tenant.bound().ok_or(Refusal::Gone)?;
        let outcome = match bound.policy.decide(host, port) {
            _ if !tenant.dials.take() => Err(Refusal::TooMany),
            Decision::Allow { rule, .. } => {
                let dialled = match &self.upstream {
                    Some(upstream) => self.dial_by(upstream, way, &bound, host, port).await,
                    None => self.dial(&bound, host, port).await,
                };
                dialled.map(|dialled| (dialled, rule))
            }
            Decision::Deny(denied) => Err(Refusal::Denied(denied)),
        };
        match outcome {
            Ok((Dialled { stream, early, address }, rule)) => {
                ready(&stream);
                tenant.totals.allowed.fetch_add(1, Ordering::Relaxed);
                self.records.tell(Record { secrets, ..record(&bound, how, host, port, Ok(rule.clone())) });
                Ok(Opened { stream, early, address, bound, rule })
            }
            Err(refusal) => {
                self.deny(tenant, &bound, how, (host, port), refusal.code());
                Err(refusal)
            }
        }
    }

    /// Tells that something was refused.
    pub fn deny(&self, tenant: &Tenant, bound: &Bound, how: How, (host, port): (&Host, u16), code: &'static str) {
        tenant.totals.denied.fetch_add(1, Ordering::Relaxed);
        self.tell_some(tenant, record(bound, how, host, port, Err(code)));
    }

    /// Tells what a workspace can have happen as often as it likes: at its own pace, so that others' are not lost for it.
    fn tell_some(&self, tenant: &Tenant, mut record: Record) {
        if tenant.records.take() {
            record.lost = tenant.untold.swap(0, Ordering::Relaxed);
            self.records.tell(record);
        } else {
            tenant.untold.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A place for the record of what is paid for, which is told when it ends.
    pub(crate) fn place(&self) -> Option<OwnedPermit<Record>> {
        self.records.place()
    }

    /// Tells how what was allowed has ended.
    pub fn tell(&self, record: Record) {
        self.records.tell(record);
    }

    /// What the policy says of an address, and that none of this machine's own is reached.
    fn vet(&self, bound: &Bound, host: &Host, port: u16, address: IpAddr) -> Result<(), Denied> {
        bound.policy.vet(host, port, address)?;
        if self.own.has(address) { Err(Denied::Closed(Class::Own)) } else { Ok(()) }
    }

    /// Has another proxy dial it, unless it is known to lead to where nothing may.
    async fn dial_by(
        &self,
        upstream: &Upstream,
        way: Way,
        bound: &Bound,
        host: &Host,
        port: u16,
    ) -> Result<Dialled, Refusal> {
        let known = match host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => {
                let asked = tokio::time::timeout(KNOWN_MAX, self.resolver.addresses(name)).await;
                // Often nobody but that proxy knows names of the outside.
                asked.ok().and_then(Result::ok).unwrap_or_default()
            }
        };
        known.into_iter().try_for_each(|address| self.vet(bound, host, port, address)).map_err(Refusal::Denied)?;
        let dialling = async {
            match way {
                Way::Tunnel => upstream.tunnel(host, port).await,
                Way::Requests => upstream.dial().await.map(|stream| (stream, Bytes::new())),
            }
        };
        let dialled = tokio::time::timeout(DIALS_MAX, dialling).await.unwrap_or(Err(Refusal::TimedOut));
        dialled.map(|(stream, early)| Dialled { stream, early, address: None })
    }

    /// A connection to what the operator has named, wherever that is: no policy of a workspace is about it.
    pub(crate) async fn dial_operators(&self, host: &Host, port: u16) -> Result<(TcpStream, Bytes), Refusal> {
        let dialling = async {
            match &self.upstream {
                Some(upstream) => upstream.tunnel(host, port).await,
                None => self.dial_first(host, port, |_| Ok(())).await.map(|(stream, _)| (stream, Bytes::new())),
            }
        };
        let (stream, early) = tokio::time::timeout(DIALS_MAX, dialling).await.unwrap_or(Err(Refusal::TimedOut))?;
        ready(&stream);
        Ok((stream, early))
    }

    async fn dial(&self, bound: &Bound, host: &Host, port: u16) -> Result<Dialled, Refusal> {
        let vetted = self.dial_first(host, port, |address| self.vet(bound, host, port, address));
        let dialled = tokio::time::timeout(DIALS_MAX, vetted).await.unwrap_or(Err(Refusal::TimedOut));
        dialled.map(|(stream, address)| Dialled { stream, early: Bytes::new(), address: Some(address) })
    }

    /// The first of a host's addresses that may be dialled and answers.
    async fn dial_first(
        &self,
        host: &Host,
        port: u16,
        vet: impl Fn(IpAddr) -> Result<(), Denied>,
    ) -> Result<(TcpStream, IpAddr), Refusal> {
        let addresses = match host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => self.resolver.addresses(name).await.map_err(|unresolved| match unresolved {
                Unresolved::NoSuchName => Refusal::NoSuchName,
                Unresolved::NoAnswer => Refusal::NoAnswer,
            })?,
        };
        let mut refusal = Refusal::NoSuchName;
        for address in addresses {
            if let Err(denied) = vet(address) {
                refusal = Refusal::Denied(denied);
                continue;
            }
            let connect = TcpStream::connect(SocketAddr::new(address, port));
            refusal = match tokio::time::timeout(DIAL_MAX, connect).await {
                Ok(Ok(stream)) => return Ok((stream, address)),
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Refusal::ConnectionRefused,
                Ok(Err(_)) => Refusal::Unreachable,
                Err(_) => Refusal::TimedOut,
            };
        }
        Err(refusal)
    }

    /// The next connection; `None` once the gateway is closed.
    async fn accept(&self, listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => return Some(accepted),
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                },
                () = self.over.cancelled() => return None,
            }
        }
    }

    /// Runs until it is done or the gateway is closed.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let over = self.over.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = work => {}
                () = over.cancelled() => {}
            }
        })
    }
}

/// A connection, and what [`Opened`] says of it.
struct Dialled {
    stream: TcpStream,
    early: Bytes,
    address: Option<IpAddr>,
}

/// Bytes go at once, and who has gone without a word is noticed. What refuses that is served all the same.
pub(crate) fn ready(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let alive = TcpKeepalive::new().with_time(ALIVE_EVERY).with_interval(ALIVE_EVERY);
    let _ = SockRef::from(stream).set_tcp_keepalive(&alive);
}

/// Whether it may be asked for at a port at which what is said first names it. At any other, there is no telling who is meant:
/// who looks it up is told its true address, to which there is no way, and hears so at once.
fn takes_direct(bound: &Bound, host: &Host) -> bool {
    proxy::DIRECT_PORTS.iter().any(|port| matches!(bound.policy.decide(host, *port), Decision::Allow { .. }))
}

fn only_v4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

pub fn record(bound: &Bound, how: How, host: &Host, port: u16, outcome: Result<String, &'static str>) -> Record {
    Record {
        at: SystemTime::now(),
        workspace: bound.workspace.clone(),
        version: bound.version,
        how,
        host: host.to_string(),
        port,
        outcome,
        end: None,
        secrets: Vec::new(),
        tokens: None,
        lost: 0,
    }
}
