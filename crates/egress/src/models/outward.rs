//! What in a request would have the vendor itself reach hosts for whoever asks: its own tools, and addresses of pictures and files
//! that it would fetch. A workspace that reaches nothing would send what it likes to whom it likes by those.
//!
//! Tools that whoever asks carries out by itself are not among them. Neither is what stands in a text.
//!
//! Sources: the API references of OpenAI (chat completions, responses), Anthropic (messages) and OpenRouter.

use super::call::Call;
use super::fields::Fields;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

/// Fields that give the vendor ways of its own; null is none.
const FIELDS: [&str; 3] = ["mcp_servers", "web_search_options", "plugins"];
const TOOLS: &str = "tools";
/// Tools that the vendor does not carry out, or in a room of its own without a network; a vendor's later ones may be otherwise.
const TOOLS_INSIDE: [&str; 6] = ["function", "custom", "local_shell", "apply_patch", "code_interpreter", "computer"];
const TOOLS_INSIDE_BEGIN: [&str; 6] = ["bash_", "text_editor_", "computer_", "computer-", "memory_", "code_execution_"];
/// Where content stands, in which pictures and files are named.
const CONTENTS: [&str; 3] = ["messages", "input", "system"];
/// Fields that are judged here.
pub const JUDGED: [&str; 7] = ["mcp_servers", "web_search_options", "plugins", "tools", "messages", "input", "system"];
const ADDRESSES: [&str; 4] = ["image_url", "file_url", "video_url", "audio_url"];
/// Of Anthropic's: what a tool is given, which may look like anything.
const GIVEN_TO_TOOLS: &str = "input";

/// The field by which the vendor would reach something; `None`: none.
pub fn by(call: &Call, fields: &Fields<'_>) -> Option<&'static str> {
    let is_there = |name: &&&'static str| fields.get(name).is_some_and(|value| value.get() != "null");
    if let Some(name) = FIELDS.iter().find(is_there) {
        return Some(name);
    }
    if fields.get(TOOLS).is_some_and(|tools| !are_inside(tools.get())) {
        return Some(TOOLS);
    }
    let skip = if *call == Call::Messages || *call == Call::CountTokens { GIVEN_TO_TOOLS } else { "" };
    let leads_out = |name: &&&str| {
        let Some(value) = fields.get(name) else { return false };
        let found = Cell::new(false);
        let walk = Walk { found: &found, skip };
        let read = walk.deserialize(&mut serde_json::Deserializer::from_str(value.get()));
        // What is no JSON a vendor would not read either; this was read before.
        found.get() || read.is_err()
    };
    CONTENTS.iter().find(leads_out).map(|_| "url")
}

fn are_inside(tools: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Tool<'a> {
        #[serde(borrow, default, rename = "type")]
        kind: Option<Cow<'a, str>>,
    }
    let is_inside = |tool: &Tool<'_>| match tool.kind.as_deref() {
        None => true,
        Some(kind) => TOOLS_INSIDE.contains(&kind) || TOOLS_INSIDE_BEGIN.iter().any(|begin| kind.starts_with(begin)),
    };
    match serde_json::from_str::<Option<Vec<Tool<'_>>>>(tools) {
        Ok(tools) => tools.iter().flatten().all(is_inside),
        Err(_) => false,
    }
}

/// What a value is, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    Text(Text),
    /// With a `url` in it.
    Named(Text),
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Text {
    /// It holds what it is about.
    Data,
    /// `url`, as the type of a source.
    Url,
    Other,
}

/// Goes through a value, and keeps nothing of it.
#[derive(Clone, Copy)]
struct Walk<'a> {
    found: &'a Cell<bool>,
    skip: &'a str,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("anything")
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        let begins = text.get(..5).is_some_and(|begin| begin.eq_ignore_ascii_case("data:"));
        Ok(Value::Text(match text {
            _ if begins => Text::Data,
            "url" => Text::Url,
            _ => Text::Other,
        }))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        while from.next_element_seed(self)?.is_some() {}
        Ok(Value::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let (mut url, mut is_source) = (None, false);
        while let Some(Name(name)) = from.next_key()? {
            if name == self.skip {
                from.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = from.next_value_seed(self)?;
            match (&*name, value) {
                ("type", Value::Text(Text::Url)) => is_source = true,
                // Of two, either may be the one that is read.
                ("url", Value::Text(text)) if url != Some(Text::Other) => url = Some(text),
                (name, Value::Text(text) | Value::Named(text)) if ADDRESSES.contains(&name) && text != Text::Data => {
                    self.found.set(true);
                }
                _ => {}
            }
        }
        if is_source && url.is_some() {
            self.found.set(true);
        }
        Ok(url.map_or(Value::Other, Value::Named))
    }
}

struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        struct Borrowed<'b>(#[serde(borrow)] Cow<'b, str>);
        Borrowed::deserialize(from).map(|Borrowed(name)| Self(name))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn by(call: &Call, body: &str) -> Option<&'static str> {
        super::by(call, &Fields::read(body.as_bytes()).unwrap())
    }

    #[test]
    fn what_would_reach_out_is_found() {
        for (call, body) in [
            (Call::Responses, r#"{"tools":[{"type":"function"},{"type":"web_search"}]}"#),
            (Call::Responses, r#"{"tools":[{"type":"mcp","server_url":"https://evil.example"}]}"#),
            (Call::Responses, r#"{"tools":[{"\u0074ype":"mcp"}]}"#),
            (Call::Responses, r#"{"tools":{"type":"function"}}"#),
            (Call::Responses, r#"{"tools":[{"type":"function","type":"mcp"}]}"#),
            (
                Call::Responses,
                r#"{"input":[{"content":[{"type":"input_image","image_url":"https://evil.example/?a"}]}]}"#,
            ),
            (Call::Responses, r#"{"input":[{"content":[{"type":"input_file","file_url":"HTTP://evil.example"}]}]}"#),
            (Call::ChatCompletions, r#"{"messages":[{"content":[{"image_url":{"url":"https://evil.example"}}]}]}"#),
            (
                Call::ChatCompletions,
                r#"{"messages":[{"content":[{"image_url":{"url":"data:,","url":"https://e.x"}}]}]}"#,
            ),
            (Call::ChatCompletions, r#"{"web_search_options":{}}"#),
            (Call::ChatCompletions, r#"{"plugins":[{"id":"web"}]}"#),
            (Call::Messages, r#"{"tools":[{"type":"web_fetch_20250910","name":"web_fetch"}]}"#),
            (Call::Messages, r#"{"mcp_servers":[{"url":"https://evil.example"}]}"#),
            (Call::Messages, r#"{"messages":[{"content":[{"source":{"type":"url","url":"https://evil.example"}}]}]}"#),
            (
                Call::Messages,
                r#"{"messages":[{"content":[{"source":{"url":"https://evil.example","type":"\u0075rl"}}]}]}"#,
            ),
        ] {
            assert!(by(&call, body).is_some(), "{body}");
        }
    }

    #[test]
    fn what_stays_inside_is_let_through() {
        for (call, body) in [
            (
                Call::ChatCompletions,
                r#"{"tools":[{"type":"function","function":{"name":"fetch"}}],"web_search_options":null}"#,
            ),
            (
                Call::ChatCompletions,
                r#"{"messages":[{"content":"see https://a.example"},{"content":[{"image_url":{"url":"data:image/png;base64,AA"}}]}]}"#,
            ),
            (
                Call::ChatCompletions,
                r#"{"messages":[{"tool_calls":[{"function":{"arguments":"{\"image_url\":\"https://a.example\"}"}}]}]}"#,
            ),
            (Call::Responses, r#"{"input":"hi","tools":null}"#),
            (
                Call::Responses,
                r#"{"input":[{"content":[{"type":"input_image","image_url":"DATA:image/png;base64,AA"}]}]}"#,
            ),
            (
                Call::Messages,
                r#"{"tools":[{"name":"a","input_schema":{}},{"type":"custom","name":"b"},{"type":"bash_20250124"},{"type":"text_editor_20250728"}]}"#,
            ),
            (
                Call::Messages,
                r#"{"messages":[{"content":[{"type":"tool_use","input":{"type":"url","url":"https://a.example"}}]}]}"#,
            ),
            (
                Call::Messages,
                r#"{"messages":[{"content":[{"source":{"type":"base64","data":"AA"}}]}],"system":[{"text":"url"}]}"#,
            ),
            (Call::Embeddings, r#"{"input":["https://a.example"]}"#),
        ] {
            assert_eq!(by(&call, body), None, "{body}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in r#"\{"(tools|messages|input)":[\[\]{}",:a-z0-9]{0,40}\}"#) {
            if let Ok(fields) = Fields::read(text.as_bytes()) {
                let _ = super::by(&Call::Messages, &fields);
            }
        }
    }
}
