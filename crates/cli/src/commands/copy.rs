//! `cp`: files and folders between this machine and a workspace.
//!
//! A file is written beside its place and renamed, on either side; a folder travels as a tar. `-` is standard
//! input or output.

use super::workspaces::awake;
use crate::connection::Connection;
use crate::failure::{Failure, Result};
use crate::show;
use rexec_api::files::{ArchiveFormat, FileKind};
use rexec_api::ids::WorkspaceId;
use rexec_api::workspaces::MachineView;
use rexec_client::{Body, Client, ClientError, Response};
use std::ffi::OsStr;
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_util::io::{ReaderStream, SyncIoBridge};

/// What a relative path in a workspace begins at; a joined machine says what in it.
const HOME: &str = "/home/user";
const PIECE_BYTES: usize = 256 * 1024;
/// Between the two ends of a tar on its way.
const PIPE_BYTES: usize = 1024 * 1024;
/// How often the progress is told.
const TOLD_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
pub struct CopyArguments {
    /// WORKSPACE:PATH, a path of this machine, or `-`.
    from: String,
    /// The same; one of the two is in a workspace.
    to: String,
    /// Copy a folder with all that is in it.
    #[arg(long, short)]
    recursive: bool,
}

/// One end of a copy.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    Here(PathBuf),
    Standard,
    /// The path as it was given.
    There {
        workspace: String,
        path: String,
    },
}

impl End {
    /// A word before a colon is a workspace, unless a slash comes first: `./a:b` is a file of this machine.
    pub(super) fn parse(text: &str) -> Self {
        match text.split_once(':') {
            _ if text == "-" => Self::Standard,
            Some((workspace, path)) if !workspace.is_empty() && !workspace.contains('/') => {
                // The home is where a relative path begins anyhow.
                let path = path.strip_prefix("~/").unwrap_or(if path == "~" { "" } else { path });
                Self::There { workspace: workspace.into(), path: path.into() }
            }
            _ => Self::Here(text.into()),
        }
    }
}

pub async fn run(connection: &Connection, arguments: CopyArguments) -> Result<()> {
    let client = connection.client()?;
    match (End::parse(&arguments.from), End::parse(&arguments.to)) {
        (End::There { .. }, End::There { .. }) => {
            Err(Failure::Usage("Both are in workspaces. Copy to this machine first, or between them by a pipe.".into()))
        }
        (End::There { workspace, path }, to) => {
            let from = Place::of(client, &workspace, path).await?;
            from.fetch(to, arguments.recursive).await
        }
        (from, End::There { workspace, path }) => {
            let to = Place::of(client, &workspace, path).await?;
            to.bring(from, arguments.recursive).await
        }
        _ => Err(Failure::Usage("Neither is in a workspace: write one as WORKSPACE:PATH.".into())),
    }
}

/// A path in a workspace.
struct Place {
    client: Client,
    id: WorkspaceId,
    path: String,
    /// The path as it was given.
    typed: String,
}

/// An absolute path; what is relative is meant from the home.
fn absolute(path: String, machine: Option<&MachineView>) -> String {
    if path.starts_with('/') {
        return path;
    }
    let home = machine.map(|machine| machine.home.as_str()).filter(|home| !home.is_empty()).unwrap_or(HOME);
    format!("{}/{path}", home.trim_end_matches('/'))
}

impl Place {
    async fn of(client: Client, workspace: &str, path: String) -> Result<Self> {
        let view = awake(&client, workspace).await?;
        Ok(Self { path: absolute(path.clone(), view.machine.as_ref()), typed: path, id: view.id, client })
    }

