//! Staying awake for an answer that is a moment away.
//!
//! A keystroke's echo is back within a few hundred microseconds. A thread that goes to sleep
//! meanwhile has to be woken, on a processor that may have gone to sleep too, with cold caches: that
//! costs more than all the work of an echo. So whoever has just passed a key on looks for the answer
//! again and again for a short while, as schedulers do before they park a thread.
//!
//! What it costs is bounded: one vigil at a time in a process, of `patience` at most, and over at
//! once when a look takes long, because there is other work. Everything else in the process goes on meanwhile,
//! because each look is a turn of the runtime, which polls the kernel.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A look that takes longer: this process has other work, or the processor has.
const LOOK_MAX: Duration = Duration::from_micros(120);

static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// The right to keep vigil.
struct Seat;

impl Seat {
    fn take() -> Option<Self> {
        (!IS_TAKEN.swap(true, Ordering::Acquire)).then_some(Self)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        IS_TAKEN.store(false, Ordering::Release);
    }
}

/// Stays awake until `is_answered`, for `patience` at most. May return at once.
pub async fn keep_vigil(patience: Duration, is_answered: impl Fn() -> bool) {
    let Some(_seat) = Seat::take() else { return };
    let began = Instant::now();
    let mut last = began;
    while !is_answered() {
        // The kernel's own worker brings the answer, and may be waiting for this very processor.
        rustix::thread::sched_yield();
        tokio::task::yield_now().await;
        let now = Instant::now();
        if now - began >= patience || now - last >= LOOK_MAX {
            return;
        }
        last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// One test, because there is one seat in a process.
    #[tokio::test]
    async fn a_vigil_ends_and_leaves_its_seat() {
        for _ in 0..3 {
            let looks = Cell::new(0);
            keep_vigil(Duration::from_secs(3600), || {
                looks.set(looks.get() + 1);
                looks.get() == 10
            })
            .await;
            assert!(looks.get() > 0, "the seat was not left");
        }
        keep_vigil(Duration::ZERO, || false).await;
        let held = Seat::take();
        assert!(held.is_some());
        keep_vigil(Duration::from_secs(3600), || unreachable!("somebody else keeps vigil")).await;
    }
}
