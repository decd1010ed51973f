//! Which bytes a `Range` field means (RFC 9110, section 14.1.2). Pure.

/// What a field asks for, of a file of a known size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// No range that is understood: the whole file, as the RFC allows.
    Full,
    Part {
        first: u64,
        bytes: u64,
    },
    Unsatisfiable,
}

/// One range of bytes is understood; several are answered by the whole file.
pub(super) fn parse(field: &str, size: u64) -> Wanted {
    match understood(field) {
        None => Wanted::Full,
        Some((None, last)) => suffix(last, size),
        Some((Some(first), _)) if first >= size => Wanted::Unsatisfiable,
        Some((Some(first), last)) => {
            let end = last.map_or(size, |last| last.saturating_add(1).min(size));
            Wanted::Part { first, bytes: end - first }
        }
    }
}

/// The last `bytes` bytes.
fn suffix(bytes: Option<u64>, size: u64) -> Wanted {
    let bytes = bytes.unwrap_or(0).min(size);
    if bytes == 0 { Wanted::Unsatisfiable } else { Wanted::Part { first: size - bytes, bytes } }
}

/// First and last position as they are written; `None` when it is not one valid range of bytes.
fn understood(field: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (unit, set) = field.split_once('=')?;
    let (first, last) = set.trim().split_once('-')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    match (number(first)?, number(last)?) {
        (None, None) => None,
        (Some(first), Some(last)) if first > last => None,
        range => Some(range),
    }
}

/// Digits, or nothing. A number beyond 64 bits is beyond every file.
fn number(text: &str) -> Option<Option<u64>> {
    let text = text.trim();
    if text.is_empty() {
        return Some(None);
    }
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| Some(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_mean_what_the_rfc_says() {
        let part = |first, bytes| Wanted::Part { first, bytes };
        for (field, size, wanted) in [
            ("bytes=0-0", 10, part(0, 1)),
            ("bytes=0-9", 10, part(0, 10)),
            ("bytes=5-", 10, part(5, 5)),
            ("BYTES = 5-99", 10, part(5, 5)),
            ("bytes=-3", 10, part(7, 3)),
            ("bytes=-99", 10, part(0, 10)),
            ("bytes=-0", 10, Wanted::Unsatisfiable),
            ("bytes=10-", 10, Wanted::Unsatisfiable),
            ("bytes=0-", 0, Wanted::Unsatisfiable),
            ("bytes=-1", 0, Wanted::Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, Wanted::Unsatisfiable),
            ("bytes=0-99999999999999999999999", 10, part(0, 10)),
            ("bytes=9-3", 10, Wanted::Full),
            ("bytes=0-1,4-5", 10, Wanted::Full),
            ("bytes=-", 10, Wanted::Full),
            ("bytes=a-b", 10, Wanted::Full),
            ("lines=1-2", 10, Wanted::Full),
            ("bytes", 10, Wanted::Full),
        ] {
            assert_eq!(parse(field, size), wanted, "{field} of {size}");
        }
    }

    proptest! {
        #[test]
        fn a_part_lies_within_the_file(field in "(bytes=)?[-0-9, ]{0,24}", size in any::<u64>()) {
            if let Wanted::Part { first, bytes } = parse(&field, size) {
                prop_assert!(bytes > 0 && first.checked_add(bytes).is_some_and(|end| end <= size));
            }
        }
    }
}
