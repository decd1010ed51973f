//! What engines say, for people.

use rexec_engine::EngineError;

/// An engine's failure as a sentence for people; the particulars go to the log.
pub fn explain(error: &EngineError) -> String {
    tracing::debug!(error = error as &dyn std::error::Error, "engine error");
    if let Some(why) = error.unreachable() {
        return super::remote::explain(&why);
    }
    match error {
        EngineError::Unavailable(_) => {
            "The container engine does not answer. Start it, or point DOCKER_HOST at one that runs.".into()
        }
        EngineError::DiskFull(_) => "The engine's disk is full. Free some space on the host.".into(),
        other => format!("The container engine refused: {other}."),
    }
}
