//! TLS of programs that know no proxies: names lead them here, they take the gateway for the host, and the host is the one that
//! their ClientHello names.
//!
//! Invariant: whom the ClientHello names is whom the policy is asked about, and whom we dial.

use super::http;
use super::tunnel::{self, Target};
use super::{GREETING_MAX, HTTPS_PORT, Visit, tls};
use crate::gateway::Way;
use crate::hello::Hello;
use crate::host::{Host, HostName};
use crate::record::How;
use crate::refusal::Refusal;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// A fatal alert as a record of its own (RFC 8446, 5.1 and 6).
const ALERT: [u8; 6] = [21, 3, 1, 0, 2, 2];
const HANDSHAKE_FAILURE: u8 = 40;
const ACCESS_DENIED: u8 = 49;
const INTERNAL_ERROR: u8 = 80;

pub async fn serve(visit: Arc<Visit>, mut stream: TcpStream) {
    let mut first = Vec::new();
    let said = {
        let (mut from, _) = stream.split();
        let hello = tunnel::hello(&mut from, &mut first);
        tokio::time::timeout(GREETING_MAX, hello).await
    };
    // Whoever breaks off, or says nothing, is not waited for.
    let Ok(Ok(Some(hello))) = said else { return };
    let name = match named(hello) {
        Ok(name) => name,
        Err(code) => {
            // Nobody knows whom else it was for.
            if let Ok(here) = stream.local_addr() {
                visit.deny(How::Direct, &Host::Address(here.ip()), HTTPS_PORT, code);
            }
            return alert(stream, HANDSHAKE_FAILURE).await;
        }
    };
    let host = Host::Name(name);
    let target = Target { how: How::Direct, host: &host, port: HTTPS_PORT };
    if visit.reads_tls(&target) {
        return match http::refused(&visit, &target) {
            Some(refusal) => alert(stream, why(&refusal)).await,
            None => tls::serve(visit, &target, stream, first.into()).await,
        };
    }
    match visit.open(How::Direct, Way::Tunnel, &host, HTTPS_PORT).await {
        Ok((opened, flow)) => tunnel::run(&visit, &target, opened, &flow, stream, first.into()).await,
        Err(refusal) => alert(stream, why(&refusal)).await,
    }
}

/// The host; else the code of why there is none.
fn named(hello: Hello) -> Result<HostName, &'static str> {
    match hello {
        Hello::Client { name: Some(name), .. } => match name.parse() {
            Ok(Host::Name(name)) => Ok(name),
            Ok(Host::Address(_)) | Err(_) => Err("egress_bad_host"),
        },
        Hello::Client { name: None, .. } => Err("egress_no_name"),
        Hello::NotTls => Err("egress_not_tls"),
        Hello::Broken(_) | Hello::More => Err("egress_broken_tls"),
    }
}

fn why(refusal: &Refusal) -> u8 {
    match refusal {
        Refusal::Denied(_) | Refusal::Gone | Refusal::Unreadable | Refusal::Github(_) | Refusal::TooMany => {
            ACCESS_DENIED
        }
        Refusal::NoSuchName
        | Refusal::NoAnswer
        | Refusal::Unreachable
        | Refusal::ConnectionRefused
        | Refusal::TimedOut
        | Refusal::Untrusted(_)
        | Refusal::NoUpstream
        | Refusal::NoGithub(_)
        | Refusal::Upstream(_) => INTERNAL_ERROR,
    }
}

/// So that programs say that they were refused, and not that somebody hung up.
async fn alert(mut stream: TcpStream, description: u8) {
    // It is over either way.
    let _ = stream.write_all(&[&ALERT[..], &[description]].concat()).await;
    let _ = stream.shutdown().await;
}
