//! A root file system and a home on their way from one host to another, through us and never on our disk.
//!
//! ```text
//! helper at the source --pack--> archive, then its digest --us--> archive --unpack--> helper at the target --its digest--> us
//! ```
//!
//! Invariant: what is given back was made at the target, of the same digest as what was read at the source: names, owners,
//! modes, times, attributes, links and content. Each side takes it from its own disk's side of the archive, and we compare.

use super::export::piece;
use super::import::{LINE_BYTES_MAX, Said};
use super::manifest::{About, Arrived, Manifest};
use super::{HOME, ROOT, home_mount, of_engine, of_stream};
use crate::error::{Error, Result};
use crate::hosts::Host;
use crate::hosts::delivery::EMPTY_IMAGE;
use crate::hosts::helper::{Helper, HelperSpec};
use crate::snapshots::plan::SnapshotPlan;
use bytes::BytesMut;
use rexec_api::error::ErrorCode;
use std::time::Duration;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};

/// What `pack --digest` writes after its archive.
const DIGEST_BYTES: usize = 32;
/// How long the target may take none of it.
const TARGET_PATIENCE: Duration = Duration::from_secs(120);
/// How long it may take to have all of it on its disk.
const ENDING_PATIENCE: Duration = Duration::from_secs(900);

/// What is to be carried, and whereto.
pub struct Transfer<'a> {
    /// Unique among all of the installation.
    pub job: String,
    pub from: &'a Host,
    pub to: &'a Host,
    /// The root file system at the source.
    pub image: String,
    /// The home at the source, and at the target, where it is there and empty.
    pub from_volume: &'a str,
    pub to_volume: &'a str,
    pub about: About,
    pub plan: SnapshotPlan,
}

/// All of it is at the target, verified.
pub struct Carried {
    /// Its root is the one that came; of it the image is made.
    pub helper: Helper,
    /// The image's environment, as it was at the source.
    pub env: Vec<String>,
    /// Compressed.
    pub bytes: u64,
    /// SHA-256, in hex.
    pub digest: String,
}

impl Transfer<'_> {
    fn jobs(&self) -> [String; 2] {
        [format!("{}-out", self.job), format!("{}-in", self.job)]
    }

    /// `moved` hears how many bytes have come so far.
    pub async fn carry(self, moved: impl Fn(u64)) -> Result<Carried> {
        let [out_job, in_job] = self.jobs();
        let spec = HelperSpec {
            job: out_job,
            image: Some(self.image.clone()),
            mounts: vec![home_mount(self.from_volume, true)],
            ..HelperSpec::default()
        };
        let out = Helper::open(self.from, spec).await.map_err(of_engine)?;
        let mounts = vec![home_mount(self.to_volume, false)];
        let spec = HelperSpec { job: in_job, mounts, ..HelperSpec::default() };
        let into = Helper::open(self.to, spec).await.map_err(of_engine)?;
        let empty = self.to.engine.image(EMPTY_IMAGE).await.map_err(of_engine)?;
        let architecture = empty.map(|image| image.architecture).unwrap_or_default();
        let manifest = serde_json::to_vec(&Manifest::new(self.about, self.plan)).map_err(Error::internal)?;

        let home = out.at(HOME);
        let mut packing = out.run(&["volume", "pack", "--digest", ROOT, &home]).await.map_err(of_engine)?;
        packing.write_all(&manifest).await.map_err(of_stream)?;
        packing.shutdown().await.map_err(of_stream)?;
        let unpacking = into.run(&["volume", "unpack", "--digest", ROOT, HOME]).await.map_err(of_engine)?;
        let (arrived, bytes, digest) = relay(packing, unpacking, &architecture, moved).await?;
        out.close().await.map_err(of_engine)?;
        Ok(Carried { helper: into, env: arrived.manifest.image_env(), bytes, digest })
    }

    /// Ends whatever runs of it, also what a server that died has left.
    pub async fn end(job: &str, hosts: [&Host; 2]) {
        for (host, end) in hosts.into_iter().zip(["out", "in"]) {
            if let Err(error) = Helper::remove_of(host, &format!("{job}-{end}")).await {
                tracing::debug!(host = host.name, %error, "a helper stays behind until the host is prepared again");
            }
        }
    }
}

