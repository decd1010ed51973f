//! `http://llm.rexec.internal`: requests to language models, judged, sent to the operator's vendor with the operator's key, and
//! counted as they are answered.
//!
//! ```text
//!   request -> may it? which call? anything left? -> body, whole -> which model? may it? -> vendor, with the key
//!   answer  -> its bytes as they come -> Meter -> the tokens are told when it ends, however it ends, and if it never begins
//! ```
//!
//! Invariants: the key goes to the vendor and to nobody else; no header passes either way but those that are named here. What
//! was judged is what is sent. Nothing of an answer is held back.

use super::http::{Outward, full};
use super::prefixed::Prefixed;
use super::{HTTP_PORT, Visit, tls};
use crate::host::Host;
use crate::models::{Api, BadAsk, Call, Meter, NoCall, Usage, ask, list};
use crate::record::{Ended, How, Record, Tokens};
use crate::refusal::Refusal;
use crate::vendors::{Connection, Vendor, Vendors};
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1 as client;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::OwnedPermit;
use tokio_util::task::AbortOnDropHandle;

/// Where programs find it.
pub const NAME: &str = "llm.rexec.internal";
/// As vendors take at most (Anthropic: 32 MB), pictures and documents among it.
const BODY_BYTES_MAX: usize = 32 << 20;
/// What bodies are counted in against all that are held at once.
pub const BODY_UNIT: usize = 64 << 10;
/// From the head of a request to the end of its body, and from that of a list.
const BODY_MAX: Duration = Duration::from_secs(120);
/// For the head of an answer: models think long.
const ANSWER_MAX: Duration = Duration::from_secs(600);
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// A list of models, of which some vendors have hundreds.
const LIST_BYTES_MAX: usize = 8 << 20;
const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
/// That of which clients that name none are.
const VERSION_USUAL: HeaderValue = HeaderValue::from_static("2023-06-01");
/// What passes to a vendor. None that says whose request it is, such as OpenAI's organisation and project; or which request
/// it is, since to the vendor all workspaces are one. And not what its body is: that was judged as JSON.
const UP: [HeaderName; 5] = [
    ACCEPT,
    USER_AGENT,
    ANTHROPIC_VERSION,
    HeaderName::from_static("anthropic-beta"),
    HeaderName::from_static("openai-beta"),
];
/// Of queries.
const QUERY: [&str; 4] = ["beta", "limit", "after_id", "before_id"];
/// And back. None that tells of the operator's account.
const DOWN: [HeaderName; 6] = [
    CONTENT_TYPE,
    http::header::CONTENT_ENCODING,
    http::header::RETRY_AFTER,
    HeaderName::from_static("request-id"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-should-retry"),
];
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Why there is no answer of a model.
enum No {
    Gone,
    NotLet,
    Call(NoCall),
    Unoffered(Api),
    Spent,
    Busy,
    /// Of a budget, and what is spent of it cannot be told to anybody.
    Uncounted,
    TooLong,
    Broken,
    Ask(BadAsk),
    NotAllowed(String),
    Vendor(Refusal),
    /// It does not take the operator's key.
    Key,
    /// Its list of models cannot be read.
    List,
}

impl From<NoCall> for No {
    fn from(no: NoCall) -> Self {
        Self::Call(no)
    }
}

impl From<BadAsk> for No {
    fn from(bad: BadAsk) -> Self {
        Self::Ask(bad)
    }
}

impl No {
    fn code(&self) -> &'static str {
        match self {
            Self::Gone => Refusal::Gone.code(),
            Self::NotLet => "model_not_let",
            Self::Call(no) => no.code(),
            Self::Unoffered(_) => "model_no_vendor",
            Self::Spent => "model_budget_spent",
            Self::Busy => "model_too_many",
            Self::Uncounted => "model_not_counted",
            Self::TooLong => "model_too_long",
            Self::Broken => "model_bad_request",
            Self::Ask(bad) => bad.code(),
            Self::NotAllowed(_) => "model_not_allowed",
            Self::Vendor(_) => "model_vendor_unreachable",
            Self::Key => "model_vendor_refused",
            Self::List => "model_vendor_unreadable",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Gone | Self::NotLet | Self::NotAllowed(_) => StatusCode::FORBIDDEN,
            Self::Call(NoCall::Path) | Self::Unoffered(_) => StatusCode::NOT_FOUND,
            Self::Call(NoCall::Method { .. }) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Spent | Self::Busy => StatusCode::TOO_MANY_REQUESTS,
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Broken | Self::Ask(_) => StatusCode::BAD_REQUEST,
            Self::Vendor(Refusal::TimedOut) => StatusCode::GATEWAY_TIMEOUT,
            Self::Uncounted => StatusCode::SERVICE_UNAVAILABLE,
            Self::Vendor(_) | Self::Key | Self::List => StatusCode::BAD_GATEWAY,
        }
    }

    fn sentence(&self, host: &Host) -> String {
        match self {
            Self::Gone => Refusal::Gone.sentence(host, HTTP_PORT),
            Self::NotLet => {
                "This workspace may not use models; let it by its network settings (`egress.models`).".into()
            }
            Self::Call(no) => no.to_string(),
            Self::Unoffered(Api::OpenAi) => {
                "This server offers no models by the API of OpenAI; tell the operator.".into()
            }
            Self::Unoffered(Api::Anthropic) => {
                "This server offers no models by the API of Anthropic; tell the operator.".into()
            }
            Self::Spent => {
                "The tokens that you, or this workspace, may use are spent; `rexec models` says when there are more."
                    .into()
            }
            Self::Busy => "Too many requests for models are being answered; try again.".into(),
            Self::Uncounted => {
                "The server does not take what models cost at this moment; try again, or tell the operator.".into()
            }
            Self::TooLong => format!("A request may have {} MiB at most.", BODY_BYTES_MAX >> 20),
            Self::Broken => "The request's body did not arrive whole.".into(),
            Self::Ask(bad) => bad.to_string(),
            Self::NotAllowed(model) => {
                format!("The operator does not allow the model {model:?}; `GET /v1/models` lists those that are.")
            }
            Self::Vendor(Refusal::TimedOut) => "The vendor of models does not answer in time; try again.".into(),
            Self::Vendor(_) => "The vendor of models cannot be reached from this server; tell the operator.".into(),
            Self::Key => "The vendor of models does not take the operator's key; tell the operator.".into(),
            Self::List => "The vendor's list of models cannot be read; tell the operator.".into(),
        }
    }

    /// As the vendor's own clients read it.
    fn answer(&self, api: Api, host: &Host) -> Response<Outward> {
        let (status, code) = (self.status(), self.code());
        let message = serde_json::Value::String(self.sentence(host));
        let kind = match status {
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::NOT_FOUND => "not_found_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
            status if status.is_client_error() => "invalid_request_error",
            _ => "api_error",
        };
        let body = match api {
            Api::OpenAi => {
                format!(
                    "{{\"error\":{{\"message\":{message},\"type\":\"{kind}\",\"param\":null,\"code\":\"{code}\"}}}}\n"
                )
            }
            Api::Anthropic => {
                format!(
                    "{{\"type\":\"error\",\"error\":{{\"type\":\"{kind}\",\"message\":{message},\"code\":\"{code}\"}}}}\n"
                )
            }
        };
        let mut answer = Response::new(full(body.into()));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(super::fault::CODE_HEADER, HeaderValue::from_static(code));
        if matches!(self, Self::Spent) {
            // What clients try again by themselves would be refused again.
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        answer
    }
}

/// `moved` counts what goes either way, for as long as it goes.
pub async fn answer(
    visit: &Arc<Visit>,
    host: &Host,
    request: Request<Incoming>,
    moved: Arc<AtomicU64>,
) -> Response<Outward> {
    let is_anthropic =
        request.headers().contains_key(ANTHROPIC_VERSION) || request.uri().path().starts_with("/v1/messages");
    let api = if is_anthropic { Api::Anthropic } else { Api::OpenAi };
    match pass_on(visit, host, request, moved).await {
        Ok(answer) => answer,
        Err(no) => {
            visit.deny(How::Model, host, HTTP_PORT, no.code());
            no.answer(api, host)
        }
    }
}

async fn pass_on(
    visit: &Arc<Visit>,
    host: &Host,
    request: Request<Incoming>,
    moved: Arc<AtomicU64>,
) -> Result<Response<Outward>, No> {
    let bound = visit.tenant.bound().ok_or(No::Gone)?;
    let budget = bound.models.ok_or(No::NotLet)?;
    let call = Call::of(request.method(), request.uri().path(), request.headers())?;
    let vendors = visit.gateway.vendors();
    let vendor = vendors.of(call.api()).ok_or_else(|| No::Unoffered(call.api()))?;
    if call.is_metered() && !visit.tenant.has_tokens() {
        return Err(No::Spent);
    }
    if !visit.tenant.dials.take() {
        return Err(No::Busy);
    }
    let place = visit.tenant.models.clone().try_acquire_owned().map_err(|_| No::Busy)?;
    let record = visit.gateway.place().filter(|_| call.is_metered());
    if record.is_none() && call.is_metered() && budget.left.is_some() {
        return Err(No::Uncounted);
    }
    let (head, body) = request.into_parts();
    let began = Instant::now();
    let mut held = Vec::new();
    let (model, others, sent) = match &call {
        Call::ListModels(_) => (call.path().into_owned(), Vec::new(), Bytes::new()),
        Call::GetModel(_, model) => (model.clone(), Vec::new(), Bytes::new()),
        _ => {
            let asked = ask::read(&call, &whole(visit, body, &mut held).await?, vendors.outward)?;
            (asked.model, asked.others, asked.body)
        }
    };
    if !matches!(call, Call::ListModels(_))
        && let Some(other) = std::iter::once(&model).chain(&others).find(|model| !vendors.allows(model))
    {
        return Err(No::NotAllowed(other.clone()));
    }
    let asked_bytes = sent.len() as u64;
    moved.fetch_add(asked_bytes, Ordering::Relaxed);
    let request = anew(vendor, &call, &head, Pieces { rest: sent, _held: held });
    let told = crate::gateway::record(&bound, How::Model, host, HTTP_PORT, Ok(model.clone()));
    // Of an answer that never begins, all is a guess.
    let meter = Meter::new(&call, "");
    let (visit, stage) = (visit.clone(), Stage::Unsent);
    let mut count =
        Count { visit, stage, told, model, meter, asked_bytes, bytes: 0, moved, began, record, _place: place };
    let (answer, connection) = send(&mut count, vendor, request).await.map_err(No::Vendor)?;
    if answer.status().is_informational() {
        // Nobody asked it to speak otherwise.
        count.stage = Stage::Unsent;
        return Err(No::Vendor(Refusal::Unreachable));
    }
    if matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        count.stage = Stage::Unsent;
        // What it says of the key is the operator's.
        return Err(No::Key);
    }
    count.tell_begin();
    let (mut head, body) = answer.into_parts();
    let mut headers = HeaderMap::new();
    for name in DOWN {
        headers.extend(head.headers.get(&name).map(|value| (name, value.clone())));
    }
    head.headers = headers;
    head.extensions.clear();
    let kind = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    count.meter = if head.status.is_success() { Meter::new(&call, kind) } else { None };
    let counted = Counted { body, count, waits: Some((vendors.clone(), call.api(), connection)) };
    if matches!(call, Call::ListModels(_)) && head.status.is_success() {
        let all = tokio::time::timeout(BODY_MAX, Limited::new(counted, LIST_BYTES_MAX).collect()).await;
        let all = all.map_err(|_| No::List)?.map_err(|_| No::List)?.to_bytes();
        let allowed = match &vendors.allow {
            Some(models) => list::filter(models, &all).map_err(|_| No::List)?,
            None => all,
        };
        return Ok(Response::from_parts(head, full(allowed)));
    }
    Ok(Response::from_parts(head, counted.boxed_unsync()))
}

