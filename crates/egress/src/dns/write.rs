//! Writes answers (RFC 1035, 4.1). Header, question, one SOA record and OPT are below [`UDP_BYTES_MIN`] together, so that
//! only a list of addresses is ever cut.

use super::{
    CLASS_IN, EDNS_DNSSEC_OK, FLAG_RECURSION_AVAILABLE, FLAG_RECURSION_DESIRED, FLAG_RESPONSE, FLAG_TRUNCATED, Fault,
    HEADER_BYTES, Head, KIND_A, KIND_OPT, KIND_SOA, Kind, NEGATIVE_TTL, Query, TCP_BYTES_MAX, Transport, UDP_BYTES_MAX,
};
use std::net::Ipv4Addr;
use std::time::Duration;

/// More would be read as none (RFC 2181, 8).
const TTL_S_MAX: u32 = i32::MAX as u32;

/// The name of the question, which begins after the header (RFC 1035, 4.1.4).
const NAME_OF_QUESTION: [u8; 2] = [0xc0, HEADER_BYTES as u8];
const NAME_ROOT: u8 = 0;

const A_RECORD_BYTES: usize = NAME_OF_QUESTION.len() + 10 + 4;
const OPT_RECORD_BYTES: usize = 11;
/// Two names (both the root) and five numbers.
const SOA_DATA_BYTES: u16 = 2 + 5 * 4;

/// RCODE (RFC 1035, 4.1.1), the bits that only OPT has room for included (RFC 6891, 6.1.3).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Code {
    NoError = 0,
    FormatError = 1,
    ServerFailure = 2,
    NameError = 3,
    NotImplemented = 4,
    Refused = 5,
    BadVersion = 16,
}

impl Code {
    /// Of these, only BADVERS has any.
    fn upper(self) -> u8 {
        (self as u8) >> 4
    }

    fn lower(self) -> u16 {
        self as u16 & 0b1111
    }
}

/// Addresses for a name. What does not fit is left out and the answer marked truncated: some resolvers never ask again over
/// TCP, and are served by what is there. With no address, or for a question about anything but addresses, [`no_data`].
pub fn answer_a(query: &Query, addresses: &[Ipv4Addr], ttl: Duration, transport: Transport) -> Vec<u8> {
    if addresses.is_empty() || query.kind != Kind::A || !query.class_in {
        return no_data(query);
    }
    let bytes_max = match transport {
        Transport::Udp => query.udp_size,
        Transport::Tcp => TCP_BYTES_MAX,
    };
    let opt_bytes = if query.edns.is_some() { OPT_RECORD_BYTES } else { 0 };
    let room = usize::from(bytes_max).saturating_sub(HEADER_BYTES + query.question.len() + opt_bytes);
    let given = addresses.get(..room / A_RECORD_BYTES).unwrap_or(addresses);
    let truncated = if given.len() < addresses.len() { FLAG_TRUNCATED } else { 0 };

    let mut answer = Answer::begin(query, Code::NoError, truncated);
    for address in given {
        answer.address(*address, ttl);
    }
    answer.finish(query)
}

/// The name may well exist, but nothing of this kind does (RFC 2308, 2.2).
pub fn no_data(query: &Query) -> Vec<u8> {
    negative(query, Code::NoError)
}

/// NXDOMAIN (RFC 2308, 2.1). Of the root, [`no_data`]: where it does not exist, nothing does (RFC 8020).
pub fn name_error(query: &Query) -> Vec<u8> {
    let is_root = query.question.first() == Some(&NAME_ROOT);
    negative(query, if is_root { Code::NoError } else { Code::NameError })
}

/// SERVFAIL: ask again, here or elsewhere.
pub fn server_failure(query: &Query) -> Vec<u8> {
    Answer::begin(query, Code::ServerFailure, 0).finish(query)
}

/// FORMERR, to what [`super::parse`] could read; else [`Fault::answer`].
pub fn format_error(query: &Query) -> Vec<u8> {
    Answer::begin(query, Code::FormatError, 0).finish(query)
}

/// NOTIMP, to what [`super::parse`] could read; else [`Fault::answer`].
pub fn not_implemented(query: &Query) -> Vec<u8> {
    Answer::begin(query, Code::NotImplemented, 0).finish(query)
}

