//! The error body and its stable codes.
//!
//! A code is a promise: clients branch on it. A message says what went wrong and what to do next,
//! and may change. Codes are added, never reused.

use serde::{Deserialize, Serialize};

/// The body of every failed request: `{"error":{...}}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorBody {
    pub error: ErrorDetail,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorDetail {
    pub code: ErrorCode,
    /// What went wrong and what to do next, for a person.
    pub message: String,
    /// Quote this when you ask for help; the server's log has it.
    pub request_id: String,
    /// Machine-readable particulars, such as the offending field. `{}` when there are none.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub details: serde_json::Value,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $status:literal;)*) => {
        /// Stable error codes.
        // The description's generator cannot see a serde name that comes from a macro's literal, so
        // it is told the rule that all of them follow.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(rename_all = "snake_case"))]
        pub enum ErrorCode {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)*
            /// A code of a newer server than this client.
            #[serde(other, rename = "unknown")]
            Unknown,
        }

        impl ErrorCode {
            /// The code as it stands on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Unknown => "unknown",
                }
            }

            /// The code that stands so on the wire; [`ErrorCode::Unknown`] for any other.
            pub fn parse(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)*
                    _ => Self::Unknown,
                }
            }

            /// The HTTP status that goes with the code.
            pub const fn http_status(self) -> u16 {
                match self {
                    $(Self::$variant => $status,)*
                    Self::Unknown => 500,
                }
            }
        }
    };
}

