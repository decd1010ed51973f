//! The body of a request: which model it asks for, and what of it is sent.
//!
//! Invariant: the models that are told are those that a vendor reads, whichever of two fields of one name it takes and
//! however it compares names.

use super::call::Call;
use super::fields::{BadFields, FIELDS_MAX, Fields};
use super::{MODEL_BYTES_MAX, is_name, outward};
use bytes::Bytes;
use serde_json::value::RawValue;

const MODEL: &str = "model";
const STREAM: &str = "stream";
const STREAM_OPTIONS: &str = "stream_options";
const INCLUDE_USAGE: &str = "include_usage";
const BACKGROUND: &str = "background";
/// What is asked when the first does not answer: of OpenRouter, and of Anthropic and LiteLLM.
const MODELS: &str = "models";
const FALLBACKS: &str = "fallbacks";
/// Has OpenRouter choose one by itself where none is named.
const ROUTE: &str = "route";
/// Fields that are judged here.
const JUDGED: [&str; 7] = [MODEL, STREAM, STREAM_OPTIONS, BACKGROUND, MODELS, FALLBACKS, ROUTE];
/// Of either list, as it is written; vendors take some three names.
const LIST_BYTES_MAX: usize = 64 << 10;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub model: String,
    /// Which else may answer in its place.
    pub others: Vec<String>,
    /// Whether the answer comes as events.
    pub stream: bool,
    /// What is sent: as it was, or with what makes a stream tell its usage.
    pub body: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAsk {
    #[error("The request's body must be one JSON object of at most {FIELDS_MAX} fields.")]
    Shape,
    #[error("The request's body has two fields of the same name; leave one of them out.")]
    Twice,
    #[error("The request's body has a field that could be taken for \"{0}\"; write it exactly so.")]
    Lookalike(&'static str),
    #[error("The request names no model; say which one in the field \"model\".")]
    NoModel,
    #[error("\"model\" must be a text of 1 to {MODEL_BYTES_MAX} bytes without control characters.")]
    Model,
    #[error(
        "Other models to ask must be named, in \"models\" or \"fallbacks\": by texts, or by objects with the field \"model\"."
    )]
    Others,
    #[error("\"{0}\" must be true or false.")]
    Switch(&'static str),
    #[error("\"stream_options\" must be an object that has no field twice.")]
    StreamOptions,
    #[error(
        "The vendor would reach other hosts for this request, by \"{0}\": send what it is about in the request itself, and tools \
         that your program carries out. (The operator lets it by REXEC_MODELS_OUTWARD=allow.)"
    )]
    Outward(&'static str),
    #[error("Answers in the background cannot be fetched here; leave \"background\" out, or ask for a stream.")]
    Background,
}

impl BadAsk {
    /// Stable, for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::NoModel => "model_missing",
            Self::Background => "model_background",
            Self::Outward(_) => "model_outward",
            Self::Shape
            | Self::Twice
            | Self::Lookalike(_)
            | Self::Model
            | Self::Others
            | Self::Switch(_)
            | Self::StreamOptions => "model_bad_request",
        }
    }
}

impl From<BadFields> for BadAsk {
    fn from(bad: BadFields) -> Self {
        match bad {
            BadFields::Shape => Self::Shape,
            BadFields::Twice => Self::Twice,
        }
    }
}

/// Of a call that has a body; whoever calls bounds its length.
pub fn read(call: &Call, body: &Bytes, outward: bool) -> Result<Asked, BadAsk> {
    let mut fields = Fields::read(body)?;
    if let Some(name) = JUDGED.into_iter().chain(outward::JUDGED).find(|name| has_lookalike(&fields, name)) {
        return Err(BadAsk::Lookalike(name));
    }
    if let Some(by) = outward::by(call, &fields).filter(|_| !outward) {
        return Err(BadAsk::Outward(by));
    }
    let model: String = fields.read_as(MODEL).map_err(|()| BadAsk::Model)?.ok_or(BadAsk::NoModel)?;
    if !is_name(&model) {
        return Err(BadAsk::Model);
    }
    let others = others(&fields)?;
    let stream = switch(&fields, STREAM)?;
    if *call == Call::Responses && switch(&fields, BACKGROUND)? {
        return Err(BadAsk::Background);
    }
    // The streams of all others tell their usage unasked.
    let is_silent = stream && matches!(call, Call::ChatCompletions | Call::Completions);
    let body = if is_silent && ask_for_usage(&mut fields)? { fields.write()? } else { body.clone() };
    Ok(Asked { model, others, stream, body })
}

