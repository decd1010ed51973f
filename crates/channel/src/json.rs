//! JSON in headers and bodies, and percent-encoding in queries; all bounded.

use crate::HEADER_JSON_BYTES_MAX;
use crate::budget::{ANSWER_FREE_BYTES, Budget};
use crate::error::{ChannelError, Result};
use crate::stream::Inlet;
use http::HeaderValue;
use rexec_api::error::ErrorCode;
use rexec_api::guest::GuestError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Write;

/// JSON as a header value: whatever is not printable ASCII is escaped. It may hold secrets, so it
/// is marked as not to be indexed.
pub(crate) fn header<T: Serialize>(value: &T) -> Result<HeaderValue> {
    let text = serde_json::to_string(value).map_err(|e| ChannelError::protocol(e.to_string()))?;
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if (' '..='~').contains(&c) {
            escaped.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a string does not fail.
            let _ = write!(escaped, "\\u{unit:04x}");
        }
    }
    if escaped.len() > HEADER_JSON_BYTES_MAX {
        return Err(ChannelError::Guest(GuestError {
            code: ErrorCode::InvalidRequest,
            message: "The command with its environment is too long; pass long input on standard \
                      input or in a file."
                .into(),
            number: None,
        }));
    }
    let mut value =
        HeaderValue::try_from(escaped).map_err(|_| ChannelError::protocol("a value that no header can carry"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What the whole body says, of `bytes_max` at most and of what the budget has left.
pub(crate) async fn read<T: DeserializeOwned>(inlet: &mut Inlet, bytes_max: usize, budget: &Budget) -> Result<T> {
    let mut body = Vec::new();
    let mut share = budget.take(0)?;
    while let Some(bytes) = inlet.chunk().await? {
        let length = body.len() + bytes.len();
        if length > bytes_max {
            return Err(ChannelError::protocol(format!("a body is over the limit of {bytes_max} bytes")));
        }
        if length > ANSWER_FREE_BYTES {
            share.grow(bytes.len())?;
        }
        body.extend_from_slice(&bytes);
    }
    parse(&body)
}

pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| ChannelError::protocol(format!("an answer is not as agreed: {e}")))
}

/// Percent-encodes all but what RFC 3986 calls unreserved, and `/`.
pub(crate) fn encode(text: impl AsRef<[u8]>) -> String {
    let text = text.as_ref();
    let mut encoded = String::with_capacity(text.len());
    for &byte in text {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(byte as char);
            }
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

/// Undoes [`encode`]; `None` when a `%` is not followed by two hexadecimal digits. A `+` is a plus.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = (bytes.next()? as char).to_digit(16)?;
            let low = (bytes.next()? as char).to_digit(16)?;
            decoded.push((high * 16 + low) as u8);
        } else {
            decoded.push(byte);
        }
    }
    Some(decoded)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn queries_round_trip() {
        for text in ["", "/a b+c%&=?#", "/ä/日本/🦀", "\0\n\u{7f}"] {
            assert_eq!(decode(&encode(text)).as_deref(), Some(text.as_bytes()));
        }
        assert_eq!(decode("%4"), None);
        assert_eq!(decode("%zz"), None);
        assert_eq!(decode(&encode([0xff])).as_deref(), Some([0xff].as_slice()));
    }

    #[test]
    fn headers_are_ascii_and_mean_the_same() {
        let value = vec!["ä", "🦀", "\u{7f}\n\"\\", "plain"];
        let header = header(&value).unwrap();
        assert!(header.as_bytes().iter().all(|b| (b' '..=b'~').contains(b)));
        let again: Vec<String> = serde_json::from_slice(header.as_bytes()).unwrap();
        assert_eq!(again, value);
    }

    #[test]
    fn a_header_has_a_limit() {
        let long = "x".repeat(HEADER_JSON_BYTES_MAX);
        assert!(matches!(header(&long), Err(ChannelError::Guest(_))));
    }
}
