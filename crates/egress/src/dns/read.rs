//! Reads one query (RFC 1035, 4.1; the OPT record: RFC 6891, 6.1). No length is believed before it was compared.

use super::{
    CLASS_IN, EDNS_DNSSEC_OK, Edns, FLAG_RECURSION_DESIRED, FLAG_RESPONSE, FLAGS_OPCODE, Fault, Head, HostNameText,
    KIND_OPT, Query, UDP_BYTES_MAX, UDP_BYTES_MIN,
};

/// Of a name on the wire, the empty label at its end included (RFC 1035, 2.3.4).
const NAME_BYTES_MAX: usize = 255;
/// Of one label. More is a pointer (RFC 1035, 4.1.4), or of a kind that does not exist (RFC 6891, 5).
const LABEL_BYTES_MAX: u8 = 63;

/// The one question of a message; flags that mean nothing in a query are not looked at.
pub fn parse(message: &[u8]) -> Result<Query, Fault> {
    let mut rest = Rest(message);
    let [id, flags, questions, answers, authorities, additional] = rest.words().ok_or(Fault::Drop)?;
    if flags & FLAG_RESPONSE != 0 {
        return Err(Fault::Drop);
    }
    let head = Head { id, flags: flags & (FLAGS_OPCODE | FLAG_RECURSION_DESIRED) };
    if flags & FLAGS_OPCODE != 0 {
        return Err(Fault::NotImplemented(head));
    }
    if (questions, answers, authorities) != (1, 0, 0) || additional > 1 {
        return Err(Fault::Format(head));
    }
    let (query, version) = body(head, rest, additional == 1).ok_or(Fault::Format(head))?;
    if version > 0 { Err(Fault::Version(Box::new(query))) } else { Ok(query) }
}

/// The question and what follows it, and the version of EDNS that is spoken.
fn body(head: Head, mut rest: Rest, has_opt: bool) -> Option<(Query, u8)> {
    let from = rest.0;
    let name = name(&mut rest)?;
    let [kind, class] = rest.words()?;
    let question = from.get(..from.len() - rest.0.len())?.to_vec();
    let opt = if has_opt { Some(opt(&mut rest)?) } else { None };
    if !rest.0.is_empty() {
        return None;
    }
    let query = Query {
        id: head.id,
        name,
        kind: kind.into(),
        class_in: class == CLASS_IN,
        recursion_desired: head.flags & FLAG_RECURSION_DESIRED != 0,
        udp_size: opt.as_ref().map_or(UDP_BYTES_MIN, |opt| opt.udp_size).clamp(UDP_BYTES_MIN, UDP_BYTES_MAX),
        edns: opt.as_ref().map(|opt| opt.edns),
        question,
    };
    Some((query, opt.map_or(0, |opt| opt.version)))
}

/// `None` when it is no name on the wire; `Some(None)` when it is the root or has other signs than a host's.
fn name(rest: &mut Rest) -> Option<Option<HostNameText>> {
    let mut text = String::new();
    let mut is_usable = true;
    let mut bytes = 0;
    loop {
        let length = rest.byte()?;
        if length > LABEL_BYTES_MAX {
            return None;
        }
        bytes += 1 + usize::from(length);
        if bytes > NAME_BYTES_MAX {
            return None;
        }
        if length == 0 {
            break;
        }
        let label = rest.take(length.into())?;
        is_usable &= label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if !text.is_empty() {
            text.push('.');
        }
        text.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
    }
    Some((is_usable && !text.is_empty()).then_some(HostNameText(text)))
}

struct Opt {
    udp_size: u16,
    version: u8,
    edns: Edns,
}

fn opt(rest: &mut Rest) -> Option<Opt> {
    if rest.byte()? != 0 {
        return None;
    }
    let [kind, udp_size, code_and_version, flags, length] = rest.words()?;
    if kind != KIND_OPT {
        return None;
    }
    let mut options = Rest(rest.take(length.into())?);
    while !options.0.is_empty() {
        let [_code, length] = options.words()?;
        options.take(length.into())?;
    }
    let [_code, version] = code_and_version.to_be_bytes();
    Some(Opt { udp_size, version, edns: Edns { dnssec_ok: flags & EDNS_DNSSEC_OK != 0 } })
}

/// What is left of a message; every step is `None` when fewer bytes are there.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        let (&taken, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(taken)
    }

    fn words<const COUNT: usize>(&mut self) -> Option<[u16; COUNT]> {
        let mut words = [0; COUNT];
        for word in &mut words {
            let (&taken, rest) = self.0.split_first_chunk()?;
            self.0 = rest;
            *word = u16::from_be_bytes(taken);
        }
        Some(words)
    }
}
