//! The first bytes of a connection: what is judged of some of them stays so, whatever follows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rexec_egress::hello::{BYTES_MAX, Hello, read};

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes);
    assert!(bytes.len() < BYTES_MAX || whole != Hello::More, "more is waited for than there may be");
    // Wherever it was cut, and few enough cuts to be quick.
    let step = (bytes.len() / 64).max(1);
    for length in (0..bytes.len()).step_by(step) {
        match read(&bytes[..length]) {
            Hello::More => {}
            verdict => assert_eq!(verdict, whole, "after {length} bytes"),
        }
    }
});
