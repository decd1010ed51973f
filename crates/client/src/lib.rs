//! Typed client of the Rexec API: what the command line, the tests and the benchmarks speak through.
//!
//! One method per route, the `api` crate's types in and out, and the server's own error when it
//! refuses. It keeps a base address and a token and nothing else.

mod admin;
mod device;
mod egress;
mod events;
mod exec;
mod files;
mod machines;
mod models;
mod secrets;
mod socket;
mod sse;
mod ssh;
mod stats;
mod terminal;
mod tunnel;

pub use admin::{CredentialsFor, Readiness, ServerRequest, Sources};
pub use events::Heard;
pub use exec::{CommandEvents, CommandInput, CommandOutput};
pub use files::Piece;
pub use sse::ServerEvents;
pub use stats::StatsHeard;
pub use terminal::{AttachOptions, Attachment, Received};
pub use tunnel::{Closed, Tunnel};

pub use http::Method;
use http::StatusCode;
use reqwest::RequestBuilder;
pub use reqwest::{Body, Response};
use rexec_api::Page;
use rexec_api::accounts::{AuthStatus, LoginRequest, RegisterRequest, SignedIn, UserView};
use rexec_api::error::{ErrorBody, ErrorCode, ErrorDetail};
use rexec_api::exec::{ExecEvent, ExecRequest, ExecResult};
use rexec_api::ids::{SnapshotId, TerminalId, TokenId, VolumeId, WorkspaceId};
use rexec_api::ports::{OpenPort, OpenedPort, PortList, PortView, SetPort};
use rexec_api::setups::SetupView;
use rexec_api::snapshots::{NewSnapshot, SnapshotView};
use rexec_api::templates::TemplateView;
use rexec_api::terminals::{NewTerminal, TerminalView};
use rexec_api::tokens::{CreatedToken, NewToken, TokenView};
use rexec_api::volumes::{RestoreVolume, VolumeView};
use rexec_api::workspaces::{MoveWorkspace, NewWorkspace, PatchWorkspace, WorkspaceView};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Longest time that a file, an archive or a stream of events may take: as long as it needs, within reason.
pub(crate) const STREAM_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// Longer than the longest wait that a request can ask for.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(150);

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server refused, and says why.
    #[error("{}: {} (request {})", .0.code.as_str(), .0.message, .0.request_id)]
    Refused(Box<ErrorDetail>),
    #[error("cannot reach the server")]
    Transport(#[from] reqwest::Error),
    #[error("the server's answer is not of this API (status {0})")]
    Strange(StatusCode),
    #[error("the terminal's connection failed")]
    WebSocket(#[from] Box<tokio_tungstenite::tungstenite::Error>),
    #[error("the server sent what is no terminal frame: {0}")]
    Frame(#[from] rexec_api::frames::FrameError),
}

impl ClientError {
    /// The server's code, when it refused.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(detail) => Some(detail.code),
            _ => None,
        }
    }
}

pub type Result<T> = std::result::Result<T, ClientError>;

/// What a lifecycle route is called.
#[derive(Debug, Clone, Copy)]
pub enum Lifecycle {
    Start,
    Stop,
    Restart,
    Pause,
    Resume,
}

impl Lifecycle {
    const fn path(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }
}

/// A client of one server, signed in or not. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    /// Without a trailing slash.
    base: String,
    token: Option<String>,
    http: reqwest::Client,
}

