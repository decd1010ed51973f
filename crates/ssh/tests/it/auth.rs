//! Who is let in, and that nobody learns why not.

use crate::client::{Done, PATIENCE, World, finish};
use rexec_ssh::{Bounds, HostKey, KeyError, PublicKey};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn users_keys_of_every_kind() {
    let world = World::new().await;
    for (name, kind) in [
        ("ed25519", &["-t", "ed25519"][..]),
        ("ecdsa256", &["-t", "ecdsa", "-b", "256"]),
        ("ecdsa521", &["-t", "ecdsa", "-b", "521"]),
        ("rsa", &["-t", "rsa", "-b", "2048"]),
    ] {
        let key = world.key(name, kind).await;
        world.allow("somebody/else", key);
        let done = finish(world.ssh_as(name).args(["-l", "somebody/else", "127.0.0.1", "echo in"]), b"").await.ok();
        assert_eq!(done.text(), "in\n", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rsa_signature_with_sha1_is_none() {
    let world = World::new().await;
    let key = world.key("rsa", &["-t", "rsa", "-b", "2048"]).await;
    world.allow("ws", key);
    let mut ssh = world.ssh_as("rsa");
    let done = finish(ssh.args(["-oPubkeyAcceptedAlgorithms=ssh-rsa", "ws@127.0.0.1", "echo in"]), b"").await;
    assert_eq!(done.code, Some(255));
}

/// What a stranger is told, without what the client adds of its own.
fn told(done: &Done) -> String {
    assert_eq!(done.code, Some(255), "{}", done.err);
    done.err.lines().filter(|line| line.contains("denied")).collect::<String>().replace("nobody", "ws")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_and_an_unknown_login_look_the_same() {
    let world = World::new().await;
    world.key("other", &["-t", "ed25519"]).await;
    let wrong = finish(world.ssh_as("other").args(["ws@127.0.0.1", "true"]), b"").await;
    let unknown = finish(world.ssh_as("other").args(["nobody@127.0.0.1", "true"]), b"").await;
    let mine_elsewhere = finish(world.ssh().args(["nobody@127.0.0.1", "true"]), b"").await;
    assert!(told(&wrong).contains("Permission denied (publickey,password,keyboard-interactive)"), "{}", wrong.err);
    assert_eq!(told(&wrong), told(&unknown));
    assert_eq!(told(&wrong), told(&mine_elsewhere));
    assert!(world.local.calls.lock().expect("calls").is_empty(), "nothing was asked of a target");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_as_password_as_answer_and_as_login() {
    let world = World::new().await;
    world.local.tokens.lock().expect("tokens").insert("ws".into(), "rexec_secret".into());
    let askpass = world.path("askpass");
    std::fs::write(&askpass, "#!/bin/sh\necho $TOKEN\n").expect("a script");
    std::fs::set_permissions(&askpass, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("a mode");
    for (method, token, code) in [
        ("password", "rexec_secret", 0),
        ("keyboard-interactive", "rexec_secret", 0),
        ("password", "rexec_wrong", 255),
        ("keyboard-interactive", "", 255),
    ] {
        // The first value of an option counts.
        let mut ssh = tokio::process::Command::new("ssh");
        ssh.args(["-oBatchMode=no", &format!("-oPreferredAuthentications={method}")]).args(world.options());
        ssh.env("SSH_ASKPASS", &askpass).env("SSH_ASKPASS_REQUIRE", "force").env("TOKEN", token);
        let done = finish(ssh.args(["ws@127.0.0.1", "echo in"]), b"").await;
        assert_eq!(done.code, Some(code), "{method} {token} {}", done.err);
    }
    world.key("other", &["-t", "ed25519"]).await;
    finish(world.ssh_as("other").args(["rexec_secret@127.0.0.1", "echo in"]), b"").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_an_authority() {
    let scratch = World::new().await;
    let authority = scratch.key("ca", &["-t", "ed25519"]).await;
    scratch.key("mallory", &["-t", "ed25519"]).await;
    let world = World::with(Bounds::default(), vec![authority]).await;
    world.local.principals.lock().expect("principals").insert("ws".into(), "alice".into());
    for (case, ca, options, code) in [
        ("good", "ca", &["-n", "alice"][..], 0),
        ("expired", "ca", &["-n", "alice", "-V", "20200101:20200102"], 255),
        ("somebody-else", "ca", &["-n", "bob"], 255),
        ("nobody-in-particular", "ca", &[], 255),
        ("conditional", "ca", &["-n", "alice", "-O", "force-command=true"], 255),
        ("a-host", "ca", &["-n", "alice", "-h"], 255),
        ("other-authority", "mallory", &["-n", "alice"], 255),
    ] {
        sign(&world, &scratch, (case, ca, options)).await;
        let done = finish(world.ssh_as(case).args(["ws@127.0.0.1", "echo in"]), b"").await;
        assert_eq!(done.code, Some(code), "{case} {}", done.err);
    }
}

/// A key, and a certificate of it by an authority's key.
async fn sign(world: &World, scratch: &World, (case, ca, options): (&str, &str, &[&str])) {
    world.key(case, &["-t", "ed25519"]).await;
    let mut sign = tokio::process::Command::new("ssh-keygen");
    sign.arg("-q").arg("-s").arg(scratch.path(ca)).args(["-I", case]).args(options);
    finish(sign.arg(world.path(case).with_extension("pub")), b"").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_signed_soundly_and_give_what_they_permit() {
    let scratch = World::new().await;
    let rsa = scratch.key("ca", &["-t", "rsa", "-b", "3072"]).await;
    let world = World::with(Bounds::default(), vec![rsa]).await;
    world.local.principals.lock().expect("principals").insert("ws".into(), "alice".into());
    for (case, options, code) in [
        ("good", &["-n", "alice", "-t", "rsa-sha2-256"][..], 0),
        ("bare", &["-n", "alice", "-t", "rsa-sha2-512", "-O", "clear"], 0),
        ("sha-1", &["-n", "alice", "-t", "ssh-rsa"], 255),
    ] {
        sign(&world, &scratch, (case, "ca", options)).await;
        let done = finish(world.ssh_as(case).args(["ws@127.0.0.1", "echo in"]), b"").await;
        assert_eq!(done.code, Some(code), "{case} {}", done.err);
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let there = listener.local_addr().expect("an address").to_string();
    for (case, may) in [("good", true), ("bare", false)] {
        let done = finish(world.ssh_as(case).args(["-tt", "ws@127.0.0.1", "exit 3"]), b"").await;
        assert_eq!(done.err.contains("PTY allocation request failed"), !may, "{case} {}", done.err);
        let mut forwarded = world.ssh_as(case);
        let forwarded = finish(forwarded.args(["-W", &there, "ws@127.0.0.1"]), b"");
        if may {
            let (done, _) = tokio::join!(forwarded, async { drop(listener.accept().await) });
            done.ok();
        } else {
            assert!(forwarded.await.err.contains("administratively prohibited"), "{case}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_wrong_keys_shuts_the_door_for_its_address_only() {
    let world = World::new().await;
    world.key("other", &["-t", "ed25519"]).await;
    let mut refused = false;
    for _ in 0..20 {
        let done = finish(world.ssh_as("other").args(["-b", "127.0.0.2", "ws@127.0.0.1", "true"]), b"").await;
        assert_eq!(done.code, Some(255));
        refused = !done.err.contains("Permission denied");
        if refused {
            break;
        }
    }
    assert!(refused, "it could go on for ever");
    assert_eq!(world.run("echo in").await.ok().text(), "in\n", "another address is not in its way");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_few_and_have_little_time() {
    let bounds =
        Bounds { strangers_per_address_max: 2, authentication_time: Duration::from_secs(1), ..Bounds::default() };
    let world = World::with(bounds, Vec::new()).await;
    let greeting = async |io: &mut TcpStream| {
        let mut line = [0; 4];
        timeout(PATIENCE, io.read_exact(&mut line)).await.expect("a greeting").expect("a line");
        line
    };
    let mut strangers = Vec::new();
    for _ in 0..2 {
        let mut io = TcpStream::connect(("127.0.0.1", world.port)).await.expect("a connection");
        assert_eq!(&greeting(&mut io).await, b"SSH-");
        strangers.push(io);
    }
    let mut third = TcpStream::connect(("127.0.0.1", world.port)).await.expect("a connection");
    assert_eq!(&greeting(&mut third).await, b"Not ");
    for mut io in strangers {
        let mut rest = Vec::new();
        let ended = timeout(PATIENCE, io.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "a silent stranger stays");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_its_own_connection() {
    let world = World::new().await;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"SSH-2.0-x\r\n\xff\xff\xff\xff\xff\xff\xff\xff", b"SSH-1.5-x\r\n"]
    {
        let mut io = TcpStream::connect(("127.0.0.1", world.port)).await.expect("a connection");
        tokio::io::AsyncWriteExt::write_all(&mut io, garbage).await.expect("garbage");
        tokio::io::AsyncWriteExt::shutdown(&mut io).await.expect("an end");
        let mut rest = Vec::new();
        let ended = timeout(PATIENCE, io.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{garbage:?} is waited for");
    }
    world.run("true").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_let_it_in_is_withdrawn() {
    let world = World::new().await;
    let mut ssh = world.ssh();
    ssh.args(["ws@127.0.0.1", "echo in; sleep 1000"]);
    let session = tokio::spawn(async move { finish(&mut ssh, b"").await });
    world.until("a session", || *world.local.alive.lock().expect("alive") == 1).await;
    world.local.revoke.cancel();
    let done = session.await.expect("an end");
    assert_eq!(done.code, Some(255));
    assert!(done.err.contains("Your access has been withdrawn."), "{}", done.err);
    world.until_idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_modern_algorithms_are_offered() {
    let world = World::new().await;
    for (option, works) in [
        ("KexAlgorithms=curve25519-sha256", true),
        ("KexAlgorithms=diffie-hellman-group14-sha256", false),
        ("KexAlgorithms=ecdh-sha2-nistp256", false),
        ("Ciphers=chacha20-poly1305@openssh.com", true),
        ("Ciphers=aes256-gcm@openssh.com", true),
        ("Ciphers=aes128-ctr", true),
        ("Ciphers=aes128-cbc", false),
    ] {
        let done = finish(world.ssh().args(["-o", option, "ws@127.0.0.1", "echo in"]), b"").await;
        assert_eq!(done.code == Some(0), works, "{option} {}", done.err);
    }
    let old = ["-oCiphers=aes256-ctr", "-oMACs=hmac-sha2-256", "ws@127.0.0.1", ":"];
    let done = finish(world.ssh().args(old), b"").await;
    assert_eq!(done.code, Some(255), "a MAC of before encrypt-then-mac");
    let done = finish(world.ssh().args(["-vv", "ws@127.0.0.1", ":"]), b"").await.ok();
    assert!(done.err.contains("strict KEX ordering") || done.err.contains("kex-strict-s-v00"), "{}", done.err);
}

#[tokio::test]
async fn keys_are_read_as_people_send_them() {
    let host = HostKey::generate();
    let line = host.public().line();
    let key = PublicKey::parse(&format!("  {line} me@laptop\n")).expect("a line with a comment");
    assert_eq!(key, host.public());
    assert_eq!(key.comment(), "me@laptop");
    assert!(key.fingerprint().starts_with("SHA256:"));
    let secret = host.secret().expect("a secret");
    assert_eq!(HostKey::parse(&secret).expect("the same").public(), key);
    assert_eq!(PublicKey::parse(&secret).expect_err("no public key"), KeyError::Private);
    for nonsense in ["", "ssh-ed25519", "ssh-ed25519 AAAA", "no key at all", "ssh-ed25519 AAAA\nssh-ed25519 AAAA"] {
        assert_eq!(PublicKey::parse(nonsense).expect_err(nonsense), KeyError::Malformed);
    }
    let world = World::new().await;
    let dir = world.path("short");
    let mut keygen = tokio::process::Command::new("ssh-keygen");
    finish(keygen.args(["-q", "-t", "rsa", "-b", "1024", "-N", "", "-f"]).arg(&dir), b"").await.ok();
    let short = std::fs::read_to_string(dir.with_extension("pub")).expect("a key");
    assert_eq!(PublicKey::parse(&short).expect_err("1024 bits"), KeyError::Short);
}
