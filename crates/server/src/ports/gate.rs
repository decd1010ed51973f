//! The fork before all routes: a request for a preview's name goes there and nowhere else, so that
//! nothing of a workspace is ever answered on the application's origin, and nothing of the application
//! on a preview's.

use super::address::Asked;
use super::{notice, visit};
use crate::app::AppState;
use crate::http::origin::Scene;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

pub async fn gate(State(app): State<AppState>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let host = Scene::of(&parts, &app.config).host.unwrap_or_default();
    let request = Request::from_parts(parts, body);
    match app.ports.names.asked(&host) {
        Asked::App => next.run(request).await,
        Asked::Preview(spot) => app.ports.visit(request, spot, None).await,
        Asked::Nothing => {
            let app_origin = app.ports.names.app_origin(&host, app.ports.app_port);
            notice::no_such_name(&app_origin, visit::wants_html(request.headers()))
        }
    }
}
