//! The wire contract of Rexec: every type that crosses a process boundary, and nothing else.
//!
//! What is here is a promise to clients (`/api`, terminal frames) or to guests that are still
//! running an older version (`guest`). There is no I/O and no policy; validation is limited to
//! what a value must satisfy to be meaningful at all (bounds, shapes).

pub mod accounts;
pub mod device;
pub mod egress;
pub mod error;
pub mod events;
pub mod exec;
pub mod files;
pub mod frames;
pub mod gateway;
pub mod guest;
pub mod idle;
pub mod ids;
pub mod machines;
pub mod models;
pub mod ports;
pub mod progress;
pub mod raw_path;
pub mod registries;
pub mod secrets;
pub mod servers;
pub mod setups;
pub mod snapshots;
pub mod ssh;
pub mod stats;
pub mod templates;
pub mod terminals;
pub mod tokens;
pub mod tunnel;
pub mod volumes;
pub mod workspaces;

/// A page of a list. `next` is an opaque cursor, absent on the last page.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}
