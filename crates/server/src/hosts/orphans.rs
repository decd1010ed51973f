//! What an engine that died leaves of a start that it was about: a process, or one that waits to become that, and what looks
//! after it. The engine that comes after it knows nothing of them and refuses to start their container ever again.
//!
//! Our guest ends them, in a helper that sees its host's processes and may signal them (`guest orphan end`); what supervises
//! containers there then clears the rest away.

use super::helper::{Helper, HelperSpec, fault_of};
use super::{Host, shares_kernel};
use rexec_api::guest::OrphanEnded;
use rexec_engine::{EngineError, EngineInfo, Profile, Result};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

const ENDING_MAX: Duration = Duration::from_secs(30);
/// A word and a number.
const ANSWER_BYTES_MAX: u64 = 256;

impl Host {
    /// Ends what is left of a container, by its id, that the engine does not take to be running; how many there were.
    /// [`EngineError::Refused`] says why it cannot be done there.
    pub async fn end_orphans(&self, info: &EngineInfo, container: &str) -> Result<u32> {
        let shares = |name: &&String| shares_kernel(name);
        let runtime = match shares_kernel(&info.default_runtime) {
            true => None,
            false => Some(info.runtimes.iter().find(shares).ok_or_else(no_kernel)?.clone()),
        };
        let spec = HelperSpec {
            job: format!("orphan-{}", uuid::Uuid::new_v4().simple()),
            runtime,
            profile: Profile::Orphans,
            ..HelperSpec::default()
        };
        let ended = tokio::time::timeout(ENDING_MAX, self.ask_to_end(spec, container)).await;
        let ended = ended.map_err(|elapsed| EngineError::Unavailable(elapsed.into()))??;
        tracing::info!(host = self.name, container, ended, "ended what a start that was cut off had left");
        Ok(ended)
    }

    async fn ask_to_end(&self, spec: HelperSpec, container: &str) -> Result<u32> {
        let helper = Helper::open(self, spec).await?;
        let said = say(&helper, container).await;
        helper.close().await?;
        said
    }
}

async fn say(helper: &Helper, container: &str) -> Result<u32> {
    let mut said = Vec::new();
    let stream = helper.run(&["orphan", "end", container]).await?;
    match stream.take(ANSWER_BYTES_MAX).read_to_end(&mut said).await {
        Ok(_) => {
            let answer: OrphanEnded = serde_json::from_slice(&said)
                .map_err(|error| EngineError::Protocol(format!("the guest's answer: {error}")))?;
            Ok(answer.ended)
        }
        Err(error) => Err(EngineError::Refused(fault_of(error)?)),
    }
}

fn no_kernel() -> EngineError {
    EngineError::Refused("none of the engine's runtimes is known to share its machine's kernel".into())
}
