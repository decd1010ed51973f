//! E-mail addresses: one spelling for each, and the shape that an address must have.
//!
//! The spelling is Unicode's NFKC (Standard Annex 15) in lower case, so that full-width letters, ligatures and
//! accents written apart are no second address that looks like the first. Beyond ASCII only letters, digits and their
//! marks are taken: what has no shape (zero-width and other format characters, selectors, fillers) is refused, and
//! symbols with it, because a list of what may be is shorter than one of what may not. `unicode-normalization` does
//! the mapping: it is kept by the Unicode group of Rust and is compiled into the PostgreSQL driver anyhow.
//!
//! **Not caught:** letters of different scripts that look alike (Latin and Cyrillic `a`).

use crate::error::{Error, Result};
use rexec_api::accounts::EMAIL_BYTES_MAX;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Most bytes before the `@` (RFC 5321, section 4.5.3.1.1).
const LOCAL_BYTES_MAX: usize = 64;

/// The one spelling under which an address is kept and looked up.
pub fn normalise(email: &str) -> String {
    // Mapped again at the end: a letter in lower case may be written apart.
    let composed: String = email.trim().nfkc().collect();
    composed.to_lowercase().nfkc().collect()
}

/// The normal spelling of an address that could exist. Whether it does, only a message can tell.
pub fn parse(email: &str) -> Result<String> {
    let email = normalise(email);
    if email.len() > EMAIL_BYTES_MAX {
        return Err(Error::field("email", format!("The e-mail address must have at most {EMAIL_BYTES_MAX} bytes.")));
    }
    let plausible = email.split_once('@').is_some_and(|(local, domain)| {
        !local.is_empty()
            && local.len() <= LOCAL_BYTES_MAX
            && domain.split('.').all(is_label)
            && local.chars().all(|c| if c.is_ascii() { c.is_ascii_graphic() } else { has_shape(c) })
    });
    if !plausible {
        return Err(Error::field("email", "This is not an e-mail address; it looks like name@example.com."));
    }
    Ok(email)
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.chars().all(|c| if c.is_ascii() { c.is_ascii_alphanumeric() || c == '-' } else { has_shape(c) })
}

/// Letters, digits and marks that can be seen: all but those of Unicode's `Default_Ignorable_Code_Point`.
fn has_shape(c: char) -> bool {
    let ignorable = matches!(c,
        '\u{34f}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}');
    (c.is_alphanumeric() || is_combining_mark(c)) && !ignorable
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_for_each_address() {
        assert_eq!(parse(" Ann@Example.COM ").unwrap(), "ann@example.com");
        assert_eq!(parse("a+b@x.y").unwrap(), "a+b@x.y");
        assert_eq!(parse("root@localhost").unwrap(), "root@localhost");
    }

    #[test]
    fn what_looks_the_same_is_the_same_or_refused() {
        for same in ["ａｎｎ＠ｅｘａｍｐｌｅ．ｃｏｍ", "𝐚𝐧𝐧@example.com", "ANN@EXAMPLE.com"] {
            assert_eq!(parse(same).unwrap(), "ann@example.com", "{same}");
        }
        assert_eq!(parse("jose\u{301}@example.com").unwrap(), parse("josé@example.com").unwrap());
        assert_eq!(parse("ﬁn@example.com").unwrap(), "fin@example.com");
        for other in ["jürgen@büro.de", "Дмитрий@пример.рф", "用户@例子.公司", "संपर्क@उदाहरण.भारत"]
        {
            let once = parse(other).unwrap();
            assert_eq!(parse(&once).unwrap(), once, "{other}");
        }
        let shapeless = "\u{ad}\u{34f}\u{61c}\u{115f}\u{1160}\u{17b4}\u{180e}\u{200b}\u{200c}\u{200d}\u{200e}\u{202e}\u{2060}\
            \u{2061}\u{206f}\u{2800}\u{3164}\u{fe0f}\u{feff}\u{ffa0}\u{fff9}\u{1d173}\u{e0041}\u{e0100}\u{f0000}";
        for c in shapeless.chars() {
            for text in [format!("an{c}n@example.com"), format!("ann@exa{c}mple.com")] {
                assert!(parse(&text).is_err(), "{text:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_an_address_is_refused() {
        let long = format!("{}@example.com", "x".repeat(65));
        let longer = format!("a@{}.com", "x".repeat(260));
        for text in ["", "@", "a@", "@b", "a b@c.d", "a@b@c", "a@b..c", "a@-b.c", "a\0@b.c", "a@b c", &long, &longer] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
