//! `sudo` in a workspace whose processes cannot gain rights by themselves.
//!
//! The container runs with no-new-privileges, so no setuid program works. Instead the command
//! asks PID 1 over an abstract unix socket that everybody may connect to; PID 1 looks at the
//! peer's uid, which the kernel vouches for, and at the workspace's policy.
//!
//! ```text
//! sudo  -> PID 1   u32 length, Request as JSON; its first byte brings stdin, stdout and stderr
//! PID 1 -> sudo    u32 length, Reply as JSON: Refused, or Started and then Exited
//!                  Started brings the PTY's other end when a terminal was asked for
//! sudo  -> PID 1   one byte per signal to forward
//! ```
//!
//! **With a terminal** on both ends of `sudo`, the program gets a PTY of its own, and `sudo` carries
//! bytes between the two: a program in another session could not be interrupted from the terminal
//! otherwise. **Without,** the program gets the three descriptors themselves.
//! The end of the connection hangs the program up.

mod arguments;
pub mod broker;
mod client;
mod relay;
pub(crate) mod wire;

pub use client::run;

pub const NAME: &str = "rexec/sudo";
