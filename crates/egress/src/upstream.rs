//! Another proxy that everything leaves by, where the operator names one (RFC 9110, section 9.3.6).
//!
//! A name is judged before, as ever. What it leads to is judged as far as the gateway's own servers of names tell; the proxy
//! asks anew, so that keeping private addresses from workspaces is its part, too. For requests that are not encrypted it is
//! asked in absolute form, for everything else by CONNECT.

use crate::host::Host;
use crate::refusal::Refusal;
use crate::resolve::Resolver;
use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHORIZATION};
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1 as client;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

/// For one of its addresses to answer.
const DIAL_MAX: Duration = Duration::from_secs(5);
/// Of the head of its answer.
const HEAD_BYTES_MAX: usize = 32 * 1024;
const HTTP_PORT: u16 = 80;

pub struct Upstream {
    host: Host,
    port: u16,
    authorization: Option<HeaderValue>,
    /// The machine's own servers of names: others may not know it.
    resolver: Resolver,
}

impl Upstream {
    /// `authorization` is what it asks for to let anybody through, such as `Basic ...`.
    pub fn new(host: Host, port: u16, authorization: Option<HeaderValue>, resolver: Resolver) -> Self {
        let authorization = authorization.map(|mut value| {
            value.set_sensitive(true);
            value
        });
        Self { host, port, authorization, resolver }
    }

    /// A connection to the proxy itself.
    pub async fn dial(&self) -> Result<TcpStream, Refusal> {
        let addresses = match &self.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => self.resolver.addresses(name).await.map_err(|_| Refusal::NoUpstream)?,
        };
        for address in addresses {
            let connect = TcpStream::connect(SocketAddr::new(address, self.port));
            if let Ok(Ok(stream)) = tokio::time::timeout(DIAL_MAX, connect).await {
                return Ok(stream);
            }
        }
        Err(Refusal::NoUpstream)
    }

    /// A connection to a host, through it, and what the host has said by then.
    pub async fn tunnel(&self, host: &Host, port: u16) -> Result<(TcpStream, Bytes), Refusal> {
        let to = format!("{host}:{port}");
        let request = Request::builder().method(Method::CONNECT).uri(&to).header(HOST, &to);
        let request = match &self.authorization {
            Some(value) => request.header(PROXY_AUTHORIZATION, value),
            None => request,
        };
        // Whoever is a host is an authority.
        let request = request.body(Empty::<Bytes>::new()).map_err(|_| Refusal::NoUpstream)?;
        let connecting =
            client::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(self.dial().await?));
        let (mut sender, connection) = connecting.await.map_err(|_| Refusal::NoUpstream)?;
        let asking = async move {
            let answer = sender.send_request(request).await.map_err(|_| Refusal::NoUpstream)?;
            if !answer.status().is_success() {
                return Err(Refusal::Upstream(answer.status()));
            }
            let upgraded = hyper::upgrade::on(answer).await.map_err(|_| Refusal::NoUpstream)?;
            let parts = upgraded.downcast::<TokioIo<TcpStream>>().map_err(|_| Refusal::NoUpstream)?;
            Ok((parts.io.into_inner(), parts.read_buf))
        };
        let mut connection = std::pin::pin!(connection.with_upgrades());
        let mut asking = std::pin::pin!(asking);
        tokio::select! {
            asked = &mut asking => asked,
            // It hands the stream over by ending.
            _ = &mut connection => asking.await,
        }
    }

    /// Has a request that was for the host itself ask the proxy for it.
    pub fn ask_for(&self, head: &mut Parts, host: &Host, port: u16) -> Result<(), Refusal> {
        // What is about the whole host (`OPTIONS *`) has no path.
        let path = head.uri.path_and_query().filter(|path| path.as_str().starts_with('/')).cloned();
        let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let authority = if port == HTTP_PORT { host.to_string() } else { format!("{host}:{port}") };
        let whole = Uri::builder().scheme(Scheme::HTTP).authority(authority).path_and_query(path).build();
        // Of a host and a path that were read before: it is one.
        head.uri = whole.map_err(|_| Refusal::NoUpstream)?;
        if let Some(value) = &self.authorization {
            head.headers.insert(PROXY_AUTHORIZATION, value.clone());
        }
        Ok(())
    }

    /// What an answer says that is the proxy's own and nobody else's.
    pub fn refusal(status: StatusCode) -> Option<Refusal> {
        (status == StatusCode::PROXY_AUTHENTICATION_REQUIRED).then_some(Refusal::Upstream(status))
    }
}
