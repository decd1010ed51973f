//! From two readings of an engine's counters, what was used between them: pure.

use rexec_engine::Stats;

/// Readings closer than this tell nothing of a rate.
const SPAN_MS_MIN: i64 = 100;
/// Readings farther apart are no one span: nobody looked in between.
const SPAN_MS_MAX: i64 = 150_000;

/// What the engine said, and when.
#[derive(Debug, Clone)]
pub struct Reading {
    pub at_ms: i64,
    /// Of which container: its counters begin at zero.
    pub generation: i64,
    pub stats: Stats,
}

/// What was used from one reading to the next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    pub at_ms: i64,
    pub span_ms: i64,
    /// Cores.
    pub cpu: f64,
    pub memory_bytes: u64,
    pub disk_bytes: Option<u64>,
    /// Moved in the span.
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub pids: u64,
}

impl Usage {
    pub fn per_second(&self, bytes: u64) -> f64 {
        bytes as f64 * 1000.0 / self.span_ms as f64
    }
}

/// `None` where the two are not of one life of one container, or not of one span.
pub fn usage(before: &Reading, now: &Reading, disk_bytes: Option<u64>) -> Option<Usage> {
    let span_ms = now.at_ms - before.at_ms;
    if !(SPAN_MS_MIN..=SPAN_MS_MAX).contains(&span_ms) || before.generation != now.generation {
        return None;
    }
    // A counter that went back began anew: the container was restarted.
    let moved = |of: fn(&Stats) -> u64| of(&now.stats).checked_sub(of(&before.stats));
    let cpu_ns = moved(|stats| stats.cpu_total_ns)?;
    Some(Usage {
        at_ms: now.at_ms,
        span_ms,
        cpu: cpu_ns as f64 / (span_ms as f64 * 1e6),
        memory_bytes: now.stats.memory_bytes,
        disk_bytes,
        rx_bytes: moved(|stats| stats.network_rx_bytes)?,
        tx_bytes: moved(|stats| stats.network_tx_bytes)?,
        pids: now.stats.pids,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn reading(at_ms: i64, cpu_total_ns: u64, network_rx_bytes: u64) -> Reading {
        let stats = Stats { cpu_total_ns, network_rx_bytes, memory_bytes: 5, pids: 2, ..Stats::default() };
        Reading { at_ms, generation: 1, stats }
    }

    #[test]
    fn counters_become_rates() {
        let used = usage(&reading(0, 0, 100), &reading(2000, 1_000_000_000, 4100), Some(7)).unwrap();
        assert_eq!((used.cpu, used.memory_bytes, used.disk_bytes, used.pids), (0.5, 5, Some(7), 2));
        assert_eq!((used.rx_bytes, used.per_second(used.rx_bytes)), (4000, 2000.0));
    }

    #[test]
    fn lives_are_not_mixed() {
        let first = reading(0, 1000, 1000);
        assert!(usage(&first, &reading(2000, 10, 2000), None).is_none(), "the processor's counter went back");
        assert!(usage(&first, &reading(2000, 2000, 10), None).is_none(), "the network's did");
        assert!(usage(&first, &Reading { generation: 2, ..reading(2000, 2000, 2000) }, None).is_none());
        assert!(usage(&first, &reading(10, 2000, 2000), None).is_none(), "too close");
        assert!(usage(&first, &reading(SPAN_MS_MAX + 1, 2000, 2000), None).is_none(), "too far apart");
    }
}
