//! Rules that let a locked workspace reach what a token is sent with.
//!
//! They are as narrow as rules can be: a path is one, or how paths begin. So those of `owner/*` and `*` reach pages of these
//! owners, too, which then are asked for without a token. Paths of rules differ by case: beside names as they were written
//! stand those in lower case.

use super::grant::Grant;
use super::names::Repositories;
use crate::rule::Rule;

/// What is read that names no repository, with a token of the workspace's own.
const READ_APART: [&str; 12] = [
    "/",
    "/installation/repositories",
    "/licenses/*",
    "/meta",
    "/organizations/*",
    "/orgs/*",
    "/rate_limit",
    "/repositories/*",
    "/search/*",
    "/user",
    "/users/*",
    "/versions",
];
/// With the operator's.
const READ: [&str; 4] = ["/", "/meta", "/rate_limit", "/user"];

impl Grant {
    /// Every one is read as a [`Rule`]; what is too long for one (of a host with a very long name) is left out.
    pub fn rules(&self) -> Vec<String> {
        let mut all = Vec::new();
        for repositories in &self.repositories {
            self.add_git(&mut all, repositories);
            self.add_api(&mut all, repositories);
        }
        self.add_other(&mut all);
        let mut seen = std::collections::HashSet::new();
        all.retain(|rule| rule.parse::<Rule>().is_ok() && seen.insert(rule.clone()));
        all
    }

    fn add_git(&self, all: &mut Vec<String>, repositories: &Repositories) {
        let (host, ..) = self.site.bases();
        for (owner, name) in spelled(repositories) {
            match (owner, name) {
                (None, _) => all.push(host.into()),
                (Some(owner), None) => all.push(format!("{host}/{owner}/*")),
                (Some(owner), Some(name)) => {
                    let base = format!("{host}/{owner}/{name}");
                    all.extend([format!("{base}.git/*"), format!("{base}/info/*"), format!("{base}/git-upload-pack")]);
                    if self.write {
                        all.push(format!("{base}/git-receive-pack"));
                    }
                }
            }
        }
    }

    fn add_api(&self, all: &mut Vec<String>, repositories: &Repositories) {
        let (_, api, uploads, _) = self.site.bases();
        let reads = if self.write { "" } else { "GET@" };
        for (owner, name) in spelled(repositories) {
            let below = match (owner, name) {
                (None, _) => "*".to_owned(),
                (Some(owner), None) => format!("{owner}/*"),
                (Some(owner), Some(name)) => {
                    all.push(format!("{reads}{api}/repos/{owner}/{name}"));
                    format!("{owner}/{name}/*")
                }
            };
            all.push(format!("{reads}{api}/repos/{below}"));
            if self.write && self.branches.is_empty() {
                all.push(format!("POST@{uploads}/repos/{below}"));
            }
        }
    }

    fn add_other(&self, all: &mut Vec<String>) {
        let (_, api, _, graphql) = self.site.bases();
        if self.apart || (self.write && self.branches.is_empty() && self.has_all()) {
            all.push(format!("POST@{graphql}"));
        }
        let reads = if self.apart { &READ_APART[..] } else { &READ[..] };
        match self.has_all() {
            true => all.push(format!("GET@{api}/*")),
            false => all.extend(reads.iter().map(|path| format!("GET@{api}{path}"))),
        }
    }
}

/// Owner and name as they were written, and in lower case if that is something else.
fn spelled(repositories: &Repositories) -> Vec<(Option<String>, Option<String>)> {
    let written = (repositories.owner().map(str::to_owned), repositories.name().map(str::to_owned));
    let lower =
        (written.0.as_ref().map(|text| text.to_lowercase()), written.1.as_ref().map(|text| text.to_lowercase()));
    if lower == written { vec![written] } else { vec![written, lower] }
}
