//! What of a request to a language model is judged, and what of its answer is counted, in the words of the APIs of OpenAI
//! and of Anthropic.
//!
//! ```text
//!   method, path -> Call::of       which call it is; all others are refused
//!   body         -> ask::read      which model it asks for, and the very bytes that are sent
//!   model        -> Models::allows whether it may
//!   answer       -> Meter::take    what it costs, read as it passes
//!   a list       -> list::filter   what of it may
//! ```
//!
//! Invariants: what was judged is what is sent, also to a vendor that reads JSON more laxly. What an answer says cannot
//! make a meter keep more than some kilobytes, and nothing in it makes it fail: then the cost is estimated. Pure: who
//! reads, dials, adds keys and counts against a budget is elsewhere.

mod allow;
#[cfg(feature = "gateway")]
pub mod ask;
mod base;
#[cfg(feature = "gateway")]
mod call;
#[cfg(feature = "gateway")]
mod events;
#[cfg(feature = "gateway")]
mod fields;
#[cfg(feature = "gateway")]
pub mod list;
#[cfg(feature = "gateway")]
mod outward;
#[cfg(feature = "gateway")]
mod scan;
#[cfg(feature = "gateway")]
mod usage;

pub use allow::{BadPattern, Models};
#[cfg(feature = "gateway")]
pub use ask::{Asked, BadAsk};
pub use base::{BadBase, Base};
#[cfg(feature = "gateway")]
pub use call::{Api, Call, NoCall};
#[cfg(feature = "gateway")]
pub use usage::{Meter, TOKENS_MAX, Usage};

/// The longest name of a model, in bytes; those of vendors have at most a hundred.
pub const MODEL_BYTES_MAX: usize = 200;

/// Whether a model may be called so.
fn is_name(model: &str) -> bool {
    (1..=MODEL_BYTES_MAX).contains(&model.len()) && !model.chars().any(char::is_control)
}
