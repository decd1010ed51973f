use super::super::Api;
use super::*;
use proptest::prelude::*;

const JSON: &str = "application/json";
const STREAM: &str = "text/event-stream; charset=utf-8";

const CHAT_JSON: &str = r#"{
  "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "object": "chat.completion", "created": 1741569952, "model": "gpt-4.1",
  "choices": [{"index": 0, "message": {"role": "assistant", "content": "Say \"usage\": {\"prompt_tokens\": 7}", "refusal": null,
    "annotations": []}, "logprobs": null, "finish_reason": "stop"}],
  "usage": {"prompt_tokens": 1117, "completion_tokens": 46, "total_tokens": 1163,
    "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "accepted_prediction_tokens": 0}},
  "service_tier": "default"
}"#;

const CHAT_STREAM: &str = concat!(
    r#"data: {"id":"chatcmpl-123","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}"#,
    "\n\n",
    r#"data: {"id":"chatcmpl-123","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"Hello there"},"finish_reason":null}],"usage":null}"#,
    "\n\n",
    r#"data: {"id":"chatcmpl-123","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":8,"completion_tokens":9,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":0}}}"#,
    "\n\ndata: [DONE]\n\n",
);

/// A vendor that tells usage so far, in the framing of another.
const RUNNING_STREAM: &str = concat!(
    ": OPENROUTER PROCESSING\r\n\r\n",
    "data:{\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1}}\r\n\r\n",
    "data:{\"choices\":[{\"delta\":{\"content\":\"b\"}}],\r\ndata: \"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\r\n\r\n",
);

const COMPLETION_JSON: &str = r#"{"id":"cmpl-1","object":"text_completion","choices":[{"text":"test","index":0}],
    "usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}}"#;

const EMBEDDING_JSON: &str = r#"{"object":"list","data":[{"object":"embedding","embedding":[0.0023,-0.0093],"index":0}],
    "model":"text-embedding-ada-002","usage":{"prompt_tokens":8,"total_tokens":8}}"#;

const RESPONSE_JSON: &str = r#"{"id":"resp_67ccd2bed1ec8190","object":"response","status":"completed","model":"gpt-5",
    "output":[{"type":"message","content":[{"type":"output_text","text":"In a grove","annotations":[]}]}],
    "text":{"format":{"type":"text"}},"usage":{"input_tokens":36,"input_tokens_details":{"cached_tokens":12},
    "output_tokens":87,"output_tokens_details":{"reasoning_tokens":64},"total_tokens":123},"metadata":{}}"#;

const RESPONSE_STREAM: &str = concat!(
    "event: response.created\n",
    r#"data: {"type":"response.created","sequence_number":0,"response":{"id":"resp_1","status":"in_progress","usage":null}}"#,
    "\n\nevent: response.output_text.delta\n",
    r#"data: {"type":"response.output_text.delta","item_id":"msg_1","delta":"Hi there","sequence_number":4}"#,
    "\n\nevent: response.output_text.done\n",
    r#"data: {"type":"response.output_text.done","item_id":"msg_1","text":"Hi there","sequence_number":5}"#,
    "\n\nevent: response.completed\n",
    r#"data: {"type":"response.completed","response":{"id":"resp_1","output":[{"content":[{"text":"Hi there"}]}],"usage":{"input_tokens":37,"input_tokens_details":{"cached_tokens":0},"output_tokens":11,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":48}},"sequence_number":6}"#,
    "\n\n",
);

const MESSAGE_JSON: &str = r#"{"id":"msg_013Zva2CMHLNnXjNJJKqJ2EF","type":"message","role":"assistant",
    "content":[{"type":"text","text":"Hi!"},{"type":"tool_use","name":"bill","input":{"usage":{"output_tokens":1}}}],
    "model":"claude-sonnet-4-5","stop_reason":"end_turn","usage":{"input_tokens":2095,"output_tokens":503,
    "cache_creation_input_tokens":100,"cache_read_input_tokens":1000,
    "cache_creation":{"ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":0},"service_tier":"standard"}}"#;

const MESSAGE_START: &str = concat!(
    "event: message_start\n",
    r#"data: {"type":"message_start","message":{"id":"msg_1nZdL29xx5MUA1yADyHTEsnR8uuvGzszyY","type":"message","role":"assistant","content":[],"model":"claude-sonnet-4-5","stop_reason":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":10,"cache_read_input_tokens":5,"output_tokens":1}}}"#,
    "\n\nevent: content_block_start\n",
    r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
    "\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\nevent: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello, you!"}}"#,
    "\n\n",
);

