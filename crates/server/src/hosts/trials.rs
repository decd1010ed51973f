//! What was found out by trying, of each of a host's runtimes: once, by whoever asks first, since the host came.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;

pub struct Trials<V>(Mutex<HashMap<String, Arc<OnceCell<V>>>>);

impl<V> Default for Trials<V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<V: Clone> Trials<V> {
    /// The host may be another machine now.
    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) fn of(&self, runtime: &str) -> Arc<OnceCell<V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(runtime.to_owned()).or_default().clone()
    }

    /// Those that have ended, by runtime.
    pub(super) fn known(&self) -> Vec<(String, V)> {
        let trials = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        trials.iter().filter_map(|(runtime, trial)| Some((runtime.clone(), trial.get()?.clone()))).collect()
    }
}
