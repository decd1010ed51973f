//! What a workspace may do at GitHub, with the tokens for it: told apart, since they are made anew as it goes on.

use super::grant::Grant;
use crate::secrets::exchange;
use http::HeaderMap;
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;

/// Of one workspace, by one version of its policy.
pub struct AtGithub {
    pub grant: Grant,
    /// What it has in a token's place.
    pub placeholder: String,
    pub tokens: watch::Sender<Tokens>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Tokens {
    /// They are being made.
    #[default]
    Awaited,
    Had(Arc<Pair>),
    /// There are none: why, in a sentence.
    None(Arc<str>),
}

#[derive(PartialEq, Eq)]
pub struct Pair {
    pub git: String,
    pub api: String,
}

/// Without what is secret.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pair")
    }
}

/// The same.
impl fmt::Debug for AtGithub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AtGithub({:?})", self.grant)
    }
}

impl AtGithub {
    pub fn new(grant: Grant, placeholder: String, tokens: Tokens) -> Self {
        Self { grant, placeholder, tokens: watch::Sender::new(tokens) }
    }

    /// What was told of the same before is not told again. Of the same version it is newer than what came with this.
    pub fn take_over(&self, before: &Self, is_late: bool) {
        let told = before.tokens.borrow().clone();
        let is_better = *self.tokens.borrow() == Tokens::Awaited || (is_late && told != Tokens::Awaited);
        if self.grant == before.grant && is_better {
            self.tokens.send_replace(told);
        }
    }

    /// Puts the placeholder in the place of tokens, should GitHub say them again.
    pub fn take_out(&self, headers: &mut HeaderMap) {
        let Tokens::Had(pair) = &*self.tokens.borrow() else { return };
        for value in headers.values_mut() {
            exchange(value, &pair.git, &self.placeholder);
            exchange(value, &pair.api, &self.placeholder);
        }
    }
}
