//! A tunnel whose TLS ends here: the workspace is shown a certificate of its own authority, its requests are read as any
//! others (`http.rs`), and TLS begins anew with the host.
//!
//! Invariant: nothing is sent to a host before its certificate has proven that it is the one that was asked for.

use super::http::{Within, talk_within};
use super::prefixed::Prefixed;
use super::tunnel::Target;
use super::{GREETING_MAX, Visit};
use crate::host::Host;
use crate::reading::Roots;
use crate::record::How;
use crate::refusal::Refusal;
use bytes::Bytes;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// `early` holds a ClientHello that names the host.
pub async fn serve(visit: Arc<Visit>, target: &Target<'_>, stream: TcpStream, early: Bytes) {
    let Host::Name(name) = target.host else { return };
    let bound = visit.tenant.bound();
    let Some(reading) = bound.as_ref().and_then(|bound| bound.reads(target.host, target.port)) else { return };
    // Each costs as much as many that are only dialled.
    let place = visit.tenant.readings.clone().try_acquire_owned().ok().filter(|_| visit.tenant.dials.take());
    let Some(_place) = place else {
        visit.deny(target.how, target.host, target.port, Refusal::TooMany.code());
        return;
    };
    let Ok(config) = reading.in_place_of(name) else {
        visit.deny(target.how, target.host, target.port, "egress_no_certificate");
        return;
    };
    let accepting = TlsAcceptor::from(config).accept(Prefixed { prefix: early, stream });
    match tokio::time::timeout(GREETING_MAX, accepting).await {
        Ok(Ok(stream)) => {
            let within = Within { host: target.host.clone(), port: target.port, how: How::Https, tls: true };
            talk_within(visit, within, stream).await;
        }
        Ok(Err(error)) => visit.deny(target.how, target.host, target.port, code(&error)),
        Err(_) => visit.deny(target.how, target.host, target.port, "egress_broken_tls"),
    }
}

/// Why a program and we do not come to terms.
fn code(error: &std::io::Error) -> &'static str {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::NoApplicationProtocol) => "egress_http1_only",
        // As a rule it does not know the workspace's authority; many hang up without a word.
        _ => "egress_not_trusted_inside",
    }
}

/// TLS with a host, which has proven who it is.
pub async fn connect(roots: &Roots, host: &Host, stream: Prefixed) -> Result<TlsStream<Prefixed>, Refusal> {
    let untrusted = |why: &str| Refusal::Untrusted(why.to_owned());
    let Host::Name(name) = host else { return Err(untrusted("it has no name")) };
    if roots.is_empty() {
        return Err(untrusted("the server knows no authorities for certificates"));
    }
    let config = roots.config().map_err(|error| Refusal::Untrusted(error.to_string()))?;
    let name = ServerName::try_from(name.to_string()).map_err(|_| untrusted("its name is none of certificates"))?;
    match tokio::time::timeout(GREETING_MAX, TlsConnector::from(config).connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(Refusal::Untrusted(error.to_string())),
        Err(_) => Err(Refusal::TimedOut),
    }
}
