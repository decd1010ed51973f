//! The first message of a TLS client, read and not touched: which server it names (RFC 8446, RFC 6066).
//!
//! Records and handshake fragments may be split anywhere; nothing is believed about a length before it was compared.
//! Pure: bytes in, a verdict out; whoever reads brings more while [`Hello::More`] and fewer than [`BYTES_MAX`].
//!
//! Invariants: a verdict other than [`Hello::More`] stays the same whatever follows, so that what was judged is what is
//! passed on. [`BYTES_MAX`] bytes never give `More`. What begins as TLS is never [`Hello::NotTls`] for what comes later in
//! it: a laxer server could read it as TLS all the same.

use std::borrow::Cow;

/// More than any client sends in earnest (post-quantum key shares included).
pub const BYTES_MAX: usize = 16 * 1024;

/// `ContentType.handshake` (RFC 8446, 5.1).
const RECORD_HANDSHAKE: u8 = 22;
/// Of every version of TLS and SSL 3, in records and in the message.
const VERSION_MAJOR: u8 = 3;
/// Type, version, length.
const RECORD_HEADER_BYTES: usize = 5;
/// Of one plaintext record (RFC 8446, 5.1).
const RECORD_BYTES_MAX: usize = 1 << 14;
/// `HandshakeType.client_hello` (RFC 8446, 4).
const CLIENT_HELLO: u8 = 1;
/// Type and a length of three bytes.
const MESSAGE_HEADER_BYTES: usize = 4;

const RANDOM_BYTES: usize = 32;
const SESSION_BYTES_MAX: usize = 32;

/// `server_name` (RFC 6066, 3).
const EXTENSION_SERVER_NAME: u16 = 0;
/// `encrypted_client_hello` (RFC 9849).
const EXTENSION_ENCRYPTED: u16 = 0xfe0d;
/// `NameType.host_name`, the only one there is (RFC 6066, 3).
const NAME_HOST: u8 = 0;

const TOO_LONG: &str = "the ClientHello is too long";
const SHORT: &str = "the ClientHello ends before its fields do";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hello {
    /// Not whole yet.
    More,
    /// A complete ClientHello. `name` as sent; `None` when it names none. `encrypted`: it carries an `encrypted_client_hello`.
    Client { name: Option<String>, encrypted: bool },
    /// The first bytes are no TLS handshake record.
    NotTls,
    /// It is TLS, and broken (or longer than [`BYTES_MAX`]): in words.
    Broken(&'static str),
}

/// What the first bytes of a connection are. Of more than [`BYTES_MAX`] only so many are looked at.
pub fn read(bytes: &[u8]) -> Hello {
    let seen = bytes.get(..BYTES_MAX).unwrap_or(bytes);
    let verdict = match message(seen) {
        Ok(message) => client(&message).unwrap_or_else(Hello::Broken),
        Err(verdict) => verdict,
    };
    match verdict {
        Hello::More if seen.len() == BYTES_MAX => Hello::Broken(TOO_LONG),
        verdict => verdict,
    }
}

/// The body of the first handshake message, put together from its records; copied only when there is more than one.
fn message(mut bytes: &[u8]) -> Result<Cow<'_, [u8]>, Hello> {
    let mut held = Cow::Borrowed(&[][..]);
    loop {
        let foreign = if held.is_empty() {
            Hello::NotTls
        } else {
            Hello::Broken("something else comes between the records of the ClientHello")
        };
        let length = record_length(bytes, foreign)?;
        let after = bytes.get(RECORD_HEADER_BYTES..).unwrap_or_default();
        let (here, rest) = after.split_at_checked(length).unwrap_or((after, &[]));
        let missing = length - here.len();
        if held.is_empty() {
            held = Cow::Borrowed(here);
        } else {
            held.to_mut().extend_from_slice(here);
        }
        if let Some(end) = message_end(&held)? {
            if held.len() + missing > end {
                return Err(Hello::Broken("something follows the ClientHello in its record"));
            }
            if held.len() == end {
                return Ok(without_header(held));
            }
        }
        if missing > 0 {
            return Err(Hello::More);
        }
        bytes = rest;
    }
}

