//! What concerns an engine of another machine: who that is, by SSH, and how long certificates are good, by TLS.
//!
//! Invariant: the key that a machine showed first is the one that it must show from then on, over restarts too, until the
//! operator names another (`DOCKER_SSH_HOST_KEY`) or `DOCKER_HOST` leads to another machine.

use super::{Host, store};
use crate::config::Access;
use crate::db::Db;
use rexec_engine::docker::{Address, AddressError, DialError, DockerEngine, Endpoint, KnownHost, Unreachable};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How often certificates are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(6 * 3600);
/// The engine has been reached by then, or it is told as not ready anyway.
const FIRST_LOOK_AFTER: Duration = Duration::from_secs(60);
/// From so long before a certificate's end on, its end is warned of.
const WARN_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);
const DAY_SECONDS: u64 = 24 * 3600;

/// The endpoint that the configuration names, or a usual one.
pub fn endpoint(access: &Access) -> Endpoint {
    access.endpoint.clone().unwrap_or_else(|| Endpoint::Unix(super::usual_socket()))
}

/// The address with what lets us in; the operator's word on the machine's key goes before what was `kept`.
pub fn address(access: &Access, kept: Option<&str>) -> Result<Address, AddressError> {
    let ssh = access.ssh.clone().map(|mut ssh| {
        let kept = kept.and_then(|line| KnownHost::parse(line).ok());
        ssh.known = ssh.known.or(kept);
        ssh
    });
    Address::new(&endpoint(access), access.tls.as_ref(), ssh)
}

/// Writes down which key the engine's machine shows, once it does. Ends at once where there is none to show.
pub async fn keep_host_key(engine: DockerEngine, host: Arc<Host>, db: Db, kept: Option<String>) {
    let Some(mut shown) = engine.address().host_key() else { return };
    // The engine lives as long as the server.
    let Ok(seen) = shown.wait_for(Option::is_some).await.map(|seen| seen.clone()) else { return };
    let Some(key) = seen.map(|seen| seen.host_key) else { return };
    let (line, fingerprint) = (key.line(), key.fingerprint());
    host.show_host_key(fingerprint.clone());
    if kept.as_deref() == Some(line.as_str()) {
        return;
    }
    match kept {
        None => tracing::info!(
            host = host.name,
            fingerprint,
            "the engine's machine is known by this SSH host key from now on; compare it with `ssh-keygen -lf \
             /etc/ssh/ssh_host_ed25519_key.pub` there, or set DOCKER_SSH_HOST_KEY"
        ),
        Some(_) => {
            tracing::warn!(host = host.name, fingerprint, "the engine's machine has another SSH host key, as set")
        }
    }
    if let Err(error) = store::keep_host_key(db.write(), host.id, &line).await {
        tracing::error!(host = host.name, %error, "the SSH host key could not be kept; the next start takes any");
    }
}

/// Warns of certificates that are about to end. Ends at once where there are none.
pub async fn watch_certificates(engine: DockerEngine, host: Arc<Host>) {
    if engine.address().validity().is_none() {
        return;
    }
    let mut looks = tokio::time::interval_at(tokio::time::Instant::now() + FIRST_LOOK_AFTER, LOOK_EVERY);
    loop {
        looks.tick().await;
        let validity = engine.address().validity().unwrap_or_default();
        for (whose, until) in [("the client's", validity.ours), ("the engine's", validity.engines)] {
            if let Some(days) = until.and_then(|until| days_left(until, SystemTime::now())) {
                tracing::warn!(host = host.name, whose, days, "a certificate is about to expire; renew it");
            }
        }
    }
}

/// Why an engine is not reached, and what to do.
pub(super) fn explain(why: &Unreachable) -> String {
    let advice = match why {
        Unreachable::NoSocket { .. } | Unreachable::SocketDead { .. } => {
            "Start the engine, or point DOCKER_HOST at one that runs."
        }
        Unreachable::SocketDenied { .. } => "Run the server as a user that may open it (Docker's group, mostly).",
        Unreachable::Ssh(DialError::HostKeyChanged { .. }) => {
            "If that is as it should be, set DOCKER_SSH_HOST_KEY to the new one."
        }
        Unreachable::Ssh(DialError::KeyRefused { .. }) => {
            "Add the key to authorized_keys there, or set SSH_PRIVATE_KEY to another."
        }
        Unreachable::NotTrusted { .. }
        | Unreachable::Expired { .. }
        | Unreachable::WrongName { .. }
        | Unreachable::ClientRefused { .. }
        | Unreachable::ClientExpired => "Look at the certificates on both sides (DOCKER_CERT_PATH).",
        _ => "Look at DOCKER_HOST and at the engine's machine.",
    };
    format!("The container engine is not reached: {why}. {advice}")
}

/// How many days are left, if they are few.
fn days_left(until: SystemTime, now: SystemTime) -> Option<u64> {
    let left = until.duration_since(now).unwrap_or_default();
    (left <= WARN_BEFORE).then_some(left.as_secs() / DAY_SECONDS)
}

/// The first socket of those where an engine usually listens that takes connections, else the first that is there:
/// an engine that was ended leaves its own behind.
pub fn usual_socket() -> PathBuf {
    let own = format!("/run/user/{}", rustix::process::getuid().as_raw());
    let usual = [
        "/var/run/docker.sock".into(),
        format!("{own}/docker.sock"),
        "/run/podman/podman.sock".into(),
        format!("{own}/podman/podman.sock"),
    ];
    let listens = |path: &&String| std::os::unix::net::UnixStream::connect(path).is_ok();
    let found = usual.iter().find(listens).or_else(|| usual.iter().find(|path| Path::new(path).exists()));
    PathBuf::from(found.unwrap_or(&usual[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_told_in_time() {
        let now = SystemTime::now();
        assert_eq!(days_left(now + Duration::from_secs(365 * DAY_SECONDS), now), None);
        assert_eq!(days_left(now + Duration::from_secs(7 * DAY_SECONDS), now), Some(7));
        assert_eq!(days_left(now - Duration::from_secs(1), now), Some(0));
    }
}
