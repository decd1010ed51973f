//! What is measured of requests, and `/metrics` in Prometheus' text format.
//!
//! Labels are bounded: the route's pattern, never the path itself.

use crate::app::AppState;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, header};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::sync::OnceLock;
use std::time::Duration;

/// Upper bounds of the buckets of request durations, in seconds.
const DURATION_BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];
/// How often samples are folded into buckets when nobody asks for them.
pub const UPKEEP_PERIOD: Duration = Duration::from_secs(5);

/// The process's recorder: one, however many servers a test process runs.
pub fn recorder() -> &'static PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER.get_or_init(|| {
        let matcher = Matcher::Suffix("duration_seconds".to_owned());
        let builder = PrometheusBuilder::new().set_buckets_for_metric(matcher, &DURATION_BUCKETS).unwrap_or_default();
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        // Fails only where another recorder is installed already; then ours stays empty.
        let _ = metrics::set_global_recorder(recorder);
        metrics::gauge!("rexec_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        handle
    })
}

/// Counts one answered request.
pub fn observe(method: &Method, route: &str, status: StatusCode, duration: Duration) {
    let labels = [
        ("method", method_label(method).to_owned()),
        ("route", route.to_owned()),
        ("status", status.as_u16().to_string()),
    ];
    metrics::histogram!("rexec_http_request_duration_seconds", &labels).record(duration.as_secs_f64());
}

/// Methods are the client's own words: those that we do not know are one label.
fn method_label(method: &Method) -> &str {
    match *method {
        Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PUT
        | Method::PATCH
        | Method::DELETE
        | Method::OPTIONS
        | Method::CONNECT => method.as_str(),
        _ => "OTHER",
    }
}

/// Figures for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "health", security(()), responses(
    (status = 200, body = String, content_type = "text/plain")))]
pub async fn metrics(State(app): State<AppState>) -> Response {
    let text = recorder().render() + &app.stats.prometheus();
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}
