//! How the bytes reach an engine: its address, one pool of kept-alive connections for requests,
//! and fresh connections for streams.
//!
//! There are five ways to an engine ([`Address`]): its socket, TCP on this machine, TCP with mutual TLS, a socket of
//! another machine through SSH, and whatever a caller connects with. Every request carries the API version agreed on first contact, so that an engine's upgrade
//! does not change what an answer means. Invariant: what dials for the pool dials for the streams,
//! so a transport that passes the contract passes it for both.

mod address;
mod endpoint;
mod tcp;
mod tls;
mod unreachable;
mod x509;

pub use address::{Address, AddressError, Dialler, SshMaterial};
pub use endpoint::{Endpoint, EndpointError};
pub use tls::{TlsFault, TlsMaterial, Validity};
pub use unreachable::Unreachable;

use crate::{ByteStream, EngineError, Result};
use bollard::errors::Error;
use bollard::models::SystemVersion;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::de::DeserializeOwned;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OnceCell;

/// The API that this engine's requests are written for: Docker 20.10, Podman 4.
const API_WANTED: ApiVersion = ApiVersion(1, 41);
/// Idle connections kept; more are closed after use.
const IDLE_CONNECTIONS_MAX: usize = 8;
const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest answer to `/version` that is read.
const VERSION_BYTES_MAX: usize = 256 * 1024;
/// The host in request lines; engines ignore it.
const AUTHORITY: &str = "engine";
const CREDENTIALS_HEADER: &str = "x-registry-auth";
/// What Podman calls itself among the components of `/version`.
const PODMAN: &str = "Podman Engine";

pub(super) type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

impl tower::Service<Uri> for Address {
    type Response = TokioIo<Wire>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<Wire>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let address = self.clone();
        Box::pin(async move { address.dial().await.map(TokioIo::new) })
    }
}

/// One connection to an engine, whatever it runs over.
pub struct Wire(Box<dyn ByteStream>);

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Requests and streams to one engine; a clone shares the connections.
#[derive(Clone)]
pub(super) struct Transport(Arc<Shared>);

struct Shared {
    address: Address,
    client: Client<Address, Body>,
    agreed: OnceCell<Agreed>,
}

/// What first contact found.
#[derive(Debug, Clone, Copy)]
struct Agreed {
    version: ApiVersion,
    is_podman: bool,
}

impl Transport {
    /// Contacts nobody yet.
    pub(super) fn new(address: Address) -> Transport {
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_CONNECTION_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(address.clone());
        Transport(Arc::new(Shared { address, client, agreed: OnceCell::new() }))
    }

    pub(super) fn address(&self) -> &Address {
        &self.0.address
    }

    /// A connection of one's own.
    pub(super) async fn dial(&self) -> io::Result<Wire> {
        self.0.address.dial().await
    }

    /// A path under the agreed API version.
    pub(super) async fn versioned(&self, path: &str) -> std::result::Result<Uri, Error> {
        let version = self.api().await?;
        Ok(format!("http://{AUTHORITY}/v{}.{}{path}", version.0, version.1).parse::<Uri>()?)
    }

    /// Sends a request of bollard's, whose path names no version.
    pub(super) async fn send(&self, mut request: Request<Body>) -> std::result::Result<Response<Incoming>, Error> {
        let path = request.uri().path_and_query().map_or("/", |p| p.as_str()).to_owned();
        *request.uri_mut() = self.versioned(&path).await?;
        use_url_alphabet(request.headers_mut());
        Ok(self.0.client.request(request).await?)
    }

    /// Sends a request whose path is whole.
    pub(super) async fn send_as_is(
        &self,
        mut request: Request<Body>,
    ) -> std::result::Result<Response<Incoming>, Error> {
        *request.uri_mut() = format!("http://{AUTHORITY}{}", request.uri()).parse::<Uri>()?;
        Ok(self.0.client.request(request).await?)
    }

    pub(super) async fn api(&self) -> std::result::Result<ApiVersion, Error> {
        Ok(self.agreed().await?.version)
    }

    pub(super) async fn is_podman(&self) -> std::result::Result<bool, Error> {
        Ok(self.agreed().await?.is_podman)
    }

    async fn agreed(&self) -> std::result::Result<Agreed, Error> {
        self.0.agreed.get_or_try_init(|| self.negotiate()).await.copied()
    }

