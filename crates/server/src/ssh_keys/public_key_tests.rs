//! Keys that OpenSSH 9.2 has made, their fingerprints as it tells them, and what people paste instead.
#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILqyq1lTvh/D/i6ICk/71LfK4kuzaKlNfGjoscH3BfLJ ann@host";
const P256: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBKN+V/HB9m3c8JjXpESMUV1xWeCODWHZ77YGFdufBHtscRZD0kEyL8m1NoKou5giIWgYccd8pu1tC7+1WcHSnSM= ann@host";
const P384: &str = "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBDHn1M41J4ezQbF+Fxg/fon6z89Zg9ZMmsXe01RslUcJf37cyK2ZJCMmLF3VCvR0/bHAcKYlTk/SmlySuuKIfzMP1lJ2PwVnlAP5ABDj+h03ruJ39onfAHjExjZOfhN/hQ== ann@host";
const P521: &str = "ecdsa-sha2-nistp521 AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBAHxoJzl/HJhCu0uzli2UbqG+kDDyCzPTkZJ2XWODLsZKdA7/OAMGsWoQrTDoxpRMQxbDKl46B38Kb6jcWNPIuUUdgAMHONoaWNJYq+CzwXCB6hQ8WFrAGwi0tiuoyUkaFmQ6ttmgCjqVNjF7X77nh6e0qzsAl5+y25FM/KFqCHDpUY6sA== ann@host";
const RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDVA2Y8jywMOc4Np2soyZFuO0KQ8Di9juUNLW6f5Z/lWrLsY+YBcXh9NCizFjRmmE9vQ7c0FoujZfJ4i+tWVfa7yupvUznNEpC+2/gYsVEJtFDtQZ6ivPHe5sbGLrmVgGw1erKtrdATw7zTabq1Mf3TYc8np65ITL9NwQtQT/V/Pn0CrIFH18dCyTA3ijlo/3PuWXoh52iok1aUs6nZUtPNcz1c2JSebPXC3LpZbjd7u3PD6CllL2fl5bnPvXK8taPbJfT0qTS94Aipfq0fvnXD0oIPjnoTTXWX/HbDDc1SPe3VBajMtTb1OFnBV5kfah+DjDr+r5FyasTa88vEyDSj ann@host";
const RSA_1024: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDdMerAxzNye0iTFSkZC3Z/NyVojnPZ/dj2Y4ay6Da5ANb9ax5SbczQyd6W2S/pI95DMUxJ26yl4xz3cMU+CuOyeS5iVPqiD1LXYA/ZR2Bzoj+i+ijmzbbO3za6gUCyY/olkqeXQnLyyV18BCKYcBY/orfeTmVC/3Yun4iHyRsDWw== ann@host";

