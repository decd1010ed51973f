//! Which models may be used: exact names, and what begins in some way (`gpt-4o*`). Names are compared as they are, as
//! vendors do.

use super::{MODEL_BYTES_MAX, is_name};
use std::fmt;
use std::str::FromStr;

/// More than all vendors have models. A list of more is refused.
pub const PATTERNS_MAX: usize = 1000;
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

impl Models {
    pub fn allows(&self, model: &str) -> bool {
        self.0.iter().any(|pattern| match pattern {
            Pattern::Name(name) => name == model,
            Pattern::Prefix(prefix) => model.starts_with(prefix),
        })
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

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(text in "[a-z0-9./:*-]{1,12}(,[a-z*]{1,4}){0,3}") {
            if let Ok(models) = text.parse::<Models>() {
                prop_assert_eq!(models.to_string(), text);
            }
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<Models>();
        }
    }
}
