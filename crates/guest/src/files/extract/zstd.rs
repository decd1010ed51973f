//! Zstandard on its way in.

use super::{damaged, maker::too_large};
use crate::refusal::internal;
use rexec_api::guest::GuestError;
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

/// The largest window that is taken, 8 MiB: what all levels but the "ultra" ones need.
const WINDOW_LOG_MAX: u32 = 23;
/// What zstd calls `frameParameter_windowTooLarge` (`zstd_errors.h`): its numbers never change.
const WINDOW_TOO_LARGE: usize = 16;
const OUT_BYTES: usize = 128 * 1024;

pub struct Decompressor {
    context: DCtx<'static>,
    out: Vec<u8>,
    /// Nothing is owed: the input may end here.
    whole: bool,
}

impl Decompressor {
    pub fn new() -> Result<Self, GuestError> {
        let mut context = DCtx::try_create().ok_or_else(|| internal("no memory for an archive", "zstd"))?;
        let set = context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX));
        set.map_err(|code| internal("zstd", zstd_safe::get_error_name(code)))?;
        Ok(Self { context, out: Vec::with_capacity(OUT_BYTES), whole: false })
    }

    pub fn feed(
        &mut self,
        piece: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), GuestError>,
    ) -> Result<(), GuestError> {
        let mut input = InBuffer::around(piece);
        loop {
            self.out.clear();
            let mut output = OutBuffer::around(&mut self.out);
            let left = self.context.decompress_stream(&mut output, &mut input).map_err(fault)?;
            self.whole = left == 0;
            take(&self.out)?;
            // A full buffer may mean that more is ready, unless the frame is over; asked once more, it would begin another.
            if input.pos == piece.len() && (self.whole || self.out.len() < OUT_BYTES) {
                return Ok(());
            }
        }
    }

    pub fn finish(&self) -> Result<(), GuestError> {
        if self.whole { Ok(()) } else { Err(damaged("its compressed data ends too early")) }
    }
}

fn fault(code: zstd_safe::ErrorCode) -> GuestError {
    // An error is its number, negative, in an unsigned type.
    if code.wrapping_neg() == WINDOW_TOO_LARGE {
        return too_large("its compression needs a window of more than 8 MiB; compress it without --long and --ultra");
    }
    damaged("it is not compressed by zstd, or damaged")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rexec_api::error::ErrorCode;

    #[test]
    fn data_that_fills_the_buffer_to_its_end_is_whole() {
        for size in [OUT_BYTES - 1, OUT_BYTES, OUT_BYTES + 1, 3 * OUT_BYTES] {
            let mut compressed = Vec::with_capacity(zstd_safe::compress_bound(size));
            zstd_safe::compress(&mut compressed, &vec![7; size], 3).unwrap();
            for pieces in [1, 2, compressed.len()] {
                let (mut decompressor, mut taken) = (Decompressor::new().unwrap(), 0);
                for piece in compressed.chunks(compressed.len().div_ceil(pieces)) {
                    let take = |out: &[u8]| {
                        taken += out.len();
                        Ok(())
                    };
                    decompressor.feed(piece, take).unwrap();
                }
                assert!(decompressor.finish().is_ok() && taken == size, "{size} in {pieces}");
            }
        }
    }

    #[test]
    fn a_window_that_is_too_large_is_told_from_damage() {
        // Magic, no flags, a window of 2^30 bytes (RFC 8878, section 3.1.1), an empty last block.
        let large = [0x28, 0xb5, 0x2f, 0xfd, 0, 20 << 3, 1, 0, 0];
        let fed = |bytes: &[u8]| Decompressor::new().unwrap().feed(bytes, |_| Ok(())).unwrap_err().code;
        assert_eq!(fed(&large), ErrorCode::ArchiveTooLarge);
        assert_eq!(fed(b"no such thing as this"), ErrorCode::ArchiveInvalid);
    }
}
