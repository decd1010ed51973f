//! HTTP/1.1 as a proxy's client speaks it: requests in absolute form, and CONNECT (RFC 9110, 9112).
//!
//! Every request is read whole by one parser and written anew by another, so that both ends agree on where it ends: what is
//! passed on is what was judged. Each is judged by itself, also on a connection that goes on. What is about one hop stays
//! there. Within a tunnel to port 80, or one whose TLS ends here, requests are judged in the same way, and must be for the
//! host of the tunnel.

use super::current::Current;
use super::fault::{Fault, bad, mismatch};
use super::github::{self, Judged};
use super::head::{anew, back, by_its_method, bytes_of, taking_out, told_host};
use super::kept::{Asked, Going, Kept, Sent, Upward, Used};
use super::prefixed::Prefixed;
use super::tunnel::{self, First, Target};
use super::{Flow, HTTP_PORT, HTTPS_PORT, Visit, is_models, models, tls, upgrade};
use crate::gateway::{Way, record};
use crate::github::Grant;
use crate::host::{Host, authority};
use crate::policy::Decision;
use crate::reading::Reading;
use crate::record::{How, Record};
use crate::refusal::Refusal;
use crate::table::Bound;
use crate::upstream::Upstream;
use bytes::Bytes;
use http::request::Parts;
use http::uri::Scheme;
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

/// From a connection's, or the last answer's, end to the last byte of a request's head.
const HEAD_MAX: Duration = Duration::from_secs(60);
const HEAD_BYTES_MAX: usize = 32 * 1024;
const HEADERS_MAX: usize = 128;
/// For the head of an answer: models think long.
pub const ANSWER_MAX: Duration = Duration::from_secs(600);
/// As long as it takes to say that there are too many.
const TURNED_AWAY_MAX: Duration = Duration::from_secs(1);
/// Methods by which a host answers with the request's own headers (RFC 9110, section 9.3.8), one of them by another name.
const SAY_AGAIN: [&str; 2] = ["TRACE", "TRACK"];
/// What a token of GitHub is called where secrets are told of.
const GITHUB: &str = "GITHUB_TOKEN";

pub type Outward = UnsyncBoxBody<Bytes, hyper::Error>;

/// All that may be asked for, within a tunnel.
pub struct Within {
    pub host: Host,
    pub port: u16,
    pub how: How,
    /// TLS ended here, and begins anew.
    pub tls: bool,
}

/// Which requests a connection takes.
enum Place {
    /// Those of a proxy's clients.
    Proxy,
    /// Those of who takes the gateway for the host, at port 80.
    Direct,
    Within(Within),
}

/// One connection of a client.
struct Talk {
    visit: Arc<Visit>,
    place: Place,
    kept: Mutex<Option<Kept>>,
    current: Mutex<Option<Current>>,
}

pub async fn serve(visit: Arc<Visit>, stream: TcpStream) {
    talk(Talk::new(visit, Place::Proxy), TokioIo::new(stream)).await;
}

/// For programs that know no proxies: the host is the one that each request names.
pub async fn serve_direct(visit: Arc<Visit>, stream: TcpStream) {
    talk(Talk::new(visit, Place::Direct), TokioIo::new(stream)).await;
}