/// Which models else may answer.
fn others(fields: &Fields<'_>) -> Result<Vec<String>, BadAsk> {
    // Such as LiteLLM's `context_window_fallbacks`.
    if fields.names().any(|name| name != FALLBACKS && name.to_ascii_lowercase().ends_with(FALLBACKS)) {
        return Err(BadAsk::Others);
    }
    let mut others = Vec::new();
    for name in [MODELS, FALLBACKS] {
        if fields.get(name).is_some_and(|list| list.get().len() > LIST_BYTES_MAX) {
            return Err(BadAsk::Others);
        }
        let list: Option<Vec<Box<RawValue>>> = fields.read_as(name).map_err(|()| BadAsk::Others)?;
        for one in list.unwrap_or_default() {
            others.push(other(&one).filter(|model| is_name(model)).ok_or(BadAsk::Others)?);
        }
    }
    let is_routed = fields.get(ROUTE).is_some_and(|route| route.get() != "null");
    if is_routed && others.is_empty() { Err(BadAsk::Others) } else { Ok(others) }
}

/// A name by itself, or in an object that names no more.
fn other(one: &RawValue) -> Option<String> {
    if let Ok(name) = serde_json::from_str(one.get()) {
        return Some(name);
    }
    let fields = Fields::read(one.get().as_bytes()).ok()?;
    let is_clear = !has_lookalike(&fields, MODEL) && others(&fields).is_ok_and(|others| others.is_empty());
    fields.read_as(MODEL).ok().flatten().filter(|_| is_clear)
}

fn switch(fields: &Fields<'_>, name: &'static str) -> Result<bool, BadAsk> {
    fields.read_as(name).map(Option::unwrap_or_default).map_err(|()| BadAsk::Switch(name))
}

/// `false`: it is asked for already.
fn ask_for_usage(fields: &mut Fields<'_>) -> Result<bool, BadAsk> {
    let none = || Fields::read(b"{}");
    let before = fields.get(STREAM_OPTIONS).map(|value| value.get().to_owned()).filter(|value| value != "null");
    let options = before.as_ref().map_or_else(none, |value| Fields::read(value.as_bytes()));
    let mut options = options.map_err(|_| BadAsk::StreamOptions)?;
    if has_lookalike(&options, INCLUDE_USAGE) {
        return Err(BadAsk::Lookalike(INCLUDE_USAGE));
    }
    if switch(&options, INCLUDE_USAGE)? {
        return Ok(false);
    }
    options.set(INCLUDE_USAGE, &true)?;
    fields.set(STREAM_OPTIONS, &options)?;
    Ok(true)
}

/// Vendors whose programs are in Go take `Model` for `model`, the last of both (encoding/json compares names as folded).
fn has_lookalike(fields: &Fields<'_>, name: &str) -> bool {
    fields.names().any(|other| other != name && other.chars().map(folded).eq(name.chars()))
}

