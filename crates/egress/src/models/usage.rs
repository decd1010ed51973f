//! What an answer costs, read from it as it passes, or estimated when it does not say.
//!
//! ```text
//!                   JSON     events                                                        input holds what is cached
//!   OpenAI          usage    usage (null, or so far, until the last)                       yes
//!   its Responses   usage    response.usage (null until the last)                          yes
//!   Anthropic       usage    message.usage (input), then usage (output, all so far)        no: it is beside
//! ```
//!
//! Sources: the API references of OpenAI ("CompletionUsage", "ResponseUsage") and of Anthropic ("Streaming messages").
//! Invariant: of each number the last that was told counts, and one that cannot be a count of tokens is not told.

use super::call::Call;
use super::events::{Events, Part};
use super::fields::Fields;
use super::scan::{Path, Scanner};

/// More tokens than any answer or question has; a number beyond is a mistake.
pub const TOKENS_MAX: u64 = 1 << 40;
/// About so many bytes of text are a token, in the languages and encodings that there are most of.
const TOKEN_BYTES: u64 = 4;
/// The path at which everything is told.
const WHOLE: usize = 0;
const EVENTS: &str = "text/event-stream";

/// Tokens of one call: at most [`TOKENS_MAX`] of each kind, and of input three times that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// All that was read, whatever it was read from.
    pub input: u64,
    /// Of the input: read from a cache, which costs less.
    pub cached: u64,
    pub output: u64,
    /// The vendor did not tell all of it.
    pub estimated: bool,
}

/// How an API tells usage.
#[derive(Debug)]
struct Words {
    /// In a JSON answer.
    json: &'static [Path],
    /// In an event: what is at the first tells everything, at others the input alone.
    event: &'static [Path],
    input: &'static str,
    cache: Cache,
    output: &'static str,
    /// Of the output, in a JSON answer and in events: the names of fields that have its text.
    texts: [&'static [&'static str]; 2],
}

/// How it tells what of the input was read from a cache.
#[derive(Debug)]
enum Cache {
    /// In the details of the input, which holds it.
    Within(&'static str),
    /// Beside the input, like what was put into a cache.
    Beside,
}

const TOP: &[Path] = &[&["usage"]];
const CHAT_TEXTS: &[&str] = &["content", "reasoning_content", "reasoning", "refusal", "arguments"];

const CHAT: Words = Words {
    json: TOP,
    event: TOP,
    input: "prompt_tokens",
    cache: Cache::Within("prompt_tokens_details"),
    output: "completion_tokens",
    texts: [CHAT_TEXTS, CHAT_TEXTS],
};
const COMPLETIONS: Words = Words { texts: [&["text"], &["text"]], ..CHAT };
const EMBEDDINGS: Words = Words { texts: [&[], &[]], ..CHAT };
const RESPONSES: Words = Words {
    json: TOP,
    event: &[&["response", "usage"]],
    input: "input_tokens",
    cache: Cache::Within("input_tokens_details"),
    output: "output_tokens",
    // Later events say again, whole, what came in deltas.
    texts: [&["text", "arguments", "refusal"], &["delta"]],
};
const MESSAGES: Words = Words {
    json: TOP,
    event: &[&["usage"], &["message", "usage"]],
    input: "input_tokens",
    cache: Cache::Beside,
    output: "output_tokens",
    texts: [&["text", "thinking"], &["text", "thinking", "partial_json"]],
};

/// What the vendor has told so far.
#[derive(Debug, Default)]
struct Told {
    input: Option<u64>,
    cached: Option<u64>,
    /// Put into a cache; told by those alone that tell it beside the input.
    cache_created: Option<u64>,
    output: Option<u64>,
}

/// Of one answer.
#[derive(Debug)]
pub struct Meter {
    words: &'static Words,
    scanner: Scanner,
    /// Of an answer that comes as events.
    events: Option<Events>,
    told: Told,
    /// Of the answer.
    bytes: u64,
}

impl Meter {
    /// `None`: the call costs no tokens. `content_type`: the answer's, `""` when it has none.
    pub fn new(call: &Call, content_type: &str) -> Option<Self> {
        let words = match call {
            Call::ChatCompletions => &CHAT,
            Call::Completions => &COMPLETIONS,
            Call::Embeddings => &EMBEDDINGS,
            Call::Responses => &RESPONSES,
            Call::Messages => &MESSAGES,
            Call::CountTokens | Call::ListModels(_) | Call::GetModel(..) => return None,
        };
        let is_events = content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(EVENTS));
        let scanner = if is_events {
            Scanner::new(words.event, words.texts[1])
        } else {
            Scanner::new(words.json, words.texts[0])
        };
        // Vectors are no tokens.
        let output = (*call == Call::Embeddings).then_some(0);
        let told = Told { output, ..Told::default() };
        Some(Self { words, scanner, events: is_events.then(Events::new), told, bytes: 0 })
    }

