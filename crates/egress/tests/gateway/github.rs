//! Repositories that a workspace uses by a token that it has not: asked for by real git, and by the API.

use crate::requests::ask;
use crate::secrets::tls;
use crate::tunnel;
use crate::world::{CODE, GATEWAY, ONE, World, apart, head};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rexec_egress::authority::{self, Authority};
use rexec_egress::github::{AtGithub, Grant, Pair, Site, Tokens};
use rexec_egress::policy::{Layer, Origin, Policy, Preset};
use rexec_egress::reading::Reading;
use rexec_egress::secrets::Secrets;
use rexec_egress::table::Bound;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

const PLACEHOLDER: &str = "ghs_uldlulldluuldllduldllulduulldluldllu";
const GIT: &str = "ghs_forgit";
const API: &str = "ghs_forapi";

/// Keeps repositories for whoever has the token, by git's own program, and notes what it was asked.
struct Code {
    root: TempDir,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Code {
    /// With `acme/app`, which has a branch `main`.
    async fn open(world: &World) -> Self {
        let root = TempDir::new().unwrap();
        let (bare, first) = (root.path().join("acme/app.git"), root.path().join("first"));
        std::fs::create_dir_all(&bare).unwrap();
        for (at, words) in [
            (bare.as_path(), &["init", "-q", "--bare", "-b", "main"][..]),
            (&bare, &["config", "http.receivepack", "true"]),
            (&bare, &["config", "receive.advertisePushOptions", "true"]),
            (root.path(), &["init", "-q", "-b", "main", "first"]),
            (&first, &["commit", "-q", "--allow-empty", "-m", "first"]),
            (&first, &["push", "-q", bare.to_str().unwrap(), "main"]),
        ] {
            ok(&git(at, words).output().await.unwrap());
        }
        let code = Self { root, heard: Arc::default() };
        let (listener, acceptor) = world.code.lock().unwrap().take().unwrap();
        let (root, heard) = (code.root.path().to_owned(), Arc::clone(&code.heard));
        tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, root, heard) = (acceptor.clone(), root.clone(), Arc::clone(&heard));
                tokio::task::spawn_local(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| answer(request, root.clone(), Arc::clone(&heard)));
                    // Whoever breaks off is the test's own gateway.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        code
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut *self.heard.lock().unwrap())
    }

    async fn branches(&self) -> String {
        let bare = self.root.path().join("acme/app.git");
        let listed = git(&bare, &["for-each-ref", "--format=%(refname:short)"]).output().await.unwrap();
        String::from_utf8(listed.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// Git's own program for servers, as web servers call it (git-http-backend; RFC 3875).
async fn answer(
    request: Request<Incoming>,
    root: PathBuf,
    heard: Arc<Mutex<Vec<String>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let header = |name| request.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let query = request.uri().query().unwrap_or_default().to_owned();
    let authorization = header(AUTHORIZATION);
    let override_it = request.headers().keys().any(|name| name.as_str().contains("override"));
    let is_last = if header(CONNECTION) == "close" { " close" } else { "" };
    heard
        .lock()
        .unwrap()
        .push(format!("{method} {path} {authorization}{}{is_last}", if override_it { " override" } else { "" }));
    let (kind, coding) = (header(CONTENT_TYPE), header(CONTENT_ENCODING));
    let body = request.into_body().collect().await.unwrap().to_bytes();
    if path.starts_with("/api/") {
        let answer = Response::builder().header("x-echo", authorization).body(Full::default());
        return Ok(answer.unwrap());
    }
    if authorization != format!("Basic {}", STANDARD.encode(format!("x-access-token:{GIT}"))) {
        let answer = Response::builder().status(StatusCode::UNAUTHORIZED).header("www-authenticate", "Basic");
        return Ok(answer.body(Full::default()).unwrap());
    }
    let mut backend = git(&root, &["http-backend"])
        .envs([("GIT_PROJECT_ROOT", root.to_str().unwrap()), ("GIT_HTTP_EXPORT_ALL", "1"), ("REMOTE_USER", "one")])
        .envs([("REQUEST_METHOD", &method), ("PATH_INFO", &path), ("QUERY_STRING", &query)])
        .envs([
            ("CONTENT_TYPE", &kind),
            ("HTTP_CONTENT_ENCODING", &coding),
            ("CONTENT_LENGTH", &body.len().to_string()),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    backend.stdin.take().unwrap().write_all(&body).await.unwrap();
    let told = backend.wait_with_output().await.unwrap().stdout;
    let end = told.windows(4).position(|part| part == b"\r\n\r\n").unwrap();
    let mut answer = Response::builder();
    for line in std::str::from_utf8(&told[..end]).unwrap().split("\r\n") {
        let (name, value) = line.split_once(": ").unwrap();
        answer = match name {
            "Status" => answer.status(value[..3].parse::<u16>().unwrap()),
            _ => answer.header(name, value),
        };
    }
    Ok(answer.body(Full::new(Bytes::copy_from_slice(&told[end + 4..]))).unwrap())
}

/// Of nobody's configuration.
fn git(at: &Path, words: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.args(words).current_dir(at).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command.envs(
        ["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"].map(|name| (name, "one")),
    );
    command.env("GIT_TERMINAL_PROMPT", "0").kill_on_drop(true);
    command
}

fn ok(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn grant(repositories: &str, branches: &[&str]) -> Grant {
    Grant {
        site: Site::Own(CODE.parse().unwrap()),
        repositories: vec![repositories.parse().unwrap()],
        branches: branches.iter().map(|one| one.parse().unwrap()).collect(),
        write: true,
        apart: true,
    }
}

fn had() -> Tokens {
    Tokens::Had(Arc::new(Pair { git: GIT.into(), api: API.into() }))
}

/// Its authority's certificate, in PEM.
fn bind(world: &World, preset: Preset, grant: Grant, tokens: Tokens) -> String {
    bind_as(world, 1, preset, grant, tokens)
}

fn bind_as(world: &World, version: u64, preset: Preset, grant: Grant, tokens: Tokens) -> String {
    let made = authority::make(ONE, SystemTime::now()).unwrap();
    let allow = grant.rules().iter().map(|rule| rule.parse().unwrap()).collect();
    let policy = Policy::new(preset, vec![Layer { origin: Origin::Workspace, allow, deny: Vec::new() }]);
    let reading = Some(Reading::new(Secrets::default(), Authority::read(ONE, &made.key).unwrap()));
    let github = Some(AtGithub::new(grant, PLACEHOLDER.into(), tokens));
    let bound = Bound { workspace: ONE.into(), version, policy, reading, models: None, github };
    world.gateway.table.bind(ONE.parse().unwrap(), bound);
    made.certificate
}

fn roots(authority: &str) -> rustls::RootCertStore {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    roots
}

#[test]
fn git_clones_and_pushes_what_it_may() {
    apart(async |world: World| {
        // Whoever says nothing else comes from the workspace's address.
        crate::world::ip(&["route", "replace", "local", GATEWAY, "dev", "lo", "table", "local", "src", ONE]);
        let code = Code::open(&world).await;
        let authority = bind(&world, Preset::Locked, grant("Acme/app", &["agent/*"]), had());
        let inside = TempDir::new().unwrap();
        let bundle = inside.path().join("ca.pem");
        std::fs::write(&bundle, authority).unwrap();
        let run = async |at: &str, words: &[&str]| {
            let mut command = git(&inside.path().join(at), words);
            command.env("https_proxy", format!("http://{GATEWAY}:3128")).env("GIT_SSL_CAINFO", &bundle);
            let output = command.output().await.unwrap();
            (output.status.success(), String::from_utf8(output.stderr).unwrap())
        };
        // With the placeholder, as a helper would give it, or with nothing.
        let address = format!("https://x-access-token:{PLACEHOLDER}@{CODE}/acme/app.git");
        assert_eq!(run("", &["clone", "-q", &address, "with"]).await, (true, String::new()));
        let cloned = run("", &["clone", "-q", &format!("https://{CODE}/acme/app"), "app"]).await;
        assert_eq!(cloned, (true, String::new()));
        // More than a buffer holds, so that it is chunked.
        let noise: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        std::fs::write(inside.path().join("app/noise"), noise).unwrap();
        ok(&git(&inside.path().join("app"), &["add", "."]).output().await.unwrap());
        ok(&git(&inside.path().join("app"), &["commit", "-q", "-m", "noise"]).output().await.unwrap());
        let (pushed, said) = run("app", &["push", "-q", "-o", "x=y", "origin", "HEAD:agent/one"]).await;
        assert!(pushed, "{said}");
        for (refs, why) in [
            (&["HEAD:main"][..], "main -> main"),
            (&["HEAD:refs/tags/v1"], "v1"),
            (&["HEAD:agent/two", "HEAD:main"], "agent/two"),
            (&[":main"], "main"),
        ] {
            let (pushed, said) = run("app", &[&["push", "origin"], refs].concat()).await;
            let is_told =
                said.contains("[remote rejected]") && said.contains("may push to") && said.contains("agent/*");
            assert!(!pushed && is_told, "{why}: {said}");
        }
        assert_eq!(code.branches().await, "agent/one main");
        let (deleted, said) = run("app", &["push", "-q", "origin", ":agent/one"]).await;
        assert!(deleted, "{said}");
        assert_eq!(code.branches().await, "main");
        code.heard();
        // One that may read alone is told so before it sends anything.
        let reading = Grant { write: false, ..grant("acme/app", &[]) };
        std::fs::write(&bundle, bind(&world, Preset::Locked, reading, had())).unwrap();
        let (pushed, said) = run("app", &["push", "origin", "HEAD:agent/one"]).await;
        assert!(!pushed && said.contains("remote: GitHub: this workspace may read"), "{said}");
        code.heard();
        // Another's is nothing of this workspace's.
        let (cloned, said) = run("", &["clone", "-q", &format!("https://{CODE}/acme/other"), "other"]).await;
        assert!(!cloned && said.contains("403"), "{said}");
        assert_eq!(code.heard(), [""; 0]);
    });
}

#[test]
fn the_api_is_asked_with_a_token_about_what_was_granted() {
    apart(async |world: World| {
        let code = Code::open(&world).await;
        let authority = bind(&world, Preset::Open, grant("acme/app", &["agent/*"]), had());
        let mut stream = tls(tunnel(&world, ONE, &format!("{CODE}:443")).await, roots(&authority), CODE).await.unwrap();
        let own = "Authorization: token ghp_my_own\r\n".to_owned();
        let placeholder = format!("Authorization: Bearer {PLACEHOLDER}\r\n");
        let basic = format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("x:{PLACEHOLDER}")));
        for (line, sent, came, code_of) in [
            ("GET /api/v3/repos/acme/app/pulls", "", "Bearer ghs_forapi", ""),
            ("GET /api/v3/repos/ACME/App", placeholder.as_str(), "Bearer ghs_forapi", ""),
            ("POST /api/v3/repos/acme/app/pulls", own.as_str(), "Bearer ghs_forapi", ""),
            ("GET /api/v3/repos/acme/other", placeholder.as_str(), "", ""),
            ("GET /api/v3/repos/acme/other", basic.as_str(), "", ""),
            ("GET /api/v3/repos/acme/other", own.as_str(), "token ghp_my_own", ""),
            ("PUT /api/v3/repos/acme/app/contents/a", "", "-", "egress_github_refused"),
            ("PUT /api/v3/repos/acme/app/pulls/1/merge", own.as_str(), "-", "egress_github_refused"),
            ("GET /api/v3/repos/acme/other/../app", "", "-", "egress_github_refused"),
            (
                "GET /acme/app.git/info/refs?service=git-receive-pack",
                "",
                "Basic eC1hY2Nlc3MtdG9rZW46Z2hzX2ZvcmdpdA==",
                "",
            ),
        ] {
            let more = "X-HTTP-Method-Override: DELETE\r\nContent-Length: 0\r\n";
            let said = ask(&mut stream, &format!("{line} HTTP/1.1\r\nHost: {CODE}\r\n{sent}{more}\r\n")).await;
            assert_eq!(said, code_of, "{line}");
            let path = line.split('?').next().unwrap();
            let heard = if came == "-" { vec![] } else { vec![format!("{path} {came}")] };
            assert_eq!(code.heard(), heard, "{line}");
        }
        // Should it say a token again, that does not come in.
        let request = format!("GET /api/v3/repos/acme/app HTTP/1.1\r\nHost: {CODE}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = head(&mut stream).await;
        assert!(answer.contains(&format!("x-echo: Bearer {PLACEHOLDER}\r\n")) && !answer.contains(API), "{answer}");
        let told = world.told(|record| !record.secrets.is_empty()).await;
        assert_eq!((told.host.as_str(), told.secrets), (CODE, vec!["GITHUB_TOKEN".to_owned()]));
    });
}

#[test]
fn a_token_is_waited_for_and_its_lack_is_told() {
    apart(async |world: World| {
        let code = Code::open(&world).await;
        let authority = bind(&world, Preset::Locked, grant("acme/app", &[]), Tokens::Awaited);
        let tenant = world.gateway.table.find(ONE.parse().unwrap()).unwrap();
        let mut stream = tls(tunnel(&world, ONE, &format!("{CODE}:443")).await, roots(&authority), CODE).await.unwrap();
        let request = format!("GET /api/v3/repos/acme/app HTTP/1.1\r\nHost: {CODE}\r\n\r\n");
        let (said, ()) = tokio::join!(ask(&mut stream, &request), async {
            assert!(!tenant.tell_github(2, Tokens::None("of another version".into())));
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert_eq!(code.heard(), [""; 0], "it waits");
            assert!(tenant.tell_github(1, had()));
        });
        assert_eq!((said.as_str(), code.heard().len()), ("", 1));
        // Another version of the same, for which none were told yet, goes on with these; of another grant, it waits.
        let rebound = |version, grant| {
            let github = Some(AtGithub::new(grant, PLACEHOLDER.into(), Tokens::Awaited));
            let bound = Bound {
                workspace: ONE.into(),
                version,
                policy: Policy::default(),
                reading: None,
                models: None,
                github,
            };
            world.gateway.table.bind(ONE.parse().unwrap(), bound);
            tenant.bound().unwrap().github.as_ref().unwrap().tokens.borrow().clone()
        };
        assert_eq!(rebound(2, grant("acme/app", &[])), had());
        assert_eq!(rebound(3, grant("acme/*", &[])), Tokens::Awaited);
        let authority = bind_as(&world, 4, Preset::Locked, grant("acme/app", &[]), had());
        let mut stream = tls(tunnel(&world, ONE, &format!("{CODE}:443")).await, roots(&authority), CODE).await.unwrap();
        tenant.tell_github(4, Tokens::None("GitHub cannot be reached.".into()));
        assert_eq!(ask(&mut stream, &request).await, "egress_github_unavailable");
        assert_eq!(code.heard(), [""; 0]);
    });
}

/// A push says what it moves as slowly as it likes, and what was granted when it began may be granted no more when it has.
#[test]
fn what_is_taken_back_while_a_push_is_judged_is_not_done() {
    apart(async |world: World| {
        let code = Code::open(&world).await;
        let whole = grant("acme/app", &["agent/*", "main"]);
        let line = format!("{} {} refs/heads/main\0report-status", "1".repeat(40), "0".repeat(40));
        let push = format!("{:04x}{line}0000", line.len() + 4);
        let (first, rest) = push.split_at(60);
        for later in [
            Some(grant("acme/app", &["agent/*"])),
            Some(Grant { write: false, ..whole.clone() }),
            Some(grant("acme/other", &[])),
            None,
        ] {
            let authority = bind(&world, Preset::Open, whole.clone(), had());
            let tunnel = tunnel(&world, ONE, &format!("{CODE}:443")).await;
            let mut stream = tls(tunnel, roots(&authority), CODE).await.unwrap();
            let head = format!(
                "POST /acme/app/git-receive-pack HTTP/1.1\r\nHost: {CODE}\r\nContent-Length: {}\r\n\r\n{first}",
                push.len()
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            match later.clone() {
                Some(later) => drop(bind(&world, Preset::Open, later, had())),
                None => world.bind(ONE, Preset::Open, &[], &[]),
            }
            let said = ask(&mut stream, rest).await;
            assert_eq!((said.as_str(), code.heard()), ("egress_github_refused", vec![]), "{later:?}");
        }
    });
}

/// To a host that does not look for a body there, that would be a request whose own body is the next one, token and all.
#[test]
fn what_follows_a_body_where_none_is_looked_for_goes_elsewhere() {
    apart(async |world: World| {
        let code = Code::open(&world).await;
        let authority = bind(&world, Preset::Open, grant("acme/app", &[]), had());
        let mut stream = tls(tunnel(&world, ONE, &format!("{CODE}:443")).await, roots(&authority), CODE).await.unwrap();
        let path = "/api/v3/repos/acme/app";
        for (method, more, is_last) in [
            ("GET", "Content-Length: 4\r\n\r\nbody", " close"),
            ("GET", "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", " close"),
            ("GET", "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 4\r\n\r\nbody", " close"),
            ("GET", "\r\n", ""),
            ("PATCH", "Content-Length: 4\r\n\r\nbody", ""),
        ] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: {CODE}\r\n{more}");
            assert_eq!(ask(&mut stream, &request).await, "");
            assert_eq!(code.heard(), [format!("{method} {path} Bearer {API}{is_last}")]);
        }
    });
}
