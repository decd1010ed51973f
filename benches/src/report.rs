//! Figures and how they are told: medians, percentiles, ratios, and the bound each is held to.

use std::time::Duration;

/// The middle value; of an even number the lower of the two in the middle.
pub fn percentile(samples: &mut [Duration], percent: f64) -> Duration {
    samples.sort_unstable();
    let last = samples.len().saturating_sub(1);
    let rank = (percent / 100.0 * last as f64).round() as usize;
    samples.get(rank).copied().unwrap_or_default()
}

pub fn median(samples: &mut [Duration]) -> Duration {
    percentile(samples, 50.0)
}

#[derive(Clone, Copy)]
pub enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    fn keeps(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }
}

pub struct Report {
    lines: Vec<String>,
    /// What the other side is called.
    pub peer: &'static str,
}

impl Default for Report {
    fn default() -> Self {
        Self { lines: Vec::new(), peer: "engine" }
    }
}

impl Report {
    /// One figure: what was measured on either side, and what it is held to.
    pub fn figure(&mut self, name: &str, sides: &str, value: f64, unit: &str, bound: Bound) {
        let (word, limit) = match bound {
            Bound::AtMost(limit) => ("<=", limit),
            Bound::AtLeast(limit) => (">=", limit),
        };
        let verdict = if bound.keeps(value) { "ok    " } else { "MISSED" };
        self.line(format!("{verdict} {name:<46} {value:>8.2}{unit:<3} ({word} {limit}{unit})   {sides}"));
    }

    pub fn times(&mut self, name: &str, ours: Duration, peer: Duration, bound: Bound) {
        let ratio = ours.as_secs_f64() / peer.as_secs_f64().max(1e-9);
        self.figure(name, &format!("ours {}  {} {}", show(ours), self.peer, show(peer)), ratio, "x", bound);
    }

    /// How fast ours is, the engine's speed being 1.
    pub fn speed(&mut self, name: &str, ours: Duration, peer: Duration, bound: Bound) {
        let ratio = peer.as_secs_f64() / ours.as_secs_f64().max(1e-9);
        self.figure(name, &format!("ours {}  {} {}", show(ours), self.peer, show(peer)), ratio, "x", bound);
    }

    pub fn note(&mut self, text: String) {
        self.line(format!("       {text}"));
    }

    fn line(&mut self, line: String) {
        println!("{line}");
        self.lines.push(line);
    }

    pub fn print(&self) {
        println!("\nAll figures of this run:");
        for line in &self.lines {
            println!("{line}");
        }
    }
}

pub fn show(time: Duration) -> String {
    if time < Duration::from_millis(10) {
        format!("{:.0} us", time.as_secs_f64() * 1e6)
    } else {
        format!("{:.1} ms", time.as_secs_f64() * 1e3)
    }
}
