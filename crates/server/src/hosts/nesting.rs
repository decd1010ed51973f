//! Whether workspaces of this host may hold containers of their own: the operator's word, and a trial.
//!
//! The trial is a helper container with the profile of such a workspace, in which our guest makes one container
//! inside (`guest nested trial`): once for each runtime that is asked for, each time that the host comes. It also
//! says which kernel it saw. Another than the host's is the runtime's own, and what a nested container could do to it
//! stays inside; the host's own is shared, and then the operator must have allowed it (`REXEC_NESTED=allow`).
//!
//! Invariant: no container is made with [`Profile::Nesting`] but the trial and what [`Host::nesting`] agreed to.

use super::helper::{Helper, HelperSpec, fault_of};
use super::{Host, HostFacts, shares_kernel};
use crate::config::NestedPolicy;
use rexec_engine::{EngineError, Profile};
use std::time::Duration;
use tokio::io::AsyncReadExt;

const TRIAL_MAX: Duration = Duration::from_secs(20);
/// The kernel's release and a word.
const ANSWER_BYTES_MAX: u64 = 1024;

/// What a trial showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The runtime brings a kernel of its own.
    isolates: bool,
    /// Why it does not work.
    fault: Option<String>,
}

/// Why a host does not let workspaces hold containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoNesting {
    /// It is so, and stays so until somebody changes the host or the settings.
    Refused(String),
    /// It cannot be told at this moment.
    Unknown(String),
}

impl NoNesting {
    pub fn reason(&self) -> &str {
        let (Self::Refused(reason) | Self::Unknown(reason)) = self;
        reason
    }
}

impl Host {
    /// Whether workspaces of `runtime` (empty for that of workspaces that name none) may hold containers, and if not, why.
    pub async fn nesting(&self, runtime: &str) -> Result<(), NoNesting> {
        let facts = self.ready_or_tried().await.map_err(NoNesting::Unknown)?;
        let named = Some(runtime).filter(|name| !name.is_empty()).or(self.runtime.as_deref());
        let runtime = named.unwrap_or(&facts.engine.default_runtime);
        if let Some(reason) = forbidden(self.nested, runtime, None) {
            return Err(NoNesting::Refused(reason));
        }
        if !self.is_ours() {
            // Whoever tends it tries it, before anything is made.
            return Ok(());
        }
        let trial = self.trials.of(runtime);
        let verdict = trial.get_or_try_init(|| self.try_nesting(runtime, &facts)).await;
        let verdict = verdict.map_err(|error| {
            tracing::warn!(host = self.name, runtime, error = &error as &dyn std::error::Error, "no trial of nesting");
            NoNesting::Unknown("The host cannot be tried for containers inside of workspaces now. Try again.".into())
        })?;
        judge(self.nested, runtime, verdict).map_or(Ok(()), |reason| Err(NoNesting::Refused(reason)))
    }

    async fn try_nesting(&self, runtime: &str, facts: &HostFacts) -> Result<Verdict, EngineError> {
        let word: String = runtime.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let spec = HelperSpec {
            job: format!("nesting-{word}-{}", self.instance),
            runtime: Some(runtime.to_owned()),
            profile: Profile::Nesting,
            image: None,
            mounts: Vec::new(),
        };
        let helper = match Helper::open(self, spec).await {
            Ok(helper) => helper,
            // Such as no device for networks on the host.
            Err(EngineError::Refused(why)) => {
                return Ok(Verdict { isolates: !shares_kernel(runtime), fault: Some(why) });
            }
            Err(error) => return Err(error),
        };
        let tried = tokio::time::timeout(TRIAL_MAX, run(&helper)).await;
        helper.close().await?;
        let (kernel, fault) = match tried {
            Ok(tried) => tried?,
            Err(_) => (None, Some("the trial took too long".into())),
        };
        let isolates = kernel.map_or(!shares_kernel(runtime), |kernel| kernel != facts.engine.kernel);
        tracing::info!(host = self.name, runtime, isolates, fault, "tried containers inside of a workspace");
        Ok(Verdict { isolates, fault })
    }
}

/// The kernel that it saw, and why it did not work.
async fn run(helper: &Helper) -> Result<(Option<String>, Option<String>), EngineError> {
    let mut said = Vec::new();
    let read = helper.run(&["nested", "trial"]).await?.take(ANSWER_BYTES_MAX).read_to_end(&mut said).await;
    let said = String::from_utf8_lossy(&said);
    let mut lines = said.lines();
    let kernel = lines.next().map(str::to_owned);
    let fault = match read {
        Ok(_) if lines.next() == Some("done") => None,
        Ok(_) => Some("the trial ended early".into()),
        Err(error) => Some(fault_of(error)?),
    };
    Ok((kernel, fault))
}

/// What the operator's word forbids; `isolates` is `None` as long as nothing was tried.
fn forbidden(policy: NestedPolicy, runtime: &str, isolates: Option<bool>) -> Option<String> {
    match (policy, isolates) {
        (NestedPolicy::Deny, _) => {
            Some("This server does not allow containers inside of workspaces (REXEC_NESTED=deny).".into())
        }
        (NestedPolicy::Allow, _) | (NestedPolicy::Isolated, Some(true)) => None,
        (NestedPolicy::Isolated, None) if !shares_kernel(runtime) => None,
        (NestedPolicy::Isolated, _) => Some(format!(
            "Containers inside of a workspace would reach more of the host's kernel, which the runtime `{runtime}` shares with it. \
             Whoever runs this server can allow that (REXEC_NESTED=allow) or give it a runtime with a kernel of its own."
        )),
    }
}

fn judge(policy: NestedPolicy, runtime: &str, verdict: &Verdict) -> Option<String> {
    forbidden(policy, runtime, Some(verdict.isolates)).or_else(|| {
        let why = verdict.fault.as_ref()?;
        Some(format!("The host's runtime `{runtime}` does not run containers inside of workspaces ({why})."))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_word_comes_first_and_then_the_trial() {
        use NestedPolicy::{Allow, Deny, Isolated};
        let verdict = |isolates, fault: Option<&str>| Verdict { isolates, fault: fault.map(str::to_owned) };
        assert!(forbidden(Deny, "kata", None).is_some_and(|why| why.contains("REXEC_NESTED=deny")));
        assert!(forbidden(Isolated, "runc", None).is_some_and(|why| why.contains("REXEC_NESTED=allow")), "untried");
        assert_eq!(forbidden(Isolated, "kata", None), None, "to be tried");
        assert_eq!(forbidden(Allow, "runc", None), None);

        assert_eq!(judge(Isolated, "kata", &verdict(true, None)), None);
        // A name promises nothing: it has the host's kernel.
        assert!(judge(Isolated, "kata", &verdict(false, None)).is_some_and(|why| why.contains("kernel")));
        assert_eq!(judge(Allow, "runc", &verdict(false, None)), None);
        let broken = verdict(true, Some("a mount: Operation not permitted"));
        assert!(judge(Isolated, "runsc", &broken).is_some_and(|why| why.contains("a mount: Operation")));
    }
}
