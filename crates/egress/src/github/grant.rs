//! What a workspace may do with a token, and what is done with a request of its.
//!
//! Git speaks its smart protocol over HTTP: `/{owner}/{name}[.git]` and below that `info/refs?service=...`,
//! `git-upload-pack`, `git-receive-pack` (gitprotocol-http) and `info/lfs/` (Git LFS). All else at the git host is pages, and
//! goes without a token. The API is judged in [`super::api`].

use super::names::{Branches, HEADS, Repositories};
use super::push::Commands;
use crate::asks;
use crate::host::HostName;
use std::borrow::Cow;

const HOST: &str = "github.com";
const API_HOST: &str = "api.github.com";
const UPLOADS_HOST: &str = "uploads.github.com";

const AMBIGUOUS: &str = "this path could be read in two ways: leave out `.`, `..`, empty parts, backslashes, and encoded \
                         slashes and percent signs";
const NO_PUSH: &str = "this workspace may read this repository and not push to it";
const NO_LFS: &str = "this workspace may read this repository, and Git LFS could not be kept from writing to it: clone \
                      without large files (GIT_LFS_SKIP_SMUDGE=1)";
const QUERY: &str = "git sends no query here";
/// Most of a ref, and of the names of branches, that a reason repeats.
const SHOWN_CHARS_MAX: usize = 100;
/// Most patterns of branches that a reason repeats.
const SHOWN_BRANCHES_MAX: usize = 3;

/// Where GitHub is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Site {
    /// `github.com`, its API at `api.github.com` and `uploads.github.com`.
    Public,
    /// A company's own (GitHub Enterprise Server): all of one host, its API at `/api/v3/`, `/api/uploads/` and `/api/graphql`.
    Own(HostName),
}

/// What a workspace may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub site: Site,
    pub repositories: Vec<Repositories>,
    /// Which branches may be pushed to; none: all, and all other refs.
    pub branches: Vec<Branches>,
    pub write: bool,
    /// The tokens are made for this workspace, and GitHub itself limits them: to these repositories, to reading unless
    /// `write`, and where `branches` are named the API's to what does not change contents. Otherwise it is one token of the
    /// operator, with powers of its own.
    pub apart: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    Git,
    Api,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is sent with this token, whatever credentials it carried.
    With(Token),
    /// A push: sent with [`Token::Git`] once its commands have been judged.
    Push,
    /// Not about what was granted: passed on as it is, without any token of ours.
    Without,
    /// Neither with a token nor without.
    Refused(Why),
}

/// Why not, and what may be done: one line for a user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Why(pub Cow<'static, str>);

impl Why {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

pub(super) fn refused(why: &'static str) -> Verdict {
    Verdict::Refused(Why(Cow::Borrowed(why)))
}

/// Which part of GitHub, and the path within.
pub(super) enum Place<'a> {
    Git(&'a str),
    Api(&'a str),
    Uploads(&'a str),
    GraphQl,
    /// What is none of them, and must not be taken for one.
    None,
}

impl Site {
    fn is_at(&self, host: &HostName) -> bool {
        match self {
            Self::Public => matches!(host.as_str(), HOST | API_HOST | UPLOADS_HOST),
            Self::Own(own) => own == host,
        }
    }

    fn place<'a>(&self, host: &HostName, path: &'a str) -> Place<'a> {
        match (self, host.as_str()) {
            (Self::Own(own), _) if own == host => own_place(path),
            (Self::Public, HOST) => Place::Git(path),
            (Self::Public, API_HOST) if path == "/graphql" => Place::GraphQl,
            (Self::Public, API_HOST) => Place::Api(path),
            (Self::Public, UPLOADS_HOST) => Place::Uploads(path),
            _ => Place::None,
        }
    }

    /// Git's host, and what stands before the paths of the API, of uploads and of GraphQL.
    pub(super) fn bases(&self) -> (&str, String, String, String) {
        match self {
            Self::Public => (HOST, API_HOST.into(), UPLOADS_HOST.into(), format!("{API_HOST}/graphql")),
            Self::Own(own) => {
                (own.as_str(), format!("{own}/api/v3"), format!("{own}/api/uploads"), format!("{own}/api/graphql"))
            }
        }
    }
}

/// There `api` is the name of no owner.
fn own_place(path: &str) -> Place<'_> {
    let below = |base: &str| path.strip_prefix(base).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    if path == "/api/graphql" {
        Place::GraphQl
    } else if let Some(rest) = below("/api/v3") {
        Place::Api(rest)
    } else if let Some(rest) = below("/api/uploads") {
        Place::Uploads(rest)
    } else if first.eq_ignore_ascii_case("api") {
        Place::None
    } else {
        Place::Git(path)
    }
}

