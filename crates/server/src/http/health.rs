//! `/health` (the process), `/ready` (what it needs) and `/metrics`.

use crate::app::AppState;
use crate::http::extract::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::future::{BoxFuture, join_all};
use http::StatusCode;
use rexec_api::servers::ImageState;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long one check may take before it counts as failed.
const CHECK_PATIENCE: Duration = Duration::from_secs(3);

type Check = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// The checks of `/ready`, by name. Cheap to clone; a failure is a short public word.
#[derive(Clone, Default)]
pub struct Checks(Arc<Mutex<Vec<(&'static str, Check)>>>);

impl Checks {
    /// Adds a check; its error is shown to anyone, so it must be short and say nothing private.
    pub fn add<F>(&self, name: &'static str, check: F)
    where
        F: Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync + 'static,
    {
        let mut checks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        checks.push((name, Arc::new(check)));
    }

    /// Runs all checks at once.
    pub async fn run(&self) -> BTreeMap<&'static str, Result<(), String>> {
        let checks = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let results = checks.into_iter().map(|(name, check)| async move {
            let result = tokio::time::timeout(CHECK_PATIENCE, check()).await;
            (name, result.unwrap_or_else(|_| Err("no answer in time".to_owned())))
        });
        join_all(results).await.into_iter().collect()
    }
}

#[derive(serde::Serialize, utoipa::ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: &'static str,
    pub version: &'static str,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
pub struct Readiness {
    /// Whether requests can be served in full.
    pub ready: bool,
    /// `ok`, or what is wrong, by name.
    pub checks: BTreeMap<&'static str, String>,
    /// What the engine's machine does not hold workspaces to, in sentences; the operator has allowed it
    /// (`REXEC_ALLOW_WEAKER_ISOLATION`).
    pub weaker: Vec<String>,
    /// OCI runtimes of the engine's machine that were tried and by which nothing runs there, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub runtimes_unfit: BTreeMap<String, String>,
    /// Images that the engine is to have before anyone asks for them, by how far they are; nothing waits for these.
    pub images: BTreeMap<ImageState, u32>,
    /// By which SSH host key the engine's machine is known (`SHA256:...`), where it is reached through SSH and was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine_host_key: Option<String>,
    /// Which of the servers on this database this is, where there can be several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica: Option<ReplicaHealth>,
}

/// One server among those on one database.
#[derive(serde::Serialize, utoipa::ToSchema)]
pub struct ReplicaHealth {
    pub id: String,
    /// How many are there, this one among them.
    pub replicas: usize,
    /// Leases that it holds: hosts, machines, and work of which there is one for all.
    pub leases: usize,
    /// Whether the others can reach it (`REXEC_ADVERTISE_URL` is set).
    pub advertised: bool,
}

/// The process is alive.
#[utoipa::path(get, path = "/health", tag = "health", security(()), responses((status = 200, body = Health)))]
pub async fn health() -> Json<Health> {
    Json(Health { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

/// The server has all that it needs.
#[utoipa::path(get, path = "/ready", tag = "health", security(()), responses(
    (status = 200, body = Readiness), (status = 503, body = Readiness)))]
pub async fn ready(State(app): State<AppState>) -> Response {
    let results = app.checks.run().await;
    let ready = results.values().all(Result::is_ok) && !app.tasks.is_stopping();
    let checks =
        results.into_iter().map(|(name, result)| (name, result.err().unwrap_or_else(|| "ok".to_owned()))).collect();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let local = app.fleet.local();
    let weaker = local.ready().map(|facts| facts.weaker.clone()).unwrap_or_default();
    let mut images = BTreeMap::new();
    for image in local.images.seen() {
        *images.entry(image.state).or_default() += 1;
    }
    let engine_host_key = local.host_key().map(str::to_owned);
    let runtimes_unfit = local.unfit();
    let replica = app.replicas.id().map(|id| ReplicaHealth {
        id: id.to_string(),
        replicas: app.replicas.count(),
        leases: app.replicas.held(),
        advertised: app.config.advertise_url.is_some(),
    });
    let body = Readiness { ready, checks, weaker, runtimes_unfit, images, engine_host_key, replica };
    (status, Json(body)).into_response()
}