    /// Whether a folder has the path; `None` when nothing has.
    async fn is_folder(&self) -> Result<Option<bool>> {
        match self.client.stat_file(self.id, &self.path).await {
            Ok(info) => Ok(Some(info.kind == FileKind::Directory)),
            Err(ClientError::Refused(refused)) if refused.code.http_status() == 404 => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What it is called here: by what was typed, because where a home is only the workspace says.
    fn name(&self) -> Result<&str> {
        let name = self.typed.trim_end_matches('/').rsplit('/').next();
        let name = name.filter(|name| !matches!(*name, "" | "." | ".."));
        name.ok_or_else(|| Failure::Usage(format!("{:?} has no name to copy it under: give one.", self.typed)))
    }

    async fn fetch(&self, to: End, recursive: bool) -> Result<()> {
        let is_folder = self.is_folder().await?;
        let is_folder = is_folder.ok_or_else(|| Failure::NotFound(format!("There is no {} there.", self.path)))?;
        match to {
            End::There { .. } => Err(Failure::Usage("Both are in workspaces.".into())),
            End::Standard if is_folder => {
                let tar = self.client.archive(self.id, &self.path, ArchiveFormat::Tar).await?;
                pass(tar, &mut tokio::io::stdout(), "standard output").await
            }
            End::Standard => {
                pass(self.client.open_file(self.id, &self.path).await?, &mut tokio::io::stdout(), "standard output")
                    .await
            }
            End::Here(_) if is_folder && !recursive => Err(needs_recursive(&self.path)),
            End::Here(to) => {
                let to = if to.is_dir() { to.join(self.name()?) } else { to };
                if is_folder { self.fetch_folder(&to).await } else { self.fetch_file(&to).await }
            }
        }
    }

    async fn fetch_file(&self, to: &Path) -> Result<()> {
        let response = self.client.open_file(self.id, &self.path).await?;
        let shown = to.display().to_string();
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Gone again unless it becomes the file.
        let beside =
            tempfile::Builder::new().prefix(".rexec-").tempfile_in(folder).map_err(Failure::io(shown.as_str()))?;
        let mut out = tokio::fs::File::from_std(beside.reopen().map_err(Failure::io(shown.as_str()))?);
        pass(response, &mut out, &shown).await?;
        out.sync_all().await.map_err(Failure::io(shown.as_str()))?;
        beside.as_file().set_permissions(permissions(to)).map_err(Failure::io(shown.as_str()))?;
        beside.persist(to).map_err(|error| Failure::io(shown)(error.error))?;
        Ok(())
    }

    async fn fetch_folder(&self, to: &Path) -> Result<()> {
        let mut response = self.client.archive(self.id, &self.path, ArchiveFormat::Tar).await?;
        let (mut sender, receiver) = tokio::io::duplex(PIPE_BYTES);
        let (shown, to) = (to.display().to_string(), to.to_owned());
        let reader = SyncIoBridge::new(receiver);
        let unpacked = tokio::task::spawn_blocking(move || unpack(reader, &to));
        let mut progress = Progress::new(&self.path, None);
        let sent = async {
            while let Some(piece) = response.chunk().await.map_err(ClientError::from)? {
                // Who reads no more says why below.
                if sender.write_all(&piece).await.is_err() {
                    break;
                }
                progress.more(piece.len());
            }
            drop(sender);
            Ok::<_, Failure>(())
        };
        let sent = sent.await;
        unpacked.await.map_err(|error| Failure::Other(error.to_string()))?.map_err(Failure::io(shown))?;
        sent
    }

    async fn bring(mut self, from: End, recursive: bool) -> Result<()> {
        let from = match from {
            End::There { .. } => return Err(Failure::Usage("Both are in workspaces.".into())),
            End::Standard => {
                let body = Body::wrap_stream(ReaderStream::with_capacity(tokio::io::stdin(), PIECE_BYTES));
                self.client.write_file(self.id, &self.path, body).await?;
                return Ok(());
            }
            End::Here(from) => from,
        };
        let shown = from.display().to_string();
        let meta = std::fs::metadata(&from).map_err(Failure::io(shown.as_str()))?;
        if self.is_folder().await? == Some(true) || self.path.ends_with('/') {
            let name = from.canonicalize().ok().and_then(|whole| whole.file_name().map(OsStr::to_owned));
            let name = name.and_then(|name| name.into_string().ok());
            let name = name.ok_or_else(|| Failure::Usage(format!("{shown} has no name to copy it under.")))?;
            self.path = format!("{}/{name}", self.path.trim_end_matches('/'));
        }
        if meta.is_dir() {
            return if recursive { self.bring_folder(from).await } else { Err(needs_recursive(&shown)) };
        }
        let file = tokio::fs::File::open(&from).await.map_err(Failure::io(shown.as_str()))?;
        let mut progress = Progress::new(&shown, Some(meta.len()));
        let reader = told(file, move |bytes| progress.more(bytes));
        self.client.write_file(self.id, &self.path, Body::wrap_stream(reader)).await?;
        Ok(())
    }

    async fn bring_folder(&self, from: PathBuf) -> Result<()> {
        self.client.make_directory(self.id, &self.path).await?;
        let (sender, receiver) = tokio::io::duplex(PIPE_BYTES);
        let shown = from.display().to_string();
        let writer = SyncIoBridge::new(sender);
        let packed = tokio::task::spawn_blocking(move || {
            let mut tar = tar::Builder::new(writer);
            tar.follow_symlinks(false);
            tar.append_dir_all("", &from)?;
            tar.into_inner()?.shutdown()
        });
        let mut progress = Progress::new(&shown, None);
        let body = Body::wrap_stream(told(receiver, move |bytes| progress.more(bytes)));
        let extracted = self.client.extract(self.id, &self.path, ArchiveFormat::Tar, body).await;
        match packed.await.map_err(|error| Failure::Other(error.to_string()))? {
            // The server's own word is the better one when it was that which ended it.
            Err(_) if extracted.is_err() => {}
            packed => packed.map_err(Failure::io(shown))?,
        }
        extracted?;
        Ok(())
    }
}

/// An archive of a folder begins with its name, of which nothing that is made here depends: the workspace wrote it. It is
/// unpacked beside, and when it is whole a new folder gets its name; one that is there is added to.
fn unpack(reader: impl Read, to: &Path) -> io::Result<()> {
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside = tempfile::Builder::new().prefix(".rexec-").tempdir_in(parent)?;
    let mut archive = tar::Archive::new(reader);
    // Nothing leaves the directory by links or `..`, and no file runs as somebody else: both by default.
    archive.unpack(&beside)?;
    // To the end of the stream, or what sends it would be cut off.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    let mut entries = std::fs::read_dir(&beside)?;
    let folder = match (entries.next().transpose()?, entries.next()) {
        (Some(only), None) if only.file_type()?.is_dir() => only.path(),
        _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "the archive is not of one folder")),
    };
    if std::fs::symlink_metadata(to).is_err() {
        return std::fs::rename(folder, to);
    }
    merge(&folder, to)
}

