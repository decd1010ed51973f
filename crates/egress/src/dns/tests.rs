#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;
use std::net::Ipv4Addr;

const TTL: Duration = Duration::from_secs(60);
const ROOT: &[u8] = &[0];

/// A second reader, which knows nothing of the first: it panics where a message is not well-formed to its last byte.
struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

#[derive(Debug, PartialEq)]
struct Seen {
    id: u16,
    flags: u16,
    questions: Vec<(Vec<Vec<u8>>, u16, u16)>,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additional: Vec<Record>,
}

#[derive(Debug, PartialEq)]
struct Record {
    name: Vec<Vec<u8>>,
    kind: u16,
    class: u16,
    ttl: u32,
    data: Vec<u8>,
}

impl Reader<'_> {
    fn number(&mut self, bytes: usize) -> u32 {
        let taken = &self.message[self.at..self.at + bytes];
        self.at += bytes;
        taken.iter().fold(0, |number, &byte| number << 8 | u32::from(byte))
    }

    fn word(&mut self) -> u16 {
        self.number(2) as u16
    }

    fn name(&mut self) -> Vec<Vec<u8>> {
        let mut labels = Vec::new();
        loop {
            let length = self.number(1) as usize;
            if length >= 0xc0 {
                let to = (length & 0x3f) << 8 | self.number(1) as usize;
                assert!(to < self.at - 2, "a pointer leads forward");
                labels.extend(Reader { message: self.message, at: to }.name());
                return labels;
            }
            assert!(length < 64);
            if length == 0 {
                return labels;
            }
            labels.push(self.message[self.at..self.at + length].to_vec());
            self.at += length;
        }
    }

    fn record(&mut self) -> Record {
        let name = self.name();
        let (kind, class, ttl, length) = (self.word(), self.word(), self.number(4), usize::from(self.word()));
        let data = self.message[self.at..self.at + length].to_vec();
        self.at += length;
        Record { name, kind, class, ttl, data }
    }
}

fn seen(message: &[u8]) -> Seen {
    let mut reader = Reader { message, at: 0 };
    let [id, flags, questions, answers, authorities, additional] = [(); 6].map(|()| reader.word());
    let seen = Seen {
        id,
        flags,
        questions: (0..questions).map(|_| (reader.name(), reader.word(), reader.word())).collect(),
        answers: (0..answers).map(|_| reader.record()).collect(),
        authorities: (0..authorities).map(|_| reader.record()).collect(),
        additional: (0..additional).map(|_| reader.record()).collect(),
    };
    assert_eq!(reader.at, message.len(), "something follows the message");
    seen
}

fn wire(labels: &[&[u8]]) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in labels {
        wire.push(u8::try_from(label.len()).unwrap());
        wire.extend_from_slice(label);
    }
    wire.push(0);
    wire
}

fn name(text: &str) -> Vec<u8> {
    wire(&text.split('.').map(str::as_bytes).collect::<Vec<_>>())
}

fn header(flags: u16, counts: [u16; 4]) -> Vec<u8> {
    [0xabcd, flags].into_iter().chain(counts).flat_map(u16::to_be_bytes).collect()
}

fn asked(name: &[u8], kind: u16, class: u16) -> Vec<u8> {
    [&header(0x0100, [1, 0, 0, 0])[..], name, &kind.to_be_bytes(), &class.to_be_bytes()].concat()
}

fn opt(size: u16, ttl: u32, options: &[u8]) -> Vec<u8> {
    let length = u16::try_from(options.len()).unwrap();
    [&[0, 0, 41][..], &size.to_be_bytes(), &ttl.to_be_bytes(), &length.to_be_bytes(), options].concat()
}

fn with_opt(mut message: Vec<u8>, opt: &[u8]) -> Vec<u8> {
    message[11] = 1;
    [&message[..], opt].concat()
}

fn query(text: &str, kind: u16) -> Query {
    parse(&asked(&name(text), kind, 1)).unwrap()
}

fn text(query: &Query) -> Option<&str> {
    query.name.as_ref().map(HostNameText::as_str)
}

fn code(message: &[u8]) -> Option<u16> {
    let fault = parse(message).unwrap_err();
    fault.answer().map(|answer| {
        let seen = seen(&answer);
        assert_eq!(seen.flags & 0x8080, 0x8080, "QR and RA");
        assert!(answer.len() <= message.len());
        let upper = seen.additional.first().map_or(0, |opt| opt.ttl >> 24) as u16;
        upper << 4 | seen.flags & 0xf
    })
}

