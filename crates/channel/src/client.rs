//! The server's end: one connection to one guest.

use crate::body::{BodyReceiver, BodySender};
use crate::budget::Budget;
use crate::error::{ChannelError, Result};
use crate::frames::{FrameReceiver, FrameSender};
use crate::guard::Guard;
use crate::keepalive::Pace;
use crate::lane::{self, Lanes};
use crate::piece::Piece;
use crate::routes::LANE_HEADER;
use crate::stream::{Inlet, Outlet};
use crate::*;
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use rexec_api::files::FileInfo;
use rexec_api::guest::GuestError;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;

/// Longest body of a refusal.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// A guest. Clones share the connection, which ends when its driver ends.
#[derive(Clone)]
pub struct GuestClient {
    requests: SendRequest<Piece>,
    closed: watch::Receiver<()>,
    pings_held: Arc<watch::Sender<bool>>,
    lanes: Option<Lanes>,
    /// For its long frames and answers.
    budget: Budget,
}

impl GuestClient {
    /// Speaks HTTP/2 over a byte stream. The second value drives the connection: spawn it; it
    /// ends when the guest, the byte stream, or the last client and stream are gone.
    pub async fn connect<IO>(io: IO) -> Result<(Self, impl Future<Output = ()> + Send + use<IO>)>
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self::connect_at(io, Pace::default()).await
    }

    async fn connect_at<IO>(io: IO, pace: Pace) -> Result<(Self, impl Future<Output = ()> + Send + use<IO>)>
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let handshake = connection::client().handshake::<_, Piece>(Guard::new(io));
        let (requests, mut connection) =
            timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(|_| ChannelError::TimedOut)??;
        let pings = connection.ping_pong();
        // Dropped with the driver, however that ends; the receivers see it.
        let (alive, closed) = watch::channel(());
        let (pings_held, held) = watch::channel(false);
        let driver = async move {
            let _alive = alive;
            tokio::select! {
                ended = connection => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "guest connection ended");
                    }
                }
                () = keepalive::watch(pings, pace, held) => {
                    tracing::debug!("guest connection given up: no answer to pings");
                }
            }
        };
        Ok((
            Self { requests, closed, pings_held: Arc::new(pings_held), lanes: None, budget: Budget::default() },
            driver,
        ))
    }

    /// Shares this budget with others.
    pub fn within(self, budget: Budget) -> Self {
        Self { budget, ..self }
    }

    /// For a guest that can dial again: its terminals get lanes.
    pub fn with_lanes(self, lanes: Lanes) -> Self {
        Self { lanes: Some(lanes), ..self }
    }

    /// For a guest that is frozen, or about to be: while held, its silence does not end the
    /// connection. Holds for all clones.
    pub fn hold_pings(&self, held: bool) {
        self.pings_held.send_replace(held);
    }

    pub fn is_closed(&self) -> bool {
        self.closed.has_changed().is_err()
    }

    /// Waits until the connection has ended.
    pub async fn closed(&self) {
        let mut closed = self.closed.clone();
        while closed.changed().await.is_ok() {}
    }

    /// Sends a request's head. `ends` when there is no body.
    async fn open(&self, head: Head, ends: bool) -> Result<(Outlet, ResponseFuture)> {
        let mut request = Request::new(());
        *request.method_mut() = head.method;
        *request.uri_mut() = format!("http://guest{}", head.uri)
            .parse()
            .map_err(|_| ChannelError::protocol("a path that is too long"))?;
        for (name, value) in head.headers {
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
        let mut requests = self.requests.clone().ready().await?;
        let (answer, stream) = requests.send_request(request, ends)?;
        let outlet = if ends { Outlet::ended(stream) } else { Outlet::new(stream) };
        Ok((outlet, answer))
    }

    /// Sends a request on as it is. `ends` when there is no body.
    pub(crate) async fn forward(&self, request: Request<()>, ends: bool) -> Result<(Outlet, ResponseFuture)> {
        let mut requests = self.requests.clone().ready().await?;
        let (answer, stream) = requests.send_request(request, ends)?;
        Ok((if ends { Outlet::ended(stream) } else { Outlet::new(stream) }, answer))
    }

    /// A JSON call: the whole of it within `limit`.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        head: Head,
        body: Option<Vec<u8>>,
        limit: Duration,
    ) -> Result<T> {
        let whole = async {
            let (mut outlet, answer) = self.open(head, body.is_none()).await?;
            if let Some(body) = body {
                outlet.send(Piece::plain(Bytes::from(body))).await?;
                outlet.finish()?;
            }
            let (_, mut inlet) = accepted(answer, &self.budget).await?;
            json::read(&mut inlet, ANSWER_BYTES_MAX, &self.budget).await
        };
        timeout(limit, whole).await.map_err(|_| ChannelError::TimedOut)?
    }

    /// A stream both ways, once the guest has accepted it.
    pub(crate) async fn stream(&self, head: Head) -> Result<(Outlet, Inlet)> {
        let accept = async {
            let (outlet, answer) = self.open(head, false).await?;
            let (_, inlet) = accepted(answer, &self.budget).await?;
            Ok((outlet, inlet))
        };
        timeout(CALL_TIMEOUT, accept).await.map_err(|_| ChannelError::TimedOut)?
    }

    pub(crate) async fn frames(&self, head: Head, bytes_max: usize) -> Result<(FrameSender, FrameReceiver)> {
        let (outlet, inlet) = self.stream(head).await?;
        Ok((FrameSender::new(outlet, GUEST_FRAME_BYTES_MAX), FrameReceiver::new(inlet, bytes_max)))
    }

    /// Frames over a lane if the guest can, else over a stream.
    pub(crate) async fn terminal_frames(
        &self,
        mut head: Head,
        bytes_max: usize,
    ) -> Result<(FrameSender, FrameReceiver)> {
        let Some(lanes) = &self.lanes else {
            let (sender, receiver) = self.frames(head, bytes_max).await?;
            return Ok((sender, receiver.within(&self.budget)));
        };
        let expected = lanes.expect();
        head.headers.push((LANE_HEADER, json::header(&expected.id)?));
        let accept = async {
            let (mut outlet, answer) = self.open(head, false).await?;
            let (headers, inlet) = accepted(answer, &self.budget).await?;
            if !headers.contains_key(LANE_HEADER) {
                let sender = FrameSender::new(outlet, GUEST_FRAME_BYTES_MAX);
                return Ok((sender, FrameReceiver::new(inlet, bytes_max).within(&self.budget)));
            }
            // The guest may have closed the stream already.
            let _ = outlet.finish();
            let (outlet, inlet) = lane::halves(expected.delivered().await?).map_err(|_| ChannelError::Closed)?;
            let sender = FrameSender::over_lane(outlet, GUEST_FRAME_BYTES_MAX);
            Ok((sender, FrameReceiver::over_lane(inlet, bytes_max).within(&self.budget)))
        };
        timeout(CALL_TIMEOUT, accept).await.map_err(|_| ChannelError::TimedOut)?
    }

    pub(crate) async fn download(&self, head: Head) -> Result<(HeaderMap, BodyReceiver)> {
        let accept = async {
            // Kept until the answer is there: a dropped request would be reset.
            let (_outlet, answer) = self.open(head, true).await?;
            accepted(answer, &self.budget).await
        };
        let (headers, inlet) = timeout(FILE_CALL_TIMEOUT, accept).await.map_err(|_| ChannelError::TimedOut)??;
        Ok((headers, BodyReceiver::new(inlet)))
    }

    /// A body on its way in, whose answer comes within `limit` after its end.
    pub(crate) async fn upload<T>(&self, head: Head, limit: Duration) -> Result<Sending<T>> {
        let (outlet, answer) =
            timeout(CALL_TIMEOUT, self.open(head, false)).await.map_err(|_| ChannelError::TimedOut)??;
        let (body, answer) = (Some(BodySender::new(outlet)), Some(answer));
        Ok(Sending { body, answer, limit, budget: self.budget.clone(), settles: PhantomData })
    }

    /// Frames that only the guest sends; dropping the receiver ends them.
    pub(crate) async fn listen(&self, head: Head, bytes_max: usize) -> Result<FrameReceiver> {
        let accept = async {
            let (_outlet, answer) = self.open(head, true).await?;
            accepted(answer, &self.budget).await
        };
        let (_, inlet) = timeout(FILE_CALL_TIMEOUT, accept).await.map_err(|_| ChannelError::TimedOut)??;
        Ok(FrameReceiver::new(inlet, bytes_max))
    }
}

