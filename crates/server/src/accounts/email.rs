//! E-mail addresses: one spelling for each, and the shape that an address must have.

use crate::error::{Error, Result};
use rexec_api::accounts::EMAIL_BYTES_MAX;

/// Most bytes before the `@` (RFC 5321, section 4.5.3.1.1).
const LOCAL_BYTES_MAX: usize = 64;

/// The one spelling under which an address is kept and looked up.
pub fn normalise(email: &str) -> String {
    email.trim().to_lowercase()
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
            && !local.chars().any(|c| c.is_whitespace() || c.is_control())
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
        && label.chars().all(|c| c.is_alphanumeric() || c == '-')
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
    fn what_cannot_be_an_address_is_refused() {
        let long = format!("{}@example.com", "x".repeat(65));
        let longer = format!("a@{}.com", "x".repeat(260));
        for text in ["", "@", "a@", "@b", "a b@c.d", "a@b@c", "a@b..c", "a@-b.c", "a\0@b.c", "a@b c", &long, &longer] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