/// Takes the archive across and compares what both sides say of it.
async fn relay(
    packing: impl AsyncRead + Unpin + Send,
    unpacking: impl AsyncRead + AsyncWrite + Send,
    architecture: &str,
    moved: impl Fn(u64),
) -> Result<(Arrived, u64, String)> {
    let (said, mut archive) = tokio::io::split(unpacking);
    let feeding = feed(packing, &mut archive, moved);
    let hearing = hear(said, architecture);
    tokio::pin!(feeding, hearing);
    let ending = async |hearing| tokio::time::timeout(ENDING_PATIENCE, hearing).await.map_err(|_| silent())?;
    let ((bytes, sent), (arrived, made)) = tokio::select! {
        // It has said why it takes no more, or all.
        heard = &mut hearing => {
            let heard = heard?;
            (feeding.await.map_err(Broken::told)?, heard)
        }
        fed = &mut feeding => match fed {
            Ok(fed) => (fed, ending(hearing).await?),
            Err(Broken::Source(error)) => return Err(error),
            // It has ended: that it says why is more to the point.
            Err(Broken::Target) => return Err(ending(hearing).await.err().unwrap_or_else(unverified)),
        },
    };
    if hex::encode(sent) != made {
        return Err(unverified());
    }
    Ok((arrived, bytes, made))
}

enum Broken {
    Source(Error),
    Target,
}

impl Broken {
    fn told(self) -> Error {
        match self {
            Self::Source(error) => error,
            Self::Target => unverified(),
        }
    }
}

/// Gives how many bytes there were, and what the source says of them.
async fn feed(
    mut packing: impl AsyncRead + Unpin + Send,
    archive: &mut (impl AsyncWrite + Unpin),
    moved: impl Fn(u64),
) -> std::result::Result<(u64, [u8; DIGEST_BYTES]), Broken> {
    let mut held = BytesMut::new();
    let mut bytes = 0;
    loop {
        let next = piece(&mut packing).await.map_err(|error| Broken::Source(of_stream(error)))?;
        if next.is_empty() {
            break;
        }
        held.extend_from_slice(&next);
        // The last of it is not the archive's.
        let ready = held.split_to(held.len().saturating_sub(DIGEST_BYTES));
        match tokio::time::timeout(TARGET_PATIENCE, archive.write_all(&ready)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(Broken::Target),
            Err(_) => return Err(Broken::Source(silent())),
        }
        bytes += ready.len() as u64;
        moved(bytes);
    }
    let digest = <[u8; DIGEST_BYTES]>::try_from(&held[..]).map_err(|_| Broken::Source(unverified()))?;
    archive.shutdown().await.map_err(|_| Broken::Target)?;
    Ok((bytes, digest))
}

/// What the target says: the manifest, what it has made, and what that comes to.
async fn hear(said: impl AsyncRead + Unpin, architecture: &str) -> Result<(Arrived, String)> {
    let mut said = BufReader::new(said);
    let first = line(&mut said).await?;
    if let Ok(Said::Refused(why)) = serde_json::from_str(&first) {
        return Err(damaged(why.into()));
    }
    let arrived = Arrived::read(&first, architecture).map_err(damaged)?;
    match serde_json::from_str(&line(&mut said).await?) {
        Ok(Said::Done(made)) if made == [arrived.root, arrived.home] => {}
        Ok(Said::Done(_)) => return Err(unverified()),
        Ok(Said::Refused(why)) => return Err(damaged(why.into())),
        Err(error) => return Err(unverified().source(error)),
    }
    let digest = line(&mut said).await?;
    Ok((arrived, digest.trim().to_owned()))
}