impl Client {
    /// `base` is such as `http://127.0.0.1:8080`.
    pub fn new(base: impl Into<String>) -> Result<Self> {
        let http = reqwest::Client::builder().timeout(REQUEST_TIMEOUT).no_proxy().build()?;
        Ok(Self { base: base.into().trim_end_matches('/').to_owned(), token: None, http })
    }

    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    /// A request of any kind to a path below the base, with the token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn auth_status(&self) -> Result<AuthStatus> {
        self.get("/api/auth/status").await
    }

    /// Makes an account and gives a client signed in to it.
    pub async fn register(&self, email: &str, password: &str) -> Result<(Self, UserView)> {
        let body = RegisterRequest { email: email.into(), password: password.into(), name: None };
        let signed: SignedIn = self.send(Method::POST, "/api/auth/register", &body).await?;
        Ok((self.clone().with_token(signed.token), signed.user))
    }

    pub async fn log_in(&self, email: &str, password: &str) -> Result<(Self, UserView)> {
        let body = LoginRequest { email: email.into(), password: password.into() };
        let signed: SignedIn = self.send(Method::POST, "/api/auth/login", &body).await?;
        Ok((self.clone().with_token(signed.token), signed.user))
    }

    pub async fn log_out(&self) -> Result<()> {
        accepted(self.request(Method::POST, "/api/auth/logout").send().await?).await.map(drop)
    }

    pub async fn me(&self) -> Result<UserView> {
        self.get("/api/me").await
    }

    pub async fn create_workspace(&self, new: &NewWorkspace) -> Result<WorkspaceView> {
        self.send(Method::POST, "/api/workspaces", new).await
    }

    pub async fn workspaces(&self) -> Result<Page<WorkspaceView>> {
        self.get("/api/workspaces").await
    }

    pub async fn workspace(&self, id: WorkspaceId) -> Result<WorkspaceView> {
        self.get(&format!("/api/workspaces/{id}")).await
    }

    pub async fn rename_workspace(&self, id: WorkspaceId, name: &str) -> Result<WorkspaceView> {
        self.change_workspace(id, &PatchWorkspace { name: Some(name.into()), ..Default::default() }).await
    }

    pub async fn change_workspace(&self, id: WorkspaceId, change: &PatchWorkspace) -> Result<WorkspaceView> {
        self.send(Method::PATCH, &format!("/api/workspaces/{id}"), change).await
    }

    pub async fn lifecycle(&self, id: WorkspaceId, request: Lifecycle) -> Result<WorkspaceView> {
        let path = format!("/api/workspaces/{id}/{}", request.path());
        json(self.request(Method::POST, &path).send().await?).await
    }

    /// Moves a stopped workspace to another server.
    pub async fn move_workspace(&self, id: WorkspaceId, to: &MoveWorkspace) -> Result<WorkspaceView> {
        self.send(Method::POST, &format!("/api/workspaces/{id}/move"), to).await
    }

    pub async fn delete_workspace(&self, id: WorkspaceId) -> Result<()> {
        accepted(self.request(Method::DELETE, &format!("/api/workspaces/{id}")).send().await?).await.map(drop)
    }

    /// Deletes a workspace together with its home.
    pub async fn purge_workspace(&self, id: WorkspaceId) -> Result<()> {
        let path = format!("/api/workspaces/{id}?purge=true");
        accepted(self.request(Method::DELETE, &path).send().await?).await.map(drop)
    }

    pub async fn volumes(&self) -> Result<Page<VolumeView>> {
        self.get("/api/volumes").await
    }

    /// A workspace on a kept home.
    pub async fn restore_volume(&self, id: VolumeId, request: &RestoreVolume) -> Result<WorkspaceView> {
        self.send(Method::POST, &format!("/api/volumes/{id}/restore"), request).await
    }

    pub async fn purge_volume(&self, id: VolumeId) -> Result<()> {
        accepted(self.request(Method::DELETE, &format!("/api/volumes/{id}")).send().await?).await.map(drop)
    }

    /// Takes a snapshot; it may still be being taken when `wait_ms` is over.
    pub async fn take_snapshot(&self, workspace: WorkspaceId, new: &NewSnapshot) -> Result<SnapshotView> {
        self.send(Method::POST, &format!("/api/workspaces/{workspace}/snapshots"), new).await
    }

    pub async fn snapshots(&self) -> Result<Page<SnapshotView>> {
        self.get("/api/snapshots").await
    }

    pub async fn snapshot(&self, id: SnapshotId) -> Result<SnapshotView> {
        self.get(&format!("/api/snapshots/{id}")).await
    }

    pub async fn delete_snapshot(&self, id: SnapshotId) -> Result<()> {
        accepted(self.request(Method::DELETE, &format!("/api/snapshots/{id}")).send().await?).await.map(drop)
    }

    /// A snapshot as an archive, as it comes; `bytes_stream` and `chunk` of the answer give its bytes.
    pub async fn export_snapshot(&self, id: SnapshotId) -> Result<reqwest::Response> {
        let request = self.request(Method::GET, &format!("/api/snapshots/{id}/export")).timeout(STREAM_TIMEOUT);
        accepted(request.send().await?).await
    }

    /// Makes a snapshot of an archive; called as the archive says if no name is given.
    pub async fn import_snapshot(&self, name: Option<&str>, archive: impl Into<reqwest::Body>) -> Result<SnapshotView> {
        let query = name.map_or(String::new(), |name| format!("?name={}", percent(name)));
        let request = self.request(Method::POST, &format!("/api/snapshots/import{query}"));
        json(request.timeout(STREAM_TIMEOUT).body(archive).send().await?).await
    }

    pub async fn create_terminal(&self, workspace: WorkspaceId, new: &NewTerminal) -> Result<TerminalView> {
        self.send(Method::POST, &format!("/api/workspaces/{workspace}/terminals"), new).await
    }

    pub async fn terminals(&self, workspace: WorkspaceId) -> Result<Page<TerminalView>> {
        self.get(&format!("/api/workspaces/{workspace}/terminals")).await
    }

    pub async fn delete_terminal(&self, workspace: WorkspaceId, id: TerminalId) -> Result<()> {
        let path = format!("/api/workspaces/{workspace}/terminals/{id}");
        accepted(self.request(Method::DELETE, &path).send().await?).await.map(drop)
    }

    pub async fn exec(&self, workspace: WorkspaceId, request: &ExecRequest) -> Result<ExecResult> {
        self.send(Method::POST, &format!("/api/workspaces/{workspace}/exec"), request).await
    }

    /// The same as it runs: output as it comes, then the exit.
    pub async fn exec_events(&self, workspace: WorkspaceId, request: &ExecRequest) -> Result<ServerEvents<ExecEvent>> {
        let asked = self.request(Method::POST, &format!("/api/workspaces/{workspace}/exec")).json(request);
        let asked = asked.header(http::header::ACCEPT, "text/event-stream").timeout(STREAM_TIMEOUT);
        Ok(ServerEvents::of(accepted(asked.send().await?).await?))
    }

    pub async fn templates(&self) -> Result<Page<TemplateView>> {
        self.get("/api/templates").await
    }

    pub async fn setup(&self, workspace: WorkspaceId) -> Result<SetupView> {
        self.get(&format!("/api/workspaces/{workspace}/setup")).await
    }

    pub async fn ports(&self, workspace: WorkspaceId) -> Result<PortList> {
        self.get(&format!("/api/workspaces/{workspace}/ports")).await
    }

    pub async fn set_port(&self, workspace: WorkspaceId, port: u16, set: &SetPort) -> Result<PortView> {
        self.send(Method::PUT, &format!("/api/workspaces/{workspace}/ports/{port}"), set).await
    }

    /// Where a browser opens the preview of a port.
    pub async fn open_port(&self, workspace: WorkspaceId, port: u16, open: &OpenPort) -> Result<OpenedPort> {
        self.send(Method::POST, &format!("/api/workspaces/{workspace}/ports/{port}/open"), open).await
    }

    pub async fn create_token(&self, new: &NewToken) -> Result<CreatedToken> {
        self.send(Method::POST, "/api/tokens", new).await
    }

    pub async fn tokens(&self) -> Result<Page<TokenView>> {
        self.get("/api/tokens").await
    }

    pub async fn revoke_token(&self, id: TokenId) -> Result<()> {
        accepted(self.request(Method::DELETE, &format!("/api/tokens/{id}")).send().await?).await.map(drop)
    }

    /// Every page of a list, one after the other; `path` has no query.
    pub async fn every<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>> {
        let mut page: Page<T> = self.get(path).await?;
        let mut items = std::mem::take(&mut page.items);
        while let Some(cursor) = page.next {
            page = self.get(&format!("{path}?cursor={}", percent(&cursor))).await?;
            items.append(&mut page.items);
        }
        Ok(items)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        json(self.request(Method::GET, path).send().await?).await
    }

    async fn send<T: DeserializeOwned>(&self, method: Method, path: &str, body: &impl Serialize) -> Result<T> {
        json(self.request(method, path).json(body).send().await?).await
    }
}

async fn json<T: DeserializeOwned>(response: reqwest::Response) -> Result<T> {
    let response = accepted(response).await?;
    let status = response.status();
    let bytes = response.bytes().await?;
    serde_json::from_slice(&bytes).map_err(|_| ClientError::Strange(status))
}

async fn accepted(response: reqwest::Response) -> Result<reqwest::Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let bytes = response.bytes().await?;
    match serde_json::from_slice::<ErrorBody>(&bytes) {
        Ok(body) => Err(ClientError::Refused(Box::new(body.error))),
        Err(_) => Err(ClientError::Strange(status)),
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986, section 2.3.
fn percent(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}
