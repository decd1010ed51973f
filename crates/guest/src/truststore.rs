//! Authorities as Java reads them: a key store of the kind JKS (`sun.security.provider.JavaKeyStore` of OpenJDK, which is its
//! only description).
//!
//! Integers are big-endian, texts have a length of 16 bits before them. JKS, as it is what Java 8 takes a trust store for that
//! nobody names a kind of, and what every later one reads, too (`keystore.type.compat` of `java.security`). It protects
//! nothing: the password is the one that everybody has, and the digest that it keys is looked at by those who name it. The
//! same certificates always make the same bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

const MAGIC: u32 = 0xfeed_feed;
const VERSION: u32 = 2;
/// An entry that is a certificate to trust, and no key.
const TRUSTED: u32 = 2;
const KIND: &str = "X.509";
/// What Java's own store of authorities has.
const PASSWORD: &str = "changeit";
const WHITENER: &[u8] = b"Mighty Aphrodite";
/// More than any bundle has.
const CERTIFICATES_MAX: usize = 8192;
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Of certificates in PEM, one behind the other, whatever is between them; what is none is left out, as Java would refuse
/// the whole for it.
pub fn of_pem(text: &str) -> Vec<u8> {
    let all: Vec<Vec<u8>> = certificates(text).take(CERTIFICATES_MAX).collect();
    let mut store = Vec::new();
    for number in [MAGIC, VERSION, all.len() as u32] {
        store.extend(number.to_be_bytes());
    }
    for (index, certificate) in all.iter().enumerate() {
        store.extend(TRUSTED.to_be_bytes());
        put_text(&mut store, &format!("authority-{:04}", index + 1));
        // When it was added, in milliseconds.
        store.extend(0u64.to_be_bytes());
        put_text(&mut store, KIND);
        store.extend((certificate.len() as u32).to_be_bytes());
        store.extend(certificate);
    }
    let mut digest = Sha1::new();
    digest.update(PASSWORD.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>());
    digest.update(WHITENER);
    digest.update(&store);
    store.extend(digest.finalize());
    store
}

/// In DER.
fn certificates(text: &str) -> impl Iterator<Item = Vec<u8>> {
    text.split(BEGIN).skip(1).filter_map(|rest| {
        let body: String = rest.split_once(END)?.0.split_ascii_whitespace().collect();
        STANDARD.decode(body).ok().filter(|der| is_one_sequence(der))
    })
}

/// A certificate is a sequence and nothing behind it (RFC 5280, section 4.1), whose length takes a byte or two (X.690,
/// section 8.1.3).
fn is_one_sequence(der: &[u8]) -> bool {
    match der {
        [0x30, 0x81, length, rest @ ..] => rest.len() == usize::from(*length),
        [0x30, 0x82, high, low, rest @ ..] => rest.len() == usize::from(u16::from_be_bytes([*high, *low])),
        _ => false,
    }
}

fn put_text(store: &mut Vec<u8>, text: &str) {
    store.extend((text.len() as u16).to_be_bytes());
    store.extend(text.as_bytes());
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pem(der: &[u8]) -> String {
        format!("# A name\n{BEGIN}\n{}\n{END}\n", STANDARD.encode(der))
    }

    fn der(bytes: usize) -> Vec<u8> {
        let mut der = vec![0x30, 0x82];
        der.extend((bytes as u16).to_be_bytes());
        der.resize(4 + bytes, 7);
        der
    }

    #[test]
    fn what_java_reads() {
        let (one, two) = (der(300), der(256));
        let store = of_pem(&format!("{}{}", pem(&one), pem(&two)));
        assert_eq!(store[..12], [0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0, 2]);
        assert_eq!(store[12..18], [0, 0, 0, 2, 0, 14]);
        assert_eq!(&store[18..32], b"authority-0001");
        assert_eq!(store[32..40], [0; 8]);
        assert_eq!(&store[40..47], b"\0\x05X.509");
        assert_eq!(store[47..51], [0, 0, 1, 48]);
        assert_eq!(store[51..51 + one.len()], one);
        assert_eq!(store[store.len() - 20 - two.len()..store.len() - 20], two);
    }

    /// By what `KeyStore.getInstance("JKS")` of OpenJDK 17 stores with that password when nothing is in it.
    #[test]
    fn it_is_signed_as_java_signs() {
        let empty = of_pem("");
        let digest: String = empty[12..].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, "e2686e45fb43dfa4d992dd41ceb6b21c6330d792");
    }

    #[test]
    fn what_is_no_certificate_is_left_out() {
        let other = pem(&der(300)).replace("CERTIFICATE", "TRUSTED CERTIFICATE");
        let longer = [der(300), vec![0]].concat();
        let text = format!("{other}{}{}{BEGIN}\n!!\n{END}\n{BEGIN}\nMII", pem(&longer), pem(&[]));
        assert_eq!(of_pem(&text), of_pem(""));
        assert_ne!(of_pem(&format!("{text}\n{}", pem(&der(300)))), of_pem(""));
    }
}