    /// The next bytes of the answer, as they were before any compression.
    pub fn take(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        let Self { words, scanner, events, told, .. } = self;
        let mut tell = |path: usize, value: &[u8]| told.hear(words, path, value);
        match events {
            None => scanner.take(bytes, &mut tell),
            Some(events) => events.take(bytes, &mut |part| match part {
                Part::Data(data) => scanner.take(data, &mut tell),
                Part::End => scanner.restart(),
            }),
        }
    }

    /// What the vendor told; `None` until it has told all of it.
    pub fn usage(&self) -> Option<Usage> {
        let (input, cached) = self.input()?;
        Some(Usage { input, cached, output: self.told.output?, estimated: false })
    }

    /// What the vendor told, and of what it did not tell a guess: `asked_bytes` is how long the request's body was.
    ///
    /// The framing of a stream is many times as long as its text, so it is the text that is counted, or the bytes of an
    /// answer that has none.
    pub fn estimate(&self, asked_bytes: u64) -> Usage {
        if let Some(usage) = self.usage() {
            return usage;
        }
        // Some tell 0 as a stream begins, and what it was as it ends.
        let told = self.input().filter(|(input, _)| *input > 0);
        let (input, cached) = told.unwrap_or((tokens(asked_bytes), 0));
        let text_bytes = match self.scanner.text_bytes() {
            0 => self.bytes,
            text_bytes => text_bytes,
        };
        Usage { input, cached, output: self.told.output.unwrap_or(tokens(text_bytes)), estimated: true }
    }

    /// All of it, and what of it was cached.
    fn input(&self) -> Option<(u64, u64)> {
        let Told { input, cached, cache_created, .. } = self.told;
        let (input, cached) = (input?, cached.unwrap_or(0));
        Some(match self.words.cache {
            Cache::Within(_) => (input, cached.min(input)),
            Cache::Beside => (input + cached + cache_created.unwrap_or(0), cached),
        })
    }
}

impl Told {
    fn hear(&mut self, words: &Words, path: usize, usage: &[u8]) {
        let Ok(usage) = Fields::read(usage) else { return };
        let renew = |number: &mut Option<u64>, told: Option<u64>| *number = told.or(*number);
        renew(&mut self.input, count(&usage, words.input));
        match words.cache {
            Cache::Within(details) => {
                let details = usage.get(details).and_then(|details| Fields::read(details.get().as_bytes()).ok());
                renew(&mut self.cached, details.and_then(|details| count(&details, "cached_tokens")));
            }
            Cache::Beside => {
                renew(&mut self.cached, count(&usage, "cache_read_input_tokens"));
                renew(&mut self.cache_created, count(&usage, "cache_creation_input_tokens"));
            }
        }
        if path == WHOLE {
            renew(&mut self.output, count(&usage, words.output));
        }
    }
}

fn count(fields: &Fields<'_>, name: &str) -> Option<u64> {
    fields.read_as(name).ok().flatten().filter(|&tokens| tokens <= TOKENS_MAX)
}

fn tokens(bytes: u64) -> u64 {
    bytes.div_ceil(TOKEN_BYTES).min(TOKENS_MAX)
}

#[cfg(test)]
mod tests;
