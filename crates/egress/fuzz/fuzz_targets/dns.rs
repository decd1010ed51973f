//! A question for a name: whatever is read of it is answered in time, in size, and never in turn.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rexec_egress::dns::{self, Fault, Transport};
use std::net::Ipv4Addr;
use std::time::Duration;

fuzz_target!(|message: &[u8]| {
    let answers = match dns::parse(message) {
        Ok(query) => {
            let most: Vec<Ipv4Addr> = (0..=255).map(|last| Ipv4Addr::new(192, 0, 2, last)).collect();
            let long = dns::answer_a(&query, &most, Duration::from_secs(5), Transport::Udp);
            assert!(long.len() <= usize::from(query.udp_size), "longer than the asker takes");
            let tcp = dns::answer_a(&query, &most, Duration::from_secs(5), Transport::Tcp);
            assert!(tcp.len() <= usize::from(dns::TCP_BYTES_MAX));
            if let Some(name) = &query.name {
                assert!((1..=253).contains(&name.as_str().len()));
            }
            let small = [dns::no_data(&query), dns::name_error(&query), dns::server_failure(&query), dns::refused(&query)];
            assert!(small.iter().all(|answer| answer.len() <= usize::from(dns::UDP_BYTES_MIN)));
            [vec![long, tcp], small.to_vec()].concat()
        }
        Err(fault) => Vec::from_iter(fault.answer()),
    };
    for answer in answers {
        assert_eq!(answer[..2], message[..2], "another question's number");
        assert_eq!(dns::parse(&answer), Err(Fault::Drop), "an answer is answered");
    }
});
