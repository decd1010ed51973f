//! Names of repositories and of branches, as people write them and as requests do.
//!
//! Invariants: repositories are the same whatever the case of their letters, as GitHub has it; branches are not. What is
//! printed is read as the same again. Nothing fits that GitHub, or git, would not take for a name.

use std::fmt;
use std::str::FromStr;

/// Names of owners and of repositories, by GitHub's own rules.
const OWNER_BYTES_MAX: usize = 39;
const NAME_BYTES_MAX: usize = 100;
/// A whole ref, as long as GitHub takes them.
pub(super) const REF_BYTES_MAX: usize = 255;
/// What branches begin with on the wire.
pub(super) const HEADS: &str = "refs/heads/";
/// How much of a text is repeated to its writer.
const SHOWN_CHARS_MAX: usize = 300;

/// One or many: `owner/name`, `owner/*`, `*`. Equal whatever the case.
#[derive(Debug, Clone)]
pub struct Repositories(Kind);

#[derive(Debug, Clone)]
enum Kind {
    All,
    Of(String),
    One(String, String),
}

/// Which text, and what is wrong with it, in words for whoever wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?}: {why}")]
pub struct BadRepositories {
    pub text: String,
    pub why: &'static str,
}

impl Repositories {
    /// Names that GitHub gives to no repository fit nothing, not even `*`.
    pub fn fits(&self, owner: &str, name: &str) -> bool {
        is_owner(owner)
            && is_name(name)
            && match &self.0 {
                Kind::All => true,
                Kind::Of(of) => of.eq_ignore_ascii_case(owner),
                Kind::One(of, one) => of.eq_ignore_ascii_case(owner) && one.eq_ignore_ascii_case(name),
            }
    }

    /// Whether everything that fits the other fits this.
    pub fn covers(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Kind::All, _) => true,
            (Kind::Of(of), Kind::Of(owner) | Kind::One(owner, _)) => of.eq_ignore_ascii_case(owner),
            (Kind::One(..), Kind::One(owner, name)) => self.fits(owner, name),
            (Kind::Of(_) | Kind::One(..), _) => false,
        }
    }

    pub fn is_all(&self) -> bool {
        matches!(self.0, Kind::All)
    }

    /// As it was written. `None`: all owners.
    pub fn owner(&self) -> Option<&str> {
        match &self.0 {
            Kind::All => None,
            Kind::Of(owner) | Kind::One(owner, _) => Some(owner),
        }
    }

    /// As it was written. `None`: all names.
    pub fn name(&self) -> Option<&str> {
        match &self.0 {
            Kind::One(_, name) => Some(name),
            _ => None,
        }
    }
}

impl PartialEq for Repositories {
    fn eq(&self, other: &Self) -> bool {
        self.covers(other) && other.covers(self)
    }
}

impl Eq for Repositories {}

impl fmt::Display for Repositories {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::All => out.write_str("*"),
            Kind::Of(owner) => write!(out, "{owner}/*"),
            Kind::One(owner, name) => write!(out, "{owner}/{name}"),
        }
    }
}

impl FromStr for Repositories {
    type Err = BadRepositories;

    fn from_str(text: &str) -> Result<Self, BadRepositories> {
        read_repositories(text).map(Self).map_err(|why| BadRepositories { text: shown(text), why })
    }
}

fn read_repositories(text: &str) -> Result<Kind, &'static str> {
    if text == "*" {
        return Ok(Kind::All);
    }
    if text.is_empty() {
        return Err("it is empty: write owner/name, owner/* or *");
    }
    if text.contains("://") || text.contains(['@', ':']) {
        return Err("write owner/name alone, without the address before it");
    }
    let Some((owner, name)) = text.split_once('/') else {
        return Err("write owner/name, or owner/* for all of an owner");
    };
    if name.contains('/') {
        return Err("write owner/name alone, with one slash");
    }
    if owner.contains('*') || (name.contains('*') && name != "*") {
        return Err("* stands for a whole name: owner/*, or * alone");
    }
    if !is_owner(owner) {
        return Err("an owner has 1 to 39 letters, digits, hyphens and underscores, and no hyphen first");
    }
    if name == "*" {
        return Ok(Kind::Of(owner.into()));
    }
    let name = without_git(name);
    if !is_name(name) {
        return Err("a repository has 1 to 100 letters, digits, dots, hyphens and underscores, and is not . or ..");
    }
    Ok(Kind::One(owner.into(), name.into()))
}

