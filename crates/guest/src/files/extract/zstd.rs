//! Zstandard on its way in.

use super::{damaged, maker::too_large};
use crate::refusal::internal;
use rexec_api::guest::GuestError;
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

/// The largest window that is taken, 8 MiB: what all levels but the "ultra" ones need.
const WINDOW_LOG_MAX: u32 = 23;
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
            // A full buffer may mean that more is ready.
            if input.pos == piece.len() && self.out.len() < OUT_BYTES {
                return Ok(());
            }
        }
    }

    pub fn finish(&self) -> Result<(), GuestError> {
        if self.whole { Ok(()) } else { Err(damaged("its compressed data ends too early")) }
    }
}

fn fault(code: zstd_safe::ErrorCode) -> GuestError {
    let name = zstd_safe::get_error_name(code);
    if name.contains("memory") {
        return too_large("its compression needs a window of more than 8 MiB; compress it without --long and --ultra");
    }
    damaged("it is not compressed by zstd, or damaged")
}
