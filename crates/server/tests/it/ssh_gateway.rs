//! The SSH gateway's own settings: its port, its key, and the authorities whose certificates it takes.

use crate::support::ssh::{Desk, finish, logged, make_key, with_gateway_as};
use crate::support::{Backend, in_place, on_both};
use reqwest::Method;
use rexec_server::config::SshListen;
use std::path::Path;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;

on_both!(certificates_of_a_trusted_authority_let_in);

/// Has an authority sign that the key `name` is somebody's.
async fn sign(desk: &Desk, name: &str, authority: &Path, id: &str, principals: &str) {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-I", id, "-z", "42", "-V", "-5m:+1h", "-n", principals, "-s"]).arg(authority);
    finish(keygen.arg(desk.path(name).with_extension("pub")), b"").await.ok();
}

async fn certificates_of_a_trusted_authority_let_in(backend: Backend) {
    let office = tempfile::tempdir().unwrap();
    let trusted = make_key(&office.path().join("trusted")).await;
    make_key(&office.path().join("other")).await;
    with_gateway_as(backend, &[("REXEC_SSH_USER_CA", &trusted)], async |_, stage, desk| {
        let view = stage.workspace().await;
        let log = async |name: &str, login: &str| {
            finish(desk.ssh_as(name).args(["-l", login, "127.0.0.1", "id -un"]), b"").await
        };
        for (name, authority, principals, lets_in) in [
            ("hers", "trusted", "deploy,ADA@example.com", true),
            ("nobodys", "trusted", "bob@example.com", false),
            ("unsigned", "other", "ada@example.com", false),
        ] {
            desk.key(name).await;
            sign(desk, name, &office.path().join(authority), "ada\u{7}s laptop", principals).await;
            let done = log(name, &view.name).await;
            assert_eq!(done.code, Some(if lets_in { 0 } else { 255 }), "{name}: {done:?}");
        }
        assert_eq!(log("hers", &format!("ada@example.com/{}", view.name)).await.ok().text(), "user\n");
        let (kind, data) = &logged(&stage, view.id).await[0];
        assert_eq!(
            (kind.as_str(), &data["certificate"], &data["serial"]),
            ("ssh.exec", &"ada?s laptop".into(), &"42".into())
        );
        stage
    })
    .await;
}

#[tokio::test]
async fn a_host_key_outlives_a_restart() {
    in_place(Backend::Sqlite, async |place| {
        let mut fingerprints = Vec::new();
        let mut token = None;
        for _ in 0..2 {
            let mut config = place.config(&[]);
            config.ssh.listen = SshListen::At(0);
            let server = place.start_as(config).await;
            let by = match &token {
                Some(by) => String::clone(by),
                None => server.register("ada@example.com").await.token(),
            };
            let told = server.by(&by, Method::GET, "/api/ssh/host-keys").await.json();
            fingerprints.push(told["items"][0]["fingerprint"].as_str().unwrap().to_owned());
            token = Some(by);
            assert!(server.stop().await);
        }
        assert_eq!(fingerprints[0], fingerprints[1]);
    })
    .await;
}

#[tokio::test]
async fn a_port_that_is_taken() {
    in_place(Backend::Sqlite, async |place| {
        let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let mut config = place.config(&[]);
        config.ssh.listen = SshListen::At(port);
        let error = rexec_server::start(config).await.err().expect("it was asked for").to_string();
        assert!(error.contains("REXEC_SSH_PORT") && error.contains(&port.to_string()), "{error}");
        let mut config = place.config(&[]);
        config.ssh.listen = SshListen::IfFree(port);
        let server = place.start_as(config).await;
        assert_eq!(server.running.app.ssh.port(), None);
        assert!(server.stop().await);
    })
    .await;
}

/// A client that is connected when the server stops is told so, and keeps nobody waiting.
#[tokio::test]
async fn a_server_that_stops_says_good_bye() {
    in_place(Backend::Sqlite, async |place| {
        let mut config = place.config(&[]);
        config.ssh.listen = SshListen::At(0);
        let server = place.start_as(config).await;
        let port = server.running.app.ssh.port().unwrap();
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut lines = BufReader::new(stream);
        let mut banner = String::new();
        lines.read_line(&mut banner).await.unwrap();
        assert_eq!(banner, "SSH-2.0-Rexec\r\n");
        assert!(server.stop().await, "the server left work behind when it stopped");
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = lines.read_to_end(&mut rest).await;
    })
    .await;
}
