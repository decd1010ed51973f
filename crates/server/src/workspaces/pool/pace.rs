//! How slowly a pool is filled: pure.
//!
//! The making of one keeps about one of the host's cores at work. While somebody types there it has so small a part of all
//! of them that no one in a hundred of the keys meets it; while nobody does, enough is left for whatever else runs.

use crate::config::PoolConfig;
use std::time::Duration;

/// Whoever has typed within so long types.
pub const TYPED_MS: i64 = 10_000;
/// Between two of them, however quick the host.
const REST_MIN: Duration = Duration::from_millis(100);

/// How long nothing is made after the making of one took `took`.
pub fn rest(config: &PoolConfig, took: Duration, cpus: u32, is_typed: bool) -> Duration {
    let times = if is_typed { config.rest_times_typed / cpus.max(1) } else { 0 };
    (took * times.max(config.rest_times)).max(REST_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rests_longer_where_somebody_types_and_cores_are_few() {
        let config = PoolConfig { size: 1, max: 1, rest_times: 3, rest_times_typed: 120, quiet: Duration::ZERO };
        let rest = |cpus, is_typed| rest(&config, Duration::from_secs(1), cpus, is_typed).as_secs();
        assert_eq!([rest(1, true), rest(2, true), rest(8, true)], [120, 60, 15]);
        assert_eq!(
            (rest(64, true), rest(0, true)),
            (3, 120),
            "never less than where nobody types; no division by none"
        );
        assert_eq!(rest(1, false), 3);
    }

    #[test]
    fn it_always_rests() {
        let config = PoolConfig { size: 1, max: 1, rest_times: 0, rest_times_typed: 0, quiet: Duration::ZERO };
        assert_eq!(rest(&config, Duration::from_millis(1), 2, true), REST_MIN);
    }
}
