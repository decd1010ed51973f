//! A stream of events, as bytes arrive: what they carry, without their framing (HTML, section 9.2.6, "Interpreting an
//! event stream").
//!
//! Invariant: nothing is kept but where in a line it is, so an event may be as long as it likes.

const DATA: &[u8] = b"data";

pub enum Part<'a> {
    /// Some more of what the event carries. Its lines are parted by line feeds.
    Data(&'a [u8]),
    /// The event ends.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In a field's name, of which so many bytes are those of `data`.
    Name(usize),
    /// After the colon, where one space is no part of the data.
    Gap,
    Data,
    /// In a line that carries nothing.
    Other,
}

#[derive(Debug)]
pub struct Events {
    at: At,
    /// A line feed would belong to the end of line that has been.
    after_return: bool,
}

impl Events {
    pub fn new() -> Self {
        Self { at: At::Name(0), after_return: false }
    }

    pub fn take(&mut self, mut bytes: &[u8], told: &mut impl FnMut(Part<'_>)) {
        while let Some((&first, rest)) = bytes.split_first() {
            let after_return = std::mem::replace(&mut self.after_return, first == b'\r');
            if ends_line(first) {
                if first != b'\n' || !after_return {
                    self.end_line(told);
                }
                bytes = rest;
                continue;
            }
            bytes = match self.at {
                At::Name(matched) => {
                    self.at = match DATA.get(matched) {
                        Some(&wanted) if wanted == first => At::Name(matched + 1),
                        None if first == b':' => At::Gap,
                        _ => At::Other,
                    };
                    rest
                }
                At::Gap => {
                    self.at = At::Data;
                    if first == b' ' { rest } else { bytes }
                }
                At::Data | At::Other => {
                    let end = bytes.iter().position(|&byte| ends_line(byte)).unwrap_or(bytes.len());
                    let (here, after) = bytes.split_at(end);
                    if self.at == At::Data {
                        told(Part::Data(here));
                    }
                    after
                }
            };
        }
    }

    fn end_line(&mut self, told: &mut impl FnMut(Part<'_>)) {
        match std::mem::replace(&mut self.at, At::Name(0)) {
            At::Name(0) => told(Part::End),
            At::Gap | At::Data => told(Part::Data(b"\n")),
            At::Name(_) | At::Other => {}
        }
    }
}

fn ends_line(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events(chunks: &[&[u8]]) -> Vec<String> {
        let (mut all, mut one) = (Vec::new(), Vec::new());
        let mut events = Events::new();
        for chunk in chunks {
            events.take(chunk, &mut |part| match part {
                Part::Data(data) => one.extend_from_slice(data),
                Part::End => all.push(String::from_utf8_lossy(&std::mem::take(&mut one)).into_owned()),
            });
        }
        all
    }

    #[test]
    fn events_are_read_as_browsers_read_them() {
        for (stream, expected) in [
            ("data: a\n\n", &["a\n"][..]),
            ("data:a\n\ndata:  b\n\n", &["a\n", " b\n"]),
            ("event: message_start\r\ndata: {}\r\n\r\n: ping\r\n\r\ndata: x\r\n\r\n", &["{}\n", "", "x\n"]),
            ("data: a\rdata: b\r\rdata: c\r\r", &["a\nb\n", "c\n"]),
            ("id: 1\ndata: a: b\nretry: 9\ndata:\ndata\ndataset: c\nxdata: d\n data: e\n\n", &["a: b\n\n"]),
            ("data: not whole", &[]),
            ("\n\r\n", &["", ""]),
        ] {
            assert_eq!(events(&[stream.as_bytes()]), expected, "{stream:?}");
        }
    }

    proptest! {
        #[test]
        fn where_it_is_cut_is_the_same(
            stream in "(data|data:|data: |da|: |x|\r\n|\n|\r){0,20}",
            cut in any::<prop::sample::Index>(),
        ) {
            let whole = events(&[stream.as_bytes()]);
            let (left, right) = stream.as_bytes().split_at(cut.index(stream.len() + 1));
            prop_assert_eq!(&events(&[left, right]), &whole);
            let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
            prop_assert_eq!(&events(&bytes), &whole);
        }
    }
}
