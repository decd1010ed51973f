//! The one frame of Zstandard around an archive, on the way out and in.

use super::read::Refused;
use std::io::{self, Read, Write};
use zstd_safe::{CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer};

/// Quick, and with a window of 2 MiB small on both sides.
const LEVEL: i32 = 3;
const WINDOW_LOG: u32 = 21;
/// The largest window that is taken, 8 MiB.
const WINDOW_LOG_MAX: u32 = 23;
const BUFFER_BYTES: usize = 128 * 1024;
/// A frame's magic number, and in the byte after it the flag that a checksum ends it (RFC 8878, section 3.1.1).
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const CHECKSUM_FLAG: u8 = 1 << 2;

pub struct Packer<W> {
    to: W,
    context: CCtx<'static>,
    out: Vec<u8>,
}

impl<W: Write> Packer<W> {
    pub fn new(to: W) -> io::Result<Self> {
        let mut context = CCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
        let level = CParameter::CompressionLevel(LEVEL);
        for parameter in [level, CParameter::WindowLog(WINDOW_LOG), CParameter::ChecksumFlag(true)] {
            context.set_parameter(parameter).map_err(fault)?;
        }
        Ok(Self { to, context, out: Vec::with_capacity(BUFFER_BYTES) })
    }

    pub fn put(&mut self, plain: &[u8]) -> io::Result<()> {
        let mut input = InBuffer::around(plain);
        while input.pos < plain.len() {
            self.out.clear();
            let mut output = OutBuffer::around(&mut self.out);
            self.context.compress_stream(&mut output, &mut input).map_err(fault)?;
            self.to.write_all(&self.out)?;
        }
        Ok(())
    }

    pub fn finish(mut self) -> io::Result<()> {
        loop {
            self.out.clear();
            let mut output = OutBuffer::around(&mut self.out);
            let left = self.context.end_stream(&mut output).map_err(fault)?;
            self.to.write_all(&self.out)?;
            if left == 0 {
                return self.to.flush();
            }
        }
    }
}

pub struct Unpacker<R> {
    from: R,
    context: DCtx<'static>,
    input: Vec<u8>,
    taken: usize,
    out: Vec<u8>,
    given: usize,
    is_whole: bool,
}

impl<R: Read> Unpacker<R> {
    /// Reads the frame's first bytes.
    pub fn new(mut from: R) -> Result<Self, Refused> {
        let mut input = vec![0; MAGIC.len() + 1];
        from.read_exact(&mut input).map_err(cut)?;
        if input[..4] != MAGIC || input[4] & CHECKSUM_FLAG == 0 {
            return Err(Refused::invalid("it is not compressed by zstd, or has no checksum"));
        }
        let mut context = DCtx::try_create().ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(fault)?;
        let out = Vec::with_capacity(BUFFER_BYTES);
        Ok(Self { from, context, input, taken: 0, out, given: 0, is_whole: false })
    }

    /// The next plain bytes, at most `most`; none at the end of the frame.
    pub fn next(&mut self, most: u64) -> Result<&[u8], Refused> {
        while self.given == self.out.len() && !self.is_whole {
            self.decompress()?;
        }
        let count = usize::try_from(most).unwrap_or(usize::MAX).min(self.out.len() - self.given);
        self.given += count;
        Ok(&self.out[self.given - count..self.given])
    }

    fn decompress(&mut self) -> Result<(), Refused> {
        // A full buffer may mean that more is ready without any input.
        if self.taken == self.input.len() && self.out.len() < self.out.capacity() {
            self.input.resize(BUFFER_BYTES, 0);
            let count = self.from.read(&mut self.input)?;
            self.input.truncate(count);
            self.taken = 0;
            if count == 0 {
                return Err(cut(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        self.out.clear();
        self.given = 0;
        let mut input = InBuffer::around(&self.input[self.taken..]);
        let mut output = OutBuffer::around(&mut self.out);
        let left = self.context.decompress_stream(&mut output, &mut input);
        let left = left.map_err(|_| Refused::invalid("it is damaged, or needs a window of more than 8 MiB"))?;
        self.taken += input.pos;
        self.is_whole = left == 0;
        Ok(())
    }

    /// Nothing may follow: neither in the frame nor after it.
    pub fn finish(mut self) -> Result<(), Refused> {
        let rest = self.next(1)?.len();
        if rest > 0 || self.taken < self.input.len() || self.from.read(&mut [0])? > 0 {
            return Err(Refused::invalid("something follows its end"));
        }
        Ok(())
    }
}

fn cut(error: io::Error) -> Refused {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Refused::invalid("it ends too early"),
        _ => Refused::Failed(error),
    }
}

fn fault(code: zstd_safe::ErrorCode) -> io::Error {
    io::Error::other(zstd_safe::get_error_name(code))
}
