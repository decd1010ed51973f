//! Requests to the API: of granted repositories, of others, and of none.
//!
//! ```text
//!   /repos/{owner}/{name} granted   reading   with a token
//!                                   writing   with one made for the workspace: GitHub limits it
//!                                             with the operator's: the parts in CHANGES alone
//!                                             where branches are limited: never what moves refs
//!   /repos/{owner}/{name} other     without
//!   /graphql                        with one made for the workspace, or one that is granted whole
//!   all else                        reading with one made for the workspace, or granted for all; else who am I, at most
//! ```
//!
//! Bodies are not looked at, so that what names a branch in its body counts as moving all of them.

use super::grant::{Grant, Token, Verdict, refused};

/// What may be changed below a repository with the operator's token: its contents and what is said about them, never its
/// settings, keys, people, secrets, or what runs.
const CHANGES: [&str; 13] = [
    "check-runs",
    "check-suites",
    "comments",
    "commits",
    "contents",
    "git",
    "issues",
    "labels",
    "merges",
    "milestones",
    "pulls",
    "releases",
    "statuses",
];
/// Parts that move refs, whatever is asked of them: releases make tags, deployments merge into what is deployed.
const MOVING: [&str; 8] =
    ["branches", "contents", "deployments", "import", "merge-upstream", "merges", "releases", "tags"];
/// Parts of issues that name others, wherever those are.
const ELSEWHERE: [&str; 3] = ["dependencies", "sub_issue", "sub_issues"];
/// Objects are added and nothing points to them.
const OBJECTS: [&str; 4] = ["blobs", "commits", "tags", "trees"];
/// Says whose token it is and how much of it is left.
const ABOUT_TOKEN: [&str; 5] = ["", "/", "/meta", "/rate_limit", "/user"];

const READ_ONLY: &str = "this workspace may read this repository and not change it";
const PUSH_INSTEAD: &str = "this workspace may change some branches alone, which cannot be seen in requests to the API: \
                            push to a branch with git instead, or leave it to somebody else to merge";
const NOT_CHANGED: &str = "this workspace may change the contents, issues, pull requests, comments, labels, statuses and \
                           releases of this repository, not its settings, people, secrets, hooks or workflows";
const NO_SUCH: &str = "this is no part of a repository that the API has";
const NO_GRAPHQL: &str = "GraphQL cannot be limited to repositories: use the REST API, such as `gh api \
                          repos/OWNER/NAME/pulls`";
const NOT_ALL: &str = "this workspace may read all and change repositories, nothing else";
const NO_END: &str = "this would end the token of the workspace";

impl Grant {
    /// `path` is plain, and begins where that of the public API does; it may be empty.
    pub(super) fn judge_api(&self, method: &str, path: &str) -> Verdict {
        let reads = matches!(method, "GET" | "HEAD");
        match below_repository(path) {
            Some((owner, name, _)) if !self.fits(owner, name) => Verdict::Without,
            Some(_) if reads => Verdict::With(Token::Api),
            Some((_, _, below)) => self.judge_change(&below),
            None => self.judge_other(method, path, reads),
        }
    }

    /// Files of releases; nothing else is there.
    pub(super) fn judge_upload(&self, method: &str, path: &str) -> Verdict {
        match below_repository(path) {
            Some((owner, name, below)) if self.fits(owner, name) && method == "POST" => match below[..] {
                ["releases", _, "assets"] => self.judge_change(&below),
                _ => Verdict::Without,
            },
            _ => Verdict::Without,
        }
    }

    pub(super) fn judge_graphql(&self, method: &str) -> Verdict {
        let is_whole = self.write && self.branches.is_empty() && self.has_all();
        match method {
            "POST" if self.apart || is_whole => Verdict::With(Token::Api),
            "POST" => refused(NO_GRAPHQL),
            _ => self.judge_other(method, "/graphql", matches!(method, "GET" | "HEAD")),
        }
    }

    pub(super) fn has_all(&self) -> bool {
        self.repositories.iter().any(|one| one.is_all())
    }

    /// `below` is what follows the name of a granted repository.
    fn judge_change(&self, below: &[&str]) -> Verdict {
        if !self.write {
            return refused(READ_ONLY);
        }
        if self.apart && self.branches.is_empty() {
            return Verdict::With(Token::Api);
        }
        // A part in other letters could be taken for one of those below.
        if below.first().is_some_and(|first| !is_word(first)) {
            return refused(NO_SUCH);
        }
        if !self.branches.is_empty() && moves_refs(below) {
            return refused(PUSH_INSTEAD);
        }
        let may = below.first().is_some_and(|first| CHANGES.contains(first)) && !reaches_further(below);
        if self.apart || may { Verdict::With(Token::Api) } else { refused(NOT_CHANGED) }
    }

    /// What names no repository, or names it by its number.
    fn judge_other(&self, method: &str, path: &str, reads: bool) -> Verdict {
        if self.apart {
            return match method {
                _ if reads => Verdict::With(Token::Api),
                "DELETE" if path.trim_end_matches('/') == "/installation/token" => refused(NO_END),
                _ => Verdict::Without,
            };
        }
        match (reads, self.has_all()) {
            (true, true) => Verdict::With(Token::Api),
            (true, false) if ABOUT_TOKEN.contains(&path) => Verdict::With(Token::Api),
            (false, true) => refused(NOT_ALL),
            (_, false) => Verdict::Without,
        }
    }
}

/// Owner, name, and the parts after them, without an empty one at the end.
fn below_repository(path: &str) -> Option<(&str, &str, Vec<&str>)> {
    let mut parts = path.strip_prefix("/repos/")?.split('/');
    let (owner, name) = (parts.next()?, parts.next().filter(|name| !name.is_empty())?);
    Some((owner, name, parts.filter(|part| !part.is_empty()).collect()))
}

/// As all fixed parts of paths are.
fn is_word(part: &str) -> bool {
    part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_'))
}

/// Whether it makes a machine, or ties an issue to another that its body names by a number of its own: that may be of any
/// repository, and is shown and changed then; or whether it could be taken for what does.
fn reaches_further(below: &[&str]) -> bool {
    match below {
        ["pulls", _, verb, ..] => !is_word(verb) || *verb == "codespaces",
        ["issues", _, verb, ..] => !is_word(verb) || ELSEWHERE.contains(verb),
        _ => false,
    }
}

/// Whether it makes, moves or removes a branch or a tag, or could be taken for what does.
fn moves_refs(below: &[&str]) -> bool {
    match below {
        [first, ..] if MOVING.contains(first) => true,
        ["git"] => true,
        ["git", kind, ..] => !OBJECTS.contains(kind),
        ["pulls", _, verb, ..] => !is_word(verb) || matches!(*verb, "merge" | "update-branch"),
        // It commits a mended file.
        ["code-scanning", .., "commits"] => true,
        ["code-scanning", rest @ ..] => !rest.iter().all(|part| is_word(part)),
        _ => false,
    }
}
