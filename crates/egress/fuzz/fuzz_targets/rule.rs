//! A rule as people write it: what is read is printed so that it is read the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rexec_egress::rule::Rule;

fuzz_target!(|text: &str| {
    if let Ok(rule) = text.parse::<Rule>() {
        assert_eq!(rule.to_string().parse::<Rule>().as_ref(), Ok(&rule));
    }
});