/// Moves what is in one folder to another, in the place of what is called the same there; folders are added to.
fn merge(from: &Path, to: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let (entry, is_folder) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?.is_dir())))?;
        let place = to.join(entry.file_name().unwrap_or_default());
        match std::fs::symlink_metadata(&place) {
            Ok(there) if there.is_dir() && is_folder => merge(&entry, &place)?,
            // A folder takes the place of nothing but a folder.
            Ok(_) if is_folder => {
                return Err(io::Error::new(io::ErrorKind::NotADirectory, place.display().to_string()));
            }
            _ => std::fs::rename(&entry, &place)?,
        }
    }
    Ok(())
}

fn needs_recursive(path: &str) -> Failure {
    Failure::Usage(format!("{path} is a folder: copy it with --recursive."))
}

/// Those of the file that is replaced, else as a new one has them.
fn permissions(path: &Path) -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).map_or_else(|_| PermissionsExt::from_mode(0o644), |meta| meta.permissions())
}

fn told(
    reader: impl AsyncRead + Send + 'static,
    mut tell: impl FnMut(usize) + Send + 'static,
) -> impl futures_util::Stream<Item = io::Result<bytes::Bytes>> + Send {
    use futures_util::StreamExt as _;
    ReaderStream::with_capacity(reader, PIECE_BYTES).inspect(move |piece| {
        if let Ok(piece) = piece {
            tell(piece.len());
        }
    })
}

/// Writes all of a body, and shows a person how far it is.
pub(super) async fn pass(mut from: Response, to: &mut (impl AsyncWrite + Unpin), what: &str) -> Result<()> {
    let mut progress = Progress::new(what, from.content_length());
    while let Some(piece) = from.chunk().await.map_err(ClientError::from)? {
        to.write_all(&piece).await.map_err(Failure::io(what))?;
        progress.more(piece.len());
    }
    to.flush().await.map_err(Failure::io(what))
}

