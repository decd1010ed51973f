//! SSH: our gateway, with a workspace behind it, against OpenSSH's `sshd`, which runs programs on this machine itself.

pub mod sides;

use super::echo;
use crate::ours::Ours;
use crate::procs;
use crate::report::{Bound, Report, median, percentile};
use anyhow::{Context, Result, ensure};
use rexec_api::ids::WorkspaceId;
use sides::{Side, Sides, finish, until};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

const CONNECTS: usize = 15;
const KEYS_PER_TURN: usize = 200;
const TURNS: usize = 5;
const KEY_GAP: Duration = Duration::from_millis(2);
/// What a terminal prints, and how often.
const OUTPUT_BYTES: usize = 100 << 20;
const ROUNDS: usize = 3;
const FILE_BYTES: usize = 500_000_000;
const CROWD: usize = 200;
const CROWD_KIB_MAX: f64 = 1024.0;
const IN_A_ROW: usize = 1000;
/// What a server may have open or hold more after all those, once it rests.
const DESCRIPTORS_MORE_MAX: f64 = 8.0;
const REST: Duration = Duration::from_secs(10);

pub async fn run(ours: &Ours, workspace: WorkspaceId, report: &mut Report) -> Result<()> {
    let sides = Sides::open(ours, workspace).await?;
    report.peer = sides.peer.name;
    let outcome = async {
        connect(&sides, report).await?;
        keys(&sides, report).await?;
        output(&sides, report).await?;
        files(&sides, report).await?;
        crowd(ours, &sides, report).await?;
        in_a_row(ours, &sides, report).await
    }
    .await;
    report.peer = Report::default().peer;
    sides.close().await?;
    outcome
}

async fn connect(sides: &Sides, report: &mut Report) -> Result<()> {
    async fn once(side: &Side, options: &[&str]) -> Result<Duration> {
        let began = Instant::now();
        let mut child = side.ssh().args(options).args(["127.0.0.1", "echo here"]).spawn()?;
        until(child.stdout.as_mut().context("stdout")?, b"here").await?;
        let took = began.elapsed();
        ensure!(child.wait().await?.success(), "ssh to {} fails", side.name);
        Ok(took)
    }
    let same = ["-o", "KexAlgorithms=curve25519-sha256"];
    for (options, what) in [(&[][..], "connect to first output"), (&same[..], "the same by one key exchange")] {
        let (mut ours, mut peer) = (Vec::new(), Vec::new());
        for round in 0..=CONNECTS {
            let (a, b) = (once(&sides.ours, options).await?, once(&sides.peer, options).await?);
            // The first makes the host known.
            if round > 0 {
                ours.push(a);
                peer.push(b);
            }
        }
        report.times(&format!("ssh {what}"), median(&mut ours), median(&mut peer), Bound::AtMost(0.6));
    }
    let (ours, peer) = (sides.ours.key_exchange().await?, sides.peer.key_exchange().await?);
    report.note(format!("the client's own choice of a key exchange: {ours} with ours, {peer} with sshd"));
    Ok(())
}

/// A program at a terminal, typed to through `ssh`.
struct Typed(Child);

impl Typed {
    async fn open(side: &Side, command: &str) -> Result<Self> {
        let mut ssh = side.ssh();
        let child = ssh.args(["-tt", "-e", "none", "127.0.0.1", command]).stdin(Stdio::piped()).spawn()?;
        Ok(Self(child))
    }

    async fn key(&mut self) -> Result<Duration> {
        let (Some(stdin), Some(stdout)) = (&mut self.0.stdin, &mut self.0.stdout) else {
            anyhow::bail!("its pipes are gone")
        };
        let began = Instant::now();
        stdin.write_all(b"k").await?;
        ensure!(stdout.read(&mut [0; 64]).await? > 0, "the terminal ended");
        Ok(began.elapsed())
    }

    async fn keys(&mut self) -> Result<Vec<Duration>> {
        let mut samples = Vec::new();
        for _ in 0..KEYS_PER_TURN {
            tokio::time::sleep(KEY_GAP).await;
            samples.push(self.key().await?);
        }
        Ok(samples)
    }
}

async fn keys(sides: &Sides, report: &mut Report) -> Result<()> {
    // Echoed by the terminal; what is read is thrown away. A line is never longer than the kernel takes.
    let command = "printf ready; exec cat >/dev/null";
    let (mut ours, mut peer) = (Typed::open(&sides.ours, command).await?, Typed::open(&sides.peer, command).await?);
    for typed in [&mut ours, &mut peer] {
        until(typed.0.stdout.as_mut().context("stdout")?, b"ready").await?;
    }
    let (mut on_ours, mut on_peer) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        on_ours.extend(ours.keys().await?);
        on_peer.extend(peer.keys().await?);
    }
    let (p50, peer_p50) = (percentile(&mut on_ours, 50.0), percentile(&mut on_peer, 50.0));
    report.times("ssh echo, p50", p50, peer_p50, Bound::AtMost(1.5));
    report.note(format!("ssh echo: ours {}  sshd {}", echo::told(&mut on_ours), echo::told(&mut on_peer)));
    Ok(())
}

