//! What the terminals of one guest may take of the workspace's memory together.
//!
//! PID 1 keeps every screen, and with it dies the workspace. So each terminal holds a [`Share`] for the
//! most that it can come to: both screens, the scrollback and the ring. Invariant: the shares together
//! are at most half of the workspace's memory when one is taken or grows, and a reflow of the one that
//! does so fits beside them; the other quarter is the programs'.

use super::Memory;
use super::sizes::Size;
use rexec_api::error::ErrorCode;
use rexec_api::guest::GuestError;
use std::cell::Cell;
use std::rc::Rc;

/// A cell of a grid.
const CELL_BYTES: u64 = 24;
/// A cell of the scrollback, which is kept as text; the pens of a colourful line are counted in.
const KEPT_CELL_BYTES: u64 = 3;
const MIB: u64 = 1024 * 1024;

pub(super) struct Budget {
    /// The memory of the workspace in bytes, asked anew each time: it may be resized while it runs.
    memory: fn() -> u64,
    taken: Cell<u64>,
}

/// What one terminal holds; given back when it is dropped.
pub(super) struct Share {
    budget: Rc<Budget>,
    kept: Memory,
    bytes: u64,
}

impl Budget {
    pub fn new(memory: fn() -> u64) -> Rc<Self> {
        Rc::new(Self { memory, taken: Cell::new(0) })
    }

    pub fn share(self: &Rc<Self>, kept: Memory, size: Size) -> Result<Share, GuestError> {
        let mut share = Share { budget: self.clone(), kept, bytes: 0 };
        share.resize(size)?;
        Ok(share)
    }
}

impl Share {
    /// Makes the share that of a terminal of this size. One that shrinks is never refused.
    pub fn resize(&mut self, size: Size) -> Result<(), GuestError> {
        let bytes = self.kept.bytes(size);
        let others = self.budget.taken.get() - self.bytes;
        if bytes > self.bytes {
            let memory = (self.budget.memory)();
            let is_too_much = others + bytes > memory / 2;
            if is_too_much || others + bytes + self.kept.reflow_bytes(size) > memory / 4 * 3 {
                return Err(too_much(size, others, memory));
            }
        }
        self.budget.taken.set(others + bytes);
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.taken.set(self.budget.taken.get() - self.bytes);
    }
}

impl Memory {
    /// The most that a terminal of this size keeps.
    fn bytes(self, size: Size) -> u64 {
        let scrollback = u64::from(self.scrollback_lines) * u64::from(size.cols) * KEPT_CELL_BYTES;
        2 * cells(size) * CELL_BYTES + scrollback + u64::from(self.ring_bytes)
    }

    /// What it takes for a moment to give the lines another width: all of them as cells, before and after.
    fn reflow_bytes(self, size: Size) -> u64 {
        let scrollback = u64::from(self.scrollback_lines) * u64::from(size.cols);
        2 * (cells(size) + scrollback) * CELL_BYTES
    }
}

fn cells(size: Size) -> u64 {
    u64::from(size.cols) * u64::from(size.rows)
}

fn too_much(size: Size, others: u64, memory: u64) -> GuestError {
    let Size { cols, rows } = size;
    GuestError {
        code: ErrorCode::TerminalMemory,
        message: format!(
            "A terminal of {cols} by {rows} does not fit: the terminals of a workspace may take half of its {} MiB of \
             memory, and the others can come to {} MiB. Close some, make them smaller, or give the workspace more memory.",
            memory / MIB,
            others / MIB,
        ),
        number: None,
    }
}

/// The memory of the workspace: what its control group or, without one to be seen, the machine has.
pub(super) fn of_workspace() -> u64 {
    const LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limits = LIMITS.iter().filter_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok());
    let machine = rustix::system::sysinfo();
    let machine = (machine.totalram as u64).saturating_mul(u64::from(machine.mem_unit));
    limits.fold(machine, u64::min)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_taken_grow_and_are_given_back() {
        let budget = Budget::new(|| 256 * MIB);
        let kept = Memory::new(None, None);
        let size = |cols, rows| Size { cols, rows };
        let small: Vec<Share> = (0..20).map(|_| budget.share(kept, size(80, 24)).unwrap()).collect();
        let taken = budget.taken.get();
        let mut large = budget.share(kept, size(1000, 500)).unwrap();
        let further: Vec<_> = (0..137).map_while(|_| budget.share(kept, size(1000, 500)).ok()).collect();
        assert!(further.len() < 5, "{} large terminals in 256 MiB", further.len() + 1);
        assert!(budget.taken.get() <= 128 * MIB);
        let refused = budget.share(kept, size(1000, 500)).err().unwrap();
        assert_eq!(refused.code, ErrorCode::TerminalMemory);
        drop(further);
        large.resize(size(80, 24)).unwrap();
        drop(small);
        drop(large);
        assert_eq!(budget.taken.get(), 0);
        assert!(taken > 0);
        assert!(of_workspace() > 0);
    }

    #[test]
    fn a_reflow_must_fit_too() {
        let budget = Budget::new(|| 64 * MIB);
        assert!(budget.share(Memory::new(None, None), Size { cols: 1000, rows: 500 }).is_err());
        assert!(budget.share(Memory::new(None, None), Size { cols: 200, rows: 60 }).is_ok());
    }
}
