//! GitHub for workspaces: tokens that an App makes for each, and those that nobody may be given.

use crate::support::outside::{Outside, head, tunnel};
use crate::support::workspaces::{PATIENCE, Stage, eventually, on_stage};
use crate::support::{Backend, on_both};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rexec_api::egress::{EgressNetwork, EgressPreset, EgressSettings, GithubAccess};
use rexec_api::error::ErrorCode;
use rexec_api::ids::WorkspaceId;
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus};
use rexec_client::{Client, ClientError, Lifecycle};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::io::AsyncWriteExt as _;

on_both!(
    an_apps_tokens_are_used_and_never_had,
    what_is_not_to_be_had_is_refused,
    one_token_serves_where_there_is_no_app
);

const HOST: &str = "code.example";
const URL: &str = "https://code.example";
/// What stands before the key itself in PKCS #8, of 2,048 bits (RFC 5208): GitHub gives it without.
const PKCS8_BYTES: usize = 26;

fn app_key() -> String {
    let made = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let whole: Pkcs8V1Der<'_> = made.as_der().unwrap();
    let coded = BASE64_STANDARD.encode(&whole.as_ref()[PKCS8_BYTES..]);
    format!("-----BEGIN RSA PRIVATE KEY-----\n{coded}\n-----END RSA PRIVATE KEY-----")
}

/// GitHub, as far as the App of `acme` is known there. Each token is another.
fn github(count: Arc<AtomicU32>) -> impl Fn(&str) -> String + Clone + Send + 'static {
    move |asked| {
        let answer = |status: &str, body: String| {
            format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        let line = asked.split("\r\n").next().unwrap().trim_end_matches(" HTTP/1.1");
        let is_app = asked.contains("authorization: Bearer ey");
        match line {
            "GET /api/v3/orgs/acme/installation" if is_app => {
                let granted =
                    r#"{"metadata":"read","contents":"write","pull_requests":"write","administration":"write"}"#;
                answer("200 OK", format!("{{\"id\":5,\"permissions\":{granted}}}"))
            }
            "POST /api/v3/app/installations/5/access_tokens" if is_app && asked.contains("\"gone\"") => {
                answer("422 Unprocessable Entity", "{}".into())
            }
            "POST /api/v3/app/installations/5/access_tokens" if is_app => {
                let token = format!("ghs_made{}", count.fetch_add(1, Ordering::Relaxed));
                answer("201 Created", format!("{{\"token\":\"{token}\",\"expires_at\":\"2126-01-01T00:00:00Z\"}}"))
            }
            _ if line.ends_with("/installation") => answer("404 Not Found", "{}".into()),
            _ => "HTTP/1.1 204 No Content\r\n\r\n".into(),
        }
    }
}

fn access(repositories: &[&str], branches: &[&str]) -> GithubAccess {
    let all = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
    GithubAccess { repositories: all(repositories), branches: all(branches), read_only: false }
}

fn egress(github: GithubAccess) -> EgressSettings {
    EgressSettings { preset: EgressPreset::Locked, github: Some(github), ..EgressSettings::default() }
}

async fn made(stage: &Stage, egress: EgressSettings) -> WorkspaceId {
    let new = NewWorkspace {
        memory_mb: Some(256),
        wait_ms: Some(PATIENCE.as_millis() as u64),
        egress: Some(egress),
        ..NewWorkspace::default()
    };
    let view = stage.client.create_workspace(&new).await.unwrap();
    assert_eq!(view.status, WorkspaceStatus::Running, "{view:?}");
    view.id
}

