//! Whether a runtime keeps what is written, which workspaces are promised: some hold a container's root file system in
//! memory, and a stop, or a snapshot, loses it without a word (newer `runsc` does so without `--overlay2=none`).
//!
//! The trial is a helper container of the runtime in which our guest writes a file: it is committed, stopped, started, and
//! the file must be in both. Once for each runtime and coming of the host, when it is first asked for; that of workspaces
//! that name none as soon as the host is ready, which waits for no trial. Runtimes known to share the host's kernel write to its own file
//! system and are not tried.
//!
//! Invariant: no workspace is made or started by a runtime that is not of the above or has not passed.

use super::helper::{Helper, HelperSpec, fault_of};
use super::{Host, HostFacts, delivery, shares_kernel};
use rexec_engine::{CommitConfig, EngineError};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const TRIAL_MAX: Duration = Duration::from_secs(60);
const STOP_SECONDS: u32 = 5;
const FILE: &str = "/kept";
const ANSWER_BYTES_MAX: u64 = 1024;
/// Of a trial's image, which goes with it.
const IMAGE: &str = "rexec/trial";
const STOP_LOSES: &str = "what is written to the root file system is lost when a workspace stops";
const IMAGE_LACKS: &str = "an image made of a workspace lacks what was written to its root file system";

/// Why a host runs no workspace by a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// It is so until somebody changes the host.
    Refused(String),
    /// It cannot be told at this moment.
    Unknown(String),
}

impl Host {
    /// Whether workspaces of `runtime` (empty for the engine's own default) keep what they write. That the host has it, the
    /// engine says.
    pub async fn require_fit(&self, runtime: &str) -> Result<(), Unfit> {
        let facts = self.ready_or_tried().await.map_err(Unfit::Unknown)?;
        self.require_fit_by(runtime, &facts).await
    }

    async fn require_fit_by(&self, runtime: &str, facts: &HostFacts) -> Result<(), Unfit> {
        let runtime = if runtime.is_empty() { &facts.engine.default_runtime } else { runtime };
        if shares_kernel(runtime) || !facts.engine.runtimes.iter().any(|there| there == runtime) {
            return Ok(());
        }
        if !self.is_ours() {
            // Whoever tends it tries it, before anything is started.
            return Ok(());
        }
        let trial = self.fitness.of(runtime);
        match trial.get_or_try_init(|| self.try_disk(runtime)).await {
            Ok(None) => Ok(()),
            Ok(Some(why)) => {
                Err(Unfit::Refused(format!("The host's runtime `{runtime}` is not fit for workspaces: {why}.")))
            }
            Err(error) => {
                tracing::warn!(
                    host = self.name,
                    runtime,
                    error = &error as &dyn std::error::Error,
                    "no trial of a runtime"
                );
                Err(Unfit::Unknown(format!("The host's runtime `{runtime}` cannot be tried now. Try again.")))
            }
        }
    }

    /// The runtimes that were tried and are not fit, and why.
    pub fn unfit(&self) -> BTreeMap<String, String> {
        self.fitness.known().into_iter().filter_map(|(runtime, why)| Some((runtime, why?))).collect()
    }

    /// Tries that of workspaces that name none, before one is made.
    pub(super) async fn try_usual_runtime(&self, facts: &HostFacts) {
        // What comes of it is kept, and told where it counts.
        let _ = self.require_fit_by(self.runtime.as_deref().unwrap_or_default(), facts).await;
    }

    /// Why it is not fit.
    async fn try_disk(&self, runtime: &str) -> Result<Option<String>, EngineError> {
        let word = uuid::Uuid::new_v4().simple().to_string();
        let spec =
            HelperSpec { job: format!("disk-{word}"), runtime: Some(runtime.to_owned()), ..HelperSpec::default() };
        let helper = match Helper::open(self, spec).await {
            Ok(helper) => helper,
            Err(EngineError::Refused(why) | EngineError::RuntimeUnavailable(why)) => {
                return Ok(Some(format!("no container starts by it ({why})")));
            }
            Err(error) => return Err(error),
        };
        let image = format!("{IMAGE}:{word}");
        let tried = tokio::time::timeout(TRIAL_MAX, self.keeps(&helper, &image, &word)).await;
        helper.close().await?;
        match self.engine.remove_image(&image).await {
            Ok(()) | Err(EngineError::NotFound(_) | EngineError::ImageNotFound(_)) => {}
            Err(error) => return Err(error),
        }
        let fault = match tried {
            Ok(Err(EngineError::Refused(why) | EngineError::Conflict(why))) => {
                Some(format!("a container of it does not go on ({why})"))
            }
            Ok(fault) => fault?,
            Err(_) => Some("trying it took too long".into()),
        };
        tracing::info!(host = self.name, runtime, fault, "tried whether a runtime keeps what is written");
        Ok(fault)
    }

    async fn keeps(&self, helper: &Helper, image: &str, word: &str) -> Result<Option<String>, EngineError> {
        let (engine, id) = (&self.engine, helper.container());
        if let Err(why) = ask(helper, "write", word).await? {
            return Ok(Some(format!("nothing can be written there ({why})")));
        }
        let config = CommitConfig { pause: false, ..CommitConfig::default() };
        engine.commit(id, image, &config).await?;
        engine.stop(id, STOP_SECONDS).await?;
        engine.start(id).await?;
        if ask(helper, "read", "").await?.ok().as_deref() != Some(word) {
            return Ok(Some(STOP_LOSES.into()));
        }
        let kept = delivery::file_of_image(self, image, FILE).await?;
        Ok((kept.as_deref() != Some(word.as_bytes())).then(|| IMAGE_LACKS.to_owned()))
    }
}

/// What the guest answers, or why it could not.
async fn ask(helper: &Helper, verb: &str, text: &str) -> Result<Result<String, String>, EngineError> {
    let mut stream = helper.run(&["volume", verb, FILE]).await?;
    let mut said = String::new();
    let asked = async {
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await?;
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut said).await
    };
    match asked.await {
        Ok(_) => Ok(Ok(said)),
        Err(error) => Ok(Err(fault_of(error)?)),
    }
}
