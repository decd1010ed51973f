//! Requests to another replica: what its driver of a workspace says, and a connection to the workspace's guest.

use super::sign::{self, Head};
use super::{Inner, Replica, Replicas};
use crate::time::now_ms;
use crate::workspaces::{Follow, Followed};
use reqwest::header::{CONNECTION, UPGRADE};
use reqwest::{Method, RequestBuilder, StatusCode};
use rexec_api::ids::WorkspaceId;
use std::time::Duration;

pub(super) const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// Besides what the other one waits.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// What a connection to a guest is called where it begins.
pub const GUEST_STREAM: &str = "rexec-guest";

/// Why another replica does not do what it is asked, as a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It does not look after that any more.
    #[error("Another server has just taken it. Try again in a moment.")]
    Moved,
    #[error("{0}")]
    Unreached(String),
}

impl Replicas {
    /// What the driver of a workspace says, once that is not what is known.
    pub(crate) async fn follow(&self, peer: &Replica, id: WorkspaceId, follow: &Follow) -> Result<Followed, PeerError> {
        let body = serde_json::to_vec(follow).map_err(|error| unreached(peer, &error.to_string()))?;
        let request = self.request(peer, Method::POST, &format!("/internal/workspaces/{id}/follow"), body)?;
        let answer = request.timeout(super::http::WAIT_MAX + ANSWER_PATIENCE).send().await;
        let answer = answer.map_err(|error| unreached(peer, &told(&error)))?;
        match answer.status() {
            StatusCode::OK => answer.json().await.map_err(|error| unreached(peer, &told(&error))),
            StatusCode::CONFLICT => Err(PeerError::Moved),
            status => Err(refused(peer, status)),
        }
    }

    /// A connection to a workspace's guest, through the link that its driver has.
    pub(crate) async fn guest_stream(&self, peer: &Replica, id: WorkspaceId) -> Result<reqwest::Upgraded, PeerError> {
        let request = self.request(peer, Method::GET, &format!("/internal/workspaces/{id}/guest"), Vec::new())?;
        let request = request.header(CONNECTION, "upgrade").header(UPGRADE, GUEST_STREAM);
        let answered = tokio::time::timeout(ANSWER_PATIENCE, request.send()).await;
        let answer = answered.map_err(|_| unreached(peer, "no answer in time"))?;
        let answer = answer.map_err(|error| unreached(peer, &told(&error)))?;
        match answer.status() {
            StatusCode::SWITCHING_PROTOCOLS => answer.upgrade().await.map_err(|error| unreached(peer, &told(&error))),
            StatusCode::CONFLICT => Err(PeerError::Moved),
            status => Err(refused(peer, status)),
        }
    }

    fn request(&self, peer: &Replica, method: Method, path: &str, body: Vec<u8>) -> Result<RequestBuilder, PeerError> {
        let Some(inner) = &self.0 else { return Err(PeerError::Moved) };
        let Some(url) = &peer.url else {
            let message = format!(
                "The server that looks after it ({}) has no REXEC_ADVERTISE_URL, so that this one cannot reach it. Set it there.",
                peer.id.short()
            );
            return Err(PeerError::Unreached(message));
        };
        Ok(signed(inner, peer, inner.http.request(method.clone(), format!("{url}{path}")), &method, path, body))
    }
}

fn signed(
    inner: &Inner,
    peer: &Replica,
    request: RequestBuilder,
    method: &Method,
    path: &str,
    body: Vec<u8>,
) -> RequestBuilder {
    let (time_ms, nonce) = (now_ms(), uuid::Uuid::new_v4());
    let head = Head { method: method.as_str(), path, from: inner.id, to: peer.id, time_ms, nonce };
    let signature = inner.signer.sign(&head, &body);
    request
        .header(sign::FROM, inner.id.to_string())
        .header(sign::TIME, time_ms.to_string())
        .header(sign::NONCE, nonce.to_string())
        .header(sign::SIGNATURE, signature)
        .body(body)
}

fn told(error: &reqwest::Error) -> String {
    if error.is_connect() {
        "it does not take connections".into()
    } else if error.is_timeout() {
        "no answer in time".into()
    } else {
        "the connection broke".into()
    }
}

fn unreached(peer: &Replica, why: &str) -> PeerError {
    let url = peer.url.as_deref().unwrap_or_default();
    PeerError::Unreached(format!(
        "The server that looks after it is not reached from this one at {url}: {why}. Should it be gone, another takes its place within seconds."
    ))
}

fn refused(peer: &Replica, status: StatusCode) -> PeerError {
    let url = peer.url.as_deref().unwrap_or_default();
    PeerError::Unreached(format!(
        "What answers at {url} is not the server that looks after it ({status}). Its REXEC_ADVERTISE_URL must lead to it alone, \
         and all servers need the same JWT_SECRET and clocks that agree."
    ))
}
