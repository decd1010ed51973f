//! What a workspace may reach outside: the policy, which is pure, and the gateway that enforces it.
//!
//! ```text
//!   workspace -> closed network -> gateway (one per host) -> Policy::decide(name, port) -> resolve -> Policy::vet(address)
//!             -> dial that very address (or have the operator's proxy dial the host) -> bytes
//! ```
//!
//! Identity is the source address: [`table`] says whose it is, and an address that is not in it reaches nothing. A name is
//! judged before anything is asked of a resolver, an address before anything is dialled, and what was judged is what is
//! dialled. Requests to hosts that a secret is bound to, or a rule with a method or a path ([`asks`]) is about, are read
//! ([`reading`]): they are judged one by one, and a secret takes the place of what stands for it inside ([`secrets`]);
//! everything else that is encrypted passes unread. What is asked of language models is judged, and what they answer counted,
//! in [`models`]; what is asked of GitHub with a token that stays outside is judged in [`github`]. What reads hostile bytes is
//! pure, and fuzzed (`fuzz/`). This crate knows no server and no engine: whoever runs it brings the policies and hears what was decided.

pub mod address;
pub mod asks;
#[cfg(feature = "authority")]
pub mod authority;
#[cfg(feature = "gateway")]
pub mod dns;
#[cfg(feature = "gateway")]
pub mod gateway;
pub mod github;
#[cfg(feature = "gateway")]
pub mod hello;
pub mod host;
pub mod models;
#[cfg(feature = "gateway")]
mod own;
pub mod policy;
mod presets;
#[cfg(feature = "gateway")]
pub mod proxy;
#[cfg(feature = "gateway")]
pub mod reading;
#[cfg(feature = "gateway")]
pub mod record;
#[cfg(feature = "gateway")]
pub mod refusal;
#[cfg(feature = "gateway")]
pub mod resolve;
pub mod rule;
#[cfg(feature = "gateway")]
pub mod secrets;
#[cfg(feature = "gateway")]
pub mod table;
#[cfg(feature = "gateway")]
pub mod upstream;
#[cfg(feature = "gateway")]
pub mod vendors;
