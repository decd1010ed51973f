//! Requests to another replica: what its driver of a workspace says, and connections to the workspace's guest and to an
//! engine.

use super::carry::Carried;
use super::sign::{self, Head};
use super::{Inner, Replica, Replicas, Whose, of_host};
use crate::hosts::images::{AskImage, Desk};
use crate::time::now_ms;
use crate::workspaces::{Follow, Followed};
use reqwest::header::{CONNECTION, UPGRADE};
use reqwest::{Method, RequestBuilder, StatusCode};
use rexec_api::ids::{HostId, WorkspaceId};
use std::time::Duration;

pub(super) const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// Besides what the other one waits.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// What a connection to a guest is called where it begins.
pub const GUEST_STREAM: &str = "rexec-guest";
/// The same of a connection to an engine.
pub const ENGINE_STREAM: &str = "rexec-engine";
/// Of what the other one says of an engine that it does not reach.
const REASON_BYTES_MAX: usize = 1024;

/// It does not reach that engine; the body says why.
pub(super) const NOT_REACHED: StatusCode = StatusCode::BAD_GATEWAY;
/// How long it tries to.
pub(super) const DIAL_PATIENCE: Duration = Duration::from_secs(10);

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
        self.stream(peer, &format!("/internal/workspaces/{id}/guest"), GUEST_STREAM, ANSWER_PATIENCE).await
    }

    /// A connection to the engine of a host, through the replica that tends it.
    pub(crate) async fn engine_stream(&self, id: HostId) -> Result<Carried, PeerError> {
        let Whose::Theirs(peer) = self.whose(&of_host(id)) else {
            return Err(PeerError::Unreached("The server that reaches it is not there now.".into()));
        };
        if let Some(url) = peer.url.as_deref().filter(|url| !is_private(url)) {
            let message = format!(
                "The server that reaches it is itself reached at {url} without TLS: whoever is on the way would have root at its engine. \
                 Give that one a REXEC_ADVERTISE_URL with https://."
            );
            return Err(PeerError::Unreached(message));
        }
        let path = format!("/internal/hosts/{id}/engine");
        self.stream(&peer, &path, ENGINE_STREAM, DIAL_PATIENCE + ANSWER_PATIENCE).await.map(Carried::over)
    }

    /// The images that a host is to have, as the replica that tends it knows them.
    pub(crate) async fn images(&self, peer: &Replica, id: HostId, ask: &AskImage) -> Result<Desk, PeerError> {
        let body = serde_json::to_vec(ask).map_err(|error| unreached(peer, &error.to_string()))?;
        let request = self.request(peer, Method::POST, &format!("/internal/hosts/{id}/images"), body)?;
        let answer = request.timeout(ANSWER_PATIENCE).send().await;
        let answer = answer.map_err(|error| unreached(peer, &told(&error)))?;
        match answer.status() {
            StatusCode::OK => answer.json().await.map_err(|error| unreached(peer, &told(&error))),
            StatusCode::CONFLICT => Err(PeerError::Moved),
            status => Err(refused(peer, status)),
        }
    }

    async fn stream(
        &self,
        peer: &Replica,
        path: &str,
        kind: &str,
        patience: Duration,
    ) -> Result<reqwest::Upgraded, PeerError> {
        let request = self.request(peer, Method::GET, path, Vec::new())?;
        let request = request.header(CONNECTION, "upgrade").header(UPGRADE, kind);
        let answered = tokio::time::timeout(patience, request.send()).await;
        let answer = answered.map_err(|_| unreached(peer, "no answer in time"))?;
        let answer = answer.map_err(|error| unreached(peer, &told(&error)))?;
        match answer.status() {
            StatusCode::SWITCHING_PROTOCOLS => answer.upgrade().await.map_err(|error| unreached(peer, &told(&error))),
            StatusCode::CONFLICT => Err(PeerError::Moved),
            NOT_REACHED => Err(PeerError::Unreached(reason(answer).await)),
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

/// Nobody on the way can read what is said there, or say anything.
fn is_private(url: &str) -> bool {
    let Ok(uri) = url.parse::<http::Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    uri.scheme_str() == Some("https")
        || host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
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

/// What the other one says, in its own words.
async fn reason(mut answer: reqwest::Response) -> String {
    let mut said = Vec::new();
    while let Ok(Some(piece)) = answer.chunk().await
        && said.len() < REASON_BYTES_MAX
    {
        said.extend_from_slice(&piece);
    }
    said.truncate(REASON_BYTES_MAX);
    String::from_utf8_lossy(&said).into_owned()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_reached_in_private() {
        for url in ["https://rexec-1.example.com", "http://127.0.0.1:8080", "http://[::1]:8080", "http://localhost:1"] {
            assert!(is_private(url), "{url}");
        }
        for url in ["http://10.0.0.5:8080", "http://localhost.example.com", "http://127.example.com", "", "https"] {
            assert!(!is_private(url), "{url}");
        }
    }
}