/// All of a request's body, which is held against what may be held at once.
async fn whole(visit: &Visit, mut body: Incoming, held: &mut Vec<OwnedSemaphorePermit>) -> Result<Bytes, No> {
    let mut all = BytesMut::new();
    let mut room = 0;
    let reading = async {
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| No::Broken)?.into_data() else { continue };
            let length = all.len() + data.len();
            if length > BODY_BYTES_MAX {
                return Err(No::TooLong);
            }
            while room < length {
                // Nobody takes more than is left for others: so there is always some, however many take all that they can.
                if visit.tenant.held_bodies() >= visit.gateway.bodies.available_permits() {
                    return Err(No::Busy);
                }
                for of in [&visit.tenant.bodies, &visit.gateway.bodies] {
                    held.push(of.clone().try_acquire_owned().map_err(|_| No::Busy)?);
                }
                room += BODY_UNIT;
            }
            all.extend_from_slice(&data);
        }
        Ok(())
    };
    tokio::time::timeout(BODY_MAX, reading).await.map_err(|_| No::Broken)??;
    Ok(all.freeze())
}

/// Of a query what these APIs have, and nothing that another vendor would take for more; with its mark, if anything is left.
fn known(query: &str) -> String {
    let is_known = |pair: &&str| QUERY.contains(&pair.split('=').next().unwrap_or_default());
    let left: Vec<&str> = query.split('&').filter(is_known).collect();
    if left.is_empty() { String::new() } else { format!("?{}", left.join("&")) }
}

