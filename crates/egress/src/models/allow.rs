//! Which models may be used: exact names, and what begins in some way (`gpt-4o*`). Names are compared as they are, as
//! vendors do.

use super::fields::{BadFields, Fields};
use super::{MODEL_BYTES_MAX, is_name};
use bytes::Bytes;
use serde_json::value::RawValue;
use std::fmt;
use std::str::FromStr;

/// More than all vendors have models. A list of more is refused.
pub const PATTERNS_MAX: usize = 1000;
/// What is told of a list: fields that could name a model besides `data` are left out.
const LIST_FIELDS: [&str; 5] = ["object", "data", "has_more", "first_id", "last_id"];

/// A list of patterns, parted by commas when written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Models(Vec<Pattern>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Name(String),
    Prefix(String),
}

/// Which pattern, and what is wrong with it, in words for whoever wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?}: {why}")]
pub struct BadPattern {
    pub pattern: String,
    pub why: &'static str,
}

/// A vendor's list of models that is in no known shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the vendor's list of models has an unknown shape")]
pub struct BadList;

impl From<BadFields> for BadList {
    fn from(_: BadFields) -> Self {
        Self
    }
}

impl Models {
    pub fn allows(&self, model: &str) -> bool {
        self.0.iter().any(|pattern| match pattern {
            Pattern::Name(name) => name == model,
            Pattern::Prefix(prefix) => model.starts_with(prefix),
        })
    }

    /// Of the answer to [`super::Call::ListModels`], what is about models that are allowed; whoever calls bounds its length.
    ///
    /// Where a page of Anthropic's ends (`last_id`) stays as it was, also if that model is not allowed: it is where the
    /// next page begins, and there may be no other on this one.
    pub fn filter_list(&self, body: &[u8]) -> Result<Bytes, BadList> {
        let mut list = Fields::read(body)?;
        let data = list.get("data").ok_or(BadList)?.get().to_owned();
        let all: Vec<&RawValue> = serde_json::from_str(&data).map_err(|_| BadList)?;
        let mut allowed = Vec::new();
        for model in all {
            let id: Option<String> = Fields::read(model.get().as_bytes())?.read_as("id").map_err(|()| BadList)?;
            if self.allows(&id.ok_or(BadList)?) {
                allowed.push(model);
            }
        }
        list.set("data", &allowed)?;
        list.retain(&LIST_FIELDS);
        Ok(list.write()?)
    }
}

impl FromStr for Models {
    type Err = BadPattern;

    /// Spaces around a pattern are no part of it.
    fn from_str(text: &str) -> Result<Self, BadPattern> {
        if text.split(',').count() > PATTERNS_MAX {
            return Err(BadPattern { pattern: "…".into(), why: "there are too many patterns" });
        }
        text.split(',').map(|pattern| pattern.trim_matches(' ').parse()).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for Pattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        let bad = |why| BadPattern { pattern: text.chars().take(MODEL_BYTES_MAX).collect(), why };
        let (name, is_prefix) = text.strip_suffix('*').map_or((text, false), |prefix| (prefix, true));
        if text.is_empty() {
            Err(bad("a pattern is the name of a model, or how names begin and *"))
        } else if text.len() > MODEL_BYTES_MAX {
            Err(bad("it is longer than 200 bytes"))
        } else if name.contains('*') {
            Err(bad("* may be its last character alone"))
        } else if !is_name(text) {
            Err(bad("it has control characters"))
        } else if is_prefix {
            Ok(Self::Prefix(name.into()))
        } else {
            Ok(Self::Name(name.into()))
        }
    }
}

