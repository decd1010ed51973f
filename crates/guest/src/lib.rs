//! The guest: PID 1 of a workspace, which owns its terminals, processes, files and ports.
//!
//! One thread runs everything (`tokio` current-thread with a `LocalSet`); blocking file work goes to
//! a small pool. Nothing here trusts a process of the workspace, and the server trusts nothing here.

pub mod process;
pub mod screen;
pub mod terminal;
