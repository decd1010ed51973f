//! What a client's connection is about, so that it ends when that may be no more, and when nothing of it moves.

use super::Flow;
use crate::github::Grant;
use crate::host::Host;
use crate::policy::Decision;
use crate::table::Bound;
use http::Method;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// What is asked for at this moment, and was last.
#[derive(Clone)]
pub enum Current {
    Host {
        host: Host,
        port: u16,
        /// Method and path.
        asked: (Method, String),
        /// By which a token of GitHub is in it.
        grant: Option<Grant>,
        /// Once it is dialled.
        flow: Option<Arc<Flow>>,
    },
    /// A model; what has gone either way.
    Model(Arc<AtomicU64>),
}

impl Current {
    /// Whether it may be asked for still.
    pub fn may(&self, bound: &Bound) -> bool {
        let (host, port, asked, grant, flow) = match self {
            Self::Host { host, port, asked, grant, flow } => (host, *port, asked, grant, flow),
            Self::Model(_) => return bound.models.is_some(),
        };
        let may_reach = match flow {
            Some(flow) => bound.policy.reach(host, port, flow.address).is_ok(),
            None => matches!(bound.policy.decide(host, port), Decision::Allow { .. }),
        };
        may_reach
            && bound.policy.decide_request(host, port, asked.0.as_str(), &asked.1).is_ok()
            && bound.still_grants(host, port, grant.as_ref())
    }

    /// Changes with every byte of it.
    pub fn moved(&self) -> Option<(Option<Instant>, u64)> {
        match self {
            Self::Host { flow, .. } => flow.as_ref().map(|flow| (Some(flow.began), flow.bytes())),
            Self::Model(moved) => Some((None, moved.load(Ordering::Relaxed))),
        }
    }
}