impl Grant {
    /// Whether requests to this host are to be judged.
    pub fn is_for(&self, host: &HostName) -> bool {
        self.site.is_at(host)
    }

    /// `path` is as it was sent, without its query; `query` without `?`.
    pub fn judge(&self, host: &HostName, method: &str, path: &str, query: Option<&str>) -> Verdict {
        if !self.is_for(host) {
            return Verdict::Without;
        }
        let Some(path) = asks::plain(path) else { return refused(AMBIGUOUS) };
        match self.site.place(host, &path) {
            Place::Git(path) => self.judge_git(method, path, query.unwrap_or_default()),
            Place::Api(path) => self.judge_api(method, path),
            Place::Uploads(path) => self.judge_upload(method, path),
            Place::GraphQl => self.judge_graphql(method),
            Place::None => Verdict::Without,
        }
    }

    pub(super) fn fits(&self, owner: &str, name: &str) -> bool {
        self.repositories.iter().any(|one| one.fits(owner, name))
    }

    fn judge_git(&self, method: &str, path: &str, query: &str) -> Verdict {
        let mut parts = path.trim_start_matches('/').splitn(3, '/');
        let (Some(owner), Some(name), Some(asked)) = (parts.next(), parts.next(), parts.next()) else {
            return Verdict::Without;
        };
        if !self.fits(owner, name.strip_suffix(".git").unwrap_or(name)) {
            return Verdict::Without;
        }
        match (method, asked) {
            ("GET", "info/refs") if query == "service=git-upload-pack" => Verdict::With(Token::Git),
            ("GET", "info/refs") if query == "service=git-receive-pack" && self.write => Verdict::With(Token::Git),
            ("GET", "info/refs") if query == "service=git-receive-pack" => refused(NO_PUSH),
            ("POST", "git-upload-pack" | "git-receive-pack") if !query.is_empty() => refused(QUERY),
            ("POST", "git-upload-pack") => Verdict::With(Token::Git),
            ("POST", "git-receive-pack") if self.write => Verdict::Push,
            ("POST", "git-receive-pack") => refused(NO_PUSH),
            _ if asked.starts_with("info/lfs/") && (self.write || self.apart) => Verdict::With(Token::Git),
            _ if asked.starts_with("info/lfs/") => refused(NO_LFS),
            _ => Verdict::Without,
        }
    }

    /// Whether all that these commands move may be moved. Nothing of them is done otherwise.
    pub fn judge_push(&self, commands: &Commands) -> Result<(), Why> {
        if !self.write {
            return Err(Why(NO_PUSH.into()));
        }
        if self.branches.is_empty() {
            return Ok(());
        }
        let may = |name: &str| {
            name.strip_prefix(HEADS).is_some_and(|branch| self.branches.iter().any(|one| one.fits(branch)))
        };
        match commands.all.iter().find(|command| !may(&command.name)) {
            None => Ok(()),
            Some(command) => Err(Why(self.outside(&command.name).into())),
        }
    }

    fn outside(&self, name: &str) -> String {
        let may = self.shown_branches();
        let shown = |text: &str| text.chars().take(SHOWN_CHARS_MAX).collect::<String>();
        if let Some(branch) = name.strip_prefix(HEADS) {
            format!("this workspace may push to {may} alone, not to {}", shown(branch))
        } else if let Some(tag) = name.strip_prefix("refs/tags/") {
            format!("this workspace may push to branches ({may}) alone, and {} is a tag", shown(tag))
        } else {
            format!("this workspace may push to branches ({may}) alone, and {} is none", shown(name))
        }
    }

    fn shown_branches(&self) -> String {
        let shown = |one: &Branches| one.to_string().chars().take(SHOWN_CHARS_MAX).collect::<String>();
        let first: Vec<_> = self.branches.iter().take(SHOWN_BRANCHES_MAX).map(shown).collect();
        match self.branches.len().checked_sub(first.len()) {
            None | Some(0) => first.join(", "),
            Some(more) => format!("{} and {more} more", first.join(", ")),
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
