//! Bodies of requests for models, answers, and lists.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use rexec_egress::models::{Call, Meter, ask, list};

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    let calls = [Call::ChatCompletions, Call::Completions, Call::Responses, Call::Embeddings, Call::Messages];
    let call = &calls[usize::from(*first) % calls.len()];
    if let Ok(asked) = ask::read(call, &Bytes::copy_from_slice(rest), false) {
        // What is sent is judged as what came was.
        assert_eq!(ask::read(call, &asked.body, false).map(|again| again.model), Ok(asked.model));
    }
    let kind = if first & 0x80 == 0 { "application/json" } else { "text/event-stream" };
    let (Some(mut whole), Some(mut parts)) = (Meter::new(call, kind), Meter::new(call, kind)) else { return };
    whole.take(rest);
    rest.chunks(usize::from(*first).max(1)).for_each(|part| parts.take(part));
    assert_eq!(whole.usage(), parts.usage());
    let _ = list::filter(&"a*".parse().unwrap(), rest);
});
