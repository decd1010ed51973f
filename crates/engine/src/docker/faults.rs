//! Turns what Docker says went wrong into the kinds that callers act upon.
//!
//! Status codes decide where they can; Docker gives one code to several faults (500 for a full
//! disk, 400 for a missing runtime), and there its words decide. Its words are always kept.

use crate::EngineError;
use bollard::errors::Error;

const DISK_FULL: &[&str] = &["no space left on device", "disk quota exceeded"];
const NO_RUNTIME: &[&str] =
    &["unknown runtime specified", "unknown or invalid runtime name", "invalid runtime name", "binary not installed"];
const TAKEN: &[&str] =
    &["already exists", "same bridge name", "active endpoints", "is in use", "already in use", "being used"];
/// What containerd and its runtimes say of a container's task, name or directory that is there before its start. The colon
/// tells it from an endpoint of a network that exists.
const HALF_STARTED: &[&str] = &[
    "id already in use",
    ": already exists",
    "container with given id already exists",
    "container with id exists",
    "failed to start shim: mkdir",
];
/// Podman's, whatever the status.
const WRONG_STATE: &[&str] = &["container state improper"];
/// Of an image that is not here; Podman has a sentence of its own.
const IMAGE_MISSING: &[&str] = &["no such image", "image not known"];
const NO_IMAGE: &[&str] = &["manifest unknown", "name unknown", "not found", "does not exist", "no such image"];
const NO_PLATFORM: &[&str] = &["no matching manifest", "does not match the specified platform"];
const NO_ENTRY: &[&str] = &[
    "no basic auth credentials",
    "unauthorized",
    "authentication required",
    "incorrect username or password",
    "requested access to the resource is denied",
];

pub(super) fn engine_error(error: Error) -> EngineError {
    match error {
        Error::DockerResponseServerError { status_code: 502..=504, .. }
        | Error::RequestTimeoutError
        | Error::IOError { .. }
        | Error::HyperResponseError { .. }
        | Error::HyperLegacyError { .. } => EngineError::Unavailable(Box::new(error)),
        Error::DockerResponseServerError { status_code, message } => refusal(status_code, message),
        Error::DockerStreamError { error } => refusal(500, error),
        other => EngineError::Protocol(other.to_string()),
    }
}

/// Docker's word, before 23.0, of an image that is being removed while it is looked at. Of a container's creation it is said
/// where the layer is lost, which is no reason to fetch the image again.
pub(super) fn is_going(error: &EngineError) -> bool {
    matches!(error, EngineError::Refused(message) if message.trim() == "layer does not exist")
}

/// The kind of a refused request.
pub(super) fn refusal(status: u16, message: String) -> EngineError {
    let says = |phrases: &[&str]| contains_any(&message, phrases);
    match status {
        _ if says(DISK_FULL) => EngineError::DiskFull(message),
        _ if says(NO_RUNTIME) => EngineError::RuntimeUnavailable(message),
        _ if says(WRONG_STATE) => EngineError::Conflict(message),
        404 if says(IMAGE_MISSING) => EngineError::ImageNotFound(message),
        404 => EngineError::NotFound(message),
        409 => EngineError::Conflict(message),
        // 500 is Podman's.
        403 | 500 if says(TAKEN) => EngineError::Conflict(message),
        _ => EngineError::Refused(message),
    }
}

/// The kind of a failed pull: everything that is not the engine's own trouble is the image's.
pub(super) fn pull_error(reference: &str, error: Error) -> EngineError {
    match engine_error(error) {
        EngineError::NotFound(message) | EngineError::Refused(message) if contains_any(&message, NO_PLATFORM) => {
            EngineError::WrongPlatform(format!("{reference}: {message}"))
        }
        // Said of what is private and of what is not there alike.
        EngineError::NotFound(message) | EngineError::ImageNotFound(message) => {
            EngineError::ImageNotFound(format!("{reference}: {message}"))
        }
        EngineError::Refused(message) | EngineError::Conflict(message) if contains_any(&message, NO_ENTRY) => {
            EngineError::Unauthorised(format!("{reference}: {message}"))
        }
        EngineError::Refused(message) | EngineError::Conflict(message) if contains_any(&message, NO_IMAGE) => {
            EngineError::ImageNotFound(format!("{reference}: {message}"))
        }
        EngineError::Refused(message) | EngineError::Conflict(message) => {
            EngineError::PullFailed(format!("{reference}: {message}"))
        }
        other => other,
    }
}

/// Whether a container's processes did not come to stand still in time.
pub(super) fn is_unfrozen(error: &EngineError) -> bool {
    matches!(error, EngineError::Refused(message) if contains_any(message, &["unable to freeze"]))
}

/// Whether Docker warns that an image is for another platform than its own.
pub(super) fn is_platform_warning(warning: &str) -> bool {
    contains_any(warning, &["does not match the detected host platform"])
}

