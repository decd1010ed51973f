//! The server behind a backend that runs local processes, examined by OpenSSH's own programs.

mod auth;
mod backend;
mod client;
mod files;
mod flow;
mod forward;
mod pty;
mod session;
