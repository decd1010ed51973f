//! What a workspace may do at GitHub, as flags of `new` and `egress` and as it is shown.

use crate::failure::{Failure, Result};
use rexec_api::egress::GithubAccess;

const OFF: &str = "off";

#[derive(Debug, Clone, Default, clap::Args)]
pub struct GithubArguments {
    /// A repository at GitHub that it may use by the server's own access, whose token stays outside: owner/name or owner/*. May
    /// be given several times; `off` takes all of them away.
    #[arg(long, value_name = "REPOSITORY")]
    github: Vec<String>,
    /// A branch there that it may push to, and to no other: main, or agent/* for all that begin so. May be given several times.
    #[arg(long = "github-branch", value_name = "BRANCH")]
    branches: Vec<String>,
    /// Have it change nothing there.
    #[arg(long = "github-read-only", conflicts_with = "branches")]
    read_only: bool,
}

impl GithubArguments {
    pub fn is_nothing(&self) -> bool {
        self.github.is_empty() && self.branches.is_empty() && !self.read_only
    }

    /// What it may use once these are added to what it has. What bounds that stays, unless it is taken away by name.
    pub fn added_to(&self, before: Option<&GithubAccess>) -> Result<Option<GithubAccess>> {
        if self.github.iter().any(|one| one == OFF) {
            return match self.github.len() == 1 && self.branches.is_empty() && !self.read_only {
                true => Ok(None),
                false => Err(Failure::Other("`--github off` takes its repositories away, and stands alone.".into())),
            };
        }
        if self.is_nothing() {
            return Ok(before.cloned());
        }
        let mut access = before.cloned().unwrap_or_default();
        access.repositories.extend(self.github.iter().cloned());
        if access.repositories.is_empty() {
            return Err(Failure::Other("It uses no repository at GitHub yet: name one by --github owner/name.".into()));
        }
        access.branches.extend(self.branches.iter().cloned());
        if self.read_only {
            access.branches.clear();
        }
        // To be let push to a branch is to be let push.
        access.read_only = self.read_only || (access.read_only && self.branches.is_empty());
        Ok(Some(access))
    }
}

/// Takes a repository or a branch away; whether it was there. The last of either stays: without repositories it is `off`, and
/// without branches it may push to all.
pub fn forget(access: &mut Option<GithubAccess>, what: &str) -> Result<bool> {
    let Some(access) = access else { return Ok(false) };
    let mut was_there = false;
    for (all, instead) in [
        (&mut access.repositories, "`--github off` takes away all that it may do there."),
        (
            &mut access.branches,
            "without branches it may push to all of them. Name others first, or begin anew after `--github off`.",
        ),
    ] {
        let count = all.len();
        all.retain(|one| !one.eq_ignore_ascii_case(what));
        if count > 0 && all.is_empty() {
            return Err(Failure::Other(format!("{what} is the last one; {instead}")));
        }
        was_there |= all.len() < count;
    }
    Ok(was_there)
}

/// In one line.
pub fn told(access: &GithubAccess) -> String {
    let what = match (access.read_only, access.branches.as_slice()) {
        (true, _) => ", to read".to_owned(),
        (false, []) => ", pushing to all branches".to_owned(),
        (false, branches) => format!(", pushing to {}", branches.join(", ")),
    };
    format!("{}{what}", access.repositories.join(", "))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_added_and_what_bounds_it_stays() {
        let of = |github: &[&str], branches: &[&str], read_only: bool, before: Option<&GithubAccess>| {
            let all = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
            GithubArguments { github: all(github), branches: all(branches), read_only }.added_to(before)
        };
        let bounded = of(&["acme/app"], &["agent/*"], false, None).unwrap();
        assert_eq!(told(bounded.as_ref().unwrap()), "acme/app, pushing to agent/*");
        let more = of(&["acme/lib"], &[], false, bounded.as_ref()).unwrap().unwrap();
        assert_eq!(told(&more), "acme/app, acme/lib, pushing to agent/*");
        let branch = of(&[], &["main"], false, Some(&more)).unwrap().unwrap();
        assert_eq!(told(&branch), "acme/app, acme/lib, pushing to agent/*, main");
        let reading = of(&[], &[], true, Some(&more)).unwrap().unwrap();
        assert_eq!(told(&reading), "acme/app, acme/lib, to read");
        let still = of(&["acme/x"], &[], false, Some(&reading)).unwrap().unwrap();
        assert_eq!(told(&still), "acme/app, acme/lib, acme/x, to read");
        assert_eq!(told(&of(&["acme/*"], &[], false, None).unwrap().unwrap()), "acme/*, pushing to all branches");
        assert_eq!(of(&["off"], &[], false, Some(&more)).unwrap(), None);
        assert_eq!(of(&[], &[], false, Some(&more)).unwrap(), Some(more.clone()));
        assert!(of(&["off", "acme/app"], &[], false, None).is_err() && of(&[], &["main"], false, None).is_err());

        let mut left = Some(branch);
        assert!(forget(&mut left, "ACME/lib").unwrap() && forget(&mut left, "main").unwrap());
        assert!(!forget(&mut left, "acme/none").unwrap() && !forget(&mut None, "acme/app").unwrap());
        assert!(forget(&mut left, "acme/app").is_err());
        assert!(forget(&mut left, "agent/*").is_err(), "it would widen what it may do");
    }
}
