//! SSH: one connection, two ways to the socket, a known host.

use crate::why_not;
use futures_util::StreamExt;
use rexec_engine::contract::remote::Sshd;
use rexec_engine::contract::{TarBuilder, World};
use rexec_engine::docker::{Address, DockerEngine, Endpoint, KnownHost, PrivateKey, SshMaterial};
use rexec_engine::{Engine, ExecStart, engine_contract};
use sha2::{Digest, Sha256};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PATIENCE: Duration = Duration::from_secs(60);

/// For the contract's cases. It ends with this process.
fn shared() -> &'static Sshd {
    static SHARED: OnceLock<Sshd> = OnceLock::new();
    SHARED.get_or_init(|| Sshd::start(""))
}

fn make() -> Arc<dyn Engine> {
    Arc::new(shared().engine(Some(shared().host_key("ed25519"))))
}

engine_contract!(make);

fn exec(command: &[&str]) -> ExecStart {
    ExecStart {
        command: command.iter().map(|&word| word.to_owned()).collect(),
        user: "0:0".into(),
        env: vec!["PATH=/bin".into()],
    }
}

/// Waits until the engine answers.
async fn until_it_answers(engine: &DockerEngine) {
    let answers = async {
        while engine.ping().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, answers).await.expect("it answers");
}

#[tokio::test]
async fn a_host_that_was_met_is_the_one_of_its_key() {
    let met = shared().engine(None);
    let known = |kind| shared().engine(Some(shared().host_key(kind)));
    let leads =
        |other: &DockerEngine| (met.address().leads_as(other.address()), other.address().leads_as(met.address()));
    assert_eq!(leads(&known("ed25519")), (false, false), "it may be anyone");
    met.info().await.expect("it is reached");
    assert_eq!(leads(&known("ed25519")), (true, true));
    let another = shared().engine(None);
    another.info().await.expect("it is reached");
    assert_eq!(leads(&another), (true, true));
    assert_eq!(leads(&Sshd::start("").engine(None)), (false, false));
}

/// Where sockets may not be reached, `docker system dial-stdio` leads to the engine.
mod by_command {
    use super::*;

    fn command_only() -> &'static Sshd {
        static SHARED: OnceLock<Sshd> = OnceLock::new();
        SHARED.get_or_init(|| Sshd::start("AllowStreamLocalForwarding no\nMaxSessions 64"))
    }

    fn make() -> Arc<dyn Engine> {
        Arc::new(command_only().engine(None))
    }

    engine_contract!(@cases make;
        storage: archives_go_both_ways;
        streams: exec_is_binary_safe, exec_ends_with_its_stream;
    );

    #[tokio::test]
    async fn what_the_command_complains_of_is_told() {
        let sshd = command_only();
        let endpoint = Endpoint::parse(&format!("ssh://root@127.0.0.1:{}/no/such.sock", sshd.port())).expect("good");
        let key = PrivateKey::read(&sshd.key()).expect("a key");
        let address = Address::new(&endpoint, None, Some(SshMaterial { key, known: None })).expect("good");
        let why = why_not(&DockerEngine::at(address).expect("an engine")).await;
        assert!(why.contains("ended at once") && why.contains("no such file"), "{why}");
    }

    #[tokio::test]
    async fn a_server_that_runs_nothing_is_told() {
        let sshd = Sshd::start("AllowStreamLocalForwarding no\nMaxSessions 0");
        let why = why_not(&sshd.engine(None)).await;
        assert!(why.contains("docker.sock") && why.contains("dial-stdio"), "{why}");
    }
}

#[tokio::test]
async fn the_first_host_key_is_kept_and_another_is_refused() {
    let mut sshd = Sshd::start("");
    let engine = sshd.engine(None);
    let seen = engine.address().host_key().expect("SSH");
    assert!(seen.borrow().is_none());
    engine.ping().await.expect("answers");
    let first = seen.borrow().clone().expect("it was shown").host_key;
    assert!(sshd.host_key("ed25519").is(&first));
    assert!(!engine.address().is_local());

    sshd.change_host_keys();
    let other = sshd.host_key("ed25519").fingerprint();
    // Both the engine that saw the first one, and one that was told of it.
    for engine in [engine, sshd.engine(Some(KnownHost::Fingerprint(first.fingerprint())))] {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let error = engine.info().await.expect_err("it is another host");
            let why = error.unreachable().map(|why| why.to_string()).unwrap_or_default();
            if why.contains(&first.fingerprint()) && why.contains(&other) {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "{error:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    sshd.engine(None).ping().await.expect("who knows nothing of it is let in");
}

#[tokio::test]
async fn a_host_is_known_by_any_of_its_keys() {
    let sshd = shared();
    for kind in ["ed25519", "rsa"] {
        let key = sshd.host_key(kind);
        for known in [KnownHost::Fingerprint(key.fingerprint()), key] {
            let engine = sshd.engine(Some(known.clone()));
            engine.ping().await.unwrap_or_else(|error| panic!("{known:?}: {error:?}"));
            let seen = engine.address().host_key().expect("SSH").borrow().clone().expect("it was shown");
            assert!(known.is(&seen.host_key));
        }
    }
}

#[tokio::test]
async fn a_key_that_is_not_let_in_is_told() {
    let (sshd, stranger) = (shared(), Sshd::start(""));
    let key = stranger.key();
    let why = why_not(&sshd.engine_with(&key, None)).await;
    let fingerprint = PrivateKey::read(&key).expect("a key").public().fingerprint();
    assert!(why.contains("does not let") && why.contains(&fingerprint), "{why}");
    // A port that nobody listens at, and one where no SSH is spoken.
    drop(sshd.engine(None));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("an address").port();
    let at = |port: u16| {
        let endpoint = Endpoint::parse(&format!("ssh://root@127.0.0.1:{port}")).expect("an address");
        let key = PrivateKey::read(&key).expect("a key");
        let address = Address::new(&endpoint, None, Some(SshMaterial { key, known: None })).expect("good");
        DockerEngine::at(address).expect("an engine")
    };
    let other = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"220 mail.example ESMTP\r\n").await;
        }
    });
    let why = why_not(&at(port)).await;
    assert!(why.contains("does not speak SSH"), "{why}");
    other.abort();
    let _ = other.await;
    let why = why_not(&at(port)).await;
    assert!(why.contains("refuses connections"), "{why}");
}

