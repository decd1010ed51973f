//! Secrets: put in where they are bound, and nowhere else.

use crate::tunnel;
use crate::world::{ONE, TWO, World, apart, apart_by_upstream, head};
use http::HeaderName;
use rexec_egress::authority::{self, Authority};
use rexec_egress::policy::{Layer, Origin, Policy, Preset};
use rexec_egress::reading::Reading;
use rexec_egress::record::How;
use rexec_egress::secrets::{Secret, Secrets};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const PLACEHOLDER: &str = "sk-kR2vQ8mZt1LcX4bN";
const VALUE: &str = "sk-realrealrealreal";

/// A workspace that may reach these, with a secret for one of them; what its programs trust.
pub fn given(world: &World, address: &str, rules: &[&str], bound_to: &str) -> rustls::RootCertStore {
    let made = authority::make(address, SystemTime::now()).unwrap();
    let secret = Secret {
        id: "KEY".into(),
        placeholder: PLACEHOLDER.into(),
        value: VALUE.into(),
        hosts: vec![bound_to.parse().unwrap()],
        headers: vec![HeaderName::from_static("authorization")],
    };
    let reading = Reading::new(Secrets::new(vec![secret]), Authority::read(address, &made.key).unwrap());
    let allow = rules.iter().map(|rule| rule.parse().unwrap()).collect();
    let layer = Layer { origin: Origin::Workspace, allow, deny: Vec::new() };
    world.bind_reading(address, Policy::new(Preset::Locked, vec![layer]), Some(reading));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(made.certificate.as_bytes()).unwrap()).unwrap();
    roots
}

pub async fn tls(stream: TcpStream, roots: rustls::RootCertStore, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await
}

fn request(host: &str, more: &str) -> String {
    format!(
        "GET /models HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {PLACEHOLDER}\r\nX-Id: {PLACEHOLDER}\r\n{more}\r\n"
    )
}

/// The answer's head and trailers.
async fn answer(stream: &mut TlsStream<TcpStream>) -> (String, String) {
    let first = head(stream).await;
    let mut rest = Vec::new();
    // A chunk of two bytes, and the last.
    while !rest.ends_with(b"\r\n\r\n") {
        rest.push(stream.read_u8().await.unwrap());
    }
    (first, String::from_utf8(rest).unwrap())
}