codes! {
    /// The body is not JSON.
    InvalidJson = "invalid_json", 400;
    /// A field is missing, of the wrong type or out of range; `details.field` names it.
    InvalidRequest = "invalid_request", 422;
    /// An id in the path is not an id.
    InvalidId = "invalid_id", 400;
    /// A page's cursor that no page has told; leave it out to begin with the first.
    InvalidCursor = "invalid_cursor", 400;
    /// No such route under `/api`.
    NoSuchRoute = "no_such_route", 404;
    MethodNotAllowed = "method_not_allowed", 405;
    /// The body must be `application/json`.
    UnsupportedMediaType = "unsupported_media_type", 415;
    BodyTooLarge = "body_too_large", 413;
    /// The request did not arrive in full in time.
    RequestTimeout = "request_timeout", 408;
    /// Sign in first.
    Unauthenticated = "unauthenticated", 401;
    /// The token is malformed or forged.
    InvalidToken = "invalid_token", 401;
    /// The token has run out; refresh it or sign in again.
    TokenExpired = "token_expired", 401;
    /// The login session was ended.
    SessionRevoked = "session_revoked", 401;
    /// The API token was revoked, or never was.
    TokenRevoked = "token_revoked", 401;
    /// E-mail or password wrong.
    BadCredentials = "bad_credentials", 401;
    /// The person has not decided yet whether the machine may sign in; ask again after `interval` seconds (RFC 8628).
    AuthorizationPending = "authorization_pending", 400;
    /// The machine asks too often; `details.interval` seconds are to lie between its questions from now on.
    SlowDown = "slow_down", 400;
    /// The person has denied the machine's sign-in.
    AccessDenied = "access_denied", 400;
    /// The code of a machine's sign-in has run out, was used, or never was; begin again.
    ExpiredToken = "expired_token", 400;
    Forbidden = "forbidden", 403;
    /// The API token may not do that; `details.scope` is what it lacks.
    InsufficientScope = "insufficient_scope", 403;
    /// A request with a cookie came from another site.
    ForeignOrigin = "foreign_origin", 403;
    /// Nothing there that you may see.
    NotFound = "not_found", 404;
    /// The host is below the previews' name and is no preview's.
    NoSuchPreview = "no_such_preview", 404;
    EmailTaken = "email_taken", 409;
    /// The SSH key is here already, of yours or of another account.
    SshKeyTaken = "ssh_key_taken", 409;
    /// GitHub does not answer this server, or not as expected; paste the key instead.
    GithubUnavailable = "github_unavailable", 502;
    /// The workspace is in a state in which this cannot be done; `details.status` says which.
    WorkspaceState = "workspace_state", 409;
    /// The snapshot was not finished because something else was asked of the workspace; take it again.
    SnapshotGivenUp = "snapshot_given_up", 409;
    /// The workspace's guest does not answer at the moment.
    WorkspaceUnreachable = "workspace_unreachable", 503;
    WorkspaceLimit = "workspace_limit", 409;
    TerminalLimit = "terminal_limit", 409;
    /// The workspace's terminals would take too much of its memory; close some, make them smaller, or raise it.
    TerminalMemory = "terminal_memory", 409;
    /// The terminal has exited or its container has gone.
    TerminalGone = "terminal_gone", 410;
    /// The offset lies ahead of the terminal's output.
    OffsetAhead = "offset_ahead", 400;
    /// A WebSocket message is not a terminal frame.
    BadFrame = "bad_frame", 400;
    ImageNotFound = "image_not_found", 422;
    ImagePullFailed = "image_pull_failed", 502;
    /// The image's registry wants credentials, or better ones; see `/api/registries`.
    ImageUnauthorised = "image_unauthorised", 422;
    /// The host lacks the OCI runtime that was asked for.
    RuntimeUnavailable = "runtime_unavailable", 422;
    /// By that OCI runtime the host would lose what workspaces write, or starts none; found by trying.
    RuntimeUnfit = "runtime_unfit", 422;
    /// This server's policy does not let you ask for that OCI runtime; `details.runtimes` lists those that you may.
    RuntimeNotAllowed = "runtime_not_allowed", 403;
    /// A requested limit or option is not offered by the host.
    UnsupportedByHost = "unsupported_by_host", 422;
    /// The servers have no room for it now; `details.hosts` says of each what it lacks, or `details.resource` what is short.
    HostFull = "host_full", 503;
    /// No server could ever take it as it is asked for; `details.hosts` says of each why.
    NoHost = "no_host", 422;
    /// The server that was named cannot be used; `details.fault` says why in one word.
    ServerUnfit = "server_unfit", 422;
    /// Another server has that name, or is that engine; `details.host` names it.
    ServerExists = "server_exists", 409;
    /// Something lies on the server still; `details` counts it.
    ServerInUse = "server_in_use", 409;
    /// The container engine does not answer or refused.
    EngineUnavailable = "engine_unavailable", 503;
    EngineError = "engine_error", 502;
    /// No space left, on the host or in the workspace.
    DiskFull = "disk_full", 507;
    DatabaseUnavailable = "database_unavailable", 503;
    CommandNotFound = "command_not_found", 422;
    /// The command ran into `timeout_ms` and was ended; the output so far is in `details`.
    ExecTimeout = "exec_timeout", 504;
    /// The output is larger than the answer may be; use `Accept: text/event-stream`.
    OutputTooLarge = "output_too_large", 413;
    FileNotFound = "file_not_found", 404;
    FileExists = "file_exists", 409;
    /// The file is not as `If-Match` or `If-None-Match` wants it: read it again, then decide.
    FileChanged = "file_changed", 412;
    NotAFile = "not_a_file", 409;
    NotADirectory = "not_a_directory", 409;
    /// The workspace's user may not do that to this path.
    FileDenied = "file_denied", 403;
    FileError = "file_error", 422;
    /// There is no template of that name; `details.templates` lists those that there are.
    TemplateNotFound = "template_not_found", 422;
    /// This server's policy does not let you run that image.
    ImageNotAllowed = "image_not_allowed", 403;
    /// The image is made for another processor than the host's.
    ImageArchitecture = "image_architecture", 422;
    /// The repository could not be cloned; `details.output` has git's last lines.
    CloneFailed = "clone_failed", 422;
    /// You have as many as you may; `details` has `quota`, `used` and `max`.
    QuotaExceeded = "quota_exceeded", 409;
    /// Something is at work on the workspace that this must wait for; `details.doing` says what.
    WorkspaceBusy = "workspace_busy", 409;
    /// Only a stopped workspace can be moved to another server; stop it first.
    NotStopped = "not_stopped", 409;
    /// The workspace lies on the server already that it was to be moved to.
    AlreadyThere = "already_there", 409;
    /// What came to the other server is not what left the first; the workspace is as it was there. Move it again.
    MoveUnverified = "move_unverified", 502;
    /// The move was not finished because something else was asked of the workspace; move it again.
    MoveGivenUp = "move_given_up", 409;
    /// The new limit is below what the workspace uses now.
    LimitBelowUse = "limit_below_use", 409;
    /// The workspace is over its disk limit.
    DiskQuota = "disk_quota", 409;
    /// The range lies outside of the file; `details.size` is its size.
    RangeNotSatisfiable = "range_not_satisfiable", 416;
    /// An entry of the archive is refused; the message names it.
    ArchiveInvalid = "archive_invalid", 422;
    /// The archive has more entries or bytes than may be unpacked.
    ArchiveTooLarge = "archive_too_large", 413;
    /// The upload stands elsewhere; go on from `details.offset`.
    UploadConflict = "upload_conflict", 409;
    /// Nothing listens on that port of the workspace.
    PortClosed = "port_closed", 502;
    /// What listens on that port did not answer as a web server does.
    PreviewFailed = "preview_failed", 502;
    /// A gRPC call came by HTTP/1; it needs HTTP/2 all the way.
    Http2Required = "http2_required", 505;
    /// This server has no address under which it could show a preview.
    PreviewUnavailable = "preview_unavailable", 422;
    /// A joined machine has no such thing: it is its owner's to start, stop and copy; `details.lacks` names it.
    NotForMachines = "not_for_machines", 409;
    /// The join token was used, was revoked, has run out, or never was; make another.
    JoinTokenRefused = "join_token_refused", 403;
    /// The machine was removed at the server, or never was there; join it again.
    MachineGone = "machine_gone", 410;
    /// Another server looks after it, and cannot be reached from this one, or nobody does at the moment; the message says
    /// which. Try again in a few seconds.
    NotHere = "not_here", 503;
    /// The host does not allow containers inside of workspaces.
    NestedUnavailable = "nested_unavailable", 422;
    /// The host cannot guard what its workspaces reach, which is asked for; the message says why. `open` is to be had there.
    EgressUnavailable = "egress_unavailable", 422;
    /// The operator does not allow that preset; `details.presets` names those that may be asked for.
    PresetNotAllowed = "preset_not_allowed", 422;
    /// Too many wait already for their host to make them; `details.max` says how many may. Try again in a minute.
    QueueFull = "queue_full", 503;
    RateLimited = "rate_limited", 429;
    /// As many downloads, tunnels, commands and streams of events are open for you as there may be; `details.max` says how many.
    TooManyStreams = "too_many_streams", 429;
    /// The server is stopping; try again shortly.
    ShuttingDown = "shutting_down", 503;
    /// A fault of ours; the log has the particulars under the request id.
    Internal = "internal", 500;
}