/// What a request begins with.
pub(crate) struct Head {
    pub method: Method,
    pub uri: String,
    pub headers: Vec<(&'static str, HeaderValue)>,
}

/// Waits for the answer's head; a refusal becomes an error.
async fn accepted(answer: ResponseFuture, budget: &Budget) -> Result<(HeaderMap, Inlet)> {
    let (head, body) = answer.await?.into_parts();
    let mut inlet = Inlet::new(body);
    if head.status.is_success() {
        return Ok((head.headers, inlet));
    }
    Err(refusal(head.status, &mut inlet, budget).await)
}

async fn refusal(status: StatusCode, inlet: &mut Inlet, budget: &Budget) -> ChannelError {
    match json::read::<GuestError>(inlet, REFUSAL_BYTES_MAX, budget).await {
        Ok(error) => ChannelError::Guest(error),
        Err(error) => ChannelError::protocol(format!("a refusal {status} without a reason: {error}")),
    }
}

/// A file on its way into a workspace. It appears under its name, whole, when
/// [`Sending::finish`] succeeds; dropped before, it leaves what was there.
pub type FileSender = Sending<FileInfo>;

/// A body on its way into a workspace, to be answered by a `T` when it is whole.
pub struct Sending<T> {
    body: Option<BodySender>,
    answer: Option<ResponseFuture>,
    limit: Duration,
    budget: Budget,
    settles: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Sending<T> {
    /// Sends a chunk. When the guest has refused it meanwhile, the error says why.
    pub async fn send(&mut self, bytes: Bytes) -> Result<()> {
        let Some(body) = &mut self.body else {
            return Err(ChannelError::Closed);
        };
        match body.send(bytes).await {
            Err(ChannelError::Closed) => Err(self.ended_early().await),
            sent => sent,
        }
    }

    /// Ends the content and waits until the guest has done what it is for.
    pub async fn finish(mut self) -> Result<T> {
        let Some(body) = self.body.take() else {
            return Err(ChannelError::Closed);
        };
        // A refusal may have closed our direction already; the answer says so.
        let _ = body.finish();
        self.settled().await
    }

    async fn ended_early(&mut self) -> ChannelError {
        match self.settled().await {
            Err(error) => error,
            Ok(_) => ChannelError::protocol("a body was taken before its end"),
        }
    }

    async fn settled(&mut self) -> Result<T> {
        let Some(answer) = self.answer.take() else {
            return Err(ChannelError::Closed);
        };
        let settle = async {
            let (head, body) = answer.await?.into_parts();
            let mut inlet = Inlet::new(body);
            if !head.status.is_success() {
                return Err(refusal(head.status, &mut inlet, &self.budget).await);
            }
            json::read(&mut inlet, ANSWER_BYTES_MAX, &self.budget).await
        };
        timeout(self.limit, settle).await.map_err(|_| ChannelError::TimedOut)?
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    /// Reads everything and says nothing but the first SETTINGS frame.
    async fn mute(mut io: DuplexStream) {
        io.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        let mut sink = [0; 1024];
        while io.read(&mut sink).await.unwrap_or(0) > 0 {}
    }

    #[tokio::test]
    async fn a_peer_that_stops_answering_is_given_up() {
        let (near, far) = duplex(64 * 1024);
        let mute = tokio::spawn(mute(far));
        let pace = Pace { period: Duration::from_millis(10), timeout: Duration::from_millis(10) };
        let (client, driver) = GuestClient::connect_at(near, pace).await.unwrap();
        tokio::join!(driver, client.closed());
        assert!(client.is_closed());
        assert!(matches!(client.usage().await, Err(ChannelError::Closed)));
        mute.await.unwrap();
    }

    #[tokio::test]
    async fn a_guest_whose_pings_are_held_may_be_silent() {
        let (near, far) = duplex(64 * 1024);
        let (pinged, mut seen) = watch::channel(false);
        let frozen = tokio::spawn(async move {
            let mut far = far;
            far.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
            // The preface, then frames: 24 bits of length, the kind, flags and stream (RFC 9113, section 4.1).
            far.read_exact(&mut [0; 24]).await.unwrap();
            let mut head = [0; 9];
            while far.read_exact(&mut head).await.is_ok() {
                let length = usize::from(head[1]) << 8 | usize::from(head[2]);
                far.read_exact(&mut vec![0; length]).await.unwrap();
                if head[3] == 6 {
                    pinged.send_replace(true);
                }
            }
        });
        let pace = Pace { period: Duration::from_millis(10), timeout: Duration::from_millis(10) };
        let (client, driver) = GuestClient::connect_at(near, pace).await.unwrap();
        client.hold_pings(true);
        let driver = tokio::spawn(driver);

        // Meanwhile one that is silent without being held is given up, although it has far more time.
        let (other_near, other_far) = duplex(64 * 1024);
        let other = tokio::spawn(mute(other_far));
        let slow = Pace { period: Duration::from_millis(100), timeout: Duration::from_millis(100) };
        let (_other_client, other_driver) = GuestClient::connect_at(other_near, slow).await.unwrap();
        other_driver.await;
        other.await.unwrap();
        assert!(!client.is_closed() && !*seen.borrow(), "held: nothing asked, nothing counted");

        client.clone().hold_pings(false);
        seen.wait_for(|&pinged| pinged).await.unwrap();
        // Held again with a question unanswered: that one does not count either.
        client.hold_pings(true);
        assert!(!client.is_closed());
        client.hold_pings(false);
        client.closed().await;
        driver.await.unwrap();
        frozen.await.unwrap();
    }

    #[tokio::test]
    async fn a_guest_that_announces_answers_without_end_is_given_up() {
        let (near, mut far) = duplex(64 * 1024);
        let (client, driver) = GuestClient::connect(near).await.unwrap();
        let driver = tokio::spawn(driver);
        let head = Head { method: Method::PUT, uri: "/files".into(), headers: Vec::new() };
        let _file = client.upload::<FileInfo>(head, FILE_CALL_TIMEOUT).await.unwrap();
        // SETTINGS, then `:status: 103` on stream 1 (RFC 7541, section 6.2.2) for as long as it is taken.
        far.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        let early = [0, 0, 5, 1, 4, 0, 0, 0, 1, 0x08, 3, b'1', b'0', b'3'];
        while far.write_all(&early).await.is_ok() {}
        driver.await.unwrap();
        assert!(client.is_closed());
    }

    #[tokio::test]
    async fn a_call_without_an_answer_times_out() {
        let (near, far) = duplex(64 * 1024);
        let mute = tokio::spawn(mute(far));
        let (client, driver) = GuestClient::connect(near).await.unwrap();
        let driver = tokio::spawn(driver);
        let head = Head { method: Method::GET, uri: "/ports".into(), headers: Vec::new() };
        let answer = client.call::<()>(head, None, Duration::from_millis(20)).await;
        assert!(matches!(answer, Err(ChannelError::TimedOut)));
        assert!(!client.is_closed());
        driver.abort();
        let _ = driver.await;
        assert!(client.is_closed());
        mute.await.unwrap();
    }
}
