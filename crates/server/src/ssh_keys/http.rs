//! The routes of SSH keys.

use crate::app::AppState;
use crate::error::Result;
use crate::http::extract::{Authenticated, Json, Path};
use crate::http::origin::Scene;
use axum::Extension;
use axum::extract::State;
use http::StatusCode;
use rexec_api::Page;
use rexec_api::error::ErrorBody;
use rexec_api::ids::{SshKeyId, WorkspaceId};
use rexec_api::ssh::{ImportSshKeys, ImportedSshKeys, NewSshKey, SshConnect, SshKeyView, SyncedSshKeys};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_ssh_keys, add_ssh_key))
        .routes(routes!(import_ssh_keys))
        .routes(routes!(delete_ssh_key))
        .routes(routes!(sync_ssh_keys))
        .routes(routes!(ssh_connect))
}

/// The account's SSH keys, newest first.
#[utoipa::path(get, path = "/api/ssh/keys", tag = "ssh", responses(
    (status = 200, description = "All of them.", body = Page<SshKeyView>),
    (status = "4XX", description = "Refused.", body = ErrorBody)))]
async fn list_ssh_keys(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
) -> Result<Json<Page<SshKeyView>>> {
    Ok(Json(app.ssh_keys.list(&actor).await?))
}

/// Add a public SSH key. It opens what the account may do, so an API token needs the scope `all`.
#[utoipa::path(post, path = "/api/ssh/keys", tag = "ssh", request_body = NewSshKey, responses(
    (status = 201, description = "Added.", body = SshKeyView),
    (status = "4XX", description = "Refused; the message says what is wrong with the key.", body = ErrorBody)))]
async fn add_ssh_key(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Json(new): Json<NewSshKey>,
) -> Result<(StatusCode, Json<SshKeyView>)> {
    Ok((StatusCode::CREATED, Json(app.ssh_keys.add(&actor, new).await?)))
}

/// Add the public SSH keys that a user has at GitHub.
#[utoipa::path(post, path = "/api/ssh/keys/github", tag = "ssh", request_body = ImportSshKeys, responses(
    (status = 200, description = "What was added, and why the rest was not.", body = ImportedSshKeys),
    (status = "4XX", description = "Refused.", body = ErrorBody),
    (status = 502, description = "GitHub does not answer.", body = ErrorBody)))]
async fn import_ssh_keys(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Json(import): Json<ImportSshKeys>,
) -> Result<Json<ImportedSshKeys>> {
    Ok(Json(app.ssh_keys.import(&actor, import).await?))
}

/// Delete an SSH key.
#[utoipa::path(delete, path = "/api/ssh/keys/{id}", tag = "ssh", params(("id" = SshKeyId, Path)), responses(
    (status = 204, description = "Deleted; workspaces that it was written into have it until the next sync."),
    (status = "4XX", description = "Refused.", body = ErrorBody)))]
async fn delete_ssh_key(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(id): Path<SshKeyId>,
) -> Result<StatusCode> {
    app.ssh_keys.remove(&actor, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Write the account's keys into the workspace's `~/.ssh/authorized_keys`, for an sshd of its own.
///
/// They stand in a block between two marks; lines outside of it stay as they are.
#[utoipa::path(post, path = "/api/ssh/sync/{workspace}", tag = "ssh", params(("workspace" = WorkspaceId, Path)), responses(
    (status = 200, description = "Written.", body = SyncedSshKeys),
    (status = "4XX", description = "Refused.", body = ErrorBody)))]
async fn sync_ssh_keys(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Path(workspace): Path<WorkspaceId>,
) -> Result<Json<SyncedSshKeys>> {
    Ok(Json(app.ssh_keys.sync(&actor, workspace).await?))
}

/// How to connect to a workspace by SSH: ready commands, and the server's own keys.
#[utoipa::path(get, path = "/api/ssh/connect/{workspace}", tag = "ssh", params(("workspace" = WorkspaceId, Path)), responses(
    (status = 200, description = "Commands, or why there are none.", body = SshConnect),
    (status = "4XX", description = "Refused.", body = ErrorBody)))]
async fn ssh_connect(
    State(app): State<AppState>,
    Authenticated(actor): Authenticated,
    Extension(scene): Extension<Scene>,
    Path(workspace): Path<WorkspaceId>,
) -> Result<Json<SshConnect>> {
    Ok(Json(app.ssh_keys.connect(&actor, workspace, scene.host.as_deref()).await?))
}
