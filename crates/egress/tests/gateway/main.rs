//! The gateway by real sockets, against an internet of the tests' own.
#![allow(clippy::unwrap_used)]

mod attacks;
mod direct;
mod github;
mod models;
mod requests;
mod secrets;
mod upstream;
mod world;

use rexec_egress::policy::Preset;
use rexec_egress::record::How;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use world::{ONE, STRANGER, TWO, World, apart, head, rest};

/// A TLS client that trusts whoever answers: it is the gateway that is tested here.
#[derive(Debug)]
struct Anyone;

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.verify_tls12_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn client() -> Arc<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.dangerous().with_custom_certificate_verifier(Arc::new(Anyone)).with_no_client_auth())
}

async fn tls(stream: TcpStream, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
    TlsConnector::from(client()).connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await
}

/// A ClientHello for a name, as it is sent.
fn hello(name: &str) -> Vec<u8> {
    let mut connection =
        rustls::ClientConnection::new(client(), ServerName::try_from(name.to_owned()).unwrap()).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

async fn tunnel(world: &World, from: &str, to: &str) -> TcpStream {
    let (stream, head) = world.connect(from, to).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{to}: {head}");
    stream
}

#[test]
fn what_is_allowed_is_reached() {
    apart(async |world| {
        world.allow(ONE, &["a.example", "*.example:22"]);
        let mut secure = tls(tunnel(&world, ONE, "a.example:443").await, "a.example").await.unwrap();
        secure.write_all(b"hello").await.unwrap();
        let mut back = [0; 5];
        secure.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"hello");
        drop(secure);
        let told = world.told(|record| record.end.is_some()).await;
        assert_eq!((told.host.as_str(), told.port, told.how), ("a.example", 443, How::Connect));
        assert_eq!(
            (told.workspace.as_str(), told.end.unwrap().address.unwrap().to_string().as_str()),
            (ONE, "198.51.100.1")
        );
        assert!(told.end.unwrap().bytes_down > 100 && told.end.unwrap().bytes_up > 100, "{told:?}");

        let mut ssh = tunnel(&world, ONE, "b.example:22").await;
        let mut greeting = [0; 14];
        ssh.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"SSH-2.0-here\r\n", "who speaks first is heard first");
        ssh.write_all(b"SSH-2.0-there\r\n").await.unwrap();
        ssh.shutdown().await.unwrap();
        assert_eq!(rest(&mut ssh).await, b"SSH-2.0-there\r\n", "its end is passed on, and the answer comes back");

        let (mut stream, first) = world.ask(ONE, "GET http://a.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
        assert!(first.starts_with("HTTP/1.1 200") && !first.to_lowercase().contains("x-hop"), "{first}");
        assert_eq!(stream.read_u16().await.unwrap().to_be_bytes(), *b"ok");
        assert!(world.requests.lock().unwrap()[0].starts_with("GET /x HTTP/1.1\r\n"));

        // A body whose length nobody says arrives, also of a request that has none as a rule.
        let mut stream = world.dial(ONE).await;
        let search = "GET http://a.example/find HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
        stream.write_all(search.as_bytes()).await.unwrap();
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 200"));
        assert!(world.requests.lock().unwrap()[1].to_lowercase().contains("transfer-encoding: chunked"));
    });
}

