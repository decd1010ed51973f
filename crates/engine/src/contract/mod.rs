//! What every engine must do, as tests against a live one.
//!
//! A transport or an engine passes by naming itself: `rexec_engine::engine_contract!(make)` in a
//! test file makes one test of each case, where `make` is a `fn() -> Arc<dyn Engine>`. Each case
//! has a [`World`] of its own: everything it makes carries the world's label, and is removed with
//! it, whether the case passes or not. The cases need `/bin/busybox`, statically linked, here.

pub mod isolation;
pub mod lifecycle;
pub mod remote;
pub mod storage;
pub mod streams;
mod world;

pub use world::{MakeEngine, TarBuilder, World};

use crate::EngineError;

/// Makes a test of every case of the contract; with `transport` before the name, of those whose bytes take every way that
/// there is: for one more transport of an engine that passes all of them.
#[macro_export]
macro_rules! engine_contract {
    ($make:expr) => {
        $crate::engine_contract!(@cases $make;
            lifecycle: lives_and_ends, ends_have_reasons, bad_specs_are_refused, what_is_not_there_is_told,
                pauses, labels_filter, summaries_tell_states, limits_hold, engines_describe_themselves;
            storage: volumes_survive, archives_go_both_ways, commits_keep_the_file_system, images_come_and_go, images_are_listed_while_others_go,
                disk_use_is_told, disk_limits_are_true;
            streams: exec_is_binary_safe, exec_tells_how_it_ended, exec_runs_as_asked, exec_ends_with_its_stream,
                exec_ends_with_its_container, events_are_told, stats_are_told;
            isolation: profile_holds, siblings_are_apart, networks_are_ensured_once, networks_have_no_ipv6, addresses_are_ours, networks_are_changed;
        );
    };
    (transport $make:expr) => {
        $crate::engine_contract!(@cases $make;
            lifecycle: lives_and_ends, what_is_not_there_is_told;
            storage: archives_go_both_ways;
            streams: exec_is_binary_safe, exec_tells_how_it_ended, exec_runs_as_asked, exec_ends_with_its_stream,
                exec_ends_with_its_container, events_are_told, stats_are_told;
        );
    };
    (@cases $make:expr; $($module:ident: $($case:ident),+;)+) => {
        $(mod $module {
            #[allow(unused_imports)]
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let world = $crate::contract::World::new($make).await;
                $crate::contract::$module::$case(&world).await;
            })+
        })+
    };
}

/// The kind of an error, for messages that say which was wanted.
fn kind<T>(result: &crate::Result<T>) -> &'static str {
    match result {
        Ok(_) => "success",
        Err(EngineError::Unavailable(_)) => "Unavailable",
        Err(EngineError::NotFound(_)) => "NotFound",
        Err(EngineError::Conflict(_)) => "Conflict",
        Err(EngineError::HalfStarted(_)) => "HalfStarted",
        Err(EngineError::ImageNotFound(_)) => "ImageNotFound",
        Err(EngineError::Unauthorised(_)) => "Unauthorised",
        Err(EngineError::WrongPlatform(_)) => "WrongPlatform",
        Err(EngineError::PullFailed(_)) => "PullFailed",
        Err(EngineError::RuntimeUnavailable(_)) => "RuntimeUnavailable",
        Err(EngineError::DiskFull(_)) => "DiskFull",
        Err(EngineError::Refused(_)) => "Refused",
        Err(EngineError::Protocol(_)) => "Protocol",
    }
}

/// Asserts the kind of a failure and shows the engine's words when it is another.
#[track_caller]
fn assert_kind<T>(result: crate::Result<T>, wanted: &str) {
    let got = kind(&result);
    assert_eq!(got, wanted, "{:?}", result.err());
}
