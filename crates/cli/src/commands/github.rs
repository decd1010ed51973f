//! What a workspace may do at GitHub, as flags of `new` and `egress` and as it is shown.

use crate::failure::{Failure, Result};
use rexec_api::egress::GithubAccess;

const OFF: &str = "off";

#[derive(Debug, Clone, Default, clap::Args)]
pub struct GithubArguments {
    /// A repository at GitHub that it may use by the server's own access, whose token stays outside: owner/name or owner/*. May
    /// be given several times; all that are meant are named at once, and `off` takes them away.
    #[arg(long, value_name = "REPOSITORY")]
    github: Vec<String>,
    /// A branch there that it may push to, and to no other: main, or agent/* for all that begin so. May be given several times.
    #[arg(long = "github-branch", value_name = "BRANCH", requires = "github")]
    branches: Vec<String>,
    /// Have it change nothing there.
    #[arg(long = "github-read-only", requires = "github", conflicts_with = "branches")]
    read_only: bool,
}

impl GithubArguments {
    /// `None`: nothing is said of it; `Some(None)`: it is taken away.
    pub fn access(&self) -> Result<Option<Option<GithubAccess>>> {
        let is_off = |one: &String| one == OFF;
        match self.github.as_slice() {
            [] => Ok(None),
            [one] if is_off(one) && self.branches.is_empty() && !self.read_only => Ok(Some(None)),
            all if all.iter().any(is_off) => {
                Err(Failure::Other("`--github off` takes its repositories away, and stands alone.".into()))
            }
            all => Ok(Some(Some(GithubAccess {
                repositories: all.to_vec(),
                branches: self.branches.clone(),
                read_only: self.read_only,
            }))),
        }
    }
}

/// In one line.
pub fn told(access: &GithubAccess) -> String {
    let what = match (access.read_only, access.branches.as_slice()) {
        (true, _) => ", to read".to_owned(),
        (false, []) => String::new(),
        (false, branches) => format!(", pushing to {}", branches.join(", ")),
    };
    format!("{}{what}", access.repositories.join(", "))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_all_and_off_is_nothing() {
        let of = |github: &[&str], branches: &[&str], read_only: bool| {
            let all = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
            GithubArguments { github: all(github), branches: all(branches), read_only }.access()
        };
        assert_eq!(of(&[], &[], false).unwrap(), None);
        assert_eq!(of(&["off"], &[], false).unwrap(), Some(None));
        let given = |github: &[&str], branches: &[&str], read_only| {
            told(&of(github, branches, read_only).unwrap().flatten().unwrap())
        };
        assert_eq!(
            given(&["acme/app", "acme/lib"], &["main", "agent/*"], false),
            "acme/app, acme/lib, pushing to main, agent/*"
        );
        assert_eq!(given(&["acme/*"], &[], true), "acme/*, to read");
        assert_eq!(given(&["acme/*"], &[], false), "acme/*");
        assert!(of(&["off", "acme/app"], &[], false).is_err() && of(&["off"], &["main"], false).is_err());
    }
}