#[test]
fn a_question_is_read() {
    let read = query("Db-1._TCP.Example.com", 1);
    assert_eq!((read.id, text(&read), read.kind), (0xabcd, Some("db-1._tcp.example.com"), Kind::A));
    assert_eq!((read.class_in, read.recursion_desired, read.udp_size), (true, true, 512));
    for (number, kind) in [(28, Kind::Aaaa), (64, Kind::Svcb), (65, Kind::Https), (16, Kind::Other(16))] {
        assert_eq!(query("a", number).kind, kind);
    }
    assert!(!parse(&asked(&name("a"), 1, 3)).unwrap().class_in);
    let mut alone = asked(&name("a"), 1, 1);
    alone[2] = 0;
    assert!(!parse(&alone).unwrap().recursion_desired);
}

#[test]
fn names_that_no_rule_names_are_unusable() {
    for labels in [&[&b"a b"[..]][..], &[b"a", b"*"], &[b"a.b", b"com"], &[b"\0"], &[&[0xe9]], &[b"a", "é".as_bytes()]]
    {
        assert_eq!(parse(&asked(&wire(labels), 1, 1)).unwrap().name, None, "{labels:?}");
    }
    assert_eq!(parse(&asked(ROOT, 2, 1)).unwrap().name, None);
}

#[test]
fn names_have_bounds() {
    let most = [&[b'a'; 63][..], &[b'b'; 63], &[b'c'; 63], &[b'd'; 61]];
    assert_eq!(wire(&most).len(), 255);
    assert_eq!(text(&parse(&asked(&wire(&most), 1, 1)).unwrap()).unwrap().len(), 253);
    let over = [most[0], most[1], most[2], &[b'd'; 62]];
    assert_eq!(code(&asked(&wire(&over), 1, 1)), Some(1));
    let label = [&[64][..], &[b'a'; 64], ROOT].concat();
    assert_eq!(code(&asked(&label, 1, 1)), Some(1));
    // Pointers: at once, to itself, and after a label; the other kinds of labels.
    for bytes in [&[0xc0, 0][..], &[0xc0, 12], &[1, b'a', 0xc0, 12], &[0x41, 1, 0], &[0x80, 0]] {
        assert_eq!(code(&asked(bytes, 1, 1)), Some(1), "{bytes:?}");
    }
}

#[test]
fn edns_is_read() {
    let plain = || asked(&name("a"), 1, 1);
    for (said, taken) in [(0, 512), (512, 512), (513, 513), (1232, 1232), (4096, 1232), (u16::MAX, 1232)] {
        assert_eq!(parse(&with_opt(plain(), &opt(said, 0, &[]))).unwrap().udp_size, taken);
    }
    // A cookie, and an empty option.
    assert!(parse(&with_opt(plain(), &opt(1232, 0, &[0, 10, 0, 2, 1, 2, 0, 12, 0, 0]))).is_ok());
    assert_eq!(code(&with_opt(plain(), &opt(1232, 0, &[0, 10, 0, 2, 1]))), Some(1));
    assert_eq!(code(&with_opt(plain(), &opt(1232, 0, &[0, 10, 0]))), Some(1));
    assert_eq!(code(&with_opt(plain(), &opt(1232, 1 << 16, &[]))), Some(16));
    let mut named = opt(1232, 0, &[]);
    named.splice(0..1, name("a"));
    assert_eq!(code(&with_opt(plain(), &named)), Some(1));
    let mut other = opt(1232, 0, &[]);
    other[2] = 250;
    assert_eq!(code(&with_opt(plain(), &other)), Some(1));
}

#[test]
fn what_is_not_one_question_is_refused() {
    let good = with_opt(asked(&name("a.example"), 1, 1), &opt(1232, 0, &[0, 10, 0, 1, 7]));
    assert!(parse(&good).is_ok());
    for cut in 0..good.len() {
        assert_eq!(code(&good[..cut]), if cut < 12 { None } else { Some(1) }, "{cut}");
    }
    assert_eq!(code(&[&good[..], &[0]].concat()), Some(1));
    for (at, count) in [(5, 0), (5, 2), (4, 1), (7, 1), (9, 1), (11, 0), (11, 2), (10, 1)] {
        let mut bad = good.clone();
        bad[at] = count;
        assert_eq!(code(&bad), Some(1), "count at {at}");
    }
    let mut response = good.clone();
    response[2] |= 0x80;
    assert_eq!(parse(&response), Err(Fault::Drop));
    assert_eq!(code(&response), None);
    for opcode in 1..16 {
        let mut other = good.clone();
        other[2] = opcode << 3 | 1;
        assert_eq!(code(&other), Some(4));
        let answer = parse(&other).unwrap_err().answer().unwrap();
        assert_eq!(answer, [&[0xab, 0xcd, 0x80 | opcode << 3 | 1, 0x84][..], &[0; 8]].concat());
    }
}