async fn output(sides: &Sides, report: &mut Report) -> Result<()> {
    async fn once(side: &Side) -> Result<Duration> {
        let line = "the quick brown fox jumps over the lazy dog and then some more, up to 78 columns";
        let command = format!("printf ready; yes '{line}' | head -c {OUTPUT_BYTES}");
        let mut child = side.ssh().args(["-tt", "127.0.0.1", &command]).stdin(Stdio::piped()).spawn()?;
        let stdout = child.stdout.as_mut().context("stdout")?;
        until(stdout, b"ready").await?;
        let began = Instant::now();
        let (mut buffer, mut total) = (vec![0; 256 * 1024], 0);
        loop {
            let count = stdout.read(&mut buffer).await?;
            if count == 0 {
                break;
            }
            total += count;
        }
        let took = began.elapsed();
        // Each line's end has become two bytes: that is more than came with the first word.
        ensure!(total >= OUTPUT_BYTES, "{total} bytes came from {}", side.name);
        ensure!(child.wait().await?.success(), "ssh to {} fails", side.name);
        Ok(took)
    }
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(once(&sides.ours).await?);
        peer.push(once(&sides.peer).await?);
    }
    report.speed("ssh terminal output, speed", median(&mut ours), median(&mut peer), Bound::AtLeast(0.9));
    Ok(())
}

async fn files(sides: &Sides, report: &mut Report) -> Result<()> {
    let local = sides.dir.path().join("local");
    std::fs::write(&local, super::files::noise(FILE_BYTES))?;
    let back = sides.dir.path().join("back");
    let (from, to) = (local.display().to_string(), back.display().to_string());
    let sftp = |side: &Side, batch: String| {
        let mut command = side.program("sftp");
        command.args(["-q", "-b", "-"]).arg(side.place("")).stdin(Stdio::piped()).stdout(Stdio::null());
        (command, batch)
    };
    for (what, is_sftp) in [("sftp", true), ("scp", false)] {
        let mut times = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (at, side) in [&sides.ours, &sides.peer].into_iter().enumerate() {
                let far = format!("{}/large", side.directory);
                for (step, (put, get)) in [(true, false), (false, true)].into_iter().enumerate() {
                    let began = Instant::now();
                    if is_sftp {
                        let line = if put { format!("put {from} {far}\n") } else { format!("get {far} {to}\n") };
                        let (mut command, batch) = sftp(side, line);
                        let mut child = command.spawn()?;
                        child.stdin.take().context("stdin")?.write_all(batch.as_bytes()).await?;
                        let ended = child.wait_with_output().await?;
                        ensure!(ended.status.success(), "sftp: {}", String::from_utf8_lossy(&ended.stderr));
                    } else {
                        let mut scp: Command = side.program("scp");
                        let place = side.place(&far);
                        finish(scp.arg("-q").args(if get { [&place, &to] } else { [&from, &place] })).await?;
                    }
                    times[2 * at + step].push(began.elapsed());
                }
                let size = std::fs::metadata(&back)?.len();
                ensure!(size == FILE_BYTES as u64, "{size} bytes came back from {}", side.name);
                std::fs::remove_file(&back)?;
                finish(side.ssh().args(["127.0.0.1", &format!("rm {far}")])).await?;
            }
        }
        for (step, way) in ["in", "out"].into_iter().enumerate() {
            let (ours, peer) = (median(&mut times[step]), median(&mut times[2 + step]));
            report.speed(&format!("{what} 500 MB {way}, speed"), ours, peer, Bound::AtLeast(0.8));
        }
    }
    Ok(())
}

/// Many connections at once, held until all are there.
async fn crowd(server: &Ours, sides: &Sides, report: &mut Report) -> Result<()> {
    let before = procs::resident_kib(server.pid())?;
    let began = Instant::now();
    let mut held = Vec::new();
    for _ in 0..CROWD {
        let mut ssh = sides.ours.ssh();
        held.push(ssh.args(["127.0.0.1", "echo here; cat"]).stdin(Stdio::piped()).spawn()?);
    }
    let mut failed = 0;
    for child in &mut held {
        failed += usize::from(until(child.stdout.as_mut().context("stdout")?, b"here").await.is_err());
    }
    let took = began.elapsed();
    let each = procs::resident_kib(server.pid())?.saturating_sub(before) as f64 / CROWD as f64;
    for mut child in held {
        drop(child.stdin.take());
        failed += usize::from(!child.wait().await?.success());
    }
    report.figure("ssh connections that failed", &format!("{CROWD} at once"), failed as f64, "", Bound::AtMost(0.0));
    let sides = format!("all there after {:.1} s", took.as_secs_f64());
    report.figure("ssh memory of each at the server", &sides, each, "KiB", Bound::AtMost(CROWD_KIB_MAX));
    Ok(())
}

async fn in_a_row(server: &Ours, sides: &Sides, report: &mut Report) -> Result<()> {
    let open = || std::fs::read_dir(format!("/proc/{}/fd", server.pid())).map(Iterator::count);
    let (descriptors, memory) = (open()?, procs::resident_kib(server.pid())?);
    let began = Instant::now();
    for _ in 0..IN_A_ROW {
        finish(sides.ours.ssh().args(["127.0.0.1", "true"])).await?;
    }
    let took = began.elapsed();
    tokio::time::sleep(REST).await;
    let more = open()? as f64 - descriptors as f64;
    let grown = procs::resident_kib(server.pid())? as i64 - memory as i64;
    let what = format!("{IN_A_ROW} connects in {:.0} s; memory {grown:+} KiB", took.as_secs_f64());
    report.figure("ssh descriptors left behind", &what, more, "", Bound::AtMost(DESCRIPTORS_MORE_MAX));
    Ok(())
}