async fn line(said: &mut (impl AsyncBufRead + Unpin)) -> Result<String> {
    let mut line = String::new();
    said.take(LINE_BYTES_MAX).read_line(&mut line).await.map_err(of_stream)?;
    Ok(line)
}

/// The archive is our own: what is wrong with it came on the way. That there is too much of it, or that it is for another
/// machine, is told as it is.
fn damaged(why: Error) -> Error {
    match why.code {
        ErrorCode::ArchiveTooLarge => Error::new(
            ErrorCode::HostFull,
            "The other server's disk has no room for it. Move it to another, or make it smaller.",
        )
        .details(serde_json::json!({ "resource": "disk" }))
        .source(why),
        ErrorCode::ImageArchitecture => Error::new(
            ErrorCode::ImageArchitecture,
            "The other server is for another kind of processor. Move it to another.",
        ),
        _ => unverified().source(why),
    }
}

fn unverified() -> Error {
    let message = "What came to the other server is not what left this one, so it was not moved. Move it again; if it fails again, \
                   have the network and both disks looked at.";
    Error::new(ErrorCode::MoveUnverified, message)
}

fn silent() -> Error {
    let message = "The other server has stopped taking it in. Move it again once that server answers, or to another.";
    Error::new(ErrorCode::EngineUnavailable, message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokio::io::DuplexStream;

    fn about() -> About {
        About {
            name: "mine".into(),
            workspace_name: "mine".into(),
            created_at: "2026-01-01T00:00:00Z".into(),
            image: "rexec/base".into(),
            pause_ms: None,
            architecture: "amd64".into(),
            image_env: Vec::new(),
        }
    }

    /// A target that takes all there is and says this.
    async fn target(mut stream: DuplexStream, says: String) -> Vec<u8> {
        let mut taken = Vec::new();
        stream.read_to_end(&mut taken).await.unwrap();
        // Nobody listens any more where the source has failed.
        let _ = stream.write_all(says.as_bytes()).await;
        taken
    }

    async fn carried(source: &[u8], says: &str) -> (Result<(u64, String)>, Vec<u8>) {
        let (ours, theirs) = tokio::io::duplex(64);
        let target = tokio::spawn(target(theirs, says.to_owned()));
        let done = relay(source, ours, "amd64", |_| {}).await.map(|(_, bytes, digest)| (bytes, digest));
        (done, target.await.unwrap())
    }

    #[tokio::test]
    async fn only_what_both_sides_say_alike_has_come() {
        let told = json!({ "entries": 1, "bytes": 0, "size": 0 });
        let mut manifest = serde_json::to_value(Manifest::new(about(), SnapshotPlan::default())).unwrap();
        (manifest["root"], manifest["home"]) = (told.clone(), told.clone());
        let says = |digest: u8| format!("{manifest}\n{}\n{}\n", json!([told, told]), hex::encode([digest; 32]));
        let archive = [vec![1; 1000], vec![7; 32]].concat();

        let (done, taken) = carried(&archive, &says(7)).await;
        assert_eq!(done.unwrap(), (1000, hex::encode([7; 32])));
        assert_eq!(taken, vec![1; 1000], "the digest is no part of it");
        let code = async |source: &[u8], says: &str| carried(source, says).await.0.unwrap_err().code;
        assert_eq!(code(&archive, &says(6)).await, ErrorCode::MoveUnverified, "another digest");
        assert_eq!(code(&archive[..20], &says(7)).await, ErrorCode::MoveUnverified, "less than a digest");
        assert_eq!(code(&archive, "").await, ErrorCode::MoveUnverified, "it says nothing");
        assert_eq!(code(&archive, "{\"invalid\":\"damaged\"}\n").await, ErrorCode::MoveUnverified);
        assert_eq!(code(&archive, "{\"too_large\":\"no room\"}\n").await, ErrorCode::HostFull);
        let other = says(7).replace("amd64", "arm64");
        assert_eq!(code(&archive, &other).await, ErrorCode::ImageArchitecture);
    }
}