#[test]
fn an_answer_is_these_bytes() {
    let answer = answer_a(&query("Ab.c", 1), &[Ipv4Addr::new(192, 0, 2, 1)], TTL, Transport::Udp);
    let expected = [
        &b"\xab\xcd\x81\x80\0\x01\0\x01\0\0\0\0"[..],
        b"\x02Ab\x01c\0\0\x01\0\x01",
        b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01",
    ];
    assert_eq!(answer, expected.concat());
}

#[test]
fn negative_answers_say_for_how_long() {
    let soa = || Record {
        name: Vec::new(),
        kind: 6,
        class: 1,
        ttl: 5,
        data: b"\0\0\0\0\0\x01\0\0\0\x05\0\0\0\x05\0\0\0\x05\0\0\0\x05".to_vec(),
    };
    for (answer, code) in [(name_error(&query("a", 1)), 3), (no_data(&query("a", 28)), 0)] {
        let seen = seen(&answer);
        assert_eq!((seen.flags, seen.authorities), (0x8180 | code, vec![soa()]));
        assert!(seen.answers.is_empty() && seen.additional.is_empty());
    }
    let root = parse(&asked(ROOT, 2, 1)).unwrap();
    assert_eq!(name_error(&root), no_data(&root));
}

#[test]
fn addresses_are_given_only_where_they_are_asked_for() {
    let address = [Ipv4Addr::LOCALHOST];
    for other in [query("a", 28), query("a", 255), parse(&asked(&name("a"), 1, 3)).unwrap()] {
        assert_eq!(answer_a(&other, &address, TTL, Transport::Udp), no_data(&other));
    }
    let asks = query("a", 1);
    assert_eq!(answer_a(&asks, &[], TTL, Transport::Udp), no_data(&asks));
    let long = seen(&answer_a(&asks, &address, Duration::MAX, Transport::Udp));
    assert_eq!(long.answers[0].ttl, i32::MAX as u32);
}

#[derive(Debug, Clone)]
struct Asked {
    labels: Vec<Vec<u8>>,
    kind: u16,
    class: u16,
    flags: u16,
    /// Size, "DNSSEC answer OK".
    opt: Option<(u16, bool)>,
}

impl Asked {
    fn message(&self) -> Vec<u8> {
        let labels: Vec<&[u8]> = self.labels.iter().map(Vec::as_slice).collect();
        let mut message = asked(&wire(&labels), self.kind, self.class);
        message[2..4].copy_from_slice(&self.flags.to_be_bytes());
        match self.opt {
            Some((size, dnssec)) => with_opt(message, &opt(size, u32::from(dnssec) << 15, &[])),
            None => message,
        }
    }
}

fn any_asked() -> impl Strategy<Value = Asked> {
    let plain = prop::collection::vec(prop::sample::select(&b"aZ0-_"[..]), 1..=63);
    let label = prop_oneof![3 => plain, 1 => prop::collection::vec(any::<u8>(), 1..=63)];
    let labels = prop::collection::vec(label, 0..6)
        .prop_filter("too long", |labels| labels.iter().map(|label| label.len() + 1).sum::<usize>() < 255);
    let kind = prop_oneof![3 => Just(1), 1 => any::<u16>()];
    let class = prop_oneof![3 => Just(1), 1 => any::<u16>()];
    // Neither a response nor an operation.
    let flags = any::<u16>().prop_map(|flags| flags & 0x07ff);
    (labels, kind, class, flags, any::<Option<(u16, bool)>>()).prop_map(|(labels, kind, class, flags, opt)| Asked {
        labels,
        kind,
        class,
        flags,
        opt,
    })
}

