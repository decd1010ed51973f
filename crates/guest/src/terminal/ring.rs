//! The raw output that a terminal still remembers, by absolute offset.
//!
//! Invariant: the bytes of `start..end` are held, `end` counts every byte ever appended, and at most
//! `capacity` bytes are remembered. Memory follows what is remembered in pieces of
//! [`CHUNK_BYTES`], so that an idle terminal costs little.

use std::collections::VecDeque;

const CHUNK_BYTES: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct Ring {
    /// Chunk i holds the offsets from `base + i * CHUNK_BYTES`.
    chunks: VecDeque<Box<[u8]>>,
    base: u64,
    start: u64,
    end: u64,
    capacity: u64,
}

impl Ring {
    pub fn new(capacity: u64) -> Self {
        Self { chunks: VecDeque::new(), base: 0, start: 0, end: 0, capacity }
    }

    pub fn start(&self) -> u64 {
        self.start
    }

    pub fn end(&self) -> u64 {
        self.end
    }

    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    pub fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let at = (self.end - self.base) as usize;
            if at == self.chunks.len() * CHUNK_BYTES {
                let chunk = self.recycled().unwrap_or_else(|| vec![0; CHUNK_BYTES].into());
                self.chunks.push_back(chunk);
                continue;
            }
            let (index, within) = (at / CHUNK_BYTES, at % CHUNK_BYTES);
            let count = bytes.len().min(CHUNK_BYTES - within);
            self.chunks[index][within..within + count].copy_from_slice(&bytes[..count]);
            self.end += count as u64;
            bytes = &bytes[count..];
            self.start = self.start.max(self.end.saturating_sub(self.capacity));
        }
    }

    /// Forgets what lies before `offset`.
    pub fn forget_before(&mut self, offset: u64) {
        self.start = self.start.max(offset.min(self.end));
        while self.recycled().is_some() {}
    }

    /// The oldest chunk, when nothing in it is remembered any more.
    fn recycled(&mut self) -> Option<Box<[u8]>> {
        if self.start - self.base < CHUNK_BYTES as u64 {
            return None;
        }
        let chunk = self.chunks.pop_front()?;
        self.base += CHUNK_BYTES as u64;
        Some(chunk)
    }

    /// The bytes of `from..to` in order; the caller stays within `start..=end`.
    pub fn pieces(&self, from: u64, to: u64) -> impl Iterator<Item = &[u8]> {
        debug_assert!(self.start <= from && from <= to && to <= self.end);
        let (mut at, to) = ((from - self.base) as usize, (to - self.base) as usize);
        std::iter::from_fn(move || {
            if at >= to {
                return None;
            }
            let (index, within) = (at / CHUNK_BYTES, at % CHUNK_BYTES);
            let count = (to - at).min(CHUNK_BYTES - within);
            at += count;
            Some(&self.chunks[index][within..within + count])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(ring: &Ring, from: u64, to: u64) -> Vec<u8> {
        ring.pieces(from, to).flatten().copied().collect()
    }

    proptest! {
        /// Whatever is appended and forgotten, what is held is the end of what was appended.
        #[test]
        fn holds_the_end_of_everything(
            capacity in 1u64..100_000,
            steps in proptest::collection::vec((0usize..40_000, any::<bool>()), 1..20),
        ) {
            let mut ring = Ring::new(capacity);
            let mut all: Vec<u8> = Vec::new();
            for (count, forget) in steps {
                let bytes: Vec<u8> = (0..count).map(|i| (all.len() + i).wrapping_mul(31) as u8).collect();
                ring.append(&bytes);
                all.extend(bytes);
                if forget {
                    ring.forget_before(ring.end() - (ring.end() - ring.start()) / 2);
                }
                prop_assert_eq!(ring.end(), all.len() as u64);
                prop_assert!(ring.end() - ring.start() <= capacity);
                prop_assert!(ring.chunks.len() <= capacity as usize / CHUNK_BYTES + 2);
                let held = read(&ring, ring.start(), ring.end());
                prop_assert_eq!(&held[..], &all[ring.start() as usize..]);
                let middle = (ring.start() + ring.end()) / 2;
                let (from, to) = (middle as usize, ring.end() as usize);
                prop_assert_eq!(&read(&ring, middle, ring.end())[..], &all[from..to]);
            }
        }
    }

    #[test]
    fn costs_nothing_until_something_is_written() {
        let mut ring = Ring::new(1024 * 1024);
        assert!(ring.chunks.is_empty());
        ring.append(b"$ ");
        assert_eq!(ring.chunks.len(), 1);
        assert_eq!(read(&ring, 0, 2), b"$ ");
    }
}