const MESSAGE_END: &str = concat!(
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: message_delta\n",
    r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":15}}"#,
    "\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

/// With a tool of the server: the input grew, and is told again.
const GROWN_END: &str = concat!(
    "event: message_delta\n",
    r#"data: {"type":"message_delta","delta":{},"usage":{"output_tokens":3}}"#,
    "\n\nevent: message_delta\n",
    r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":10682,"cache_creation_input_tokens":null,"cache_read_input_tokens":0,"output_tokens":510,"server_tool_use":{"web_search_requests":1}}}"#,
    "\n\n",
);

fn told(input: u64, cached: u64, output: u64) -> Usage {
    Usage { input, cached, output, estimated: false }
}

fn guessed(input: u64, cached: u64, output: u64) -> Usage {
    Usage { input, cached, output, estimated: true }
}

fn meter<'a>(call: &Call, content_type: &str, chunks: impl IntoIterator<Item = &'a [u8]>) -> Meter {
    let mut meter = Meter::new(call, content_type).unwrap_or_else(|| panic!("{call:?} costs nothing"));
    chunks.into_iter().for_each(|chunk| meter.take(chunk));
    meter
}

/// All answers that tell everything.
fn answers() -> Vec<(Call, &'static str, String, Usage)> {
    let owned = |(call, kind, body, usage): (_, _, &str, _)| (call, kind, body.to_owned(), usage);
    let mut all: Vec<_> = [
        (Call::ChatCompletions, JSON, CHAT_JSON, told(1117, 1024, 46)),
        (Call::ChatCompletions, STREAM, CHAT_STREAM, told(8, 0, 9)),
        (Call::ChatCompletions, "Text/Event-Stream", RUNNING_STREAM, told(5, 0, 2)),
        (Call::Completions, JSON, COMPLETION_JSON, told(5, 0, 7)),
        (Call::Completions, "", COMPLETION_JSON, told(5, 0, 7)),
        (Call::Embeddings, JSON, EMBEDDING_JSON, told(8, 0, 0)),
        (Call::Responses, JSON, RESPONSE_JSON, told(36, 12, 87)),
        (Call::Responses, STREAM, RESPONSE_STREAM, told(37, 0, 11)),
        (Call::Messages, JSON, MESSAGE_JSON, told(3195, 1000, 503)),
    ]
    .map(owned)
    .into();
    all.push((Call::Messages, STREAM, format!("{MESSAGE_START}{MESSAGE_END}"), told(40, 5, 15)));
    all.push((Call::Messages, STREAM, format!("{MESSAGE_START}{GROWN_END}"), told(10692, 0, 510)));
    all
}

#[test]
fn answers_tell_their_usage() {
    for (call, kind, body, usage) in answers() {
        let plain = body.replace("\r\n", "\n");
        for body in [plain.replace('\n', "\r\n"), plain.replace('\n', "\r"), plain] {
            let meter = meter(&call, kind, [body.as_bytes()]);
            assert_eq!(meter.usage(), Some(usage), "{call:?} {kind} {body}");
            assert_eq!(meter.estimate(1_000_000), usage);
        }
    }
}

#[test]
fn what_costs_nothing_is_not_metered() {
    for call in [Call::CountTokens, Call::ListModels(Api::OpenAi), Call::GetModel(Api::Anthropic, "m".into())] {
        assert!(Meter::new(&call, JSON).is_none() && !call.is_metered());
    }
}

