//! One server for one test, on either database, gone without a trace afterwards.

pub mod apart;
pub mod calls;
pub mod dockerd;
pub mod far;
pub mod held;
pub mod outside;
pub mod previews;
pub mod registry;
pub mod ssh;
pub mod wire;
pub mod workspaces;

use futures_util::FutureExt as _;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use rexec_server::Running;
use rexec_server::config::{Config, DatabaseUrl, Sources};
use rexec_server::secret::Secret;
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Duration;

/// What every test server signs with.
pub const SECRET: &str = "a secret of the tests alone";
pub const PASSWORD: &str = "correct horse battery";
/// How long a test waits for something that must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

/// Declares each test of a module once for each database.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $name() { super::$name(crate::support::Backend::Sqlite).await; })*
        }
        mod postgres {
            $(#[tokio::test] async fn $name() { super::$name(crate::support::Backend::Postgres).await; })*
        }
    };
}
pub(crate) use on_both;

/// A place for a server's data: a directory, and a database in it or on PostgreSQL.
pub struct Place {
    pub dir: tempfile::TempDir,
    postgres: Option<PostgresDatabase>,
}

struct PostgresDatabase {
    admin_url: String,
    name: String,
    url: String,
}

impl Place {
    pub async fn new(backend: Backend) -> Self {
        let postgres = match backend {
            Backend::Sqlite => None,
            Backend::Postgres => Some(PostgresDatabase::create().await),
        };
        let dir = tempfile::tempdir().unwrap();
        Self { dir, postgres }
    }

    pub fn database(&self) -> DatabaseUrl {
        match &self.postgres {
            Some(database) => DatabaseUrl::Postgres(Secret::new(database.url.clone())),
            None => DatabaseUrl::Sqlite(self.dir.path().join("rexec.db")),
        }
    }

    /// A configuration that touches nothing outside of the place, with these variables besides.
    pub fn config(&self, extra: &[(&str, &str)]) -> Config {
        let dir = self.dir.path().display();
        let mut env = vec![
            ("HOST".to_owned(), "127.0.0.1".to_owned()),
            ("PORT".to_owned(), "0".to_owned()),
            ("REXEC_DATA_DIR".to_owned(), dir.to_string()),
            ("JWT_SECRET".to_owned(), SECRET.to_owned()),
            ("REXEC_REQUESTS_PER_SECOND".to_owned(), "0".to_owned()),
            // One that needs a gateway takes any free port, which no variable gives.
            ("REXEC_SSH_PORT".to_owned(), "0".to_owned()),
            ("REXEC_SIGN_INS_PER_MINUTE".to_owned(), "0".to_owned()),
            // Should this process be killed, `scripts/leftovers.sh` knows by it what to take away.
            ("REXEC_ENGINE_LABELS".to_owned(), "rexec.test=server".to_owned()),
            // There is no registry of the templates' images here; what fetches ahead has tests of its own.
            ("REXEC_PREPULL".to_owned(), "false".to_owned()),
            // These tests need no engine; that there is none must not matter to them.
            ("DOCKER_HOST".to_owned(), format!("unix://{dir}/no-engine.sock")),
        ];
        // Named, so that a second server with a data directory of its own shares it.
        env.push(match &self.postgres {
            Some(database) => ("DATABASE_URL".to_owned(), database.url.clone()),
            None => ("DATABASE_URL".to_owned(), format!("sqlite:{dir}/rexec.db")),
        });
        env.extend(extra.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        Config::from_sources(&Sources::from_env(env)).unwrap()
    }

    pub async fn start(&self, extra: &[(&str, &str)]) -> Server {
        self.start_as(self.config(extra)).await
    }

    pub async fn start_as(&self, config: Config) -> Server {
        let running = rexec_server::start(config).await.unwrap();
        Server { base: format!("http://{}", running.addr), running, http: reqwest::Client::new() }
    }

    pub async fn remove(self) {
        if let Some(database) = self.postgres {
            database.drop_it().await;
        }
    }
}

impl PostgresDatabase {
    async fn create() -> Self {
        let admin_url = std::env::var("REXEC_TEST_POSTGRES_URL")
            .expect("REXEC_TEST_POSTGRES_URL is not set: run `make test`, which starts a PostgreSQL for the tests");
        let name = format!("rexec_test_{}", uuid::Uuid::new_v4().simple());
        let mut admin = sqlx::PgConnection::connect(&admin_url).await.unwrap();
        let statement = format!("CREATE DATABASE {name}");
        admin.execute(sqlx::AssertSqlSafe(statement)).await.unwrap();
        admin.close().await.unwrap();
        let (server, query) = admin_url.split_once('?').unwrap_or((&admin_url, ""));
        let (host, _) = server.rsplit_once('/').unwrap();
        let url = format!("{host}/{name}?{query}");
        Self { url: url.trim_end_matches('?').to_owned(), admin_url, name }
    }