/// A line on standard error that a person sees grow.
struct Progress {
    what: String,
    total: Option<u64>,
    done: u64,
    told: Instant,
    is_watched: bool,
}

impl Progress {
    fn new(what: &str, total: Option<u64>) -> Self {
        let is_watched = std::io::stderr().is_terminal();
        Self { what: what.to_owned(), total, done: 0, told: Instant::now(), is_watched }
    }

    fn more(&mut self, bytes: usize) {
        self.done += bytes as u64;
        if self.is_watched && self.told.elapsed() >= TOLD_EVERY {
            self.told = Instant::now();
            let of = self.total.map_or(String::new(), |total| format!(" of {}", show::size(total)));
            eprint!("\r\x1b[K{}: {}{of}", self.what, show::size(self.done));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_watched {
            eprint!("\r\x1b[K");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_word_before_a_colon_is_a_workspace() {
        let there = |path: &str| End::There { workspace: "box".into(), path: path.into() };
        assert_eq!(End::parse("box:/etc/hosts"), there("/etc/hosts"));
        assert_eq!(End::parse("box:notes/a:b"), there("notes/a:b"));
        for (home, path) in [("box:", ""), ("box:~", ""), ("box:~/a", "a"), ("box:~a", "~a")] {
            assert_eq!(End::parse(home), there(path));
        }
        assert_eq!(End::parse("-"), End::Standard);
        for here in ["a", "./a:b", "/a:b", ":a"] {
            assert_eq!(End::parse(here), End::Here(here.into()), "{here}");
        }
    }

    #[test]
    fn a_relative_path_begins_at_home() {
        let machine = |home: &str| MachineView { home: home.into(), ..MachineView::default() };
        assert_eq!(absolute("a/b".into(), None), "/home/user/a/b");
        assert_eq!(absolute(String::new(), None), "/home/user/");
        assert_eq!(absolute("a".into(), Some(&machine("/root"))), "/root/a");
        assert_eq!(absolute("a".into(), Some(&machine(""))), "/home/user/a");
        assert_eq!(absolute("/a".into(), Some(&machine("/root"))), "/a");
    }

    fn archive(entries: &[(&str, u32)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, mode) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(name.len() as u64);
            header.set_mode(*mode);
            header.set_cksum();
            tar.append(&header, name.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    #[test]
    fn a_folder_is_all_that_an_archive_becomes() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let (to, names) = (home.path().join("here"), |path: &Path| {
            let mut names: Vec<_> = path.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        });
        let unpacked = |entries: &[(&str, u32)]| unpack(&archive(entries)[..], &to);
        unpacked(&[("proj/a", 0o6755), ("proj/sub/b", 0o644)]).unwrap();
        assert_eq!(names(&to), ["a", "sub"]);
        assert_eq!(to.join("a").metadata().unwrap().permissions().mode() & 0o7777, 0o755);
        // What is there already is kept, or replaced by what has its name.
        std::fs::write(to.join("mine"), "").unwrap();
        unpacked(&[("proj/a", 0o644), ("proj/sub/c", 0o644)]).unwrap();
        assert_eq!(
            (names(&to), names(&to.join("sub"))),
            (vec!["a".into(), "mine".into(), "sub".into()], vec!["b".into(), "c".into()])
        );
        // Nothing gets a place beside it, whether it is there or not.
        for entries in [&[("proj/x", 0o644), (".bashrc", 0o644)][..], &[("x", 0o644)], &[("../x", 0o644)], &[]] {
            assert!(unpacked(entries).is_err(), "{entries:?}");
            assert_eq!(names(home.path()), ["here"]);
            assert!(!to.join("x").exists());
        }
        // A link that is there is replaced, not followed.
        std::os::unix::fs::symlink(home.path(), to.join("link")).unwrap();
        assert!(unpacked(&[("proj/link/x", 0o644)]).is_err());
        assert_eq!(names(home.path()), ["here"]);
    }
}
