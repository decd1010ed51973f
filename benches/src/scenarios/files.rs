//! Files in and out: one of 500 MB, and ten thousand small ones as one archive; against what `docker cp` asks of
//! the engine, which is a tar either way.

use super::Stage;
use crate::report::{Bound, Report, median};
use anyhow::{Context, Result};
use bytes::Bytes;
use rexec_api::files::ArchiveFormat;
use std::time::{Duration, Instant};

const ROUNDS: usize = 3;
const BLOCK: usize = 512;
const PIECE_BYTES: usize = 1_000_000;
const PIECES: usize = 500;
const FILES: usize = 10_000;
const SMALL_BYTES: usize = 700;
const HOME: &str = "/home/user";

/// Bytes that no compressor makes smaller, the same in every run (xorshift64).
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut noise = Vec::with_capacity(bytes + 8);
    while noise.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_le_bytes());
    }
    noise.truncate(bytes);
    noise
}

/// A tar's header (POSIX.1-2001, `ustar`) of a file of uid 1000.
fn header(name: &str, size: usize) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut text = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    text(0, name);
    for (at, value) in [(100, "0000644"), (108, "0001750"), (116, "0001750")] {
        text(at, value);
    }
    text(124, &format!("{size:011o}"));
    text(136, "14000000000");
    text(148, "        ");
    text(156, "0");
    text(257, "ustar\x0000");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

pub async fn large(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    let piece = noise(PIECE_BYTES);
    let size = PIECE_BYTES * PIECES;
    let end = vec![0; 2 * BLOCK + size.next_multiple_of(BLOCK) - size];
    let shared = Bytes::from(piece.clone());
    let (client, mut times) = (&stage.ours.client, Times::default());
    // A name of its own each time: what is measured is what comes, not what it replaces.
    for round in 0..ROUNDS {
        let (name, path) = (format!("large-{round}"), format!("{HOME}/large-{round}"));
        let head = header(&name, size);
        let mut tar: Vec<&[u8]> = vec![&head];
        tar.extend(std::iter::repeat_n(piece.as_slice(), PIECES));
        tar.push(&end);
        let pieces = futures_util::stream::iter(vec![shared.clone(); PIECES].into_iter().map(Ok::<_, std::io::Error>));
        let began = Instant::now();
        client.write_file(stage.workspace, &path, rexec_client::Body::wrap_stream(pieces)).await?;
        times.ours_in.push(began.elapsed());
        let began = Instant::now();
        stage.peer.put_archive(&stage.container, HOME, &tar).await?;
        times.peer_in.push(began.elapsed());

        let began = Instant::now();
        drain(client.open_file(stage.workspace, &path).await?, size as u64).await?;
        times.ours_out.push(began.elapsed());
        let began = Instant::now();
        stage.peer.get_archive(&stage.container, &path).await?;
        times.peer_out.push(began.elapsed());
    }
    times.report("500 MB", Bound::AtLeast(0.7), report);
    Ok(())
}

pub async fn many(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    let noise = noise(FILES + SMALL_BYTES);
    let (client, mut times) = (&stage.ours.client, Times::default());
    for round in 0..ROUNDS {
        let (name, path) = (format!("many-{round}"), format!("{HOME}/many-{round}"));
        let mut tar = Vec::new();
        for n in 0..FILES {
            tar.extend_from_slice(&header(&format!("{name}/{}/{n}", n % 100), SMALL_BYTES));
            tar.extend_from_slice(&noise[n..n + SMALL_BYTES]);
            tar.resize(tar.len().next_multiple_of(BLOCK), 0);
        }
        tar.resize(tar.len() + 2 * BLOCK, 0);
        let began = Instant::now();
        client.extract(stage.workspace, HOME, ArchiveFormat::Tar, tar.clone()).await?;
        times.ours_in.push(began.elapsed());
        let began = Instant::now();
        stage.peer.put_archive(&stage.container, HOME, &[&tar]).await?;
        times.peer_in.push(began.elapsed());

        let began = Instant::now();
        drain(client.archive(stage.workspace, &path, ArchiveFormat::Tar).await?, tar.len() as u64).await?;
        times.ours_out.push(began.elapsed());
        let began = Instant::now();
        stage.peer.get_archive(&stage.container, &path).await?;
        times.peer_out.push(began.elapsed());
    }
    times.report("10,000 files", Bound::AtLeast(1.0), report);
    Ok(())
}

async fn drain(mut answer: rexec_client::Response, at_least: u64) -> Result<()> {
    let mut bytes = 0;
    while let Some(chunk) = answer.chunk().await? {
        bytes += chunk.len() as u64;
    }
    (bytes >= at_least).then_some(()).with_context(|| format!("{bytes} bytes came of {at_least}"))
}

#[derive(Default)]
struct Times {
    ours_in: Vec<Duration>,
    peer_in: Vec<Duration>,
    ours_out: Vec<Duration>,
    peer_out: Vec<Duration>,
}

impl Times {
    fn report(mut self, what: &str, bound: Bound, report: &mut Report) {
        report.speed(&format!("{what} in, speed"), median(&mut self.ours_in), median(&mut self.peer_in), bound);
        report.speed(&format!("{what} out, speed"), median(&mut self.ours_out), median(&mut self.peer_out), bound);
    }
}