    async fn negotiate(&self) -> std::result::Result<Agreed, Error> {
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request = Request::get(format!("http://{AUTHORITY}/version")).body(body)?;
        let response = self.0.client.request(request).await?;
        let status_code = response.status().as_u16();
        let bytes = Limited::new(response.into_body(), VERSION_BYTES_MAX)
            .collect()
            .await
            .map_err(|e| Error::from(io::Error::other(e)))?
            .to_bytes();
        if status_code != 200 {
            return Err(Error::DockerResponseServerError {
                status_code,
                message: String::from_utf8_lossy(&bytes).into_owned(),
            });
        }
        let told: SystemVersion = serde_json::from_slice(&bytes)?;
        let version = ApiVersion::agree(told.api_version.as_deref(), told.min_api_version.as_deref())
            .map_err(|message| Error::DockerResponseServerError { status_code: 400, message })?;
        Ok(Agreed { version, is_podman: is_podman(&told) })
    }
}

fn is_podman(told: &SystemVersion) -> bool {
    told.components.iter().flatten().any(|component| component.name == PODMAN)
}

/// An answer's body, or the failure that it tells of. `what` is for a body that cannot be read.
pub(super) async fn json<T: DeserializeOwned>(response: Response<Incoming>, bytes_max: usize, what: &str) -> Result<T> {
    if !response.status().is_success() {
        return Err(super::hijack::refused(response).await);
    }
    let body = Limited::new(response.into_body(), bytes_max).collect().await;
    let body = body.map_err(EngineError::Unavailable)?.to_bytes();
    serde_json::from_slice(&body).map_err(|e| EngineError::Protocol(format!("{what}: {e}")))
}

/// Engines read credentials in the alphabet of RFC 4648, section 5, and take what they cannot read for
/// none. bollard writes them in that of section 4.
fn use_url_alphabet(headers: &mut HeaderMap) {
    let Some(credentials) = headers.get_mut(CREDENTIALS_HEADER) else { return };
    let swap = |byte: &u8| match byte {
        b'+' => b'-',
        b'/' => b'_',
        other => *other,
    };
    let swapped: Vec<u8> = credentials.as_bytes().iter().map(swap).collect();
    if let Ok(value) = HeaderValue::from_bytes(&swapped) {
        *credentials = value;
        credentials.set_sensitive(true);
    }
}

/// Major and minor; ordered as such.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ApiVersion(pub(super) u32, pub(super) u32);

impl ApiVersion {
    fn parse(text: &str) -> Option<ApiVersion> {
        let (major, minor) = text.split_once('.')?;
        Some(ApiVersion(major.parse().ok()?, minor.parse().ok()?))
    }

    /// What we want, if the engine still or already speaks it; else its oldest that is newer.
    fn agree(newest: Option<&str>, oldest: Option<&str>) -> std::result::Result<ApiVersion, String> {
        let newest = newest.and_then(ApiVersion::parse).ok_or("the engine told no API version")?;
        let oldest = oldest.and_then(ApiVersion::parse).unwrap_or(API_WANTED);
        if newest < API_WANTED {
            return Err(format!(
                "the engine speaks API {}.{}; {}.{} (Docker 20.10, Podman 4) or newer is needed",
                newest.0, newest.1, API_WANTED.0, API_WANTED.1
            ));
        }
        Ok(API_WANTED.max(oldest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podman_is_told_by_its_name() {
        let told = |text| is_podman(&serde_json::from_str(text).expect("parses"));
        assert!(told(
            r#"{"Platform":{"Name":"linux/amd64/debian-12"},"ApiVersion":"1.41","Components":[
                {"Name":"Podman Engine","Version":"4.3.1","Details":{"APIVersion":"4.3.1"}},
                {"Name":"Conmon","Version":"conmon version 2.1.6"}]}"#
        ));
        assert!(!told(r#"{"ApiVersion":"1.41","Components":[{"Name":"Engine","Version":"20.10.24","Details":{}}]}"#));
        assert!(!told(r#"{"ApiVersion":"1.41"}"#));
    }

    #[test]
    fn api_versions() {
        assert_eq!(ApiVersion::agree(Some("1.41"), Some("1.12")), Ok(ApiVersion(1, 41)));
        assert_eq!(ApiVersion::agree(Some("1.52"), Some("1.44")), Ok(ApiVersion(1, 44)));
        assert_eq!(ApiVersion::agree(Some("1.41"), None), Ok(ApiVersion(1, 41)));
        assert!(ApiVersion::agree(Some("1.39"), Some("1.12")).is_err());
        assert!(ApiVersion::agree(None, None).is_err());
        assert!(ApiVersion::agree(Some("new"), None).is_err());
    }
}
