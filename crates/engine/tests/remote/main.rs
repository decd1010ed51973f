//! The contract through the other transports, and what only they can get wrong. The engine is this machine's, behind
//! OpenSSH's `sshd` and behind mutual TLS.

mod ssh;
mod tls;

use rexec_engine::Engine;
use rexec_engine::docker::DockerEngine;

/// Why an engine is not reached.
async fn why_not(engine: &DockerEngine) -> String {
    let error = engine.info().await.expect_err("it is not reached");
    error.unreachable().unwrap_or_else(|| panic!("it has no reason: {error:?}")).to_string()
}