/// The request that we make, with nothing in it but what is named here.
fn anew(vendor: &Vendor, call: &Call, asked: &Parts, body: Pieces) -> Request<Outward> {
    let query = known(asked.uri.query().unwrap_or_default());
    let path = format!("{}/{}{query}", vendor.base.path, call.path());
    let mut request = Request::new(body.map_err(|never| match never {}).boxed_unsync());
    *request.version_mut() = Version::HTTP_11;
    let is_get = matches!(call, Call::ListModels(_) | Call::GetModel(..));
    *request.method_mut() = if is_get { Method::GET } else { Method::POST };
    // Of parts that were addresses before.
    *request.uri_mut() = path.parse().unwrap_or_default();
    let headers = request.headers_mut();
    for name in UP {
        headers.extend(asked.headers.get(&name).map(|value| (name, value.clone())));
    }
    if !is_get {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if call.api() == Api::Anthropic {
        headers.entry(ANTHROPIC_VERSION).or_insert(VERSION_USUAL);
    }
    let place = vendor.base.place();
    headers.extend(HeaderValue::from_str(&place).ok().map(|value| (HOST, value)));
    vendor.sign(headers);
    request
}

async fn send(
    count: &mut Count,
    vendor: &Vendor,
    mut request: Request<Outward>,
) -> Result<(Response<Incoming>, Connection), Refusal> {
    loop {
        let (mut connection, is_old) = match vendor.take_idle() {
            Some(connection) => (connection, true),
            None => (connect(&count.visit, vendor).await?, false),
        };
        // From here on, whoever hangs up does so too late.
        count.stage = Stage::Sent;
        let answered = tokio::time::timeout(ANSWER_MAX, connection.sender.try_send_request(request)).await;
        let Ok(answered) = answered else { return Err(Refusal::TimedOut) };
        match answered {
            Ok(answer) => return Ok((answer, connection)),
            Err(mut error) => {
                // A vendor that breaks off has nobody pay for that.
                count.stage = Stage::Unsent;
                match error.take_message() {
                    // It had ended before anything was sent.
                    Some(unsent) if is_old => request = unsent,
                    _ => return Err(Refusal::Unreachable),
                }
            }
        }
    }
}

async fn connect(visit: &Visit, vendor: &Vendor) -> Result<Connection, Refusal> {
    let (stream, prefix) = visit.gateway.dial_operators(&vendor.base.host, vendor.base.port).await?;
    let stream = Prefixed { prefix, stream };
    match vendor.base.tls {
        true => carry(visit, tls::connect(&visit.gateway.roots(), &vendor.base.host, stream).await?).await,
        false => carry(visit, stream).await,
    }
}

async fn carry<IO>(visit: &Visit, stream: IO) -> Result<Connection, Refusal>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connecting = client::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream));
    let (sender, connection) = connecting.await.map_err(|_| Refusal::Unreachable)?;
    let carrying = AbortOnDropHandle::new(visit.gateway.spawn(async move { drop(connection.await) }));
    Ok(Connection { sender, carrying })
}

