//! The guest: PID 1 of a workspace, which owns its terminals, processes, files and ports.
//!
//! One thread runs everything (`tokio` current-thread with a `LocalSet`); blocking file work goes to
//! a small pool. Nothing here trusts a process of the workspace, and the server trusts nothing here.

mod attach;
mod authority;
pub mod connect;
mod control;
mod descriptors;
mod dial;
pub mod egress;
mod exec;
mod files;
pub mod firewall;
mod guest;
pub mod helper;
mod home;
pub mod init;
mod link;
mod listen;
pub mod machine;
pub mod nested;
pub mod orphan;
mod ports;
pub mod process;
mod refusal;
mod rest;
mod rights;
mod routes;
pub mod screen;
pub mod sftp;
pub mod sudo;
mod tar;
pub mod terminal;
mod truststore;
pub mod tunnel;
pub mod volume;
mod way_out;

#[cfg(test)]
mod tests;
