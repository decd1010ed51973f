//! What the user name of an SSH connection says, pure.
//!
//! ```text
//!   <workspace> | <user>/<workspace>               a workspace by its name or id
//!   <token>/<workspace> | <token>                  an API token, for machines that have nowhere else to put it
//! ```
//!
//! Invariant: what stands in front of the slash opens nothing by itself unless it is a token: whoever comes has proven
//! who they are, and it must be the same.

use rexec_api::tokens;

#[derive(Debug, PartialEq, Eq)]
pub struct Login<'a> {
    pub token: Option<&'a str>,
    /// Whose workspace it is, where that is said.
    pub owner: Option<&'a str>,
    /// A name or id; absent with a token alone.
    pub workspace: Option<&'a str>,
}

impl<'a> Login<'a> {
    pub fn parse(text: &'a str) -> Self {
        let (before, workspace) = match text.split_once('/') {
            Some((before, workspace)) => (Some(before), workspace),
            None => (None, text),
        };
        match (before, workspace) {
            (Some(token), workspace) if tokens::is_well_formed(token) => {
                Self { token: Some(token), owner: None, workspace: Some(workspace) }
            }
            (None, token) if tokens::is_well_formed(token) => Self { token: Some(token), owner: None, workspace: None },
            (owner, workspace) => Self { token: None, owner, workspace: Some(workspace) },
        }
    }

    /// What may be said of it again: never the token.
    pub fn shown(&self) -> String {
        match (self.owner, self.workspace) {
            (Some(owner), Some(workspace)) => tame(&format!("{owner}/{workspace}")),
            (_, Some(workspace)) => tame(workspace),
            _ => String::new(),
        }
    }
}

/// Longest name that is repeated.
const SHOWN_CHARS_MAX: usize = 64;

/// What others chose, fit for a log or a screen.
pub(super) fn tame(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_name_says_where_to_and_who() {
        let token = tokens::encode([7; 32]);
        let login = |token, owner, workspace| Login { token, owner, workspace };
        assert_eq!(Login::parse("otter"), login(None, None, Some("otter")));
        assert_eq!(Login::parse("ada@example.com/otter"), login(None, Some("ada@example.com"), Some("otter")));
        assert_eq!(Login::parse(&token), login(Some(&token), None, None));
        let both = format!("{token}/otter");
        assert_eq!(Login::parse(&both), login(Some(&token), None, Some("otter")));
        // What only looks like a token is a name.
        assert_eq!(Login::parse("rexec_otter"), login(None, None, Some("rexec_otter")));
        assert_eq!(Login::parse("a/b/c"), login(None, Some("a"), Some("b/c")));
    }

    #[test]
    fn a_token_is_not_repeated() {
        let token = tokens::encode([7; 32]);
        for text in [token.clone(), format!("{token}/otter")] {
            assert!(!Login::parse(&text).shown().contains(&token));
        }
        assert_eq!(Login::parse("a\u{1b}[2Jb").shown(), "a?[2Jb");
    }
}
