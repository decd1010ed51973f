//! Lists of models as vendors tell them, without those that are not allowed.

use super::allow::Models;
use super::fields::{BadFields, Fields};
use bytes::Bytes;
use serde_json::value::RawValue;

/// What is told of a list: fields that could name a model besides `data` are left out.
const LIST_FIELDS: [&str; 5] = ["object", "data", "has_more", "first_id", "last_id"];

/// A vendor's list of models that is in no known shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the vendor's list of models has an unknown shape")]
pub struct BadList;

impl From<BadFields> for BadList {
    fn from(_: BadFields) -> Self {
        Self
    }
}

/// Of the answer to [`super::Call::ListModels`], what is about models that are allowed; whoever calls bounds its length.
///
/// Where a page of Anthropic's ends (`last_id`) stays as it was, also if that model is not allowed: it is where the
/// next page begins, and there may be no other on this one.
pub fn filter(models: &Models, body: &[u8]) -> Result<Bytes, BadList> {
    let mut list = Fields::read(body)?;
    let data = list.get("data").ok_or(BadList)?.get().to_owned();
    let all: Vec<&RawValue> = serde_json::from_str(&data).map_err(|_| BadList)?;
    let mut allowed = Vec::new();
    for model in all {
        let id: Option<String> = Fields::read(model.get().as_bytes())?.read_as("id").map_err(|()| BadList)?;
        if models.allows(&id.ok_or(BadList)?) {
            allowed.push(model);
        }
    }
    list.set("data", &allowed)?;
    list.retain(&LIST_FIELDS);
    Ok(list.write()?)
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
    fn lists_have_what_is_allowed_alone() {
        let openai = r#"{"object":"list","data":[{"id":"gpt-4o","object":"model","created":1715367049,"owned_by":"system"},
            {"id":"o3","object":"model"},{"id":"gpt-4o-mini"}],"models":[{"name":"o3"}]}"#;
        let kept = r#"{"object":"list","data":[{"id":"gpt-4o","object":"model","created":1715367049,"owned_by":"system"},{"id":"gpt-4o-mini"}]}"#;
        assert_eq!(filter(&models("gpt-4o*"), openai.as_bytes()).unwrap(), kept);
        let anthropic = r#"{"data":[{"type":"model","id":"claude-opus-4-5","display_name":"Claude Opus 4.5"},{"id":"claude-haiku-4-5"}],"has_more":true,"first_id":"claude-opus-4-5","last_id":"claude-haiku-4-5"}"#;
        let none = r#"{"data":[],"has_more":true,"first_id":"claude-opus-4-5","last_id":"claude-haiku-4-5"}"#;
        assert_eq!(filter(&models("gpt-5"), anthropic.as_bytes()).unwrap(), none);
        assert_eq!(filter(&models("*"), anthropic.as_bytes()).unwrap(), anthropic);
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
            assert_eq!(filter(&models("*"), body.as_bytes()), Err(BadList), "{body}");
        }
    }

    proptest! {
        #[test]
        fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = filter(&models("a*"), &bytes);
        }
    }
}
