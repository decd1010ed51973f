//! The guest's end: one connection to one server.
//!
//! Calls run as tasks of the current `LocalSet`, which owns them; a call ends by itself when its
//! stream or connection does, because every wait on a stream then fails.

use crate::body::{BodyReceiver, BodySender};
use crate::error::{ChannelError, Result};
use crate::frames::{FrameReceiver, FrameSender};
use crate::keepalive::Pace;
use crate::lane;
use crate::piece::Piece;
use crate::routes::{FILE_HEADER, LANE_HEADER};
use crate::stream::{Inlet, Outlet};
use crate::*;
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use rexec_api::error::ErrorCode;
use rexec_api::guest::{FileContent, GuestError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::future::Future;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;
use uuid::Uuid;

/// Serves one connection until it ends. Must run within a `LocalSet`.
pub async fn serve<IO, H, F>(io: IO, handler: H) -> Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    H: Fn(Call) -> F,
    F: Future<Output = ()> + 'static,
{
    let handshake = connection::server().handshake::<_, Piece>(io);
    let mut connection = timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(|_| ChannelError::TimedOut)??;
    // A server is never frozen by its guests.
    let (_never_held, held) = watch::channel(false);
    let mut silence = pin!(keepalive::watch(connection.ping_pong(), Pace::default(), held));
    loop {
        tokio::select! {
            biased;
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    tokio::task::spawn_local(handler(Call::new(request, respond)));
                }
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(()),
            },
            () = &mut silence => return Err(ChannelError::TimedOut),
        }
    }
}

/// One request, to be answered once. Dropped unanswered, it is reset.
pub struct Call {
    head: http::request::Parts,
    body: RecvStream,
    respond: SendResponse<Piece>,
}

impl Call {
    fn new(request: Request<RecvStream>, respond: SendResponse<Piece>) -> Self {
        let (head, body) = request.into_parts();
        Self { head, body, respond }
    }

    pub fn method(&self) -> &Method {
        &self.head.method
    }

    pub fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// A parameter of the query, decoded. `None` when it is absent or malformed.
    pub fn query(&self, name: &str) -> Option<String> {
        String::from_utf8(self.query_bytes(name)?).ok()
    }

    /// A query parameter that need not be UTF-8, such as a path.
    pub fn query_bytes(&self, name: &str) -> Option<Vec<u8>> {
        let query = self.head.uri.query()?;
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).find_map(|(_, value)| json::decode(value))
    }

    /// The JSON of a header.
    pub fn header<T: DeserializeOwned>(&self, name: &str) -> Result<T, GuestError> {
        let value = self
            .head
            .headers
            .get(name)
            .ok_or_else(|| invalid(ErrorCode::InvalidRequest, format!("{name} is missing")))?;
        serde_json::from_slice(value.as_bytes()).map_err(|e| invalid(ErrorCode::InvalidRequest, format!("{name}: {e}")))
    }

    /// The JSON body.
    pub async fn json<T: DeserializeOwned>(&mut self) -> Result<T, GuestError> {
        let mut body = Vec::new();
        while let Some(bytes) = self.body.data().await {
            let bytes = bytes.map_err(|_| cut())?;
            let _ = self.body.flow_control().release_capacity(bytes.len());
            if body.len() + bytes.len() > REQUEST_BYTES_MAX {
                return Err(invalid(
                    ErrorCode::BodyTooLarge,
                    format!("a body is at most {REQUEST_BYTES_MAX} bytes long"),
                ));
            }
            body.extend_from_slice(&bytes);
        }
        serde_json::from_slice(&body).map_err(|e| {
            let code = if e.is_data() { ErrorCode::InvalidRequest } else { ErrorCode::InvalidJson };
            invalid(code, e.to_string())
        })
    }

    /// Takes the plain body; the call can then still be answered.
    pub fn into_body(self) -> (BodyReceiver, Answer) {
        let answer = Answer { respond: self.respond };
        (BodyReceiver::new(Inlet::new(self.body)), answer)
    }

    /// Answers with JSON or with a refusal.
    pub async fn answer<T: Serialize>(self, result: Result<T, GuestError>) {
        Answer { respond: self.respond }.send(result).await;
    }

    /// Accepts: frames both ways from here on.
    pub fn frames(self) -> Result<(FrameSender, FrameReceiver)> {
        let (outlet, inlet) = self.accept()?;
        Ok((FrameSender::new(outlet, SERVER_FRAME_BYTES_MAX), FrameReceiver::new(inlet, GUEST_FRAME_BYTES_MAX)))
    }

    /// The lane that the server would have the frames on.
    pub fn lane(&self) -> Option<Uuid> {
        self.header(LANE_HEADER).ok()
    }

    /// Accepts: frames both ways over a lane, which has been introduced to the server.
    pub fn frames_over(mut self, lane: UnixStream) -> Result<(FrameSender, FrameReceiver)> {
        let (outlet, inlet) = lane::halves(lane).map_err(|_| ChannelError::Closed)?;
        let mut response = Response::new(());
        response.headers_mut().insert(LANE_HEADER, HeaderValue::from_static("1"));
        self.respond.send_response(response, true)?;
        let sender = FrameSender::over_lane(outlet, SERVER_FRAME_BYTES_MAX);
        Ok((sender, FrameReceiver::over_lane(inlet, GUEST_FRAME_BYTES_MAX)))
    }

    /// Accepts: plain bytes both ways from here on.
    pub fn bytes(self) -> Result<(BodySender, BodyReceiver)> {
        let (outlet, inlet) = self.accept()?;
        Ok((BodySender::new(outlet), BodyReceiver::new(inlet)))
    }

    fn accept(mut self) -> Result<(Outlet, Inlet)> {
        let stream = self.respond.send_response(Response::new(()), false)?;
        let outlet = Outlet::new(stream);
        let inlet = Inlet::new(self.body);
        Ok((outlet, inlet))
    }

    /// Accepts with a file's description; its content follows.
    pub fn file(mut self, content: &FileContent) -> Result<BodySender> {
        let mut response = Response::new(());
        let headers = response.headers_mut();
        headers.insert(FILE_HEADER, json::header(content)?);
        let stream = self.respond.send_response(response, false)?;
        Ok(BodySender::new(Outlet::new(stream)))
    }
}

/// The answer that is still owed for a call whose body was taken.
pub struct Answer {
    respond: SendResponse<Piece>,
}

impl Answer {
    /// A peer that has gone needs no answer, so there is nothing to report.
    pub async fn send<T: Serialize>(mut self, result: Result<T, GuestError>) {
        let (status, body) = match &result {
            Ok(value) => (StatusCode::OK, serde_json::to_vec(value)),
            Err(error) => (status_of(error), serde_json::to_vec(error)),
        };
        let Ok(body) = body else {
            return;
        };
        let mut response = Response::new(());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, body.len().into());
        let Ok(stream) = self.respond.send_response(response, false) else {
            return;
        };
        let mut body_sender = BodySender::new(Outlet::new(stream));
        if body_sender.send(Bytes::from(body)).await.is_ok() {
            let _ = body_sender.finish();
        }
    }
}

fn status_of(error: &GuestError) -> StatusCode {
    StatusCode::from_u16(error.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn invalid(code: ErrorCode, message: String) -> GuestError {
    GuestError { code, message, number: None }
}

fn cut() -> GuestError {
    invalid(ErrorCode::InvalidRequest, "The request was cut short.".into())
}
