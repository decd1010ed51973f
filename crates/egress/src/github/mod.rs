//! What of GitHub a workspace may use with a token that never enters it: which repositories, which branches, reading or
//! writing. Pure.
//!
//! ```text
//!   method, path, query -> Grant::judge       with a token, without, or not at all
//!   body of a push      -> Push::feed         its commands, before a byte of it is passed on
//!   commands            -> Grant::judge_push  whether every ref of them may be moved
//!   commands, reason    -> reply              what git then shows beside each ref
//!   locked workspaces   -> Grant::rules       rules for just what a token is sent with
//! ```
//!
//! Invariants: a token goes nowhere but to the hosts of the [`Site`]; what is not sure to be about a granted repository goes
//! without it. What moves a ref goes with a token only if that ref was judged, or all refs are granted: a push whose commands
//! could be read in two ways is refused, and where branches are limited so is every part of the API that moves refs.
//!
//! Left to whoever asks: that [`Verdict::With`] takes the place of all other credentials, that a body which is judged is not
//! compressed, and that no header names another method.

mod api;
mod grant;
mod names;
mod push;
mod reply;
mod rules;
#[cfg(feature = "gateway")]
mod tokens;

pub use grant::{Grant, Site, Token, Verdict, Why};
pub use names::{BadBranches, BadRepositories, Branches, Repositories};
pub use push::{BadPush, COMMANDS_BYTES_MAX, COMMANDS_MAX, Command, Commands, Push};
pub use reply::{RESULT_TYPE, reply};
#[cfg(feature = "gateway")]
pub use tokens::{AtGithub, Pair, Tokens};

#[cfg(test)]
mod with_git;