/// The kind of a failed start. A network that is gone must not read as a container that is gone.
pub(super) fn start_error(error: EngineError) -> EngineError {
    match error {
        EngineError::NotFound(message) if !contains_any(&message, &["no such container"]) => {
            EngineError::Refused(message)
        }
        EngineError::Conflict(message) | EngineError::Refused(message) if contains_any(&message, HALF_STARTED) => {
            EngineError::HalfStarted(message)
        }
        other => other,
    }
}

fn contains_any(message: &str, phrases: &[&str]) -> bool {
    let message = message.to_ascii_lowercase();
    phrases.iter().any(|phrase| message.contains(phrase))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(error: &EngineError) -> &'static str {
        match error {
            EngineError::Unavailable(_) => "unavailable",
            EngineError::NotFound(_) => "not_found",
            EngineError::Conflict(_) => "conflict",
            EngineError::HalfStarted(_) => "half_started",
            EngineError::ImageNotFound(_) => "image_not_found",
            EngineError::Unauthorised(_) => "unauthorised",
            EngineError::WrongPlatform(_) => "platform",
            EngineError::PullFailed(_) => "pull_failed",
            EngineError::RuntimeUnavailable(_) => "runtime",
            EngineError::DiskFull(_) => "disk_full",
            EngineError::Refused(_) => "refused",
            EngineError::Protocol(_) => "protocol",
        }
    }

    fn answer(status_code: u16, message: &str) -> Error {
        Error::DockerResponseServerError { status_code, message: message.into() }
    }

    #[test]
    fn answers_have_kinds() {
        for (status, message, wanted) in [
            (404, "No such container: x", "not_found"),
            (404, "No such image: x:latest", "image_not_found"),
            (500, "layer does not exist", "refused"),
            (404, "network x not found", "not_found"),
            (409, "Conflict. The container name \"/x\" is already in use", "conflict"),
            (403, "cannot create network a: conflicts with network b: networks have same bridge name", "conflict"),
            (403, "error while removing network: network x has active endpoints", "conflict"),
            (500, "can only create exec sessions on running containers: container state improper", "conflict"),
            (500, "\"net\" has associated containers with it: network is being used", "conflict"),
            (500, "bridge name rexec0 already in use", "conflict"),
            (500, "network name rexec already used: network already exists", "conflict"),
            (404, "failed to find image x:1: docker.io/library/x:1: image not known", "image_not_found"),
            (403, "plugin is not allowed", "refused"),
            (400, "Unknown runtime specified runsc", "runtime"),
            (400, "unknown or invalid runtime name: runsc", "runtime"),
            (500, "write /var/lib/docker/tmp/x: no space left on device", "disk_full"),
            (500, "something else", "refused"),
            (503, "gateway", "unavailable"),
        ] {
            let error = engine_error(answer(status, message));
            assert_eq!(kind(&error), wanted, "{status} {message}");
            let kept = format!("{error} {:?}", std::error::Error::source(&error));
            assert!(kept.contains(message) || kept.contains(&message.replace('"', "\\\"")), "{kept}");
        }
    }

    #[test]
    fn pulls_have_kinds() {
        for (error, wanted) in [
            (answer(404, "pull access denied for x, repository does not exist"), "image_not_found"),
            (answer(500, "manifest for x:9 not found: manifest unknown"), "image_not_found"),
            (answer(500, "Get \"http://x/v2/y/manifests/9\": no basic auth credentials"), "unauthorised"),
            (answer(500, "Get \"http://x/v2/y/manifests/9\": unauthorized: authentication required"), "unauthorised"),
            (answer(500, "no matching manifest for linux/amd64 in the manifest list entries"), "platform"),
            (answer(500, "Get \"https://registry/v2/\": dial tcp: connection refused"), "pull_failed"),
            (Error::DockerStreamError { error: "unexpected EOF".into() }, "pull_failed"),
            (Error::DockerStreamError { error: "write: no space left on device".into() }, "disk_full"),
            (Error::RequestTimeoutError, "unavailable"),
        ] {
            assert_eq!(kind(&pull_error("x:9", error)), wanted);
        }
    }

    #[test]
    fn a_missing_network_is_no_missing_container() {
        let start = |message| kind(&start_error(engine_error(answer(404, message))));
        assert_eq!(start("network x not found"), "refused");
        assert_eq!(start("No such container: x"), "not_found");
    }

    #[test]
    fn what_an_earlier_start_left_is_told_from_other_conflicts() {
        for (status, message, wanted) in [
            (409, "id already in use", "half_started"),
            (500, "task 0123: already exists", "half_started"),
            (
                500,
                "OCI runtime create failed: runc create failed: container with given ID already exists",
                "half_started",
            ),
            (500, "failed to start shim: mkdir /run/docker/x/moby/0123: file exists: unknown", "half_started"),
            (409, "cannot start a paused container, try unpause instead", "conflict"),
            (403, "endpoint with name x already exists in network y", "conflict"),
        ] {
            assert_eq!(kind(&start_error(engine_error(answer(status, message)))), wanted, "{message}");
        }
        assert_eq!(kind(&engine_error(answer(500, "id already in use"))), "conflict", "of what is no start");
    }
}
