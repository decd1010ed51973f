//! Docker's framing of a stream without a terminal: takes stdout out of it, keeps the end of stderr.
//!
//! A frame is one byte of stream (1 stdout, 2 stderr, 3 the engine's own error), three zero bytes,
//! and the payload's length as a big-endian u32 (Docker Engine API, "Stream format" of
//! ContainerAttach). The engine writes the headers, but the container chooses payloads, so nothing
//! is ever buffered for a length: payload bytes go through as they come.
//!
//! Invariant: memory is the eight header bytes and [`STDERR_BYTES_MAX`], whatever is fed.

/// How much of the end of stderr is kept.
pub(super) const STDERR_BYTES_MAX: usize = 4 * 1024;
const HEADER_BYTES: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Stdout,
    Stderr,
    /// What the engine itself has to report, such as a container that is gone.
    Fault,
}

/// How far one call came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) consumed: usize,
    pub(super) written: usize,
}

/// Why a stream cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Broken {
    /// No such kind of frame; or padding that is not zero.
    Header([u8; 4]),
    /// The engine says so; its words.
    Fault(String),
}

#[derive(Debug, Default)]
pub(super) struct Stdcopy {
    header: [u8; HEADER_BYTES],
    header_len: usize,
    kind: Option<Kind>,
    /// Payload bytes still to come in this frame.
    remaining: u32,
    stderr: Vec<u8>,
    /// Found behind stdout that had to be given first; there is no reading on.
    broken: Option<Broken>,
}

impl Stdcopy {
    /// Takes from `input` and writes stdout to `out` until one of them ends. What came before a
    /// fault is given before the fault is told.
    pub(super) fn decode(&mut self, input: &[u8], out: &mut [u8]) -> Result<Step, Broken> {
        let mut step = Step { consumed: 0, written: 0 };
        if self.broken.is_none() {
            self.broken = self.advance(input, out, &mut step).err();
        }
        match &self.broken {
            Some(broken) if step.written == 0 => Err(broken.clone()),
            _ => Ok(step),
        }
    }