/// What holds for every answer, whatever it says.
fn echoes(asked: &Asked, answer: &[u8], code: u16) -> Seen {
    let seen = seen(answer);
    let question = asked.message();
    assert_eq!(seen.id, 0xabcd);
    assert_eq!(seen.flags & !0x0200, 0x8080 | asked.flags & 0x0100 | code);
    assert_eq!(seen.questions, [(asked.labels.clone(), asked.kind, asked.class)]);
    let end = 12 + asked.labels.iter().map(|label| label.len() + 1).sum::<usize>() + 5;
    assert_eq!(answer[12..end], question[12..end]);
    let opt = asked.opt.map(|(_, dnssec)| Record {
        name: Vec::new(),
        kind: 41,
        class: 1232,
        ttl: u32::from(dnssec) << 15,
        data: Vec::new(),
    });
    assert_eq!(seen.additional, Vec::from_iter(opt));
    seen
}

proptest! {
    #[test]
    fn what_is_asked_is_read(asked in any_asked()) {
        let read = parse(&asked.message()).unwrap();
        let usable = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
        let expected = (!asked.labels.is_empty() && asked.labels.iter().flatten().all(usable))
            .then(|| String::from_utf8(asked.labels.join(&b'.').to_ascii_lowercase()).unwrap());
        prop_assert_eq!(text(&read), expected.as_deref());
        prop_assert_eq!(read.kind, Kind::from(asked.kind));
        prop_assert_eq!(read.class_in, asked.class == 1);
        prop_assert_eq!(read.udp_size, asked.opt.map_or(512, |(size, _)| size.clamp(512, 1232)));
    }

    #[test]
    fn every_answer_is_read_by_another(asked in any_asked()) {
        let query = parse(&asked.message()).unwrap();
        let root = asked.labels.is_empty();
        let negative = [(no_data(&query), 0), (name_error(&query), if root { 0 } else { 3 })];
        for (answer, code) in negative {
            prop_assert!(answer.len() <= 512);
            let seen = echoes(&asked, &answer, code);
            prop_assert_eq!((seen.answers.len(), seen.authorities.len(), seen.flags & 0x0200), (0, 1, 0));
        }
        let refusals =
            [(format_error(&query), 1), (server_failure(&query), 2), (not_implemented(&query), 4), (refused(&query), 5)];
        for (answer, code) in refusals {
            prop_assert!(answer.len() <= asked.message().len());
            let seen = echoes(&asked, &answer, code);
            prop_assert_eq!((seen.answers.len(), seen.authorities.len(), seen.flags & 0x0200), (0, 0, 0));
        }
    }

    #[test]
    fn addresses_fit_or_the_answer_says_so(
        asked in any_asked().prop_map(|asked| Asked { kind: 1, class: 1, ..asked }),
        count in prop_oneof![1_u32..100, 4000_u32..5000],
        tcp in any::<bool>(),
    ) {
        let query = parse(&asked.message()).unwrap();
        let addresses: Vec<Ipv4Addr> = (0..count).map(Ipv4Addr::from_bits).collect();
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        let bytes_max = usize::from(if tcp { u16::MAX } else { query.udp_size });
        let answer = answer_a(&query, &addresses, TTL, transport);
        prop_assert!(answer.len() <= bytes_max);
        let seen = echoes(&asked, &answer, 0);
        let is_cut = seen.answers.len() < addresses.len();
        prop_assert_eq!(seen.flags & 0x0200 != 0, is_cut);
        prop_assert!(!is_cut || answer.len() + 16 > bytes_max, "one more would have fit");
        for (record, address) in seen.answers.iter().zip(addresses) {
            prop_assert_eq!((&record.name, record.kind, record.class, record.ttl), (&asked.labels, 1, 1, 60));
            prop_assert_eq!(&record.data[..], address.octets());
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        noise in prop::collection::vec(any::<u8>(), 0..80),
        asked in any_asked(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut changed = asked.message();
        for (at, to) in changes {
            let at = at.index(changed.len());
            changed[at] = to;
        }
        let part = &changed[..cut.index(changed.len() + 1)];
        let behind_header = [&header(0, [1, 0, 0, 1]), &noise[..]].concat();
        for bytes in [&noise[..], &changed, part, &behind_header] {
            match parse(bytes) {
                Ok(query) => prop_assert!(seen(&name_error(&query)).questions.len() == 1),
                Err(why) => {
                    let answer = why.answer();
                    prop_assert!(answer.is_none_or(|answer| answer[..2] == bytes[..2] && seen(&answer).flags >= 0x8000));
                }
            }
        }
    }
}
