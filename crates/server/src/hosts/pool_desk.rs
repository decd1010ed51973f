//! Where a host's warm pool (`workspaces/pool`) and everyone else meet: who takes one rings, who looks sees what was last seen.

use rexec_api::servers::PoolView;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

#[derive(Default)]
pub struct PoolDesk {
    /// Somebody took one, or made room.
    pub bell: Notify,
    seen: Mutex<Option<PoolView>>,
}

impl PoolDesk {
    pub fn tell(&self, seen: PoolView) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
    }

    /// Somebody has one of them.
    pub fn take(&self) {
        if let Some(seen) = &mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner) {
            seen.ready = seen.ready.saturating_sub(1);
        }
        self.bell.notify_one();
    }

    /// `None`: not looked at yet, or there is no pool.
    pub fn seen(&self) -> Option<PoolView> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