fn field(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

fn line(kind: &str, fields: &[&[u8]]) -> String {
    let blob: Vec<u8> = std::iter::once(kind.as_bytes()).chain(fields.iter().copied()).flat_map(field).collect();
    format!("{kind} {}", STANDARD.encode(blob))
}

/// A modulus of so many bits, odd and with its highest bit set.
fn modulus(bits: usize) -> Vec<u8> {
    let mut number = vec![0xff; bits.div_ceil(8)];
    number[0] = 0xff >> (number.len() * 8 - bits);
    if number[0] & 0x80 != 0 { [vec![0], number].concat() } else { number }
}

#[test]
fn keys_have_the_fingerprints_that_openssh_tells() {
    for (text, fingerprint) in [
        (ED25519, "SHA256:406rOXwi5dujtq+7oOuqkT4u2q71K6DMlWSFTb03d1E"),
        (P256, "SHA256:e96mb4K4gv/75Y8ugeEhQemE5ax3rQQ4JrEWbkGI/uY"),
        (P384, "SHA256:K6wl8zEyEnA38abcfV3TBZPazy74YvgYaxnkvJ016p8"),
        (P521, "SHA256:WtCp3kjsno5eDBQIBHI02lzQOPKgN7F29jZ84pO0GMg"),
        (RSA, "SHA256:G/MUjPrVa00Sim/2yDrS0U+ZwCdMyLguOOJEnQHWN6w"),
    ] {
        let key = PublicKey::parse(text).unwrap();
        assert_eq!((key.fingerprint().as_str(), key.comment.as_str()), (fingerprint, "ann@host"));
        assert_eq!(key.line(), text.trim_end_matches(" ann@host"));
        // Around it, blanks and the end of its line are nothing.
        assert_eq!(PublicKey::parse(&format!("\u{feff}  {text}\r\n")), Ok(key));
    }
}

#[test]
fn security_keys_are_taken() {
    let ed25519 = line("sk-ssh-ed25519@openssh.com", &[&[7; 32], b"ssh:"]);
    let ecdsa = line("sk-ecdsa-sha2-nistp256@openssh.com", &[b"nistp256", &[4; 65], b"ssh:work"]);
    for text in [&ed25519, &ecdsa] {
        assert!(PublicKey::parse(text).is_ok(), "{text}");
    }
    for text in [
        line("sk-ssh-ed25519@openssh.com", &[&[7; 32]]),
        line("sk-ssh-ed25519@openssh.com", &[&[7; 32], b""]),
        line("sk-ecdsa-sha2-nistp256@openssh.com", &[b"nistp384", &[4; 65], b"ssh:"]),
    ] {
        assert_eq!(PublicKey::parse(&text), Err(KeyFault::Damaged), "{text}");
    }
}

#[test]
fn what_is_pasted_instead_is_named() {
    let private = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk=\n-----END OPENSSH PRIVATE KEY-----\n";
    let putty = "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n";
    let ssh2 = "---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n---- END SSH2 PUBLIC KEY ----";
    let certificate = "ssh-ed25519-cert-v01@openssh.com AAAA ann";
    let options = format!("command=\"echo hi\",no-pty {ED25519}");
    let two = format!("{ED25519}\n{P256}\n");
    let long = format!("ssh-rsa {}", "A".repeat(LINE_BYTES_MAX));
    let swapped = ED25519.replacen("ssh-ed25519", "ssh-rsa", 1);
    let found = "ssh-ed25519".to_owned();
    let cases = [
        ("", KeyFault::Empty),
        (" \n", KeyFault::Empty),
        (private, KeyFault::Private),
        (putty, KeyFault::Private),
        (ssh2, KeyFault::OtherFormat),
        ("-----BEGIN PUBLIC KEY-----\nAAAA", KeyFault::OtherFormat),
        (&two, KeyFault::SeveralLines),
        (&long, KeyFault::TooLong),
        (&options, KeyFault::Options("ssh-ed25519")),
        (certificate, KeyFault::Certificate),
        ("ssh-dss AAAA ann", KeyFault::Dsa),
        ("AAAAC3NzaC1lZDI1NTE5", KeyFault::UnknownType("AAAAC3NzaC1lZDI1NTE5".into())),
        ("ssh-ed25519", KeyFault::NoBody),
        ("ssh-ed25519 AAAA*AAA ann", KeyFault::Base64),
        (&swapped, KeyFault::TypesDiffer { said: "ssh-rsa", found }),
        (RSA_1024, KeyFault::RsaTooSmall(1024)),
    ];
    for (text, fault) in cases {
        assert_eq!(PublicKey::parse(text), Err(fault), "{text}");
    }
}

#[test]
fn rsa_keys_are_bounded_and_of_one_form() {
    let rsa = |exponent: &[u8], modulus: &[u8]| PublicKey::parse(&line("ssh-rsa", &[exponent, modulus])).map(|_| ());
    let exponent: &[u8] = &[1, 0, 1];
    assert_eq!(rsa(exponent, &modulus(2047)), Err(KeyFault::RsaTooSmall(2047)));
    assert_eq!(rsa(exponent, &modulus(2048)), Ok(()));
    assert_eq!(rsa(exponent, &modulus(2049)), Ok(()));
    assert_eq!(rsa(exponent, &modulus(16_384)), Ok(()));
    assert_eq!(rsa(exponent, &modulus(16_385)), Err(KeyFault::RsaTooLarge(16_385)));
    let even = [modulus(2048), vec![0xfe]].concat();
    let padded = [vec![0, 0x7f], vec![0xff; 256]].concat();
    let negative = vec![0xff; 256];
    for number in [&even[..], &padded, &negative, &[], &[0]] {
        assert_eq!(rsa(exponent, number), Err(KeyFault::Damaged), "{number:?}");
    }
    for number in [&[1][..], &[2], &[0, 3], &[]] {
        assert_eq!(rsa(number, &modulus(2048)), Err(KeyFault::Damaged), "{number:?}");
    }
}

proptest! {
    #[test]
    fn a_key_that_is_taken_reads_back_the_same(bytes: [u8; 32], comment in "[ -~]{0,40}") {
        let text = format!("{} {comment}", line("ssh-ed25519", &[&bytes]));
        let key = PublicKey::parse(&text).unwrap();
        prop_assert_eq!(PublicKey::parse(&format!("{} {}", key.line(), key.comment)), Ok(key.clone()));
        prop_assert!(!key.line().contains('\n'));
    }

    #[test]
    fn no_cut_and_no_addition_passes(cut in 0usize..400, more in prop::collection::vec(any::<u8>(), 1..9)) {
        for text in [ED25519, P256, P384, P521, RSA] {
            let key = PublicKey::parse(text).unwrap();
            let longer = [&key.blob[..], &more].concat();
            let shorter = &key.blob[..cut % key.blob.len()];
            for blob in [&longer[..], shorter] {
                prop_assert!(PublicKey::parse(&line_of(key.kind, &STANDARD.encode(blob))).is_err());
            }
        }
    }

    #[test]
    fn whatever_comes_is_judged(text: String, kind in 0usize..7, blob in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = PublicKey::parse(&text);
        let (kind, ..) = TYPES[kind];
        let _ = PublicKey::parse(&line_of(kind, &STANDARD.encode(&blob)));
        let prefixed = [field(kind.as_bytes()), blob].concat();
        if let Ok(key) = PublicKey::parse(&line_of(kind, &STANDARD.encode(prefixed))) {
            prop_assert_eq!(PublicKey::parse(&key.line()), Ok(key));
        }
    }
}
