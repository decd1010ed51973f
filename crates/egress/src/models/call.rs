//! Which call of which API a request is. Only these paths are known, and only as they are written here: what a vendor
//! could read as another path is refused.

use super::is_name;
use http::{HeaderMap, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::borrow::Cow;

/// Told by every client of Anthropic, and by none of OpenAI; the two list models at the same path.
const ANTHROPIC_VERSION: &str = "anthropic-version";
/// What stays as it is in a path (RFC 3986, 3.3); slashes part a vendor's name from a model's.
const IN_PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':').remove(b'@').remove(b'/');

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    OpenAi,
    Anthropic,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    ChatCompletions,
    Completions,
    Responses,
    Embeddings,
    Messages,
    CountTokens,
    ListModels(Api),
    /// By the model's name, decoded.
    GetModel(Api, String),
}

/// Why a request is none of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCall {
    #[error(
        "This path is not offered; there are /v1/chat/completions, /v1/completions, /v1/responses, /v1/embeddings, \
         /v1/messages, /v1/messages/count_tokens and /v1/models."
    )]
    Path,
    #[error("Ask for this path by {allowed}.")]
    Method { allowed: Method },
}

impl NoCall {
    /// Stable, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Path => "model_no_such_path",
            Self::Method { .. } => "model_bad_method",
        }
    }
}

impl Call {
    /// What a query says decides nothing.
    pub fn of(method: &Method, path: &str, headers: &HeaderMap) -> Result<Self, NoCall> {
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let api = if headers.contains_key(ANTHROPIC_VERSION) { Api::Anthropic } else { Api::OpenAi };
        let call = match path.strip_prefix("/v1/").ok_or(NoCall::Path)? {
            "chat/completions" => Self::ChatCompletions,
            "completions" => Self::Completions,
            "responses" => Self::Responses,
            "embeddings" => Self::Embeddings,
            "messages" => Self::Messages,
            "messages/count_tokens" => Self::CountTokens,
            "models" => Self::ListModels(api),
            other => Self::GetModel(api, other.strip_prefix("models/").and_then(model).ok_or(NoCall::Path)?),
        };
        match call.method() {
            allowed if allowed == *method => Ok(call),
            allowed => Err(NoCall::Method { allowed }),
        }
    }

    fn method(&self) -> Method {
        match self {
            Self::ListModels(_) | Self::GetModel(..) => Method::GET,
            _ => Method::POST,
        }
    }

    pub fn api(&self) -> Api {
        match self {
            Self::ChatCompletions | Self::Completions | Self::Responses | Self::Embeddings => Api::OpenAi,
            Self::Messages | Self::CountTokens => Api::Anthropic,
            Self::ListModels(api) | Self::GetModel(api, _) => *api,
        }
    }

    /// Whether it costs tokens.
    pub fn is_metered(&self) -> bool {
        !matches!(self, Self::CountTokens | Self::ListModels(_) | Self::GetModel(..))
    }

    /// What follows the address of a vendor's API, which ends in `/v1` and has no slash after it.
    pub fn path(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::ChatCompletions => "chat/completions",
            Self::Completions => "completions",
            Self::Responses => "responses",
            Self::Embeddings => "embeddings",
            Self::Messages => "messages",
            Self::CountTokens => "messages/count_tokens",
            Self::ListModels(_) => "models",
            Self::GetModel(_, model) => return format!("models/{}", utf8_percent_encode(model, IN_PATH)).into(),
        })
    }
}

