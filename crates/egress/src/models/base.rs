//! Where a vendor's API is: `https://api.openai.com/v1`, as operators write it.

use crate::host::{Host, authority};
use std::fmt;
use std::str::FromStr;

const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// Paths of calls are put behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    pub tls: bool,
    pub host: Host,
    pub port: u16,
    /// Empty, or with a slash in front and none behind.
    pub path: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadBase(String);

impl FromStr for Base {
    type Err = BadBase;

    fn from_str(text: &str) -> Result<Self, BadBase> {
        let bad = |why: &str| BadBase(why.to_owned());
        let (tls, rest) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return Err(bad("it must begin with https:// or http://")),
        };
        let (place, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/%:@+".contains(&byte);
        if place.contains('@') {
            return Err(bad("a name and a password have no place in it"));
        }
        if !path.bytes().all(plain) {
            return Err(bad("its path may have neither a query nor a fragment, nor spaces"));
        }
        let usual = if tls { HTTPS_PORT } else { HTTP_PORT };
        let (host, port) = authority(place, Some(usual)).map_err(|error| BadBase(error.to_string()))?;
        Ok(Self { tls, host, port, path: path.trim_end_matches('/').to_owned() })
    }
}

impl Base {
    /// As in a `Host` header.
    pub fn place(&self) -> String {
        let usual = if self.tls { HTTPS_PORT } else { HTTP_PORT };
        if self.port == usual { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }
}

impl fmt::Display for Base {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}://{}{}", if self.tls { "https" } else { "http" }, self.place(), self.path)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bases_are_read_as_they_are_meant() {
        for (text, tls, port, path, printed) in [
            ("https://api.openai.com/v1", true, 443, "/v1", "https://api.openai.com/v1"),
            ("https://openrouter.ai/api/v1/", true, 443, "/api/v1", "https://openrouter.ai/api/v1"),
            ("http://127.0.0.1:11434/v1", false, 11434, "/v1", "http://127.0.0.1:11434/v1"),
            ("http://[fd00::1]:80", false, 80, "", "http://[fd00::1]"),
            ("https://llm.example:443/", true, 443, "", "https://llm.example"),
        ] {
            let base: Base = text.parse().unwrap();
            assert_eq!((base.tls, base.port, base.path.as_str()), (tls, port, path), "{text}");
            assert_eq!(base.to_string(), printed);
            assert_eq!(printed.parse::<Base>().unwrap(), base);
        }
        for bad in [
            "",
            "api.openai.com/v1",
            "ftp://a.example",
            "https://",
            "https://u:p@a.example/v1",
            "https://a.example/v1?key=1",
            "https://a.example/v1#x",
            "https://a.example/v 1",
            "https://a.example:0/v1",
            "https://a.example\r\n/v1",
        ] {
            assert!(bad.parse::<Base>().is_err(), "{bad}");
        }
    }
}