async fn ask(stage: &Stage, id: WorkspaceId, line: &str) -> String {
    let mut stream = tunnel(stage, id, HOST).await.unwrap();
    let request = format!("{line} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    head(&mut stream).await.unwrap()
}

async fn an_apps_tokens_are_used_and_never_had(backend: Backend) {
    let outside = Outside::open(HOST, github(Arc::default())).await;
    let (authority, key) = (outside.authority.path().to_str().unwrap(), app_key());
    let variables = [
        ("REXEC_EGRESS_UPSTREAM", outside.proxy.as_str()),
        ("REXEC_EGRESS_CA_FILE", authority),
        ("REXEC_GITHUB_URL", URL),
        ("REXEC_GITHUB_APP_ID", "77"),
        ("REXEC_GITHUB_APP_KEY", &key),
    ];
    on_stage(backend, &variables, async |_, stage| {
        let client = &stage.client;
        let id = made(&stage, egress(access(&["acme/app"], &["agent/*"]))).await;
        let view = client.egress(id).await.unwrap();
        assert!(view.github_offered && view.network == EgressNetwork::Closed, "{view:?}");
        assert_eq!(view.github, Some(access(&["acme/app"], &["agent/*"])));
        let inside = stage
            .run(id, "echo $GH_HOST $GH_ENTERPRISE_TOKEN; git config --get-all url.https://code.example/.insteadOf")
            .await;
        let mut lines = inside.stdout.lines();
        let placeholder = lines.next().and_then(|line| line.strip_prefix("code.example ghs_")).unwrap();
        assert!(placeholder.len() == 36 && !placeholder.contains("made"), "{}", inside.stdout);
        assert_eq!(lines.collect::<Vec<_>>(), ["git@code.example:", "ssh://git@code.example/"]);

        // Two that were made to see whether it can be; two for the workspace, of which the API is asked with the second.
        assert!(ask(&stage, id, "GET /api/v3/repos/acme/app/pulls").await.starts_with("HTTP/1.1 204"));
        let came = outside.last();
        let token = came.split("authorization: Bearer ").nth(1).unwrap().split("\r\n").next().unwrap().to_owned();
        assert!(token.starts_with("ghs_made"), "{came}");
        let heard = outside.heard.lock().unwrap().join("\n");
        for asked in [
            r#"{"permissions":{"contents":"write","metadata":"read"},"repositories":["app"]}"#,
            r#"{"permissions":{"contents":"read","metadata":"read","pull_requests":"write"},"repositories":["app"]}"#,
        ] {
            assert_eq!(heard.matches(asked).count(), 2, "{heard}");
        }
        for (line, code) in [
            ("PUT /api/v3/repos/acme/app/contents/a", "egress_github_refused"),
            ("GET /api/v3/repos/acme/other", "egress_request_not_allowed"),
            ("GET /acme/app.git/info/refs?service=git-receive-pack", ""),
        ] {
            let said = ask(&stage, id, line).await;
            assert_eq!(said.contains(&format!("x-rexec-egress: {code}\r\n")), !code.is_empty(), "{said}");
        }
        let git = BASE64_STANDARD.encode("x-access-token:ghs_made");
        assert!(
            outside.last().contains(&format!("authorization: Basic {}", &git[..git.len() - 4])),
            "{}",
            outside.last()
        );
        eventually("the log to have it", async || {
            let log = client.egress_log(id, false).await.unwrap().items;
            log.iter().any(|entry| entry.host == HOST && entry.how == "https").then_some(())
        })
        .await;

        // What it may do changes as it runs, and with it the tokens.
        client.set_egress(id, &egress(access(&["acme/*"], &[]))).await.unwrap();
        let asked = "GET /api/v3/repos/acme/other";
        eventually("the wider token", async || ask(&stage, id, asked).await.starts_with("HTTP/1.1 204").then_some(()))
            .await;
        let wider = outside.last();
        assert!(wider.contains("Bearer ghs_made") && !wider.contains(&token), "{wider}");
        let end_of = |token: &str| {
            let heard = outside.heard.lock().unwrap();
            let is_its = |one: &&String| {
                one.starts_with("DELETE /api/v3/installation/token ") && one.contains(&format!("Bearer {token}\r\n"))
            };
            heard.iter().find(is_its).map(|_| ())
        };
        eventually("the earlier one to end", async || end_of(&token)).await;
        let last = wider.split("authorization: Bearer ").nth(1).unwrap().split("\r\n").next().unwrap().to_owned();
        client.lifecycle(id, Lifecycle::Stop).await.unwrap();
        eventually("the last one to end", async || end_of(&last)).await;

        // After its next start it has others.
        client.lifecycle(id, Lifecycle::Start).await.unwrap();
        stage.until(id, "it to run", |view| view.status == WorkspaceStatus::Running).await;
        assert!(ask(&stage, id, asked).await.starts_with("HTTP/1.1 204"));
        assert!(!outside.last().contains(&last), "{}", outside.last());
        client.set_egress(id, &EgressSettings { github: None, ..egress(access(&[], &[])) }).await.unwrap();
        eventually("its variable to go", async || {
            (stage.run(id, "env | grep -c ^GH_; true").await.stdout == "0\n").then_some(())
        })
        .await;
        client.purge_workspace(id).await.unwrap();
        stage
    })
    .await;
}

fn refused(outcome: Result<impl std::fmt::Debug, ClientError>) -> (ErrorCode, String, String) {
    match outcome.unwrap_err() {
        ClientError::Refused(error) => {
            (error.code, error.details["field"].as_str().unwrap_or_default().to_owned(), error.message)
        }
        other => panic!("{other}"),
    }
}

async fn what_is_not_to_be_had_is_refused(backend: Backend) {
    let outside = Outside::open(HOST, github(Arc::default())).await;
    let (authority, key) = (outside.authority.path().to_str().unwrap(), app_key());
    let variables = [
        ("REXEC_EGRESS_UPSTREAM", outside.proxy.as_str()),
        ("REXEC_EGRESS_CA_FILE", authority),
        ("REXEC_GITHUB_URL", URL),
        ("REXEC_GITHUB_APP_ID", "77"),
        ("REXEC_GITHUB_APP_KEY", &key),
        ("REXEC_GITHUB_REPOSITORIES", "acme/*,stranger/*"),
    ];
    on_stage(backend, &variables, async |_, stage| {
        let client = &stage.client;
        let asked = async |client: &Client, egress: EgressSettings| {
            let new = NewWorkspace { egress: Some(egress), ..NewWorkspace::default() };
            refused(client.create_workspace(&new).await)
        };
        for (repositories, branches, field, said) in [
            (&[][..], &[][..], "egress.github.repositories", "at least one"),
            (&["acme"], &[], "egress.github.repositories", "\"acme\""),
            (&["acme/a b"], &[], "egress.github.repositories", "\"acme/a b\""),
            (&["elsewhere/app"], &[], "egress.github.repositories", "REXEC_GITHUB_REPOSITORIES"),
            (&["acme/app", "stranger/app"], &[], "egress.github.repositories", "one owner"),
            (&["stranger/app"], &[], "egress.github.repositories", "not installed at `stranger`"),
            (&["acme/gone"], &[], "egress.github.repositories", "does not reach all"),
            (&["acme/app"], &["a..b"], "egress.github.branches", "\"a..b\""),
        ] {
            let (code, at, message) = asked(client, egress(access(repositories, branches))).await;
            assert_eq!((code, at.as_str()), (ErrorCode::InvalidRequest, field), "{message}");
            assert!(message.contains(said), "{message}");
        }
        let reading = GithubAccess { read_only: true, ..access(&["acme/app"], &["main"]) };
        assert_eq!(asked(client, egress(reading)).await.1, "egress.github.branches");
        let both = EgressSettings { secrets: vec!["GITHUB_TOKEN".into()], ..egress(access(&["acme/app"], &[])) };
        assert_eq!(asked(client, both).await.1, "egress.github");
        let (other, _) = Client::new(&stage.server.base)
            .unwrap()
            .register("bob@example.com", crate::support::PASSWORD)
            .await
            .unwrap();
        let (code, at, message) = asked(&other, egress(access(&["acme/app"], &[]))).await;
        assert_eq!((code, at.as_str()), (ErrorCode::Forbidden, "egress.github"), "{message}");
        assert!(client.workspaces().await.unwrap().items.is_empty());
        stage
    })
    .await;
}

async fn one_token_serves_where_there_is_no_app(backend: Backend) {
    let outside = Outside::open(HOST, github(Arc::default())).await;
    let authority = outside.authority.path().to_str().unwrap();
    let variables = [
        ("REXEC_EGRESS_UPSTREAM", outside.proxy.as_str()),
        ("REXEC_EGRESS_CA_FILE", authority),
        ("REXEC_GITHUB_URL", URL),
        ("GITHUB_TOKEN", "ghp_the_operators"),
        ("REXEC_GITHUB_FOR", "everyone"),
    ];
    on_stage(backend, &variables, async |_, stage| {
        let id = made(&stage, egress(access(&["acme/app"], &[]))).await;
        assert!(ask(&stage, id, "POST /api/v3/repos/acme/app/pulls").await.starts_with("HTTP/1.1 204"));
        assert!(outside.last().contains("authorization: Bearer ghp_the_operators\r\n"), "{}", outside.last());
        for line in ["PATCH /api/v3/repos/acme/app", "POST /api/v3/repos/acme/app/keys", "POST /api/graphql"] {
            let said = ask(&stage, id, line).await;
            assert!(said.starts_with("HTTP/1.1 403"), "{line}: {said}");
        }
        assert_eq!(outside.heard.lock().unwrap().len(), 1, "GitHub is asked for nothing but that");
        stage.client.purge_workspace(id).await.unwrap();
        stage
    })
    .await;
}