/// People write it so in any case.
fn without_git(name: &str) -> &str {
    match name.len().checked_sub(".git".len()).and_then(|at| name.split_at_checked(at)) {
        Some((before, end)) if end.eq_ignore_ascii_case(".git") => before,
        _ => name,
    }
}

fn is_owner(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=OWNER_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_plain) && !text.starts_with('-')
}

/// GitHub takes no name that ends in `.git`.
fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(is_plain)
        && !matches!(text, "." | "..")
        && without_git(text).len() == text.len()
}

/// A branch, or how branches begin and `*`: `main`, `agent/*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branches(Pattern);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    One(String),
    Beginning(String),
}

/// Which text, and what is wrong with it, in words for whoever wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?}: {why}")]
pub struct BadBranches {
    pub text: String,
    pub why: &'static str,
}

impl Branches {
    /// `branch` is without `refs/heads/`.
    pub fn fits(&self, branch: &str) -> bool {
        is_ref(&format!("{HEADS}{branch}"))
            && match &self.0 {
                Pattern::One(one) => one == branch,
                Pattern::Beginning(beginning) => branch.starts_with(beginning.as_str()),
            }
    }
}

impl fmt::Display for Branches {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Pattern::One(one) => out.write_str(one),
            Pattern::Beginning(beginning) => write!(out, "{beginning}*"),
        }
    }
}

impl FromStr for Branches {
    type Err = BadBranches;

    fn from_str(text: &str) -> Result<Self, BadBranches> {
        read_branches(text).map(Self).map_err(|why| BadBranches { text: shown(text), why })
    }
}

fn read_branches(text: &str) -> Result<Pattern, &'static str> {
    let branch = text.strip_prefix(HEADS).unwrap_or(text);
    if branch == "*" {
        return Err("that is every branch: leave branches out for all");
    }
    if branch.is_empty() {
        return Err("it is empty: write a branch, such as main, or how branches begin, such as agent/*");
    }
    if branch.starts_with("refs/") {
        return Err("only branches are named here, such as main: leave branches out for tags and all else");
    }
    let (name, is_beginning) = branch.strip_suffix('*').map_or((branch, false), |beginning| (beginning, true));
    if name.contains('*') {
        return Err("* may be its last character alone, as in agent/*");
    }
    if HEADS.len() + branch.len() > REF_BYTES_MAX {
        return Err("it is longer than 244 bytes");
    }
    // What a branch is called that begins so.
    let example = if is_beginning { format!("{HEADS}{name}x") } else { format!("{HEADS}{name}") };
    if !is_ref(&example) || name.starts_with('-') || branch == "HEAD" {
        return Err("git has no branch of such a name (git check-ref-format --branch)");
    }
    Ok(if is_beginning { Pattern::Beginning(name.into()) } else { Pattern::One(name.into()) })
}

