//! The description of the API, OpenAPI 3.1, and a page for people to read it.
//!
//! The page is ours, small and self-contained: it loads nothing from another origin.

use super::{routes, scopes};
use axum::response::{IntoResponse, Response};
use http::header;
use std::sync::OnceLock;
use utoipa::OpenApi;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Rexec",
        description = "Instant, isolated Linux machines: workspaces, terminals, commands and files.\n\nEvery failure has the body `{\"error\":{\"code\",\"message\",\"request_id\",\"details\"}}`; a code is stable, a message may change. Times are RFC 3339, lists `{\"items\",\"next\"}`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(rexec_api::error::ErrorBody, rexec_api::error::ErrorCode))
)]
struct Description;

/// The description without any routes.
pub fn base() -> utoipa::openapi::OpenApi {
    let mut api = Description::openapi();
    api.info.version = env!("CARGO_PKG_VERSION").to_owned();
    let components = api.components.get_or_insert_default();
    components.add_security_scheme(
        "bearer",
        SecurityScheme::Http(
            HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .description(Some("The token of a sign-in, or an API token with the scope that the route names."))
                .build(),
        ),
    );
    components.add_security_scheme(
        "cookie",
        SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::with_description(
            "__Host-rexec",
            "For the page; requests that change something must carry its own Origin.",
        ))),
    );
    let none: [&str; 0] = [];
    api.security = Some(vec![SecurityRequirement::new("bearer", none), SecurityRequirement::new("cookie", none)]);
    api
}

/// The whole description as text, as committed in `docs/openapi.json`.
pub fn document() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let (_, mut api) = routes().split_for_parts();
        scopes::describe(&mut api);
        let mut text = api.to_pretty_json().unwrap_or_default();
        text.push('\n');
        text
    })
}

pub async fn json() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document()).into_response()
}

const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'";

pub async fn page() -> Response {
    (
        [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, PAGE_POLICY)],
        include_str!("docs/index.html"),
    )
        .into_response()
}

pub async fn script() -> Response {
    let kind = "text/javascript; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], include_str!("docs/docs.js")).into_response()
}

pub async fn style() -> Response {
    let kind = "text/css; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], include_str!("docs/docs.css")).into_response()
}
