//! The server as its clients see it: in this process, on a free port, with a real database.
//!
//! What touches storage runs on both databases. `make test` starts the PostgreSQL that these
//! tests make their own databases on.
#![allow(clippy::unwrap_used)]

mod accounts;
mod bombs;
mod busybox;
mod closing;
mod commands;
mod database;
mod device;
mod egress;
mod elastic;
mod elsewhere;
mod events;
mod exports;
mod files;
mod frame;
mod gateway;
mod git_credentials;
mod github;
mod idle;
mod images;
mod isolation;
mod killed;
mod limits;
mod machines;
mod many;
mod models;
mod move_faults;
mod moves;
mod nested;
mod outages;
mod packages;
mod page;
mod pool;
mod ports;
mod prepull;
mod preview_calls;
mod preview_traffic;
mod previews;
mod raw_files;
mod regions;
mod relayed;
mod remote;
mod replicas;
mod runtimes;
mod secrets;
mod servers;
mod setups;
mod sign_in;
mod snapshots;
mod ssh;
mod ssh_gateway;
mod ssh_keys;
mod stats;
mod support;
mod sweep;
mod terminals;
mod tokens;
mod users;
mod volumes;
mod workspaces;
