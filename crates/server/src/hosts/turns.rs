//! The queue before a host's engine: how many containers are made and started at once, and who is next.
//!
//! An engine that is asked for a hundred containers at once makes them no sooner than a few at a time, and the
//! first of them much later. People come before what is kept warm for nobody; among equals, first come, first served.
//!
//! Invariant: at most `at_once` places have a turn, and only ones with nobody before them in the queue get one.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Turns for each of the host's processors, and the bounds of that.
const TURNS_PER_CPU: usize = 2;
const TURNS_MIN: usize = 4;
const TURNS_MAX: usize = 32;
/// Those who may wait at a host; beyond that a request is refused instead of taken.
pub const WAITING_MAX: usize = 500;

/// The queue of one host.
pub struct Turns {
    line: Mutex<Line>,
    /// Counts the changes.
    moved: watch::Sender<u64>,
}

#[derive(Debug)]
struct Line {
    at_once: usize,
    taken: usize,
    waiting: BTreeSet<Key>,
    arrivals: u64,
}

/// Who is before whom.
type Key = (Rank, u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Somebody waits for it.
    Asked,
    /// It is made ahead.
    Warm,
}

/// Where somebody stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Turn,
    /// From 1.
    Waiting(u32),
}

/// A place in the queue and then a turn, until it is dropped.
pub struct Place {
    turns: Arc<Turns>,
    key: Key,
    has_turn: bool,
    moved: watch::Receiver<u64>,
}

impl Default for Turns {
    fn default() -> Self {
        let line = Line { at_once: TURNS_MIN, taken: 0, waiting: BTreeSet::new(), arrivals: 0 };
        Self { line: Mutex::new(line), moved: watch::Sender::new(0) }
    }
}

impl Turns {
    /// Fits the turns to the host's processors.
    pub fn fit(&self, cpus: usize) {
        self.lock().at_once = (cpus * TURNS_PER_CPU).clamp(TURNS_MIN, TURNS_MAX);
        self.tell();
    }

    /// Whether there is no room for one more to wait.
    pub fn is_full(&self) -> bool {
        self.lock().waiting.len() >= WAITING_MAX
    }

    pub fn line_up(self: &Arc<Self>, rank: Rank) -> Place {
        let mut line = self.lock();
        line.arrivals += 1;
        let key = (rank, line.arrivals);
        line.waiting.insert(key);
        drop(line);
        self.tell();
        Place { key, has_turn: false, moved: self.moved.subscribe(), turns: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.moved.send_modify(|count| *count += 1);
    }
}

impl Place {
    /// Where this stands now; takes the turn when it has come.
    pub fn standing(&mut self) -> Standing {
        self.moved.mark_unchanged();
        if self.has_turn {
            return Standing::Turn;
        }
        let mut line = self.turns.lock();
        let before = line.waiting.range(..self.key).count();
        if line.taken + before < line.at_once {
            line.waiting.remove(&self.key);
            line.taken += 1;
            self.has_turn = true;
            drop(line);
            self.turns.tell();
            return Standing::Turn;
        }
        Standing::Waiting(u32::try_from(before + 1).unwrap_or(u32::MAX))
    }

    /// Resolves when `standing` may answer otherwise.
    pub async fn moved(&mut self) {
        // The sender lives as long as this.
        let _ = self.moved.changed().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut line = self.turns.lock();
        if self.has_turn {
            line.taken -= 1;
        } else {
            line.waiting.remove(&self.key);
        }
        drop(line);
        self.turns.tell();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn turns(cpus: usize) -> Arc<Turns> {
        let turns = Arc::new(Turns::default());
        turns.fit(cpus);
        turns
    }

    #[test]
    fn each_waits_behind_those_who_came_before() {
        let turns = turns(2);
        let mut places: Vec<Place> = (0..7).map(|_| turns.line_up(Rank::Asked)).collect();
        let stand = |places: &mut [Place]| places.iter_mut().map(Place::standing).collect::<Vec<_>>();
        let (turn, wait) = (Standing::Turn, Standing::Waiting);
        assert_eq!(stand(&mut places), [turn, turn, turn, turn, wait(1), wait(2), wait(3)]);
        drop(places.remove(5));
        assert_eq!(stand(&mut places[4..]), [wait(1), wait(2)], "who leaves the queue moves the others up");
        drop(places.remove(0));
        assert_eq!(stand(&mut places[3..]), [turn, wait(1)]);
    }

    #[test]
    fn nobody_overtakes_whoever_looks_later() {
        let turns = turns(2);
        let mut first: Vec<Place> = (0..4).map(|_| turns.line_up(Rank::Asked)).collect();
        assert!(first.iter_mut().all(|place| place.standing() == Standing::Turn));
        let (mut second, mut third) = (turns.line_up(Rank::Asked), turns.line_up(Rank::Asked));
        first.pop();
        assert_eq!(third.standing(), Standing::Waiting(2), "the turn is the second's, who has not looked yet");
        assert_eq!(second.standing(), Standing::Turn);
        assert_eq!(third.standing(), Standing::Waiting(1));
    }

    #[test]
    fn what_is_made_ahead_waits_for_all_who_ask() {
        let turns = turns(2);
        let mut busy: Vec<Place> = (0..4).map(|_| turns.line_up(Rank::Warm)).collect();
        assert!(busy.iter_mut().all(|place| place.standing() == Standing::Turn));
        let mut warm = turns.line_up(Rank::Warm);
        let mut asked = turns.line_up(Rank::Asked);
        assert_eq!((warm.standing(), asked.standing()), (Standing::Waiting(2), Standing::Waiting(1)));
        busy.pop();
        assert_eq!((warm.standing(), asked.standing()), (Standing::Waiting(2), Standing::Turn));
    }

    #[test]
    fn a_queue_is_bounded() {
        let turns = turns(1);
        let places: Vec<Place> = (0..WAITING_MAX).map(|_| turns.line_up(Rank::Asked)).collect();
        assert!(turns.is_full());
        drop(places);
        assert!(!turns.is_full());
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let turns = turns(1);
        let mut held: Vec<Place> = (0..4).map(|_| turns.line_up(Rank::Asked)).collect();
        assert!(held.iter_mut().all(|place| place.standing() == Standing::Turn));
        let mut place = turns.line_up(Rank::Asked);
        let waiter = tokio::spawn(async move {
            while place.standing() != Standing::Turn {
                place.moved().await;
            }
        });
        tokio::task::yield_now().await;
        held.pop();
        waiter.await.unwrap();
    }
}
