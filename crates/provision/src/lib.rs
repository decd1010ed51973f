//! Machines that come and go with demand.
//!
//! `decision` says, from what is known of one region at one moment, what is to be done: pure. `hetzner` speaks to Hetzner
//! Cloud. Neither knows of accounts, databases or engines: who calls them observes, decides, acts and records.

pub mod decision;
#[cfg(feature = "fake")]
pub mod fake;
pub mod hetzner;