#[test]
fn socks_leads_to_the_same() {
    apart(async |world| {
        world.allow(ONE, &["a.example", "a.example:22"]);
        let ask = async |request: &[u8]| {
            let mut stream = world.dial(ONE).await;
            stream.write_all(&[5, 1, 0]).await.unwrap();
            assert_eq!(stream.read_u16().await.unwrap(), 0x0500);
            stream.write_all(request).await.unwrap();
            let mut reply = [0; 10];
            let count = stream.read(&mut reply).await.unwrap();
            (stream, reply[..count].get(1).copied())
        };
        let named = |command: u8, name: &str, port: u16| {
            [&[5, command, 0, 3, name.len() as u8], name.as_bytes(), &port.to_be_bytes()].concat()
        };
        let (mut stream, code) = ask(&named(1, "a.example", 22)).await;
        assert_eq!(code, Some(0));
        let mut greeting = [0; 14];
        stream.read_exact(&mut greeting).await.unwrap();
        let (mut stream, code) = ask(&named(1, "a.example", 80)).await;
        assert_eq!(code, Some(0));
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await.unwrap();
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 200"));
        let (mut stream, code) = ask(&named(1, "a.example", 80)).await;
        assert_eq!(code, Some(0));
        stream.write_all(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n").await.unwrap();
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 400"));

        for (request, code) in [
            (named(1, "evil.example", 443), 2),
            (named(1, "198.51.100.1", 443), 2),
            (named(1, "0x7f.1", 443), 2),
            (named(2, "a.example", 443), 7),
            (named(3, "a.example", 443), 7),
            (vec![5, 1, 0, 1, 198, 51, 100, 1, 1, 187], 2),
            (vec![5, 1, 0, 9, 0], 8),
        ] {
            assert_eq!(ask(&request).await.1, Some(code), "{request:?}");
        }
    });
}

#[test]
fn names_are_answered_for_whom_they_are_allowed() {
    apart(async |world| {
        world.allow(ONE, &["a.example:22", "*.c.example"]);
        world.name("x.c.example", &[&["10.0.0.7"]]);
        let asked = async |from: &str, name: &str| {
            let answer = world.look_up(from, name).await?;
            Some((answer[3] & 15, answer.ends_with(&[198, 51, 100, 1])))
        };
        assert_eq!(asked(ONE, "a.example").await, Some((0, true)));
        assert_eq!(asked(ONE, "secret-data.evil.example").await, Some((3, false)), "it is not asked for");
        assert_eq!(asked(ONE, "x.c.example").await, Some((0, false)), "it leads inside: no address is told");
        assert_eq!(*world.asked.lock().unwrap().first().unwrap(), "a.example");
        assert!(!world.asked.lock().unwrap().iter().any(|name| name.contains("evil")), "nothing went upstream");
        assert_eq!(asked(STRANGER, "a.example").await, None, "nobody's are not answered");
    });
}

#[test]
fn a_change_of_policy_ends_what_it_forbids_and_nothing_else() {
    apart(async |world| {
        world.allow(ONE, &["a.example", "c.example"]);
        world.allow(TWO, &["a.example"]);
        let mut going = tls(tunnel(&world, ONE, "a.example:443").await, "a.example").await.unwrap();
        let mut staying = tls(tunnel(&world, ONE, "c.example:443").await, "c.example").await.unwrap();
        let mut neighbour = tls(tunnel(&world, TWO, "a.example:443").await, "a.example").await.unwrap();
        world.allow(ONE, &["c.example"]);
        let mut one = [0];
        assert!(!matches!(going.read(&mut one).await, Ok(1..)), "it is cut");
        for stream in [&mut staying, &mut neighbour] {
            stream.write_all(b"x").await.unwrap();
            stream.read_exact(&mut one).await.unwrap();
        }
        let (_, refused) = world.connect(ONE, "a.example:443").await;
        assert!(
            refused.starts_with("HTTP/1.1 403") && refused.contains("x-rexec-egress: egress_not_allowed"),
            "{refused}"
        );

        world.gateway.table.unbind(ONE.parse().unwrap());
        assert!(!matches!(staying.read(&mut one).await, Ok(1..)), "whose address it was is over");
        neighbour.write_all(b"x").await.unwrap();
        neighbour.read_exact(&mut one).await.unwrap();
        assert_eq!(head(&mut world.dial(ONE).await).await, "", "not a byte for nobody's");
    });
}

#[test]
fn a_change_of_policy_ends_a_request_that_is_under_way() {
    apart(async |world| {
        world.allow(ONE, &["a.example", "c.example"]);
        let mut waiting = world.dial(ONE).await;
        waiting.write_all(b"GET http://a.example/never HTTP/1.1\r\nHost: a.example\r\n\r\n").await.unwrap();
        let mut sending = world.dial(ONE).await;
        let upload = b"PUT http://a.example/up HTTP/1.1\r\nHost: a.example\r\nContent-Length: 999999\r\n\r\nsome";
        sending.write_all(upload).await.unwrap();
        let mut other = world.dial(ONE).await;
        other.write_all(b"GET http://c.example/never HTTP/1.1\r\nHost: c.example\r\n\r\n").await.unwrap();
        while world.requests.lock().unwrap().len() < 2
            || world.gateway.table.find(ONE.parse().unwrap()).unwrap().live() < 3
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        world.told(|record| record.outcome.is_ok() && record.host == "a.example").await;
        world.allow(ONE, &["c.example"]);
        assert_eq!(head(&mut waiting).await, "", "no answer had come");
        assert_eq!(head(&mut sending).await, "", "not all had been sent");
        let still = tokio::time::timeout(Duration::from_millis(100), other.read_u8()).await;
        assert!(still.is_err(), "what is allowed goes on");
        // What is bound no more ends, too, also before it is known what a tunnel is for.
        let (mut silent, answer) = world.connect(ONE, "c.example:80").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        world.gateway.table.unbind(ONE.parse().unwrap());
        assert!(rest(&mut silent).await.is_empty() && rest(&mut other).await.is_empty());
    });
}

#[test]
fn what_nobody_reads_ends_with_who_sent_it() {
    apart(async |world| {
        world.allow(ONE, &["a.example:8080"]);
        let until = async |count: usize| {
            while world.gateway.busy() != count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let mut stream = world.dial(ONE).await;
        let put = "PUT http://a.example:8080/ HTTP/1.1\r\nHost: a.example:8080\r\nContent-Length: 99999999\r\n\r\n";
        stream.write_all(put.as_bytes()).await.unwrap();
        let piece = vec![7; 64 * 1024];
        // Until all buffers on the way are full.
        while tokio::time::timeout(Duration::from_millis(300), stream.write_all(&piece)).await.is_ok() {}
        until(2).await;
        world.allow(ONE, &[]);
        until(0).await;
    });
}

#[test]
fn a_connection_that_ended_meanwhile_is_no_failure() {
    apart(async |world| {
        world.allow(ONE, &["a.example"]);
        let mut stream = world.dial(ONE).await;
        for _ in 0..3 {
            // It is closed by the server right after its answer.
            stream.write_all(b"GET http://a.example/close HTTP/1.1\r\nHost: a.example\r\n\r\n").await.unwrap();
            assert!(head(&mut stream).await.starts_with("HTTP/1.1 200"));
            stream.read_u16().await.unwrap();
        }
        assert_eq!(world.requests.lock().unwrap().len(), 3);
    });
}

/// A request with a body, to the host's port 80; the answer's head.
async fn post(stream: &mut TcpStream, path: &str, body: &str) -> String {
    let length = body.len();
    let head = format!("POST http://a.example{path} HTTP/1.1\r\nHost: a.example\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let head = world::head(stream).await;
    if head.starts_with("HTTP/1.1 200") {
        stream.read_u16().await.unwrap();
    }
    head
}

#[test]
fn requests_with_bodies_share_a_connection() {
    apart(async |world| {
        world.allow(ONE, &["a.example"]);
        let mut stream = world.dial(ONE).await;
        for body in ["one", "two", ""] {
            let head = post(&mut stream, "/", body).await;
            assert!(head.contains("x-talk: 1\r\n"), "{head}");
        }
        // It is closed by the server right after its answer, when nothing of the next is sent.
        assert!(post(&mut stream, "/close", "x").await.contains("x-talk: 1\r\n"));
        let body = "y".repeat(1000);
        let head = post(&mut stream, "/", &body).await;
        assert!(head.contains("x-talk: 2\r\n"), "{head}");
        drop(stream);
        let told = world.told(|record| record.end.is_some_and(|end| end.bytes_up > 1000)).await.end.unwrap();
        assert_eq!(told.bytes_down, 2, "counted once, where it went");
    });
}

#[test]
fn what_may_not_be_asked_twice_is_sent_once() {
    apart(async |world| {
        world.allow(ONE, &["a.example"]);
        let mut stream = world.dial(ONE).await;
        assert!(post(&mut stream, "/", "x").await.starts_with("HTTP/1.1 200"));
        let head = post(&mut stream, "/lose", "pay").await;
        assert!(head.contains("x-rexec-egress: egress_unreachable\r\n"), "{head}");
        assert_eq!(world.requests.lock().unwrap().len(), 2);
    });
}

#[test]
fn a_thousand_connections_of_one_are_bounded_and_disturb_no_other() {
    apart(async |world| {
        world.bind(ONE, Preset::Open, &[], &[]);
        world.bind(TWO, Preset::Open, &[], &[]);
        let mut held = Vec::new();
        for _ in 0..1000 {
            let mut stream = world.dial(ONE).await;
            stream.write_all(b"CONNECT a.example:22 HTTP/1.1\r\nHost: a.example:22\r\n\r\n").await.unwrap();
            held.push(stream);
        }
        let mut heads = Vec::new();
        for stream in &mut held {
            heads.push(head(stream).await);
        }
        let count = |status: &str| heads.iter().filter(|head| head.starts_with(status)).count();
        assert!((150..=256).contains(&count("HTTP/1.1 200")), "{}", count("HTTP/1.1 200"));
        let silent = heads.iter().filter(|head| head.is_empty()).count();
        assert_eq!(count("HTTP/1.1 200") + count("HTTP/1.1 429") + silent, 1000);
        assert!(count("HTTP/1.1 429") > 0, "some are told why");
        let began = Instant::now();
        tunnel(&world, TWO, "a.example:22").await;
        assert!(began.elapsed() < Duration::from_secs(5));
        drop(held);
        let tenant = world.gateway.table.find(ONE.parse().unwrap()).unwrap();
        while tenant.live() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn all_bytes_arrive_both_ways() {
    apart(async |world| {
        world.bind(ONE, Preset::Open, &[], &[]);
        let mut stream = tunnel(&world, ONE, "a.example:22").await;
        let mut greeting = [0; 14];
        stream.read_exact(&mut greeting).await.unwrap();
        let sent: Vec<u8> = (0..32_usize << 20).map(|i| (i % 251) as u8).collect();
        let (mut from, mut to) = stream.split();
        let (got, ()) = tokio::join!(
            async {
                let mut got = Vec::new();
                from.read_to_end(&mut got).await.unwrap();
                got
            },
            async {
                to.write_all(&sent).await.unwrap();
                to.shutdown().await.unwrap();
            }
        );
        assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
        let told = world.told(|record| record.end.is_some()).await.end.unwrap();
        assert_eq!((told.bytes_up, told.bytes_down), (32 << 20, (32 << 20) + 14));
    });
}