/// A model's name in a path. Whoever resolves dots, or leaves out slashes that follow slashes, would ask for another.
fn model(encoded: &str) -> Option<String> {
    let model = percent_decode_str(encoded).decode_utf8().ok()?;
    let is_plain = is_name(&model) && !model.split('/').any(|part| matches!(part, "" | "." | ".."));
    is_plain.then(|| model.into_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn of(method: &Method, path: &str) -> Result<Call, NoCall> {
        Call::of(method, path, &HeaderMap::new())
    }

    fn anthropic() -> HeaderMap {
        [(http::HeaderName::from_static(ANTHROPIC_VERSION), HeaderValue::from_static("2023-06-01"))]
            .into_iter()
            .collect()
    }

    #[test]
    fn every_call_has_its_path() {
        for (path, call, api, is_metered) in [
            ("chat/completions", Call::ChatCompletions, Api::OpenAi, true),
            ("completions", Call::Completions, Api::OpenAi, true),
            ("responses", Call::Responses, Api::OpenAi, true),
            ("embeddings", Call::Embeddings, Api::OpenAi, true),
            ("messages", Call::Messages, Api::Anthropic, true),
            ("messages/count_tokens", Call::CountTokens, Api::Anthropic, false),
        ] {
            assert_eq!(of(&Method::POST, &format!("/v1/{path}")), Ok(call.clone()));
            assert_eq!(of(&Method::POST, &format!("/v1/{path}?beta=true&model=%2e%2e/x")), Ok(call.clone()));
            for method in
                [Method::GET, Method::HEAD, Method::OPTIONS, Method::DELETE, Method::from_bytes(b"post").unwrap()]
            {
                assert_eq!(of(&method, &format!("/v1/{path}")), Err(NoCall::Method { allowed: Method::POST }));
            }
            assert_eq!((call.api(), call.is_metered(), call.path()), (api, is_metered, path.into()));
        }
    }

    #[test]
    fn models_are_listed_in_the_api_of_who_asks() {
        assert_eq!(of(&Method::GET, "/v1/models"), Ok(Call::ListModels(Api::OpenAi)));
        assert_eq!(of(&Method::GET, "/v1/models?limit=1000"), Ok(Call::ListModels(Api::OpenAi)));
        assert_eq!(Call::of(&Method::GET, "/v1/models", &anthropic()), Ok(Call::ListModels(Api::Anthropic)));
        let one = Call::GetModel(Api::Anthropic, "claude-sonnet-4-5".into());
        assert_eq!(Call::of(&Method::GET, "/v1/models/claude-sonnet-4-5", &anthropic()), Ok(one));
        assert_eq!(
            Call::of(&Method::POST, "/v1/messages", &HeaderMap::new()).map(|call| call.api()),
            Ok(Api::Anthropic)
        );
        assert_eq!(of(&Method::DELETE, "/v1/models/ft:gpt-4o"), Err(NoCall::Method { allowed: Method::GET }));
        for (path, model, sent) in [
            ("gpt-4o-mini", "gpt-4o-mini", "gpt-4o-mini"),
            ("ft:gpt-4o:org::id", "ft:gpt-4o:org::id", "ft:gpt-4o:org::id"),
            ("meta-llama/Llama-3.3", "meta-llama/Llama-3.3", "meta-llama/Llama-3.3"),
            ("meta-llama%2FLlama-3.3", "meta-llama/Llama-3.3", "meta-llama/Llama-3.3"),
            ("a%3Fb%23c%5Cd", "a?b#c\\d", "a%3Fb%23c%5Cd"),
            ("%252e%252e", "%2e%2e", "%252e%252e"),
            ("%zz", "%zz", "%25zz"),
            ("gr%C3%BCn", "grün", "gr%C3%BCn"),
        ] {
            let call = of(&Method::GET, &format!("/v1/models/{path}")).unwrap();
            assert_eq!(call, Call::GetModel(Api::OpenAi, model.into()));
            assert_eq!(call.path(), format!("models/{sent}"));
        }
    }

    #[test]
    fn no_other_path_is_any() {
        let long = format!("/v1/models/{}", "m".repeat(201));
        for path in [
            "",
            "/",
            "/v1",
            "/v1/",
            "v1/messages",
            "//v1/messages",
            "/v1//messages",
            "/v1/messages/",
            "/v1/messages/batches",
            "/V1/messages",
            "/v1/Messages",
            "/v1/%6dessages",
            "/v1%2Fmessages",
            "/v1/models/../files",
            "/v1/./messages",
            "/v1/x/../messages",
            "/v1/messages;a=b",
            "/v1/messages#x",
            "/v1/messages%00",
            "/v2/messages",
            "/v1/responses/resp_123",
            "/v1/files",
            "/v1/models/",
            "/v1/models/..",
            "/v1/models/%2e%2e",
            "/v1/models/%2e%2e%2ffiles",
            "/v1/models/a/../b",
            "/v1/models/a//b",
            "/v1/models/a/",
            "/v1/models/a/.",
            "/v1/models/%00",
            "/v1/models/a%0d%0ab",
            "/v1/models/%ff",
            &long,
        ] {
            assert_eq!(of(&Method::POST, path), Err(NoCall::Path), "{path}");
            assert_eq!(of(&Method::GET, path), Err(NoCall::Path), "{path}");
        }
    }

    proptest! {
        #[test]
        fn what_is_sent_is_what_was_judged(path in "/v1/(models/)?[ -~é]{0,30}") {
            for method in [Method::GET, Method::POST] {
                if let Ok(call) = of(&method, &path) {
                    prop_assert_eq!(of(&method, &format!("/v1/{}", call.path())), Ok(call));
                }
            }
        }
    }
}