/// A tunnel to port 80, or to a host whose requests are read: TLS if it begins so, else requests.
pub async fn serve_tunnelled(visit: Arc<Visit>, target: &Target<'_>, mut stream: TcpStream, early: Bytes) {
    let mut first = early.to_vec();
    let judged = {
        let (mut from, _) = stream.split();
        // Here it is the client who speaks first.
        let judging = tunnel::judge(&mut from, &mut first, &visit, target);
        tokio::time::timeout(HEAD_MAX, judging).await.unwrap_or(Ok(First::End))
    };
    match judged {
        Ok(First::Tls) if visit.reads_tls(target) => tls::serve(visit, target, stream, first.into()).await,
        Ok(First::Tls) => {
            if let Ok((opened, flow)) = visit.open(target.how, Way::Tunnel, target.host, target.port).await {
                tunnel::run(&visit, target, opened, &flow, stream, first.into()).await;
            }
        }
        Ok(First::Plain) if target.port == HTTP_PORT => {
            let within = Within { host: target.host.clone(), port: target.port, how: target.how, tls: false };
            talk_within(visit, within, Prefixed { prefix: first.into(), stream }).await;
        }
        Ok(First::Plain) => visit.deny(target.how, target.host, target.port, "egress_not_tls"),
        Ok(First::Wrong(code)) => visit.deny(target.how, target.host, target.port, code),
        Ok(First::End) | Err(_) => {}
    }
}

/// Requests within a tunnel.
pub async fn talk_within<IO>(visit: Arc<Visit>, within: Within, io: IO)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    talk(Talk::new(visit, Place::Within(within)), TokioIo::new(io)).await;
}

/// Says that there are too many, and no more.
pub async fn turn_away(stream: TcpStream) {
    let service = service_fn(|_: Request<Incoming>| async {
        let message = "This workspace has too many connections, or makes them too quickly; try again.".into();
        Ok::<_, Infallible>(Fault { status: StatusCode::TOO_MANY_REQUESTS, code: "egress_too_many", message }.answer())
    });
    let serving = server::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    // It holds one of no connections.
    let _ = tokio::time::timeout(TURNED_AWAY_MAX, serving).await;
}

async fn talk<IO>(talk: Arc<Talk>, io: IO)
where
    IO: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let asked = talk.clone();
    let service = service_fn(move |request| {
        let talk = asked.clone();
        async move { Ok::<_, Infallible>(talk.answer(request).await.unwrap_or_else(Fault::answer)) }
    });
    let serving = server::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(io, service)
        .with_upgrades();
    tokio::select! {
        // What was broken, the client has been told.
        _ = serving => {}
        () = talk.revoked() => {}
        () = talk.idle() => {}
    }
}

/// Why what a tunnel is for is refused before it is dialled.
pub fn refused(visit: &Visit, target: &Target<'_>) -> Option<Refusal> {
    let Some(bound) = visit.tenant.bound() else { return Some(Refusal::Gone) };
    let Decision::Deny(denied) = bound.policy.decide(target.host, target.port) else { return None };
    visit.deny(target.how, target.host, target.port, denied.code());
    Some(Refusal::Denied(denied))
}

impl Talk {
    fn new(visit: Arc<Visit>, place: Place) -> Arc<Self> {
        Arc::new(Self { visit, place, kept: Mutex::default(), current: Mutex::default() })
    }

    fn current(&self) -> Option<Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_current(
        &self,
        host: &Host,
        port: u16,
        asked: &(Method, String),
        grant: Option<Grant>,
        flow: Option<Arc<Flow>>,
    ) {
        let current = Current::Host { host: host.clone(), port, asked: asked.clone(), grant, flow };
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(current);
    }

