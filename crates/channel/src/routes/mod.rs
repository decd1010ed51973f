//! What a guest can be asked, one method per route of `rexec_api::guest`.

mod files;
mod gateway;

pub use files::{Changes, PieceSpec};
pub use gateway::EgressNews;

use crate::CALL_TIMEOUT;
use crate::body::{BodyReceiver, BodySender};
use crate::client::{GuestClient, Head};
use crate::error::{ChannelError, Result};
use crate::frames::{FrameReceiver, FrameSender};
use crate::json;
use crate::{EXEC_FRAME_BYTES_MAX, LISTEN_FRAME_BYTES_MAX, PORTS_FRAME_BYTES_MAX, SERVER_FRAME_BYTES_MAX};
use http::Method;
use rexec_api::guest::*;
use rexec_api::ids::TerminalId;
use serde::Serialize;
use serde::de::IgnoredAny;

pub(crate) const ATTACH_HEADER: &str = "x-rexec-attach";
pub(crate) const LANE_HEADER: &str = "x-rexec-lane";
pub(crate) const EXEC_HEADER: &str = "x-rexec-exec";
pub(crate) const FILE_HEADER: &str = "x-rexec-file";
pub(crate) const READ_HEADER: &str = "x-rexec-read";
pub(crate) const DIAL_HEADER: &str = "x-rexec-dial";
const LISTEN_HEADER: &str = "x-rexec-listen";
const ACCEPTED_HEADER: &str = "x-rexec-accepted";

impl GuestClient {
    pub async fn hello(&self) -> Result<Hello> {
        self.call(get("/hello"), None, CALL_TIMEOUT).await
    }

    /// May be repeated; terminals and exec are refused before it.
    pub async fn configure(&self, configure: &Configure) -> Result<Hello> {
        let head = post("/configure");
        self.call(head, Some(body(configure)?), CALL_TIMEOUT).await
    }

    pub async fn terminals(&self) -> Result<Vec<TerminalInfo>> {
        self.call(get("/terminals"), None, CALL_TIMEOUT).await
    }

    pub async fn create_terminal(&self, spec: &TerminalSpec) -> Result<TerminalInfo> {
        let head = post("/terminals");
        self.call(head, Some(body(spec)?), CALL_TIMEOUT).await
    }

    pub async fn remove_terminal(&self, id: TerminalId) -> Result<()> {
        let head = request(Method::DELETE, format!("/terminals/{id}"));
        self.done(self.call(head, None, CALL_TIMEOUT).await)
    }

    /// Terminal frames both ways. They may outlive the connection: watch [`GuestClient::closed`].
    pub async fn attach(&self, id: TerminalId, spec: &AttachSpec) -> Result<(FrameSender, FrameReceiver)> {
        let mut head = post(format!("/terminals/{id}/attach"));
        head.headers.push((ATTACH_HEADER, json::header(spec)?));
        self.terminal_frames(head, SERVER_FRAME_BYTES_MAX).await
    }

    /// Exec frames both ways. Dropping either before the exit kills the command's process group.
    pub async fn exec(&self, spec: &ExecSpec) -> Result<(FrameSender, FrameReceiver)> {
        let mut head = post("/exec");
        head.headers.push((EXEC_HEADER, json::header(spec)?));
        self.frames(head, EXEC_FRAME_BYTES_MAX).await
    }

    pub async fn ports(&self) -> Result<Vec<PortInfo>> {
        self.call(get("/ports"), None, CALL_TIMEOUT).await
    }

    /// What listens now, and again at each change.
    pub async fn watch_ports(&self) -> Result<PortNews> {
        Ok(PortNews(self.listen(get("/ports/watch"), PORTS_FRAME_BYTES_MAX).await?))
    }

    /// A connection to a port or socket inside the workspace.
    pub async fn dial(&self, spec: &DialSpec) -> Result<(BodySender, BodyReceiver)> {
        let mut head = post("/dial");
        head.headers.push((DIAL_HEADER, json::header(spec)?));
        let (outlet, inlet) = self.stream(head).await?;
        Ok((BodySender::new(outlet), BodyReceiver::new(inlet)))
    }

    /// Listens inside the workspace, for as long as what is returned is kept.
    pub async fn listen_at(&self, spec: &ListenSpec) -> Result<Arrivals> {
        let mut head = post("/listen");
        head.headers.push((LISTEN_HEADER, json::header(spec)?));
        let (sender, receiver) = self.frames(head, LISTEN_FRAME_BYTES_MAX).await?;
        Ok(Arrivals { _sender: sender, receiver })
    }

    /// A connection that came to a listener.
    pub async fn accepted(&self, spec: &AcceptSpec) -> Result<(BodySender, BodyReceiver)> {
        let mut head = post("/accepted");
        head.headers.push((ACCEPTED_HEADER, json::header(spec)?));
        let (outlet, inlet) = self.stream(head).await?;
        Ok((BodySender::new(outlet), BodyReceiver::new(inlet)))
    }

    pub async fn usage(&self) -> Result<Usage> {
        self.call(get("/usage"), None, CALL_TIMEOUT).await
    }

    /// Has it try what must not be reached.
    pub async fn try_way_out(&self, ways: &WayOut) -> Result<Leaks> {
        self.call(post("/way-out"), Some(body(ways)?), CALL_TIMEOUT).await
    }

    /// An answer of which only the success matters.
    fn done(&self, answer: Result<IgnoredAny>) -> Result<()> {
        answer.map(|_| ())
    }
}

/// Which ports come and go. Dropping it ends the watch.
pub struct PortNews(FrameReceiver);

impl PortNews {
    /// All that listens now; `None` when the guest tells no more.
    pub async fn next(&mut self) -> Result<Option<Vec<PortInfo>>> {
        match self.0.recv().await? {
            Some(frame) => Ok(Some(json::parse(&frame)?)),
            None => Ok(None),
        }
    }
}

/// What a listener tells. Dropping it ends the listening.
pub struct Arrivals {
    /// Without it the guest would listen no more.
    _sender: FrameSender,
    receiver: FrameReceiver,
}

impl Arrivals {
    /// Where it listens, then each that comes; `None` when it listens no more. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<ListenNews>> {
        match self.receiver.recv().await? {
            Some(frame) => Ok(Some(json::parse(&frame)?)),
            None => Ok(None),
        }
    }
}

fn request(method: Method, uri: impl Into<String>) -> Head {
    Head { method, uri: uri.into(), headers: Vec::new() }
}

fn get(uri: impl Into<String>) -> Head {
    request(Method::GET, uri)
}

fn post(uri: impl Into<String>) -> Head {
    request(Method::POST, uri)
}

fn body<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| ChannelError::protocol(e.to_string()))
}