/// REFUSED: by policy.
pub fn refused(query: &Query) -> Vec<u8> {
    Answer::begin(query, Code::Refused, 0).finish(query)
}

impl Fault {
    /// What is answered to a message that is no query; `None`: nothing. Never longer than what was sent.
    pub fn answer(&self) -> Option<Vec<u8>> {
        match self {
            Self::Drop => None,
            Self::Format(head) => Some(Answer::header(*head, Code::FormatError, 0).bytes),
            Self::NotImplemented(head) => Some(Answer::header(*head, Code::NotImplemented, 0).bytes),
            Self::Version(query) => Some(Answer::begin(query, Code::BadVersion, 0).finish(query)),
        }
    }
}

fn negative(query: &Query, code: Code) -> Vec<u8> {
    let mut answer = Answer::begin(query, code, 0);
    answer.authority();
    answer.finish(query)
}

/// An answer under way: sections are written in their order, and counted.
struct Answer {
    bytes: Vec<u8>,
    code: Code,
    /// Questions, answers, authorities, additional (RFC 1035, 4.1.1).
    counts: [u16; 4],
}

impl Answer {
    fn header(head: Head, code: Code, truncated: u16) -> Self {
        let mut answer = Self { bytes: Vec::new(), code, counts: [0; 4] };
        answer.word(head.id);
        answer.word(FLAG_RESPONSE | head.flags | truncated | FLAG_RECURSION_AVAILABLE | code.lower());
        answer.bytes.resize(HEADER_BYTES, 0);
        answer
    }

    fn begin(query: &Query, code: Code, truncated: u16) -> Self {
        let flags = if query.recursion_desired { FLAG_RECURSION_DESIRED } else { 0 };
        let mut answer = Self::header(Head { id: query.id, flags }, code, truncated);
        answer.bytes.extend_from_slice(&query.question);
        answer.counts[0] = 1;
        answer
    }

    fn address(&mut self, address: Ipv4Addr, ttl: Duration) {
        self.bytes.extend_from_slice(&NAME_OF_QUESTION);
        self.record(KIND_A, CLASS_IN, seconds(ttl), 4);
        self.bytes.extend_from_slice(&address.octets());
        self.counts[1] += 1;
    }

    /// The least that lets a resolver remember a negative answer (RFC 2308, 3 and 5). Its owner is the root, which is above
    /// every name; who and when in it are nobody and never.
    fn authority(&mut self) {
        let ttl_s = seconds(NEGATIVE_TTL);
        self.bytes.push(NAME_ROOT);
        self.record(KIND_SOA, CLASS_IN, ttl_s, SOA_DATA_BYTES);
        self.bytes.extend_from_slice(&[NAME_ROOT, NAME_ROOT]);
        let (serial, refresh, retry, expire, minimum) = (1, ttl_s, ttl_s, ttl_s, ttl_s);
        for number in [serial, refresh, retry, expire, minimum] {
            self.bytes.extend_from_slice(&u32::to_be_bytes(number));
        }
        self.counts[2] += 1;
    }

    /// With OPT iff the query had one (RFC 6891, 6.1.1).
    fn finish(mut self, query: &Query) -> Vec<u8> {
        if let Some(edns) = query.edns {
            let flags = if edns.dnssec_ok { EDNS_DNSSEC_OK } else { 0 };
            self.bytes.push(NAME_ROOT);
            self.record(KIND_OPT, UDP_BYTES_MAX, u32::from(self.code.upper()) << 24 | u32::from(flags), 0);
            self.counts[3] += 1;
        }
        let counts = self.counts.into_iter().flat_map(u16::to_be_bytes);
        for (byte, count) in self.bytes.iter_mut().skip(4).zip(counts) {
            *byte = count;
        }
        self.bytes
    }

    /// What every record has between its name and its data.
    fn record(&mut self, kind: u16, class: u16, ttl_s: u32, data_bytes: u16) {
        self.word(kind);
        self.word(class);
        self.bytes.extend_from_slice(&ttl_s.to_be_bytes());
        self.word(data_bytes);
    }

    fn word(&mut self, word: u16) {
        self.bytes.extend_from_slice(&word.to_be_bytes());
    }
}

fn seconds(ttl: Duration) -> u32 {
    u32::try_from(ttl.as_secs()).map_or(TTL_S_MAX, |seconds| seconds.min(TTL_S_MAX))
}