/// How long the record is that begins here; `foreign` when it is no handshake record.
fn record_length(bytes: &[u8], foreign: Hello) -> Result<usize, Hello> {
    let is_other = |at: usize, wanted: u8| bytes.get(at).is_some_and(|&is| is != wanted);
    if is_other(0, RECORD_HANDSHAKE) || is_other(1, VERSION_MAJOR) {
        return Err(foreign);
    }
    let Some(&[_, _, _, high, low]) = bytes.first_chunk::<RECORD_HEADER_BYTES>() else {
        return Err(Hello::More);
    };
    match usize::from(u16::from_be_bytes([high, low])) {
        0 => Err(Hello::Broken("a record is empty")),
        length if length > RECORD_BYTES_MAX => Err(Hello::Broken("a record is longer than TLS allows")),
        length => Ok(length),
    }
}

/// Where the message ends that begins with what is held, its header included; `None` until that is known.
fn message_end(held: &[u8]) -> Result<Option<usize>, Hello> {
    if held.first().is_some_and(|&kind| kind != CLIENT_HELLO) {
        return Err(Hello::Broken("the first handshake message is no ClientHello"));
    }
    let Some(&[_, high, middle, low]) = held.first_chunk::<MESSAGE_HEADER_BYTES>() else {
        return Ok(None);
    };
    let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
    if length > BYTES_MAX - RECORD_HEADER_BYTES - MESSAGE_HEADER_BYTES {
        return Err(Hello::Broken(TOO_LONG));
    }
    Ok(Some(MESSAGE_HEADER_BYTES + length))
}

fn without_header(held: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    match held {
        Cow::Borrowed(held) => Cow::Borrowed(held.get(MESSAGE_HEADER_BYTES..).unwrap_or_default()),
        Cow::Owned(mut held) => {
            held.drain(..MESSAGE_HEADER_BYTES.min(held.len()));
            Cow::Owned(held)
        }
    }
}

/// Reads the body of a ClientHello (RFC 8446, 4.1.2); the extensions may be left out altogether (RFC 5246, 7.4.1.2).
fn client(body: &[u8]) -> Result<Hello, &'static str> {
    let mut fields = Fields(body);
    if fields.take(2).ok_or(SHORT)?.first() != Some(&VERSION_MAJOR) {
        return Err("the ClientHello is of no version of TLS");
    }
    fields.take(RANDOM_BYTES).ok_or(SHORT)?;
    if fields.vector_u8().ok_or(SHORT)?.len() > SESSION_BYTES_MAX {
        return Err("the session id is too long");
    }
    let suites = fields.vector_u16().ok_or(SHORT)?;
    if suites.is_empty() || suites.len() % 2 != 0 {
        return Err("the cipher suites are no list of pairs of bytes");
    }
    if fields.vector_u8().ok_or(SHORT)?.is_empty() {
        return Err("no compression method is offered");
    }
    if fields.is_empty() {
        return Ok(Hello::Client { name: None, encrypted: false });
    }
    let extensions = fields.vector_u16().ok_or("the extensions do not add up")?;
    if !fields.is_empty() {
        return Err("something follows the extensions");
    }
    read_extensions(Fields(extensions))
}

fn read_extensions(mut extensions: Fields) -> Result<Hello, &'static str> {
    let (mut name, mut encrypted) = (None, false);
    let mut kinds = Vec::new();
    while !extensions.is_empty() {
        let kind = extensions.u16().ok_or("the extensions do not add up")?;
        let data = extensions.vector_u16().ok_or("the extensions do not add up")?;
        kinds.push(kind);
        match kind {
            EXTENSION_SERVER_NAME => name = Some(server_name(data)?),
            EXTENSION_ENCRYPTED => encrypted = true,
            _ => {}
        }
    }
    // Two readers could each believe another one of them.
    kinds.sort_unstable();
    if kinds.windows(2).any(|pair| matches!(pair, [one, other] if one == other)) {
        return Err("an extension is there twice");
    }
    Ok(Hello::Client { name, encrypted })
}

/// The one name of a `ServerNameList` (RFC 6066, 3).
fn server_name(data: &[u8]) -> Result<String, &'static str> {
    const LIST: &str = "the server_name does not add up";
    let mut data = Fields(data);
    let mut list = Fields(data.vector_u16().ok_or(LIST)?);
    if !data.is_empty() {
        return Err(LIST);
    }
    if list.take(1).ok_or(LIST)? != [NAME_HOST] {
        return Err("the server_name is of an unknown type");
    }
    let name = list.vector_u16().ok_or(LIST)?;
    if !list.is_empty() {
        return Err("the server_name names more than one");
    }
    if name.is_empty() {
        return Err("the server_name is empty");
    }
    match str::from_utf8(name) {
        Ok(name) if name.is_ascii() && !name.contains('\0') => Ok(name.to_owned()),
        _ => Err("the server_name is not plain text"),
    }
}