    async fn drop_it(self) {
        let mut admin = sqlx::PgConnection::connect(&self.admin_url).await.unwrap();
        let statement = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        admin.execute(sqlx::AssertSqlSafe(statement)).await.unwrap();
        admin.close().await.unwrap();
    }
}

/// Runs a test in a place of its own, which is removed whether it passes or not.
pub async fn in_place(backend: Backend, test: impl AsyncFnOnce(&Place)) {
    let place = Place::new(backend).await;
    let outcome = AssertUnwindSafe(test(&place)).catch_unwind().await;
    place.remove().await;
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

/// Runs a test against one server of its own, with these variables besides.
pub async fn with_server(backend: Backend, extra: &[(&str, &str)], test: impl AsyncFnOnce(&Server)) {
    in_place(backend, async |place| {
        let server = place.start(extra).await;
        let outcome = AssertUnwindSafe(test(&server)).catch_unwind().await;
        let orderly = server.stop().await;
        if let Err(panic) = outcome {
            resume_unwind(panic);
        }
        assert!(orderly, "the server left work behind when it stopped");
    })
    .await;
}

pub struct Server {
    pub base: String,
    pub running: Running,
    pub http: reqwest::Client,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The error's code, after checking that the body is all that it should be.
    pub fn code(&self) -> String {
        let body = self.json();
        let error = &body["error"];
        assert_eq!(self.header("content-type"), "application/json", "{self:?}");
        assert_eq!(error["request_id"], self.header("x-request-id"), "{self:?}");
        assert!(error["message"].as_str().is_some_and(|m| m.len() > 10), "{self:?}");
        assert!(error["details"].is_object(), "{self:?}");
        error["code"].as_str().unwrap().to_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    pub fn token(&self) -> String {
        assert!(self.status.is_success(), "{self:?}");
        self.json()["token"].as_str().unwrap().to_owned()
    }
}

impl Server {
    pub async fn stop(self) -> bool {
        self.running.shutdown().await
    }

    /// Sends a request with these headers and, if any, this body as it is.
    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Option<Vec<u8>>) -> Answer {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            request = request.header(name, HeaderValue::from_str(value).unwrap());
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await.unwrap();
        Answer { status: response.status(), headers: response.headers().clone(), text: response.text().await.unwrap() }
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        let json = [("content-type", "application/json")];
        self.send(Method::POST, path, &json, Some(body.to_string().into_bytes())).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], None).await
    }

    /// A request with a bearer token.
    pub async fn by(&self, token: &str, method: Method, path: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        self.send(method, path, &[("authorization", &bearer)], None).await
    }

    pub async fn register(&self, email: &str) -> Answer {
        let body = json!({ "email": email, "password": PASSWORD });
        self.post("/api/auth/register", body).await
    }

    pub async fn log_in(&self, email: &str, password: &str) -> Answer {
        let body = json!({ "email": email, "password": password });
        self.post("/api/auth/login", body).await
    }
}
