//! The warm pool: how many workspaces run on each host before anyone asks for them.

use super::sources::Reader;
use std::time::Duration;

const SIZE_MAX: u64 = 500;
/// What demand may make of the size, unless the operator says.
const GROWTH: u32 = 4;
/// A pool is filled so many times slower than its host can make workspaces.
const REST_TIMES: u32 = 3;
/// The same while somebody types on a host of one core; of more cores it is the less.
const REST_TIMES_TYPED: u32 = 120;
/// After somebody was served, so long nothing is made: those who come at once come first.
const QUIET: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolConfig {
    /// On each host, whatever the demand; 0: no pool.
    pub size: u32,
    /// On each host, however large the demand.
    pub max: u32,
    /// How many times as long as the making of one took nothing is made after it. No variable sets it.
    pub rest_times: u32,
    /// The same while somebody types, on a host of one core. No variable sets it.
    pub rest_times_typed: u32,
    /// No variable sets it.
    pub quiet: Duration,
}

pub(super) fn take(reader: &mut Reader) -> PoolConfig {
    let number = |reader: &mut Reader, names: &[&str]| {
        reader.number(names, 0, SIZE_MAX).and_then(|number| u32::try_from(number).ok())
    };
    let size = number(reader, &["REXEC_POOL_SIZE", "COMPUTE_WARM_POOL_SIZE"]).unwrap_or(0);
    let max = number(reader, &["REXEC_POOL_MAX"]);
    if max.is_some_and(|max| max < size) {
        reader.fault("REXEC_POOL_MAX", "must not be less than REXEC_POOL_SIZE");
    }
    let max = if size == 0 { 0 } else { max.unwrap_or(size.saturating_mul(GROWTH)) };
    PoolConfig { size, max, rest_times: REST_TIMES, rest_times_typed: REST_TIMES_TYPED, quiet: QUIET }
}
