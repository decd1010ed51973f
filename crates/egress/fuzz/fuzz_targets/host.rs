//! A host as programs write it: what is read is printed so that it is read the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rexec_egress::host::{Host, authority};

fuzz_target!(|text: &str| {
    if let Ok(host) = text.parse::<Host>() {
        assert_eq!(host.to_string().parse::<Host>().as_ref(), Ok(&host));
    }
    if let Ok((host, port)) = authority(text, Some(443)) {
        let printed = format!("{host}:{port}");
        assert_eq!(authority(&printed, None), Ok((host, port)));
    }
});
