//! Mutual TLS.

use crate::why_not;
use rexec_engine::contract::remote::{Authority, Issued, TlsFront, When};
use rexec_engine::docker::{Address, AddressError, DockerEngine, Endpoint, TlsFault, TlsMaterial};
use rexec_engine::{Engine, engine_contract};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

struct Shared {
    front: TlsFront,
    material: TlsMaterial,
}

/// For the contract's cases. It ends with this process.
fn make() -> Arc<dyn Engine> {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let (engines, clients) = (Authority::new("engines"), Authority::new("clients"));
        let front = TlsFront::start(&engines.issue(&["127.0.0.1"], When::Now), &clients);
        Shared { front, material: clients.issue(&[], When::Now).material(&engines) }
    });
    Arc::new(shared.front.engine(&shared.material).expect("the material is good"))
}

engine_contract!(transport make);

/// Authorities of engines and clients, and a client.
fn parties() -> (Authority, Authority, Issued) {
    let (engines, clients) = (Authority::new("engines"), Authority::new("clients"));
    let client = clients.issue(&[], When::Now);
    (engines, clients, client)
}

#[tokio::test]
async fn the_engines_certificate_must_be_right() {
    let (engines, clients, client) = parties();
    let material = client.material(&engines);
    for (shown, wanted) in [
        (Authority::new("engines").issue(&["127.0.0.1"], When::Now), "is not trusted"),
        (engines.issue(&["127.0.0.1"], When::Before), "has expired"),
        (engines.issue(&["127.0.0.1"], When::Later), "is not valid yet"),
        (engines.issue(&["other.example"], When::Now), "is for another name: it is for"),
    ] {
        let front = TlsFront::start(&shown, &clients);
        let engine = front.engine(&material).expect("the material is good");
        let why = why_not(&engine).await;
        assert!(why.contains(wanted), "{wanted}: {why}");
        assert!(why.contains("127.0.0.1:"), "{why}");
    }
}

#[test]
fn renewed_material_leads_another_way() {
    let (engines, clients, client) = parties();
    let endpoint = Endpoint::parse("tcp://10.0.0.7:2376").expect("good");
    let by = |material: &TlsMaterial| Address::new(&endpoint, Some(material), None).expect("the material is good");
    let (material, renewed) = (client.material(&engines), clients.issue(&[], When::Now).material(&engines));
    assert!(by(&material).leads_as(&by(&material)));
    assert!(!by(&material).leads_as(&by(&renewed)));
}

#[tokio::test]
async fn our_certificate_must_be_right() {
    let (engines, clients, client) = parties();
    let front = TlsFront::start(&engines.issue(&["127.0.0.1"], When::Now), &clients);
    let stranger = Authority::new("strangers").issue(&[], When::Now);
    let why = why_not(&front.engine(&stranger.material(&engines)).expect("the material is good")).await;
    assert!(why.contains("refuses our client certificate"), "{why}");
    // A server's certificate is none for clients, whoever has signed it.
    let servers = clients.issue(&["127.0.0.1"], When::Now);
    let why = why_not(&front.engine(&servers.material(&engines)).expect("the material is good")).await;
    assert!(why.contains("refuses our client certificate"), "{why}");

    let good = client.material(&engines);
    let other = clients.issue(&[], When::Now);
    for (material, wanted) in [
        (clients.issue(&[], When::Before).material(&engines), TlsFault::Expired),
        (TlsMaterial { ca: b"nothing".to_vec(), ..good.clone() }, TlsFault::Ca),
        (TlsMaterial { ca: Vec::new(), ..good.clone() }, TlsFault::Ca),
        (TlsMaterial { certificate: Vec::new(), ..good.clone() }, TlsFault::Certificate),
        (TlsMaterial { key: Vec::new(), ..good.clone() }, TlsFault::Key),
        (TlsMaterial { key: other.key.into(), ..good.clone() }, TlsFault::OtherKey),
        (TlsMaterial { key: encrypted(&client.key), ..good.clone() }, TlsFault::EncryptedKey),
    ] {
        assert_eq!(front.engine(&material).map(|_| ()).err(), Some(AddressError::Tls(wanted)));
    }
}

/// Only how it is marked matters: nobody gets to what is in it.
fn encrypted(key: &str) -> Vec<u8> {
    key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY").into_bytes()
}

#[tokio::test]
async fn validity_is_told() {
    let (engines, clients, client) = parties();
    let front = TlsFront::start(&engines.issue(&["127.0.0.1"], When::Now), &clients);
    let engine = front.engine(&client.material(&engines)).expect("the material is good");
    let until = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(3_786_912_000));
    let validity = engine.address().validity().expect("TLS");
    assert_eq!((validity.ours, validity.engines), (until, None));
    engine.ping().await.expect("answers");
    assert_eq!(engine.address().validity().expect("TLS").engines, until);
    assert!(!engine.address().is_local());
}

#[tokio::test]
async fn without_tls_only_this_machine_is_reached() {
    for remote in ["tcp://10.0.0.7:2375", "tcp://engine.example:2375", "tcp://[2001:db8::1]:2375", "tcp://0.0.0.0:2375"]
    {
        let endpoint = Endpoint::parse(remote).expect("an address");
        let refused = Address::new(&endpoint, None, None).map(|_| ());
        assert!(matches!(refused, Err(AddressError::PlainRemote(_))), "{remote}");
        assert!(DockerEngine::connect(remote).is_err());
    }
    // A door to the socket without a lock, as `socat` makes it.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("an address").port();
    let door = tokio::spawn(async move {
        while let Ok((mut outside, _)) = listener.accept().await {
            let socket = rexec_engine::contract::remote::local_socket();
            let mut inside = tokio::net::UnixStream::connect(socket).await.expect("connects");
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut outside, &mut inside).await });
        }
    });
    let engine = DockerEngine::connect(&format!("tcp://localhost:{port}")).expect("an address");
    engine.ping().await.expect("answers");
    assert!(engine.address().is_local());
    door.abort();
}

#[tokio::test]
async fn who_is_not_there_is_told() {
    let (engines, _, client) = parties();
    let material = client.material(&engines);
    let at = |text: &str| {
        let endpoint = Endpoint::parse(text).expect("an address");
        DockerEngine::at(Address::new(&endpoint, Some(&material), None).expect("good")).expect("an engine")
    };
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("binds").local_addr().expect("an address").port();
    let why = why_not(&at(&format!("tcp://127.0.0.1:{free}"))).await;
    assert!(why.contains("refuses connections"), "{why}");
    let why = why_not(&at("tcp://no-such-host.invalid:2376")).await;
    assert!(why.contains("the name no-such-host.invalid is not resolved"), "{why}");
    // An engine without TLS.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("an address").port();
    let plain = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = b"HTTP/1.1 400 Bad Request\r\n\r\n";
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await;
        }
    });
    let why = why_not(&at(&format!("tcp://127.0.0.1:{port}"))).await;
    assert!(why.contains("does not speak TLS"), "{why}");
    plain.abort();
}