async fn a_value_arrives(world: World) {
    let roots = given(&world, ONE, &["api.example:8443"], "api.example:8443");
    let stream = tunnel(&world, ONE, "api.example:8443").await;
    let mut stream = tls(stream, roots, "api.example").await.unwrap();
    for _ in 0..2 {
        // The second goes by the same connection.
        stream.write_all(request("api.example:8443", "TE: trailers\r\n").as_bytes()).await.unwrap();
        let (head, trailers) = answer(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let came = world.requests.lock().unwrap().pop().unwrap();
        assert!(came.contains(&format!("authorization: Bearer {VALUE}\r\n")), "{came}");
        assert!(came.contains(&format!("x-id: {PLACEHOLDER}\r\n")), "another header: {came}");
        for said in [&head, &trailers] {
            assert!(!said.contains(VALUE), "{said}");
        }
        assert!(head.contains(PLACEHOLDER), "{head}");
        let told = world.told(|record| record.how == How::Https && record.end.is_none()).await;
        assert_eq!((told.host.as_str(), told.port, told.outcome.is_ok()), ("api.example", 8443, true));
        assert_eq!(told.secrets, ["KEY"]);
    }
}

#[test]
fn a_value_arrives_at_its_host_and_is_said_to_nobody() {
    apart(a_value_arrives);
}

#[test]
fn it_arrives_by_another_proxy_too() {
    apart_by_upstream(a_value_arrives);
}

#[test]
fn another_hosts_requests_are_not_read() {
    apart(async |world| {
        // It shows its own certificate, which nobody here trusts.
        given(&world, ONE, &["*.example:443"], "api.example:8443");
        let mut stream = crate::tls(tunnel(&world, ONE, "a.example:443").await, "a.example").await.unwrap();
        let sent = request("a.example", "");
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut back = vec![0; sent.len()];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(back, sent.as_bytes(), "as it was sent");
    });
}

#[test]
fn nothing_is_sent_to_whoever_does_not_prove_who_it_is() {
    apart(async |world| {
        // Port 443 has a certificate of its own making.
        let roots = given(&world, ONE, &["a.example"], "a.example:443");
        let mut stream = tls(tunnel(&world, ONE, "a.example:443").await, roots, "a.example").await.unwrap();
        stream.write_all(request("a.example", "").as_bytes()).await.unwrap();
        let head = head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 502") && head.contains("egress_untrusted"), "{head}");
        let told = world.told(|record| record.outcome.is_err()).await;
        assert_eq!(told.outcome, Err("egress_untrusted"));
    });
}

#[test]
fn a_tunnel_with_secrets_is_for_one_host_and_encrypted() {
    apart(async |world| {
        let roots = given(&world, ONE, &["*.example:8443"], "api.example:8443");
        let mut stream =
            tls(tunnel(&world, ONE, "api.example:8443").await, roots.clone(), "api.example").await.unwrap();
        stream.write_all(request("evil.example:8443", "").as_bytes()).await.unwrap();
        assert!(head(&mut stream).await.contains("egress_host_mismatch"));
        let mut stream =
            tls(tunnel(&world, ONE, "api.example:8443").await, roots.clone(), "api.example").await.unwrap();
        stream.write_all(request("api.example:8443", "").replace("GET", "TRACE").as_bytes()).await.unwrap();
        assert!(head(&mut stream).await.contains("egress_bad_request"), "it would be said again");
        let plain = "GET / HTTP/1.1\r\nHost: api.example:8443\r\n\r\n";
        let mut stream = tunnel(&world, ONE, "api.example:8443").await;
        stream.write_all(plain.as_bytes()).await.unwrap();
        assert!(crate::world::rest(&mut stream).await.is_empty());
        world.told(|record| record.outcome == Err("egress_not_tls")).await;
        let other = tls(tunnel(&world, ONE, "api.example:8443").await, roots.clone(), "evil.example").await;
        assert!(other.is_err());
        world.told(|record| record.outcome == Err("egress_sni_mismatch")).await;

        // Another workspace's authority is nobody's here, and its placeholder is a text like any other.
        let others = given(&world, TWO, &["api.example:8443"], "b.example:443");
        assert!(tls(tunnel(&world, ONE, "api.example:8443").await, others, "api.example").await.is_err());
        world.told(|record| record.outcome == Err("egress_not_trusted_inside")).await;

        // What is taken away is not there for what is open either.
        let mut stream = tls(tunnel(&world, ONE, "api.example:8443").await, roots, "api.example").await.unwrap();
        given(&world, ONE, &["api.example:8443"], "b.example:443");
        stream.write_all(request("api.example:8443", "TE: trailers\r\n").as_bytes()).await.unwrap();
        answer(&mut stream).await;
        assert!(!world.requests.lock().unwrap().pop().unwrap().contains(VALUE));
        assert!(world.requests.lock().unwrap().iter().all(|request| !request.contains(VALUE)));
    });
}

#[test]
fn a_websocket_is_carried_for_as_long_as_it_may_be() {
    apart(async |world| {
        let roots = given(&world, ONE, &["api.example:8443"], "api.example:8443");
        let mut stream = tls(tunnel(&world, ONE, "api.example:8443").await, roots, "api.example").await.unwrap();
        let upgrade = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
        stream.write_all(request("api.example:8443", upgrade).as_bytes()).await.unwrap();
        let agreed = head(&mut stream).await;
        assert!(agreed.starts_with("HTTP/1.1 101 ") && !agreed.contains(VALUE), "{agreed}");
        assert!(world.requests.lock().unwrap().pop().unwrap().contains(&format!("authorization: Bearer {VALUE}\r\n")));
        for said in [PLACEHOLDER, "more"] {
            stream.write_all(said.as_bytes()).await.unwrap();
            let mut back = vec![0; said.len()];
            stream.read_exact(&mut back).await.unwrap();
            assert_eq!(back, said.as_bytes(), "as it was sent: nothing is put into bytes");
        }
        given(&world, ONE, &["b.example:443"], "b.example:443");
        assert!(!matches!(stream.read(&mut [0]).await, Ok(1..)), "it may not be reached any more");
    });
}

#[test]
fn another_protocol_is_not_agreed_to() {
    apart(async |world| {
        let roots = given(&world, ONE, &["api.example:8443"], "api.example:8443");
        let mut stream = tls(tunnel(&world, ONE, "api.example:8443").await, roots, "api.example").await.unwrap();
        let upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
        stream.write_all(request("api.example:8443", upgrade).as_bytes()).await.unwrap();
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 200"));
        let came = world.requests.lock().unwrap().pop().unwrap().to_lowercase();
        assert!(!came.contains("upgrade") && !came.contains("http2-settings"), "{came}");
    });
}