/// As Unicode folds to ASCII: besides capitals, there are a long s and the sign of Kelvin.
fn folded(letter: char) -> char {
    match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BODIES: [Call; 6] = [
        Call::ChatCompletions,
        Call::Completions,
        Call::Responses,
        Call::Embeddings,
        Call::Messages,
        Call::CountTokens,
    ];

    fn ask(call: &Call, body: &str) -> Result<Asked, BadAsk> {
        read(call, &Bytes::copy_from_slice(body.as_bytes()), false)
    }

    #[test]
    fn what_needs_no_change_is_sent_as_it_came() {
        for (call, body, model, stream) in [
            (
                Call::ChatCompletions,
                r#"{ "model": "gpt-4o", "messages": [{"role":"user","content":"hi"}] }"#,
                "gpt-4o",
                false,
            ),
            (Call::ChatCompletions, r#"{"model":"gpt-4o","stream":false,"stream_options":null}"#, "gpt-4o", false),
            (
                Call::ChatCompletions,
                r#"{"model":"o3","stream":true,"stream_options":{"include_usage":true}}"#,
                "o3",
                true,
            ),
            (Call::Completions, r#"{"model":"davinci-002","prompt":"a","stream":null}"#, "davinci-002", false),
            (Call::Responses, r#"{"model":"gpt-5","input":"hi","stream":true,"background":false}"#, "gpt-5", true),
            (Call::Responses, r#"{"model":"gpt-5","background":null,"store":true}"#, "gpt-5", false),
            (
                Call::Embeddings,
                r#"{"model":"text-embedding-3-small","input":["a","b"]}"#,
                "text-embedding-3-small",
                false,
            ),
            (
                Call::Messages,
                r#"{"model":"claude-sonnet-4-5","max_tokens":9,"stream":true,"messages":[]}"#,
                "claude-sonnet-4-5",
                true,
            ),
            (Call::Messages, r#"{"mod\u0065l":"\u0063laude","background":1}"#, "claude", false),
            (Call::CountTokens, r#"{"model":"claude-haiku-4-5","messages":[]}"#, "claude-haiku-4-5", false),
        ] {
            let asked = Asked {
                model: model.into(),
                others: Vec::new(),
                stream,
                body: Bytes::copy_from_slice(body.as_bytes()),
            };
            assert_eq!(ask(&call, body), Ok(asked));
        }
    }

    #[test]
    fn a_stream_is_made_to_tell_its_usage() {
        for (before, after) in [
            (
                r#"{"model":"m","stream":true}"#,
                r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
            ),
            (
                r#"{"stream_options":null, "model":"m", "stream":true, "n": 1.0}"#,
                r#"{"stream_options":{"include_usage":true},"model":"m","stream":true,"n":1.0}"#,
            ),
            (
                r#"{"model":"m","stream":true,"stream_options":{"include_obfuscation":false,"include_usage":false}}"#,
                r#"{"model":"m","stream":true,"stream_options":{"include_obfuscation":false,"include_usage":true}}"#,
            ),
            (
                r#"{"model":"m","stream":true,"stream_options":{"include_usage":null}}"#,
                r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
            ),
        ] {
            for call in [Call::ChatCompletions, Call::Completions] {
                assert_eq!(ask(&call, before).unwrap().body, after);
            }
            for call in [Call::Responses, Call::Messages] {
                assert_eq!(ask(&call, before).unwrap().body, before);
            }
        }
    }

    #[test]
    fn what_cannot_be_judged_is_refused() {
        let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(MODEL_BYTES_MAX + 1));
        for (body, bad) in [
            ("", BadAsk::Shape),
            ("[]", BadAsk::Shape),
            (r#"{"model":"m"}{"model":"n"}"#, BadAsk::Shape),
            (r#"{"model":"m","model":"n"}"#, BadAsk::Twice),
            (r#"{"model":"m","\u006dodel":"n"}"#, BadAsk::Twice),
            (r#"{"model":"m","x":1,"x":1}"#, BadAsk::Twice),
            (r#"{"model":"m","Model":"n"}"#, BadAsk::Lookalike("model")),
            (r#"{"MODEL":"n"}"#, BadAsk::Lookalike("model")),
            ("{\"model\":\"m\",\"\u{17f}tream\":true}", BadAsk::Lookalike("stream")),
            (r#"{"model":"m","Background":true}"#, BadAsk::Lookalike("background")),
            ("{\"model\":\"m\",\"bac\u{212a}ground\":true}", BadAsk::Lookalike("background")),
            (r#"{}"#, BadAsk::NoModel),
            (r#"{"model":null}"#, BadAsk::NoModel),
            (r#"{"model":""}"#, BadAsk::Model),
            (r#"{"model":["m"]}"#, BadAsk::Model),
            (r#"{"model":"a\nb"}"#, BadAsk::Model),
            (r#"{"model":"a\u0000"}"#, BadAsk::Model),
            (r#"{"model":"\ud800"}"#, BadAsk::Model),
            (&long, BadAsk::Model),
            (r#"{"model":"m","stream":"true"}"#, BadAsk::Switch("stream")),
            (r#"{"model":"m","stream":1}"#, BadAsk::Switch("stream")),
        ] {
            for call in BODIES {
                assert_eq!(ask(&call, body), Err(bad), "{body}");
            }
        }
    }

    #[test]
    fn other_models_are_told() {
        for (more, others) in [
            (r#""models":["a","b"]"#, Some(&["a", "b"][..])),
            (r#""fallbacks":["a",{"model":"b","max_tokens":9}],"models":null"#, Some(&["a", "b"])),
            (r#""models":["a"],"route":"fallback""#, Some(&["a"])),
            (r#""models":[],"route":null"#, Some(&[])),
            (r#""route":"fallback""#, None),
            (r#""models":"a""#, None),
            (r#""models":[1]"#, None),
            (r#""models":[""]"#, None),
            (r#""fallbacks":[{}]"#, None),
            (r#""fallbacks":[{"model":"a","Model":"b"}]"#, None),
            (r#""fallbacks":[{"model":"a","model":"b"}]"#, None),
            (r#""fallbacks":[{"model":"a","fallbacks":["b"]}]"#, None),
            (r#""fallbacks":[{"model":"a","models":["b"]}]"#, None),
            (r#""context_window_fallbacks":[]"#, None),
        ] {
            for call in BODIES {
                let asked = ask(&call, &format!(r#"{{"model":"m",{more}}}"#)).map(|asked| asked.others);
                let expected = others.map(|all| all.iter().map(|one| (*one).to_owned()).collect());
                assert_eq!(asked, expected.ok_or(BadAsk::Others), "{more}");
            }
        }
        let long = format!(r#"{{"model":"m","models":[{}"a"]}}"#, r#""a","#.repeat(LIST_BYTES_MAX / 4));
        assert_eq!(ask(&Call::Messages, &long), Err(BadAsk::Others));
    }

    #[test]
    fn options_of_a_stream_are_judged() {
        for (options, bad) in [
            ("1", BadAsk::StreamOptions),
            ("[]", BadAsk::StreamOptions),
            (r#"{"a":1,"a":2}"#, BadAsk::StreamOptions),
            (r#"{"include_usage":"yes"}"#, BadAsk::Switch("include_usage")),
            (r#"{"Include_Usage":false}"#, BadAsk::Lookalike("include_usage")),
        ] {
            let body = format!(r#"{{"model":"m","stream":true,"stream_options":{options}}}"#);
            assert_eq!(ask(&Call::ChatCompletions, &body), Err(bad), "{options}");
        }
    }

    #[test]
    fn nothing_is_asked_for_in_the_background() {
        let background = r#"{"model":"gpt-5","background":true}"#;
        assert_eq!(ask(&Call::Responses, background), Err(BadAsk::Background));
        let unclear = r#"{"model":"gpt-5","background":"yes"}"#;
        assert_eq!(ask(&Call::Responses, unclear), Err(BadAsk::Switch("background")));
    }

    #[test]
    fn what_is_refused_is_said_so_that_it_can_be_mended() {
        for bad in
            [BadAsk::Shape, BadAsk::Lookalike("model"), BadAsk::Switch("stream"), BadAsk::NoModel, BadAsk::Background]
        {
            let sentence = bad.to_string();
            assert!(sentence.ends_with('.') && bad.code().starts_with("model_"), "{sentence}");
        }
    }

    #[test]
    fn pictures_and_depth_pass() {
        let picture = format!(r#"{{"model":"m","input":"data:image/png;base64,{}"}}"#, "A".repeat(4 << 20));
        assert_eq!(ask(&Call::Responses, &picture).unwrap().body, picture);
        let deep = format!(r#"{{"model":"m","stream":true,"x":{}{}}}"#, "[".repeat(500_000), "]".repeat(500_000));
        assert!(ask(&Call::ChatCompletions, &deep).is_ok());
        let deep = format!(r#"{{"model":{}"m"{}}}"#, "[".repeat(500_000), "]".repeat(500_000));
        assert_eq!(ask(&Call::ChatCompletions, &deep), Err(BadAsk::Model));
    }

    proptest! {
        #[test]
        fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for call in BODIES {
                let _ = read(&call, &Bytes::copy_from_slice(&bytes), false);
            }
        }

        #[test]
        fn what_is_sent_says_what_was_judged(body in r#"\{("(model|stream|mod\\u0065l|Model|stream_options|x)":("m"|true|false|null|\{\}|\{"include_usage":(true|false)\}|1),?){0,4}\}"#) {
            for call in BODIES {
                let Ok(asked) = ask(&call, &body) else { continue };
                let sent: serde_json::Value = serde_json::from_slice(&asked.body).unwrap();
                prop_assert_eq!(sent["model"].as_str(), Some(&*asked.model));
                prop_assert_eq!(sent["stream"].as_bool().unwrap_or_default(), asked.stream);
                if asked.stream && call == Call::ChatCompletions {
                    prop_assert_eq!(&sent["stream_options"]["include_usage"], true);
                }
                prop_assert_eq!(read(&call, &asked.body, false), Ok(asked));
            }
        }
    }
}
