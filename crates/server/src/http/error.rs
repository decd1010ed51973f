//! The one place where an [`Error`] becomes a response.
//!
//! A handler's error travels to the outermost layer as a response extension, because only there
//! is the request's id known: [`render`] writes the body, the headers and the log line.

use crate::error::Error;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use rexec_api::error::{ErrorBody, ErrorCode};
use std::sync::Arc;

#[derive(Clone)]
struct Failure(Arc<Error>);

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status(self.code);
        response.extensions_mut().insert(Failure(Arc::new(self)));
        response
    }
}

fn status(code: ErrorCode) -> StatusCode {
    StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Writes the error that a response carries, if any, and logs what the client is not told.
pub fn render(response: &mut Response, request_id: &str) {
    let Some(Failure(error)) = response.extensions_mut().remove::<Failure>() else {
        return;
    };
    let code = error.code.as_str();
    let causes = error.causes();
    if error.code.http_status() >= 500 {
        tracing::error!(request_id, code, causes, "request failed: {}", error.message);
    } else if !causes.is_empty() {
        tracing::debug!(request_id, code, causes, "request refused: {}", error.message);
    }
    let body = ErrorBody { error: error.detail(request_id) };
    let bytes = serde_json::to_vec(&body).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    if let Some(wait) = error.retry_after {
        let seconds = wait.as_millis().div_ceil(1000).max(1) as u64;
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if error.code.http_status() == 401 {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    *response.body_mut() = Body::from(bytes);
}
