//! Paths of requests, as rules judge them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rexec_egress::asks::plain;

fuzz_target!(|path: &str| {
    if let Some(once) = plain(path) {
        assert_eq!(plain(&once), Some(once.clone()));
        assert!(once.starts_with('/') && !once.contains("/../") && !once.contains("//"));
    }
});