/// What is left of a message; every step is `None` when fewer bytes are there than it says.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        let (&taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(taken))
    }

    /// A vector whose length is one byte (RFC 8446, 3.4).
    fn vector_u8(&mut self) -> Option<&'a [u8]> {
        let (&length, rest) = self.0.split_first()?;
        self.0 = rest;
        self.take(length.into())
    }

    /// A vector whose length is two bytes.
    fn vector_u16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustls::client::{EchGreaseConfig, EchMode};
    use rustls::crypto::aws_lc_rs;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use std::sync::{Arc, LazyLock};

    fn sent(config: ClientConfig, server: &str) -> Vec<u8> {
        let mut connection = ClientConnection::new(Arc::new(config), server.to_owned().try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    fn config(versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
        ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth()
    }

    fn real(server: &str) -> Vec<u8> {
        sent(config(rustls::ALL_VERSIONS), server)
    }

    static REAL: LazyLock<Vec<u8>> = LazyLock::new(|| real("example.com"));

    fn named(name: &str) -> Hello {
        Hello::Client { name: Some(name.into()), encrypted: false }
    }

    const NAMELESS: Hello = Hello::Client { name: None, encrypted: false };

    fn record(content: &[u8]) -> Vec<u8> {
        [&[22, 3, 1], &u16::try_from(content.len()).unwrap().to_be_bytes()[..], content].concat()
    }

    /// The same message in records of at most so many bytes.
    fn split(whole: &[u8], bytes_max: usize) -> Vec<u8> {
        whole[RECORD_HEADER_BYTES..].chunks(bytes_max).flat_map(record).collect()
    }

    fn message_of(body: &[u8]) -> Vec<u8> {
        [&[1], &u32::try_from(body.len()).unwrap().to_be_bytes()[1..], body].concat()
    }

    fn vector(content: &[u8]) -> Vec<u8> {
        [&u16::try_from(content.len()).unwrap().to_be_bytes()[..], content].concat()
    }

    /// Everything up to the extensions.
    fn start() -> Vec<u8> {
        [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 0x01], &[1, 0]].concat()
    }

    fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &vector(data)].concat()
    }

    fn host(name: &[u8]) -> Vec<u8> {
        [&[NAME_HOST][..], &vector(name)].concat()
    }

    fn of_body(body: &[u8]) -> Hello {
        read(&record(&message_of(body)))
    }

    fn of_extensions(extensions: &[u8]) -> Hello {
        of_body(&[start(), vector(extensions)].concat())
    }

    fn of_name(data: &[u8]) -> Hello {
        of_extensions(&extension(EXTENSION_SERVER_NAME, data))
    }

    fn is_broken(verdict: Hello, word: &str) {
        assert!(matches!(verdict, Hello::Broken(why) if why.contains(word)), "{verdict:?} does not say {word:?}");
    }

    #[test]
    fn real_ones_are_read() {
        assert_eq!(read(&REAL), named("example.com"));
        assert_eq!(read(&real("Example.com")), named("Example.com"));
        assert_eq!(read(&real("192.0.2.1")), NAMELESS);
        assert_eq!(read(&real("2001:db8::1")), NAMELESS);
        assert_eq!(read(&sent(config(&[&rustls::version::TLS12]), "a.example")), named("a.example"));
        let mut without = config(rustls::ALL_VERSIONS);
        without.enable_sni = false;
        assert_eq!(read(&sent(without, "example.com")), NAMELESS);
    }

    #[test]
    fn an_encrypted_one_is_told() {
        let suite = aws_lc_rs::hpke::ALL_SUPPORTED_SUITES[0];
        let (key, _) = suite.generate_key_pair().unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_ech(EchMode::Grease(EchGreaseConfig::new(suite, key)))
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        assert_eq!(
            read(&sent(config, "example.com")),
            Hello::Client { name: Some("example.com".into()), encrypted: true }
        );
    }

    #[test]
    fn only_the_whole_is_enough_however_it_is_split() {
        for bytes_max in [1, 2, 3, 5, 100, RECORD_BYTES_MAX] {
            let bytes = split(&REAL, bytes_max);
            for cut in 0..bytes.len() {
                assert_eq!(read(&bytes[..cut]), Hello::More, "{cut} of records of {bytes_max}");
            }
            assert_eq!(read(&bytes), named("example.com"));
        }
    }

    #[test]
    fn hand_made_ones_are_read() {
        assert_eq!(of_body(&start()), NAMELESS);
        assert_eq!(of_extensions(&[]), NAMELESS);
        assert_eq!(of_name(&vector(&host(b"Ab.Example."))), named("Ab.Example."));
        assert_eq!(of_extensions(&extension(EXTENSION_ENCRYPTED, &[1])), Hello::Client { name: None, encrypted: true });
    }

    #[test]
    fn what_is_no_tls_is_told_at_once() {
        assert_eq!(read(b""), Hello::More);
        for bytes in [&b"G"[..], b"GET / HTTP/1.1", b"SSH-2.0-x", &[21], &[23, 3, 3], &[22, 2], &[22, 4, 1]] {
            assert_eq!(read(bytes), Hello::NotTls, "{bytes:?}");
        }
        // SSLv2: length with its first bit set, CLIENT-HELLO, version.
        assert_eq!(read(&[0x80, 0x2e, 1, 3, 1]), Hello::NotTls);
    }

    #[test]
    fn broken_records_are_told() {
        is_broken(read(&[22, 3, 1, 0, 0]), "empty");
        is_broken(read(&[22, 3, 1, 0x40, 1]), "longer");
        assert_eq!(read(&[22, 3, 1, 0x3f, 0xf7]), Hello::More);
        is_broken(read(&record(&[2])), "no ClientHello");
        is_broken(read(&record(&[0])), "no ClientHello");

        let whole = message_of(&start());
        let (head, tail) = whole.split_at(7);
        is_broken(read(&[record(head), vec![20]].concat()), "between");
        is_broken(read(&[record(head), vec![22, 2]].concat()), "between");
        is_broken(read(&[record(head), record(&[]), record(tail)].concat()), "empty");
        assert_eq!(read(&[record(head), record(tail)].concat()), NAMELESS);
        is_broken(read(&[record(head), record(&[tail, &[1]].concat())].concat()), "follows");
        // Said by the lengths alone, before it is there.
        let long = record(&[&whole[..], &[0]].concat());
        is_broken(read(&long[..RECORD_HEADER_BYTES + MESSAGE_HEADER_BYTES]), "follows");
        // A new record is none of its business.
        assert_eq!(read(&[record(&whole), vec![0xff]].concat()), NAMELESS);
    }

    #[test]
    fn a_long_one_is_broken() {
        is_broken(read(&record(&[1, 1, 0, 0])), "too long");
        is_broken(read(&record(&[1, 0, 0x3f, 0xf8])), "too long");
        let padded = |bytes: usize| {
            let spent = RECORD_HEADER_BYTES + MESSAGE_HEADER_BYTES + start().len() + 2 + 4;
            [start(), vector(&extension(21, &vec![0; bytes - spent]))].concat()
        };
        let most = record(&message_of(&padded(BYTES_MAX)));
        assert_eq!(most.len(), BYTES_MAX);
        assert_eq!(read(&most), NAMELESS);
        assert_eq!(read(&most[..BYTES_MAX - 1]), Hello::More);
        // Its message is within the bound; with the header of a second record it is not.
        let two = split(&most, BYTES_MAX / 2);
        assert_eq!(read(&two[..BYTES_MAX - 1]), Hello::More);
        is_broken(read(&two[..BYTES_MAX]), "too long");
        is_broken(read(&two), "too long");
    }

    #[test]
    fn broken_fields_are_told() {
        for cut in 0..start().len() {
            is_broken(of_body(&start()[..cut]), "ends before");
        }
        let with = |session: &[u8], suites: &[u8], compression: &[u8]| {
            of_body(&[&[3, 3][..], &[7; 32], session, suites, compression].concat())
        };
        let suites = &[0, 2, 0x13, 1];
        assert_eq!(with(&[&[32][..], &[9; 32]].concat(), suites, &[1, 0]), NAMELESS);
        is_broken(with(&[&[33][..], &[9; 33]].concat(), suites, &[1, 0]), "session");
        is_broken(with(&[0], &[0, 0], &[1, 0]), "suites");
        is_broken(with(&[0], &[0, 3, 1, 2, 3], &[1, 0]), "suites");
        is_broken(with(&[0], suites, &[0]), "compression");
        let mut of_ssl2 = start();
        of_ssl2[0] = 2;
        is_broken(of_body(&of_ssl2), "version");
    }

    #[test]
    fn broken_extensions_are_told() {
        let one = extension(10, &[1, 2]);
        assert_eq!(of_extensions(&[one.clone(), extension(11, &[])].concat()), NAMELESS);
        is_broken(of_extensions(&[one.clone(), extension(11, &[]), one.clone()].concat()), "twice");
        let names = extension(EXTENSION_SERVER_NAME, &vector(&host(b"a.example")));
        is_broken(of_extensions(&[names.clone(), names].concat()), "twice");
        let sealed = extension(EXTENSION_ENCRYPTED, &[]);
        is_broken(of_extensions(&[sealed.clone(), sealed].concat()), "twice");
        for cut in 1..one.len() {
            is_broken(of_extensions(&one[..cut]), "add up");
        }
        is_broken(of_body(&[start(), vec![0]].concat()), "add up");
        is_broken(of_body(&[start(), vec![0, 9], one.clone()].concat()), "add up");
        is_broken(of_body(&[start(), vector(&one), vec![0]].concat()), "follows the extensions");
    }

    #[test]
    fn broken_names_are_told() {
        is_broken(of_name(&[]), "add up");
        is_broken(of_name(&[0]), "add up");
        is_broken(of_name(&vector(&[])), "add up");
        is_broken(of_name(&vector(&[NAME_HOST, 0])), "add up");
        is_broken(of_name(&vector(&[NAME_HOST, 0, 2, b'a'])), "add up");
        is_broken(of_name(&[vector(&host(b"a")), vec![0]].concat()), "add up");
        is_broken(of_name(&vector(&[&[1][..], &vector(b"a")].concat())), "type");
        is_broken(of_name(&vector(&[host(b"a"), host(b"b")].concat())), "more than one");
        is_broken(of_name(&vector(&[host(b"a"), vec![1, 0, 0]].concat())), "more than one");
        is_broken(of_name(&vector(&host(b""))), "empty");
        is_broken(of_name(&vector(&host(b"a\0b"))), "plain");
        is_broken(of_name(&vector(&host("é.example".as_bytes()))), "plain");
        is_broken(of_name(&vector(&host(&[0xff]))), "plain");
    }

    /// Bytes of every distance from a real one: random, random after a good header, a real one in any records with
    /// bytes changed and others appended.
    fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
        let noise = || prop::collection::vec(any::<u8>(), 0..80);
        let framed = (noise(), 1_usize..20).prop_map(|(body, records)| {
            let content = message_of(&body);
            content.chunks(records).flat_map(record).collect::<Vec<_>>()
        });
        let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
        let changed = (1_usize..400, changes, noise()).prop_map(|(records, changes, more)| {
            let mut bytes = split(&REAL, records);
            for (at, to) in changes {
                let at = at.index(bytes.len());
                bytes[at] = to;
            }
            bytes.extend(more);
            bytes
        });
        prop_oneof![noise(), framed, changed]
    }

    proptest! {
        #[test]
        fn a_verdict_stays(bytes in any_bytes(), cut in any::<prop::sample::Index>()) {
            let cut = cut.index(bytes.len() + 1);
            let early = read(&bytes[..cut]);
            if early != Hello::More {
                prop_assert_eq!(early, read(&bytes));
            }
        }

        #[test]
        fn what_is_whole_stays_whole(more in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(read(&[&REAL[..], &more].concat()), named("example.com"));
        }

        #[test]
        fn any_name_is_given_back_or_refused(name in prop::collection::vec(any::<u8>(), 0..300)) {
            let verdict = of_name(&vector(&host(&name)));
            if !name.is_empty() && name.iter().all(|&byte| byte != 0 && byte < 128) {
                prop_assert_eq!(verdict, named(str::from_utf8(&name).unwrap()));
            } else {
                prop_assert!(matches!(verdict, Hello::Broken(_)));
            }
        }
    }

    #[test]
    fn one_changed_byte_never_panics() {
        let mut bytes = REAL.clone();
        for at in 0..bytes.len() {
            for mask in 1..=u8::MAX {
                bytes[at] ^= mask;
                read(&bytes);
                bytes[at] ^= mask;
            }
        }
    }
}
