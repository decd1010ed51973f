//! Points at which a test may have the server die as if its power were cut: what is left behind is
//! then exactly what a crash at that line leaves.
//!
//! Invariant: a release build never arms one; its configuration refuses `REXEC_CRASH_AT`.

/// Every point; those of one thing in the order in which it passes them.
pub const POINTS: [&str; 36] = [
    "create.recorded",
    "create.generation",
    "create.made",
    "create.started",
    "create.booted",
    "create.linked",
    "delete.recorded",
    "delete.removed",
    "delete.released",
    "purge.volume",
    "purge.image",
    "snapshot.recorded",
    "snapshot.volume",
    "snapshot.copying",
    "snapshot.paused",
    "snapshot.committed",
    "snapshot.ready",
    "fill.recorded",
    "fill.copied",
    "setup.recorded_begin",
    "setup.begun",
    "setup.ended",
    "setup.recorded",
    "adopt.removed",
    "import.recorded",
    "import.volume",
    "import.unpacked",
    "import.committed",
    "import.ready",
    "move.recorded",
    "move.committed",
    "move.volume",
    "move.unpacked",
    "move.made",
    "move.landed",
    "move.proven",
];

/// The point that is armed, if any.
#[derive(Debug, Clone, Copy, Default)]
pub struct Crash(Option<&'static str>);

impl Crash {
    pub const fn at(point: Option<&'static str>) -> Self {
        Self(point)
    }

    /// Dies here, by a signal that nothing can handle, when this point is armed.
    pub fn point(self, name: &'static str) {
        debug_assert!(POINTS.contains(&name), "an unlisted crash point: {name}");
        if self.0 != Some(name) {
            return;
        }
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // The kernel ends every thread, but perhaps not before this one's next line.
        loop {
            std::thread::park();
        }
    }
}