impl fmt::Display for Models {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, pattern) in self.0.iter().enumerate() {
            out.write_str(if at == 0 { "" } else { "," })?;
            match pattern {
                Pattern::Name(name) => out.write_str(name)?,
                Pattern::Prefix(prefix) => write!(out, "{prefix}*")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn models(text: &str) -> Models {
        text.parse().unwrap()
    }

    #[test]
    fn patterns_are_names_and_beginnings() {
        for (patterns, model, allowed) in [
            ("gpt-4o", "gpt-4o", true),
            ("gpt-4o", "gpt-4o-mini", false),
            ("gpt-4o", "GPT-4o", false),
            ("gpt-4o*", "gpt-4o", true),
            ("gpt-4o*", "gpt-4o-mini", true),
            ("gpt-4o*", "gpt-4", false),
            ("gpt-4o*", "x/gpt-4o", false),
            ("claude-*, gpt-5", "claude-haiku-4-5", true),
            ("claude-*, gpt-5", "gpt-5", true),
            ("claude-*, gpt-5", "gpt-5-mini", false),
            ("*", "anything/at:all", true),
            ("gpt-4o", "gpt-4o ", false),
        ] {
            assert_eq!(models(patterns).allows(model), allowed, "{patterns}: {model}");
        }
        assert_eq!(models(" claude-* ,gpt-5,*").to_string(), "claude-*,gpt-5,*");
    }

    #[test]
    fn bad_patterns_are_named() {
        let long = "m".repeat(MODEL_BYTES_MAX + 1);
        for (text, pattern, why) in [
            ("", "", "a pattern is the name of a model, or how names begin and *"),
            ("gpt-5,", "", "a pattern is the name of a model, or how names begin and *"),
            ("gpt-5,g*t", "g*t", "* may be its last character alone"),
            ("**", "**", "* may be its last character alone"),
            ("a\nb", "a\nb", "it has control characters"),
            (&long, &long[..MODEL_BYTES_MAX], "it is longer than 200 bytes"),
            (&"a,".repeat(PATTERNS_MAX), "…", "there are too many patterns"),
        ] {
            assert_eq!(text.parse::<Models>(), Err(BadPattern { pattern: pattern.into(), why }));
        }
        let bad = "gpt*5".parse::<Models>().unwrap_err();
        assert_eq!(bad.to_string(), "\"gpt*5\": * may be its last character alone");
    }

    #[test]
    fn lists_have_what_is_allowed_alone() {
        let openai = r#"{"object":"list","data":[{"id":"gpt-4o","object":"model","created":1715367049,"owned_by":"system"},
            {"id":"o3","object":"model"},{"id":"gpt-4o-mini"}],"models":[{"name":"o3"}]}"#;
        let kept = r#"{"object":"list","data":[{"id":"gpt-4o","object":"model","created":1715367049,"owned_by":"system"},{"id":"gpt-4o-mini"}]}"#;
        assert_eq!(models("gpt-4o*").filter_list(openai.as_bytes()).unwrap(), kept);
        let anthropic = r#"{"data":[{"type":"model","id":"claude-opus-4-5","display_name":"Claude Opus 4.5"},{"id":"claude-haiku-4-5"}],"has_more":true,"first_id":"claude-opus-4-5","last_id":"claude-haiku-4-5"}"#;
        let none = r#"{"data":[],"has_more":true,"first_id":"claude-opus-4-5","last_id":"claude-haiku-4-5"}"#;
        assert_eq!(models("gpt-5").filter_list(anthropic.as_bytes()).unwrap(), none);
        assert_eq!(models("*").filter_list(anthropic.as_bytes()).unwrap(), anthropic);
    }

    #[test]
    fn lists_of_other_shapes_are_refused() {
        for body in [
            "",
            "[]",
            "{}",
            r#"{"data":{}}"#,
            r#"{"data":null}"#,
            r#"{"data":["gpt-4o"]}"#,
            r#"{"data":[{"name":"gpt-4o"}]}"#,
            r#"{"data":[{"id":1}]}"#,
            r#"{"data":[{"id":"a","id":"b"}]}"#,
            r#"{"data":[],"data":[]}"#,
        ] {
            assert_eq!(models("*").filter_list(body.as_bytes()), Err(BadList), "{body}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(text in "[a-z0-9./:*-]{1,12}(,[a-z*]{1,4}){0,3}") {
            if let Ok(models) = text.parse::<Models>() {
                prop_assert_eq!(models.to_string(), text);
            }
        }

        #[test]
        fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), text: String) {
            let _ = models("a*").filter_list(&bytes);
            let _ = text.parse::<Models>();
        }
    }
}
