//! Tab stops of one screen.

/// Distance of the stops that a terminal starts with.
const TAB_COLS: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tabs(Vec<bool>);

impl Tabs {
    pub fn new(cols: usize) -> Self {
        Self((0..cols).map(|col| col % TAB_COLS == 0).collect())
    }

    /// Stops beyond the old width are where a new terminal has them.
    pub fn resize(&mut self, cols: usize) {
        let old = self.0.len();
        self.0.truncate(cols);
        self.0.extend((old..cols).map(|col| col % TAB_COLS == 0));
    }

    pub fn set(&mut self, col: usize, stop: bool) {
        if let Some(slot) = self.0.get_mut(col) {
            *slot = stop;
        }
    }

    pub fn clear(&mut self) {
        self.0.fill(false);
    }

    /// The next stop after `col`, or the last column.
    pub fn after(&self, col: usize) -> usize {
        let last = self.0.len() - 1;
        (col + 1..last).find(|&at| self.0[at]).unwrap_or(last)
    }

    /// The last stop before `col`, or the first column.
    pub fn before(&self, col: usize) -> usize {
        (0..col).rev().find(|&at| self.0[at]).unwrap_or(0)
    }

    pub fn stops(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().filter_map(|(col, stop)| stop.then_some(col))
    }

    pub fn is_default(&self) -> bool {
        *self == Self::new(self.0.len())
    }
}
