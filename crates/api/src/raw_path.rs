//! Paths that are not UTF-8, as text: base64 of their bytes (RFC 4648, section 5), so that JSON and an
//! address can carry them. Written without padding and read with or without, in either alphabet.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The bytes as text.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, &byte| (bits << 8) | u32::from(byte)) << (8 * (3 - group.len()));
        for at in 0..=group.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * at) & 63) as usize]));
        }
    }
    text
}

/// The bytes that the text stands for; `None` when it is not base64.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for &digit in group {
            let digit = match digit {
                b'+' => b'-',
                b'/' => b'_',
                digit => digit,
            };
            bits = (bits << 6) | DIGITS.iter().position(|&known| known == digit)? as u32;
        }
        let whole = match group.len() {
            1 => return None,
            digits => digits - 1,
        };
        bits <<= 6 * (4 - group.len());
        bytes.extend_from_slice(&bits.to_be_bytes()[1..=whole]);
    }
    Some(bytes)
}

/// What a description says beside a path: nothing when the path is UTF-8.
pub fn beside(path: &[u8]) -> Option<String> {
    std::str::from_utf8(path).is_err().then(|| encode(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_survive() {
        for bytes in [b"".as_slice(), b"a", b"ab", b"/caf\xe9", b"/\xff\xfe\xfd\xfb\xef\xbf"] {
            assert_eq!(decode(&encode(bytes)).as_deref(), Some(bytes));
        }
        assert_eq!(encode(b"/caf\xe9"), "L2NhZuk");
        assert_eq!(decode("L2NhZuk=").as_deref(), Some(b"/caf\xe9".as_slice()));
        assert_eq!(decode("+/8="), decode("-_8"));
        for wrong in ["L", "L2N\u{e9}", "L2 N", "a=b"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
        assert_eq!(beside(b"/ok"), None);
    }
}
