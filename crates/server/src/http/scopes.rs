//! Which scope of an API token each route needs, for the description of the API.
//!
//! Services judge, as everywhere; this only tells what they do. A test walks the description and asks
//! every route with a token that has all scopes but the one, and with one that has no other.

use rexec_api::tokens::Scope;
use utoipa::openapi::path::{HttpMethod, Operation};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{OpenApi, PathItem};

/// Routes that every token may use: they tell of it, and end it. A refresh is a sign-in's alone.
const WITHOUT_SCOPE: [&str; 3] = ["/api/me", "/api/auth/logout", "/api/auth/refresh"];

/// What a route needs, by its tag; `None` if any token will do.
fn needed(tag: &str, method: &HttpMethod, path: &str) -> Option<Scope> {
    if WITHOUT_SCOPE.contains(&path) {
        return None;
    }
    Some(match tag {
        "terminals" => Scope::Terminals,
        "exec" => Scope::Exec,
        "files" => Scope::Files,
        "ports" => Scope::Ports,
        "snapshots" => Scope::Snapshots,
        "workspaces" | "egress" | "volumes" | "stats" | "events" | "templates" if *method == HttpMethod::Get => {
            Scope::WorkspacesRead
        }
        "workspaces" | "egress" | "volumes" | "machines" => Scope::WorkspacesWrite,
        "ssh" if path.starts_with("/api/ssh/sync") => Scope::Files,
        "ssh" if path.starts_with("/api/ssh/connect") => Scope::WorkspacesRead,
        // What is let in so has a token of everything.
        "auth" if path.starts_with("/api/auth/device/") => Scope::All,
        // A key opens everything.
        "ssh" if *method == HttpMethod::Post => Scope::All,
        "auth" | "tokens" | "registries" | "secrets" | "ssh" => Scope::Account,
        "admin" => Scope::Admin,
        _ => Scope::All,
    })
}

/// Names at each route that wants to know who asks the scope that it needs.
pub fn describe(api: &mut OpenApi) {
    for (path, item) in &mut api.paths.paths {
        for (method, operation) in operations(item) {
            // A route for everybody says so itself.
            if operation.security.is_some() {
                continue;
            }
            let tag = operation.tags.as_ref().and_then(|tags| tags.first()).cloned().unwrap_or_default();
            let scopes: Vec<&str> = needed(&tag, &method, path).into_iter().map(Scope::as_str).collect();
            let none: [&str; 0] = [];
            operation.security =
                Some(vec![SecurityRequirement::new("bearer", scopes), SecurityRequirement::new("cookie", none)]);
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (HttpMethod, &mut Operation)> {
    [
        (HttpMethod::Get, &mut item.get),
        (HttpMethod::Put, &mut item.put),
        (HttpMethod::Post, &mut item.post),
        (HttpMethod::Delete, &mut item.delete),
        (HttpMethod::Patch, &mut item.patch),
    ]
    .into_iter()
    .filter_map(|(method, operation)| operation.as_mut().map(|operation| (method, operation)))
}