/// As `docs/deploy-paas.md` advises.
#[tokio::test]
async fn a_key_may_be_for_the_socket_alone() {
    let sshd = Sshd::start("");
    let limits = "restrict,port-forwarding,permitlisten=\"localhost:1\",command=\"/bin/false\"";
    sshd.limit_key(limits);
    sshd.engine(None).ping().await.expect("answers");
    sshd.limit_key("restrict,command=\"/bin/false\"");
    let why = why_not(&sshd.engine(None)).await;
    assert!(why.contains("dial-stdio") && why.contains("ended at once"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_calls_share_one_connection() {
    let sshd = Sshd::start("");
    let engine = sshd.engine(None);
    let calls = (0..100).map(|_| engine.ping());
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(sshd.connections(), 1);
    // A connection goes with its last user.
    drop(engine);
    let gone = async {
        while sshd.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("it is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_made_again() {
    let mut sshd = Sshd::start("");
    let world = World::new(make).await;
    let id = world.running("a").await;
    let engine = sshd.engine(None);
    let mut stream = engine.exec_stream(&id, &exec(&["/bin/cat"])).await.expect("starts");
    stream.write_all(b"ping").await.expect("writes");
    let mut echo = [0; 4];
    stream.read_exact(&mut echo).await.expect("reads");
    let mut events = engine.events(&world.labels());

    sshd.kill();
    let end = tokio::time::timeout(PATIENCE, stream.read(&mut echo)).await.expect("the stream ends");
    assert!(end.is_err(), "an end that nobody meant is an error");
    let ended = async { while events.next().await.is_some_and(|item| item.is_ok()) {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("the events end");
    let why = why_not(&engine).await;
    assert!(why.contains("refuses connections"), "{why}");

    sshd.restart();
    until_it_answers(&engine).await;
    let mut stream = engine.exec_stream(&id, &exec(&["/bin/cat"])).await.expect("starts");
    stream.write_all(b"pong").await.expect("writes");
    stream.read_exact(&mut echo).await.expect("reads");
    assert_eq!(&echo, b"pong");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_nobody_reads_holds_up_no_other() {
    let world = World::new(make).await;
    let id = world.running("a").await;
    // Both without end, and neither is read.
    let flood = world.engine.exec_stream(&id, &exec(&["/bin/cat", "/dev/zero"])).await.expect("starts");
    let mut stuck = world.engine.exec_stream(&id, &exec(&["/bin/sleep", "3600"])).await.expect("starts");
    let clogged = async {
        loop {
            stuck.write_all(&[0; 64 * 1024]).await.expect("writes");
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(2), clogged).await.is_err(), "nobody takes so much");
    let mut stream = world.engine.exec_stream(&id, &exec(&["/bin/cat"])).await.expect("starts");
    for round in 0..100_u8 {
        let echo = async {
            stream.write_all(&[round]).await?;
            stream.read_u8().await
        };
        let echo = tokio::time::timeout(PATIENCE, echo).await.expect("it is not held up");
        assert_eq!(echo.expect("echoes"), round);
    }
    drop((flood, stuck));
}

/// More than every window on the way, both ways at once, to the last byte.
#[tokio::test(flavor = "multi_thread")]
async fn bulk_goes_through_whole() {
    const SIZE: usize = 48 << 20;
    let world = World::new(make).await;
    let id = world.running("a").await;
    let content: Vec<u8> = (0..SIZE / 4).flat_map(|n| (n as u32).wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let archive = TarBuilder::default().file("bulk", 0o644, &content).bytes();
    world.engine.archive_put(&id, "/tmp", archive.clone()).await.expect("goes up");
    let hash = format!("{:x}", HexOf(&Sha256::digest(&content)));
    assert!(world.sh(&id, "sha256sum /tmp/bulk").await.starts_with(&hash));
    let mut down = world.engine.archive_get(&id, "/tmp/bulk").await.expect("comes down");
    let mut got = Vec::new();
    while let Some(piece) = down.next().await {
        got.extend_from_slice(&piece.expect("comes down"));
    }
    // A tar's header is one block.
    assert!(got.get(512..512 + SIZE) == Some(&content[..]), "what came down is what went up");
    let mut stream = world.engine.exec_stream(&id, &exec(&["/bin/cat"])).await.expect("starts");
    let (mut read, mut write) = tokio::io::split(&mut stream);
    let send = async {
        write.write_all(&content).await?;
        write.shutdown().await
    };
    let mut echo = Vec::new();
    let (sent, received) = tokio::join!(send, read.read_to_end(&mut echo));
    sent.expect("is sent");
    received.expect("ends well");
    assert!(echo == content, "every byte comes back");
}

struct HexOf<'a>(&'a [u8]);

impl std::fmt::LowerHex for HexOf<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