    /// Whether [`Stdcopy::decode`] has a fault to tell, without any input.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    fn advance(&mut self, input: &[u8], out: &mut [u8], step: &mut Step) -> Result<(), Broken> {
        while step.consumed < input.len() {
            let rest = &input[step.consumed..];
            let Some(kind) = self.kind else {
                step.consumed += self.take_header(rest)?;
                continue;
            };
            let available = rest.len().min(self.remaining as usize);
            let taken = match kind {
                Kind::Stdout => {
                    let room = &mut out[step.written..];
                    let taken = available.min(room.len());
                    room[..taken].copy_from_slice(&rest[..taken]);
                    step.written += taken;
                    taken
                }
                Kind::Stderr | Kind::Fault => {
                    self.keep(&rest[..available]);
                    available
                }
            };
            if taken == 0 {
                break;
            }
            step.consumed += taken;
            self.payload_taken(taken)?;
        }
        Ok(())
    }

    /// Whether the stream may end here: not within a frame.
    pub(super) fn between_frames(&self) -> bool {
        self.kind.is_none() && self.header_len == 0
    }

    /// The end of stderr, as text.
    pub(super) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim_end().to_owned()
    }

    fn take_header(&mut self, input: &[u8]) -> Result<usize, Broken> {
        let taken = input.len().min(HEADER_BYTES - self.header_len);
        self.header[self.header_len..self.header_len + taken].copy_from_slice(&input[..taken]);
        self.header_len += taken;
        if self.header_len < HEADER_BYTES {
            return Ok(taken);
        }
        let [stream, a, b, c, length @ ..] = self.header;
        let kind = match (stream, [a, b, c]) {
            (1, [0, 0, 0]) => Kind::Stdout,
            (2, [0, 0, 0]) => Kind::Stderr,
            (3, [0, 0, 0]) => Kind::Fault,
            _ => return Err(Broken::Header([stream, a, b, c])),
        };
        self.header_len = 0;
        self.remaining = u32::from_be_bytes(length);
        if kind == Kind::Fault {
            self.stderr.clear();
        }
        self.kind = Some(kind);
        self.payload_taken(0)?;
        Ok(taken)
    }

    fn payload_taken(&mut self, taken: usize) -> Result<(), Broken> {
        self.remaining -= taken as u32;
        if self.remaining > 0 {
            return Ok(());
        }
        match self.kind.take() {
            Some(Kind::Fault) => Err(Broken::Fault(self.stderr())),
            _ => Ok(()),
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(STDERR_BYTES_MAX)..];
        let excess = (self.stderr.len() + bytes.len()).saturating_sub(STDERR_BYTES_MAX);
        self.stderr.drain(..excess);
        self.stderr.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind, 0, 0, 0];
        bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    /// Feeds pieces of `piece` bytes into windows of `window` bytes.
    fn run(decoder: &mut Stdcopy, input: &[u8], piece: usize, window: usize) -> Result<Vec<u8>, Broken> {
        let mut stdout = Vec::new();
        let mut out = vec![0; window];
        for mut part in input.chunks(piece) {
            while !part.is_empty() {
                let step = decoder.decode(part, &mut out)?;
                assert!(step.consumed > 0);
                part = &part[step.consumed..];
                stdout.extend_from_slice(&out[..step.written]);
            }
        }
        if decoder.is_broken() { decoder.decode(&[], &mut out).map(|_| stdout) } else { Ok(stdout) }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(
            frames in prop::collection::vec((1u8..=2, prop::collection::vec(any::<u8>(), 0..200)), 0..20),
            piece in 1usize..64,
            window in 1usize..64,
        ) {
            let input: Vec<u8> = frames.iter().flat_map(|(kind, payload)| frame(*kind, payload)).collect();
            let stream = |wanted: u8| -> Vec<u8> {
                frames.iter().filter(|f| f.0 == wanted).flat_map(|f| f.1.clone()).collect()
            };
            let mut decoder = Stdcopy::default();
            prop_assert_eq!(run(&mut decoder, &input, piece, window).expect("well formed"), stream(1));
            prop_assert!(decoder.between_frames());
            let stderr = stream(2);
            prop_assert_eq!(&decoder.stderr, &stderr[stderr.len().saturating_sub(STDERR_BYTES_MAX)..]);
        }

        #[test]
        fn anything_is_bounded_and_never_panics(input in prop::collection::vec(any::<u8>(), 0..2000), piece in 1usize..64) {
            let mut decoder = Stdcopy::default();
            let _ = run(&mut decoder, &input, piece, 16);
            prop_assert!(decoder.stderr.capacity() <= 2 * STDERR_BYTES_MAX);
        }
    }

    #[test]
    fn unknown_kinds_and_padding_are_refused() {
        for header in [[0, 0, 0, 0], [4, 0, 0, 0], [255, 0, 0, 0], [1, 0, 0, 1], [2, 9, 0, 0]] {
            let mut input = header.to_vec();
            input.extend_from_slice(&[0, 0, 0, 1, b'x']);
            assert_eq!(run(&mut Stdcopy::default(), &input, 3, 8), Err(Broken::Header(header)));
        }
    }

    #[test]
    fn what_came_before_a_fault_is_given_first() {
        let mut input = frame(1, b"good");
        input.extend_from_slice(&[7; 8]);
        let (mut decoder, mut out) = (Stdcopy::default(), [0; 64]);
        let step = decoder.decode(&input, &mut out).expect("the good part");
        assert_eq!(&out[..step.written], b"good");
        assert!(decoder.is_broken());
        for _ in 0..2 {
            assert_eq!(decoder.decode(&frame(1, b"x"), &mut out), Err(Broken::Header([7; 4])));
        }
    }

    #[test]
    fn a_huge_length_costs_nothing() {
        let mut decoder = Stdcopy::default();
        let mut out = [0; 64];
        decoder.decode(&[2, 0, 0, 0, 255, 255, 255, 255], &mut out).expect("a header");
        for _ in 0..1000 {
            decoder.decode(&[b'e'; 10_000], &mut out).expect("payload");
        }
        assert_eq!(decoder.stderr.len(), STDERR_BYTES_MAX);
        assert!(!decoder.between_frames());
    }

    #[test]
    fn payload_that_looks_like_a_header_is_payload() {
        let payload = frame(9, b"\x01\x00\x00\x00\x7f\xff\xff\xff");
        let mut decoder = Stdcopy::default();
        assert_eq!(run(&mut decoder, &frame(1, &payload), 1, 1).expect("well formed"), payload);
    }

    #[test]
    fn the_end_of_stderr_is_kept() {
        let mut decoder = Stdcopy::default();
        let mut input = frame(2, &[b'a'; STDERR_BYTES_MAX * 2]);
        input.extend(frame(2, b"the end\n"));
        run(&mut decoder, &input, 777, 8).expect("well formed");
        assert_eq!(decoder.stderr.len(), STDERR_BYTES_MAX);
        assert!(decoder.stderr().ends_with("athe end"));
    }

    #[test]
    fn the_engines_own_error_ends_the_stream() {
        let mut input = frame(2, b"noise");
        input.extend(frame(3, b"it is gone"));
        assert_eq!(run(&mut Stdcopy::default(), &input, 4, 8), Err(Broken::Fault("it is gone".into())));
    }
}
