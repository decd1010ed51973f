//! The server as its clients see it: in this process, on a free port, with a real database.
//!
//! What touches storage runs on both databases. `make test` starts the PostgreSQL that these
//! tests make their own databases on.
#![allow(clippy::unwrap_used)]

mod accounts;
mod database;
mod events;
mod files;
mod frame;
mod isolation;
mod page;
mod sign_in;
mod snapshots;
mod support;
mod sweep;
mod terminals;
mod volumes;
mod workspaces;