#[test]
fn usage_is_found_in_an_event_of_megabytes() {
    let output = format!(r#"{{"text":"{}\"usage\":"}},"#, "x".repeat(50_000)).repeat(100);
    let event = format!(
        "data: {{\"type\":\"response.completed\",\"response\":{{\"output\":[{output}0],\
         \"usage\":{{\"input_tokens\":1,\"output_tokens\":2}}}}}}\n\n"
    );
    assert_eq!(meter(&Call::Responses, STREAM, event.as_bytes().chunks(1400)).usage(), Some(told(1, 0, 2)));
}

#[test]
fn what_is_cut_off_is_estimated() {
    let start = CHAT_STREAM.split_inclusive("\n\n").take(2).collect::<String>();
    let response = RESPONSE_STREAM.split_inclusive("\n\n").take(3).collect::<String>();
    let zero = MESSAGE_START.replace(":25,", ":0,").replace(":10,", ":0,").replace(":5,", ":0,");
    for (call, kind, body, usage) in [
        // "Hello there" in three tokens; 401 bytes were asked.
        (Call::ChatCompletions, STREAM, &*start, guessed(101, 0, 3)),
        (Call::Responses, STREAM, &response, guessed(101, 0, 2)),
        (Call::Messages, STREAM, MESSAGE_START, guessed(40, 5, 3)),
        (Call::Messages, STREAM, &zero, guessed(101, 0, 3)),
        (Call::Messages, STREAM, MESSAGE_END, guessed(101, 0, 15)),
        (Call::ChatCompletions, JSON, r#"{"choices":[{"message":{"content":"12345"}}]}"#, guessed(101, 0, 2)),
        (Call::ChatCompletions, JSON, "123456789", guessed(101, 0, 3)),
        (Call::ChatCompletions, STREAM, "", guessed(101, 0, 0)),
        (Call::Embeddings, JSON, r#"{"data":[{"embedding":[0.1,0.2,0.3]}]}"#, guessed(101, 0, 0)),
    ] {
        let meter = meter(&call, kind, [body.as_bytes()]);
        assert_eq!((meter.usage(), meter.estimate(401)), (None, usage), "{call:?} {body}");
    }
    assert_eq!(meter(&Call::Messages, STREAM, []).estimate(u64::MAX), guessed(TOKENS_MAX, 0, 0));
}

#[test]
fn numbers_that_count_nothing_are_not_told() {
    let most = TOKENS_MAX.to_string();
    let beyond = (TOKENS_MAX + 1).to_string();
    for bad in
        ["-1", "1.5", "1.0", "1e3", "\"1\"", "null", "[]", "{}", "true", &beyond, "99999999999999999999999", "1e999"]
    {
        let body = format!(r#"{{"usage":{{"prompt_tokens":{bad},"completion_tokens":2}}}}"#);
        let all = meter(&Call::ChatCompletions, JSON, [body.as_bytes()]);
        assert_eq!((all.usage(), all.estimate(40)), (None, guessed(10, 0, 2)), "{bad}");
        let body = format!(
            r#"{{"usage":{{"prompt_tokens":3,"completion_tokens":2,"prompt_tokens_details":{{"cached_tokens":{bad}}}}}}}"#
        );
        assert_eq!(meter(&Call::ChatCompletions, JSON, [body.as_bytes()]).usage(), Some(told(3, 0, 2)), "{bad}");
    }
    let body = format!(
        r#"{{"usage":{{"input_tokens":{most},"cache_creation_input_tokens":{most},"cache_read_input_tokens":{most},"output_tokens":{most}}}}}"#
    );
    let usage = meter(&Call::Messages, JSON, [body.as_bytes()]).usage();
    assert_eq!(usage, Some(told(3 * TOKENS_MAX, TOKENS_MAX, TOKENS_MAX)));
    let more_cached =
        r#"{"usage":{"prompt_tokens":3,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4}}}"#;
    assert_eq!(meter(&Call::ChatCompletions, JSON, [more_cached.as_bytes()]).usage(), Some(told(3, 3, 2)));
    for body in ["", "null", "[]", "<html>", r#"{"error":{"message":"no"}}"#, r#"{"usage":[]}"#, r#"{"usage":"#] {
        assert_eq!(meter(&Call::Messages, JSON, [body.as_bytes()]).usage(), None, "{body}");
    }
}

proptest! {
    #[test]
    fn where_an_answer_is_cut_is_the_same(mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8), size in 1..64_usize) {
        for (call, kind, body, usage) in answers() {
            let mut ends: Vec<usize> = cuts.iter_mut().map(|cut| cut.index(body.len() + 1)).collect();
            ends.extend([0, body.len()]);
            ends.sort_unstable();
            let chunks = ends.windows(2).map(|pair| &body.as_bytes()[pair[0]..pair[1]]);
            prop_assert_eq!(meter(&call, kind, chunks).usage(), Some(usage));
            let even = meter(&call, kind, body.as_bytes().chunks(size));
            prop_assert_eq!(even.usage(), Some(usage));
            let whole = meter(&call, kind, [body.as_bytes()]);
            prop_assert_eq!(even.scanner.text_bytes(), whole.scanner.text_bytes());
        }
    }

    #[test]
    fn bytes_never_panic(bytes: Vec<u8>, text in r#"(data: |\r?\n|[{}\[\]:,"\\]|"(usage|response|message|input_tokens|delta)":|[0-9]{1,24}){0,50}"#) {
        for (call, kind, ..) in answers() {
            for answer in [&bytes[..], text.as_bytes()] {
                let meter = meter(&call, kind, answer.chunks(3));
                let _ = meter.estimate(answer.len() as u64);
            }
        }
    }
}