    /// Waits until what is asked for may not be reached any more: before its answer, and while that goes on.
    async fn revoked(&self) {
        let mut watch = self.visit.tenant.watch();
        loop {
            let Some(bound) = watch.borrow_and_update().clone() else { return };
            if self.current().is_some_and(|current| !current.may(&bound)) || watch.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until nothing has gone either way for long.
    async fn idle(&self) {
        tunnel::idle(|| self.current().and_then(|current| current.moved())).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Outward>, Fault> {
        if request.version() != Version::HTTP_11 && request.version() != Version::HTTP_10 {
            return Err(bad("egress_bad_request", "The proxy speaks HTTP/1.1."));
        }
        if request.method() == Method::CONNECT {
            return self.connect(request).await;
        }
        if self.is_tls() && SAY_AGAIN.iter().any(|method| request.method().as_str().eq_ignore_ascii_case(method)) {
            return Err(bad(
                "egress_bad_request",
                "What a host says again would have a secret in it; ask by another method.",
            ));
        }
        let (host, port) = self.target(&request).inspect_err(|fault| self.tell_fault(&request, fault))?;
        if is_models(&host) && port == HTTP_PORT && !self.is_tls() {
            let moved = Arc::new(AtomicU64::new(0));
            *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(Current::Model(moved.clone()));
            return Ok(models::answer(&self.visit, &host, request, moved).await);
        }
        let answer = self.pass_on(request, &host, port).await;
        answer.map_err(|refusal| Fault::of(&refusal, &host, port))
    }

    /// Tells of a request that names no host, or two, as far as it names one.
    fn tell_fault(&self, request: &Request<Incoming>, fault: &Fault) {
        let named = request.uri().authority().and_then(|asked| authority(asked.as_str(), Some(HTTP_PORT)).ok());
        let (host, port, how) = match (&self.place, named) {
            (Place::Within(within), _) => (within.host.clone(), within.port, within.how),
            (_, Some((host, port))) => (host, port, How::Http),
            (_, None) => return,
        };
        self.visit.deny(how, &host, port, fault.code);
    }

    /// What a request is for; its `Host` says the same.
    fn target(&self, request: &Request<Incoming>) -> Result<(Host, u16), Fault> {
        let uri = request.uri();
        let usual = self.usual_port();
        let told = told_host(request.headers(), usual)?;
        match &self.place {
            Place::Direct => {
                let whole = uri.authority().map(|asked| authority(asked.as_str(), Some(usual)));
                match (told, whole) {
                    (Some(told), None) if told.1 == usual => Ok(told),
                    (Some(told), Some(Ok(asked))) if told == asked && told.1 == usual => Ok(told),
                    (None, _) => Err(bad("egress_bad_request", "A request must name its host in the header Host.")),
                    _ => Err(mismatch()),
                }
            }
            Place::Proxy => {
                let whole = uri.scheme().is_some_and(|scheme| *scheme == Scheme::HTTP);
                let Some(asked) = uri.authority().filter(|_| whole) else {
                    let message = "The proxy takes requests for whole http:// addresses, and CONNECT for all others.";
                    return Err(bad("egress_bad_request", message));
                };
                let asked =
                    authority(asked.as_str(), Some(HTTP_PORT)).map_err(|error| bad("egress_bad_host", error.0))?;
                match told {
                    Some(told) if told != asked => Err(mismatch()),
                    _ => Ok(asked),
                }
            }
            Place::Within(within) => {
                let whole = uri.authority().map(|asked| authority(asked.as_str(), Some(usual)));
                let fits = |asked: &(Host, u16)| asked.0 == within.host && asked.1 == within.port;
                match (told, whole) {
                    (Some(told), None) if fits(&told) => Ok(told),
                    (Some(told), Some(Ok(asked))) if fits(&told) && fits(&asked) => Ok(told),
                    _ => Err(mismatch()),
                }
            }
        }
    }

    async fn connect(&self, mut request: Request<Incoming>) -> Result<Response<Outward>, Fault> {
        match self.place {
            Place::Proxy => {}
            Place::Direct => return Err(bad("egress_bad_request", "There is no proxy at this port.")),
            Place::Within(_) => return Err(bad("egress_bad_request", "There is no tunnel within a tunnel.")),
        }
        let asked = request.uri().authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let (host, port) = authority(asked, None).map_err(|error| bad("egress_bad_host", error.0))?;
        let visit = self.visit.clone();
        let upgrade = hyper::upgrade::on(&mut request);
        if visit.reads(&host, port) {
            // Dialled when it is known what for; but what is refused is refused now.
            if let Some(refusal) = refused(&visit, &Target { how: How::Connect, host: &host, port }) {
                return Err(Fault::of(&refusal, &host, port));
            }
            visit.gateway.clone().spawn(tunnelled(visit, host, port, upgrade));
            return Ok(Response::new(empty()));
        }
        let opened = visit.open(How::Connect, Way::Tunnel, &host, port).await;
        let (opened, flow) = opened.map_err(|refusal| Fault::of(&refusal, &host, port))?;
        visit.gateway.clone().spawn(async move {
            if let Some((stream, early)) = upgraded(upgrade).await {
                let target = Target { how: How::Connect, host: &host, port };
                tunnel::run(&visit, &target, opened, &flow, stream, early).await;
            }
        });
        Ok(Response::new(empty()))
    }

    async fn pass_on(
        &self,
        mut request: Request<Incoming>,
        host: &Host,
        port: u16,
    ) -> Result<Response<Outward>, Refusal> {
        let upgrade = upgrade::of(&mut request);
        let how = self.within().map_or(How::Http, |within| within.how);
        let asked = (request.method().clone(), request.uri().path().to_owned());
        self.set_current(host, port, &asked, None, None);
        let reader = self.reader()?;
        let is_refused = github::refuses(reader.as_deref(), host, port, &request);
        let is_judged = !is_refused && self.judge(how, host, port, &asked)?;
        let (mut head, body) = anew(request, host, port, self.usual_port());
        if upgrade.is_some() {
            upgrade::say(&mut head.headers);
        }
        let reading = reader.as_deref().and_then(|bound| bound.reads(host, port));
        // By its method it was judged, or a secret is put in.
        let at_github = reader.as_deref().and_then(|bound| bound.at_github(host, port));
        if is_judged || at_github.is_some() || reading.is_some_and(|of| of.secrets.judge(host, port)) {
            by_its_method(&mut head.headers);
        }
        let head_bytes = bytes_of(&head);
        let put_in = |of: &Reading| of.secrets.put_in(host, port, (asked.0.as_str(), &asked.1), &mut head.headers);
        let mut secrets = reading.map_or_else(Vec::new, put_in);
        let judged = github::judge(&self.visit, reader.as_deref(), (how, host, port), &mut head, body).await?;
        let (body, with_token) = match judged {
            Judged::Passed { body, with_token } => (body, with_token),
            Judged::Refused(answer) => return Ok(*answer),
        };
        secrets.extend(with_token.then(|| GITHUB.to_owned()));
        let upstream = self.visit.gateway.upstream().filter(|_| !self.is_tls());
        if let Some(upstream) = upstream {
            upstream.ask_for(&mut head, host, port)?;
        }
        let grant = at_github.filter(|_| with_token).map(|(at, _)| at.grant.clone());
        let going = Going { how, host, port, asked, grant, secrets, head_bytes };
        let sent = match upgrade {
            // What is to become another protocol has a connection of its own.
            Some(_) => self.send_anew(&going, Upward::counting(head, body)).await?,
            None => self.send(&going, head, body).await?,
        };
        let Sent { mut answer, kept, flow } = sent;
        if let Some(refusal) = upstream.and_then(|_| Upstream::refusal(answer.status())) {
            self.visit.deny(how, host, port, refusal.code());
            return Err(refusal);
        }
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            // Nobody asked for one, or for another.
            let Some(ours) = upgrade.filter(|_| upgrade::is_agreed(answer.headers())) else {
                return Err(Refusal::Unreachable);
            };
            let theirs = hyper::upgrade::on(&mut answer);
            let take_out = taking_out(reader, host.clone(), port);
            let (visit, host, address) = (self.visit.clone(), host.clone(), kept.address);
            let carried = upgrade::Carried { visit, flow, host, port, address, carrying: kept.carrying };
            self.visit.gateway.spawn(upgrade::carry(ours, theirs, carried));
            let (mut head, _) = back(answer, &take_out);
            upgrade::say(&mut head.headers);
            return Ok(Response::from_parts(head, empty()));
        }
        Ok(self.answered(answer, kept, flow, reader))
    }

    /// On the connection of the last request, where that may be, else on a new one.
    async fn send(&self, going: &Going<'_>, head: Parts, body: Outward) -> Result<Sent, Refusal> {
        let is_repeatable = matches!(head.method, Method::GET | Method::HEAD) && body.is_end_stream();
        let again = is_repeatable.then(|| Request::from_parts(head.clone(), empty()));
        let (request, upward) = Upward::counting(head, body);
        let Some((kept, flow)) = self.take_kept(going) else { return self.send_anew(going, (request, upward)).await };
        self.set_current(going.host, going.port, &going.asked, going.grant.clone(), Some(flow.clone()));
        self.require_grant(going, &*self.visit.tenant.bound().ok_or(Refusal::Gone)?)?;
        upward.goes_by(&flow, going.head_bytes);
        match kept.ask(request, again).await? {
            Asked::Answered(answer, kept) => Ok(Sent { answer, kept, flow }),
            Asked::Anew(unsent) => self.send_anew(going, (unsent, upward)).await,
        }
    }

    async fn send_anew(
        &self,
        going: &Going<'_>,
        (request, upward): (Request<Outward>, Upward),
    ) -> Result<Sent, Refusal> {
        let Going { how, host, port, .. } = *going;
        let way = if self.is_tls() { Way::Tunnel } else { Way::Requests };
        let (opened, flow) = self.visit.open_with(how, way, host, port, going.secrets.clone()).await?;
        self.set_current(host, port, &going.asked, going.grant.clone(), Some(flow.clone()));
        // What was decided before it was dialled may be otherwise by now.
        let bound = self.visit.tenant.bound().ok_or(Refusal::Gone)?;
        if let Err(denied) = bound.policy.reach(host, port, opened.address) {
            self.visit.deny(how, host, port, denied.code());
            return Err(Refusal::Denied(denied));
        }
        self.require_grant(going, &bound)?;
        let address = opened.address;
        let connected = match self.is_tls() {
            true => match tls::connect(
                &self.visit.gateway.roots(),
                host,
                Prefixed { prefix: opened.early, stream: opened.stream },
            )
            .await
            {
                Ok(stream) => self.carry(stream).await,
                Err(refusal) => Err(refusal),
            },
            false => self.carry(opened.stream).await,
        };
        let (mut sender, carrying) =
            connected.inspect_err(|refusal| self.visit.deny(how, host, port, refusal.code()))?;
        upward.goes_by(&flow, going.head_bytes);
        let answer = ask(&mut sender, request).await?;
        let kept = Kept { host: host.clone(), port, address, sender, carrying, used: Used::new() };
        Ok(Sent { answer, kept, flow })
    }

    /// Refuses what was judged by what is granted no more: a push may take long to say what it moves. Whatever changes after this
    /// ends it (`revoked`).
    fn require_grant(&self, going: &Going<'_>, bound: &Bound) -> Result<(), Refusal> {
        if bound.still_grants(going.host, going.port, going.grant.as_ref()) {
            return Ok(());
        }
        self.visit.deny(going.how, going.host, going.port, Refusal::GITHUB);
        Err(Refusal::Github("what it may do there was changed at this moment: try again".into()))
    }

    /// Refuses this very request, where rules are about single ones; whether they are.
    fn judge(&self, how: How, host: &Host, port: u16, (method, path): &(Method, String)) -> Result<bool, Refusal> {
        let bound = self.visit.tenant.bound().ok_or(Refusal::Gone)?;
        match bound.policy.decide_request(host, port, method.as_str(), path) {
            Ok(()) => Ok(bound.policy.reads(host, port)),
            Err(denied) => {
                self.visit.deny(how, host, port, denied.code());
                Err(Refusal::Denied(denied))
            }
        }
    }

    /// Requests of ours over a connection, which is carried from here on: whoever leaves before the answer ends it, too.
    async fn carry<IO>(&self, stream: IO) -> Result<(client::SendRequest<Outward>, AbortOnDropHandle<()>), Refusal>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connecting = client::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .max_header_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .handshake(TokioIo::new(stream));
        let (sender, connection) = connecting.await.map_err(|_| Refusal::Unreachable)?;
        let carrying =
            AbortOnDropHandle::new(self.visit.gateway.spawn(async move { drop(connection.with_upgrades().await) }));
        Ok((sender, carrying))
    }

    /// What a request is read with, and its answer: the same, whatever changes between them. Of what is not encrypted, nothing.
    fn reader(&self) -> Result<Option<Arc<Bound>>, Refusal> {
        match self.is_tls() {
            true => self.visit.tenant.bound().map(Some).ok_or(Refusal::Gone),
            false => Ok(None),
        }
    }

    fn within(&self) -> Option<&Within> {
        match &self.place {
            Place::Within(within) => Some(within),
            Place::Proxy | Place::Direct => None,
        }
    }

    fn is_tls(&self) -> bool {
        self.within().is_some_and(|within| within.tls)
    }

    /// What nobody writes into an address.
    fn usual_port(&self) -> u16 {
        if self.is_tls() { HTTPS_PORT } else { HTTP_PORT }
    }

    /// The answer as it is passed on; its connection is kept for the next request.
    fn answered(
        &self,
        answer: Response<Incoming>,
        kept: Kept,
        flow: Arc<Flow>,
        reader: Option<Arc<Bound>>,
    ) -> Response<Outward> {
        let take_out = taking_out(reader, kept.host.clone(), kept.port);
        let used = kept.used.clone();
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        let (head, body) = back(answer, &take_out);
        let body = body.map_frame(move |mut frame| {
            used.now();
            flow.went_down(frame.data_ref().map_or(0, Bytes::len));
            if let Some(trailers) = frame.trailers_mut() {
                take_out(trailers);
            }
            frame
        });
        Response::from_parts(head, body.boxed_unsync())
    }

    /// The last one, if it is for the same, may still be used, and is open.
    fn take_kept(&self, going: &Going<'_>) -> Option<(Kept, Arc<Flow>)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let bound = self.visit.tenant.bound()?;
        let rule = bound.policy.reach(going.host, going.port, kept.address).ok()?;
        if !kept.is_for(going.host, going.port) {
            return None;
        }
        let record = record(&bound, going.how, going.host, going.port, Ok(rule));
        self.visit.gateway.tell(Record { secrets: going.secrets.clone(), ..record.clone() });
        let flow = self.visit.flow(record, kept.address);
        Some((kept, flow))
    }
}

async fn ask(
    sender: &mut client::SendRequest<Outward>,
    request: Request<Outward>,
) -> Result<Response<Incoming>, Refusal> {
    match tokio::time::timeout(ANSWER_MAX, sender.send_request(request)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(Refusal::Unreachable),
        Err(_) => Err(Refusal::TimedOut),
    }
}

/// Boxed, since a tunnel may hold requests, of which none may hold a tunnel.
fn tunnelled(
    visit: Arc<Visit>,
    host: Host,
    port: u16,
    upgrade: hyper::upgrade::OnUpgrade,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let gone = visit.gone();
        let served = async {
            if let Some((stream, early)) = upgraded(upgrade).await {
                let target = Target { how: How::Connect, host: &host, port };
                serve_tunnelled(visit, &target, stream, early).await;
            }
        };
        tokio::select! {
            () = served => {}
            () = gone => {}
        }
    })
}

async fn upgraded(upgrade: hyper::upgrade::OnUpgrade) -> Option<(TcpStream, Bytes)> {
    // What is not to be had has ended.
    let parts = upgrade.await.ok()?.downcast::<TokioIo<TcpStream>>().ok()?;
    Some((parts.io.into_inner(), parts.read_buf))
}

fn empty() -> Outward {
    full(Bytes::new())
}

pub fn full(bytes: Bytes) -> Outward {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed_unsync()
}