/// Whether git takes it for the full name of a ref (git-check-ref-format), not longer than GitHub does.
pub(super) fn is_ref(text: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    let is_bad = |byte: u8| byte.is_ascii_control() || b" ~^:?*[\\".contains(&byte);
    text.len() <= REF_BYTES_MAX
        && text.starts_with("refs/")
        && text.split('/').all(is_part)
        && !text.bytes().any(is_bad)
        && !text.contains("..")
        && !text.contains("@{")
        && !text.ends_with('.')
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn repositories(text: &str) -> Repositories {
        text.parse().unwrap()
    }

    #[test]
    fn repositories_fit() {
        for (text, owner, name, fits) in [
            ("acme/app", "acme", "app", true),
            ("Acme/App", "aCME", "aPP", true),
            ("acme/app", "acme", "app2", false),
            ("acme/app", "acme2", "app", false),
            ("acme/app", "app", "acme", false),
            ("acme/*", "ACME", ".github", true),
            ("acme/*", "acme2", "app", false),
            ("acme/*", "acme", "..", false),
            ("acme/*", "acme", "a b", false),
            ("acme/*", "acme", "app.git", false),
            ("acme/*", "acme", "", false),
            ("*", "any_one", "a.b-c_d", true),
            ("*", "any one", "a", false),
            ("*", "", "a", false),
            ("*", "a", "caf\u{e9}", false),
            ("*", &"o".repeat(39), &"n".repeat(100), true),
            ("*", &"o".repeat(40), "n", false),
            ("*", "o", &"n".repeat(101), false),
        ] {
            assert_eq!(repositories(text).fits(owner, name), fits, "{text}: {owner}/{name}");
        }
    }

    #[test]
    fn repositories_are_printed_as_written() {
        for (text, printed) in
            [("Acme/App.git", "Acme/App"), ("a/b.GIT", "a/b"), ("a/*", "a/*"), ("*", "*"), ("a/.git.x", "a/.git.x")]
        {
            assert_eq!(repositories(text).to_string(), printed);
        }
        let one = repositories("Acme/App");
        assert_eq!((one.owner(), one.name(), one.is_all()), (Some("Acme"), Some("App"), false));
        assert_eq!((repositories("Acme/*").owner(), repositories("Acme/*").name()), (Some("Acme"), None));
        assert_eq!((repositories("*").owner(), repositories("*").name()), (None, None));
        assert_eq!(one, repositories("acme/app.git"));
    }

    #[test]
    fn some_cover_others() {
        let all = ["*", "acme/*", "Acme/App", "other/*", "other/app"];
        for (wide, covered) in [
            ("*", &all[..]),
            ("acme/*", &["acme/*", "Acme/App"]),
            ("acme/app", &["Acme/App"]),
            ("other/app", &["other/app"]),
        ] {
            for one in all {
                assert_eq!(repositories(wide).covers(&repositories(one)), covered.contains(&one), "{wide} {one}");
            }
        }
    }

    #[test]
    fn what_is_wrong_with_repositories_is_said() {
        for (text, why) in [
            ("", "empty"),
            ("acme", "write owner/name, or owner/*"),
            ("https://github.com/acme/app", "without the address"),
            ("git@github.com:acme/app.git", "without the address"),
            ("github.com/acme/app", "one slash"),
            ("acme/app/", "one slash"),
            ("*/app", "* stands"),
            ("*/*", "* stands"),
            ("acme/a*", "* stands"),
            ("/app", "an owner has"),
            (" acme/app", "an owner has"),
            ("ac.me/app", "an owner has"),
            ("acme/", "a repository has"),
            ("acme/.", "a repository has"),
            ("acme/..", "a repository has"),
            ("acme/.git", "a repository has"),
            ("acme/a.git.git", "a repository has"),
            ("acme/a b", "a repository has"),
            ("acme/caf\u{e9}", "a repository has"),
        ] {
            let bad = text.parse::<Repositories>().unwrap_err();
            assert!(bad.why.contains(why), "{text}: {}", bad.why);
            assert_eq!(bad.text, text);
        }
    }

    #[test]
    fn branches_fit() {
        for (text, branch, fits) in [
            ("main", "main", true),
            ("main", "Main", false),
            ("main", "main2", false),
            ("main", "refs/heads/main", false),
            ("refs/heads/main", "main", true),
            ("agent/*", "agent/a", true),
            ("agent/*", "agent/a/b", true),
            ("agent/*", "agent", false),
            ("agent/*", "agent/", false),
            ("agent/*", "agent/../main", false),
            ("agent/*", "agent//a", false),
            ("agent/*", "x/agent/a", false),
            ("agent*", "agent", true),
            ("agent*", "agents/a", true),
            ("refs/heads/agent/*", "agent/caf\u{e9}", true),
        ] {
            assert_eq!(text.parse::<Branches>().unwrap().fits(branch), fits, "{text}: {branch}");
        }
        assert_eq!("refs/heads/agent/*".parse::<Branches>().unwrap().to_string(), "agent/*");
    }

    #[test]
    fn what_is_wrong_with_branches_is_said() {
        let long = "b".repeat(245);
        for (text, why) in [
            ("", "empty"),
            ("refs/heads/", "empty"),
            ("*", "leave branches out"),
            ("refs/heads/*", "leave branches out"),
            ("refs/tags/v1", "only branches"),
            ("refs/*", "only branches"),
            ("a*b", "* may be"),
            ("agent/**", "* may be"),
            (&long, "longer"),
            ("HEAD", "no branch"),
            ("-x", "no branch"),
            ("-*", "no branch"),
            ("/a", "no branch"),
            ("a/", "no branch"),
            ("a//b", "no branch"),
            ("a/.b", "no branch"),
            ("a/.*", "no branch"),
            ("a..b", "no branch"),
            ("a.lock", "no branch"),
            ("a.lock/b", "no branch"),
            ("a.", "no branch"),
            ("a@{b", "no branch"),
            ("a b", "no branch"),
            ("a\\b", "no branch"),
            ("a\tb", "no branch"),
            ("a\u{7f}", "no branch"),
        ] {
            let bad = text.parse::<Branches>().unwrap_err();
            assert!(bad.why.contains(why), "{text}: {}", bad.why);
        }
    }

    /// What the installed git says is what is said here.
    #[test]
    fn refs_are_what_git_takes_for_refs() {
        let git = |name: &str| std::process::Command::new("git").args(["check-ref-format", name]).status();
        if git("refs/heads/main").is_err() {
            return;
        }
        for name in [
            "refs/heads/main",
            "refs/stash",
            "refs/",
            "refs/heads/-a",
            "refs/heads/@",
            "refs/heads/@a{",
            "refs/heads/a@{",
            "refs/heads/a.b",
            "refs/heads/.b",
            "refs/heads/a.",
            "refs/heads/a./b",
            "refs/heads/a..b",
            "refs/heads/a.lock",
            "refs/heads/a.lock/b",
            "refs/heads/a.locked",
            "refs/heads/.lock",
            "refs/heads//a",
            "refs/heads/",
            "refs/heads/a\u{7f}",
            "refs/heads/a\nb",
            "refs/heads/a*",
            "refs/heads/caf\u{e9}",
            "refs/heads/a;b&c|d$e(f)g'h\"i",
        ] {
            assert_eq!(is_ref(name), git(name).unwrap().success(), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_printed_so_that_it_is_read_the_same(text in r"[a-zA-Z./*_-]{1,12}|refs/heads/[a-z/*.]{0,6}|\PC{0,9}") {
            if let Ok(one) = text.parse::<Repositories>() {
                let again = repositories(&one.to_string());
                prop_assert_eq!(&again, &one);
                prop_assert_eq!(again.to_string(), one.to_string());
            }
            if let Ok(one) = text.parse::<Branches>() {
                prop_assert_eq!(one.to_string().parse::<Branches>(), Ok(one));
            }
        }

        #[test]
        fn covering_is_fitting_more(
            wide in r"\*|[ab]/(\*|[ab])", narrow in r"\*|[ab]/(\*|[ab])", owner in "[abA]", name in "[abA]"
        ) {
            let (wide, narrow) = (repositories(&wide), repositories(&narrow));
            prop_assert!(!wide.covers(&narrow) || !narrow.fits(&owner, &name) || wide.fits(&owner, &name));
        }
    }
}