/// A request's body on its way, which counts as held until it has left: some vendors answer before they have read it. In
/// pieces, as whoever sends it may keep a copy of each.
struct Pieces {
    rest: Bytes,
    _held: Vec<OwnedSemaphorePermit>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.rest.len().min(BODY_UNIT);
        Poll::Ready((length > 0).then(|| Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

/// An answer as it passes.
struct Counted {
    body: Incoming,
    count: Count,
    /// Its connection, which waits for the next request once this has ended; ends if it has not.
    waits: Option<(Arc<Vendors>, Api, Connection)>,
}

/// How far a request has come.
#[derive(PartialEq, Eq)]
enum Stage {
    /// It costs nothing, and nothing of it is told.
    Unsent,
    Sent,
    /// Its answer has begun, and that was told.
    Answered,
}

/// What a request costs, told when it is dropped.
struct Count {
    visit: Arc<Visit>,
    stage: Stage,
    told: Record,
    model: String,
    meter: Option<Meter>,
    asked_bytes: u64,
    bytes: u64,
    moved: Arc<AtomicU64>,
    began: Instant,
    /// Where the end of what is metered is told.
    record: Option<OwnedPermit<Record>>,
    _place: OwnedSemaphorePermit,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.count.take(data);
                }
            }
            Poll::Ready(None) => self.rest(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        if self.body.is_end_stream() {
            self.rest();
        }
        // What comes behind a body is no part of these APIs.
        polled.map(|frame| frame.filter(|frame| !frame.as_ref().is_ok_and(Frame::is_trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Counted {
    /// It has ended: its connection may be used again.
    fn rest(&mut self) {
        if let Some((vendors, api, connection)) = self.waits.take()
            && let Some(vendor) = vendors.of(api)
        {
            vendor.put_idle(connection);
        }
    }
}

impl Count {
    fn tell_begin(&mut self) {
        self.stage = Stage::Answered;
        self.visit.tenant.totals.allowed.fetch_add(1, Ordering::Relaxed);
        self.visit.gateway.tell(self.told.clone());
    }

    fn take(&mut self, data: &[u8]) {
        self.bytes += data.len() as u64;
        self.moved.fetch_add(data.len() as u64, Ordering::Relaxed);
        if let Some(meter) = &mut self.meter {
            meter.take(data);
        }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        match self.stage {
            Stage::Unsent => return,
            Stage::Sent => self.tell_begin(),
            Stage::Answered => {}
        }
        let usage = self.meter.as_ref().map(|meter| meter.estimate(self.asked_bytes));
        let (tenant, totals) = (&self.visit.tenant, &self.visit.tenant.totals);
        totals.bytes_up.fetch_add(self.asked_bytes, Ordering::Relaxed);
        totals.bytes_down.fetch_add(self.bytes, Ordering::Relaxed);
        let tokens = usage.map(|Usage { input, cached, output, estimated }| {
            tenant.spend(input.saturating_add(output));
            Tokens { model: std::mem::take(&mut self.model), input, cached, output, estimated }
        });
        let end =
            Ended { address: None, bytes_up: self.asked_bytes, bytes_down: self.bytes, lasted: self.began.elapsed() };
        let record = Record { at: SystemTime::now(), end: Some(end), tokens, ..self.told.clone() };
        match self.record.take() {
            Some(place) => drop(place.send(record)),
            None => self.visit.gateway.tell(record),
        }
    }
}
