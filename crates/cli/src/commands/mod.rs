//! What the command line can do, one file per noun.

pub mod account;
pub mod admin;
pub mod attach;
pub mod copy;
mod device_login;
pub mod egress;
pub mod exec;
pub mod forward;
pub mod github;
pub mod join;
pub mod keys;
pub mod logs;
pub mod models;
pub mod moving;
pub mod ports;
pub mod regions;
pub mod secrets;
mod server_args;
mod servers;
mod setup_log;
pub mod snapshots;
pub mod ssh;
pub mod sync;
pub mod tokens;
pub mod volumes;
pub mod workspaces;
