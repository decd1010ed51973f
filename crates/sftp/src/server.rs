//! The conversation: a request in, an answer out.

use crate::attributes::{self, Attributes};
use crate::files::{self, Handles, Open};
use crate::listing::Accounts;
use crate::wire::{Fault, HANDLES_MAX, PACKET_BYTES_MAX, READ_BYTES_MAX, Reader, Result, VERSION, Writer, kind};
use rustix::fs::{self, AtFlags, StatVfs, StatVfsMountFlags};
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Answers are sent once this much has gathered, or no request is at hand.
const GATHERED_BYTES: usize = 64 * 1024;
/// Names in one answer to READDIR.
const NAMES_MAX: usize = 128;
/// Bytes of names in one answer, so that it stays a packet.
const NAMES_BYTES_MAX: usize = PACKET_BYTES_MAX / 2;
const DIRECTORY_MODE: u32 = 0o777;

/// Extensions and their versions, in the order in which they are told.
const EXTENSIONS: &[(&str, &str)] = &[
    ("posix-rename@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("fstatvfs@openssh.com", "2"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("lsetstat@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
];

/// Answers requests until the input ends. Relative paths begin at `home`.
///
/// # Errors
/// When a stream breaks, or what comes in is no SFTP: a packet that is too long or ends early.
pub fn serve(input: impl Read, mut output: impl Write, home: &Path) -> io::Result<()> {
    let mut input = BufReader::with_capacity(PACKET_BYTES_MAX, input);
    let mut server = Server { home: home.to_owned(), handles: Handles::default(), accounts: Accounts::default() };
    let (mut out, mut packet) = (Writer::default(), Vec::new());
    loop {
        if out.bytes.len() >= GATHERED_BYTES || input.buffer().is_empty() {
            output.write_all(&out.bytes)?;
            output.flush()?;
            out.bytes.clear();
        }
        if input.fill_buf()?.is_empty() {
            return Ok(());
        }
        let mut length = [0; 4];
        input.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length == 0 || length > PACKET_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet of impossible length"));
        }
        packet.resize(length, 0);
        input.read_exact(&mut packet)?;
        server.answer(&packet, &mut out);
    }
}

struct Server {
    home: PathBuf,
    handles: Handles,
    accounts: Accounts,
}

/// What a request that succeeded is answered by.
enum Answer {
    Done,
    /// It has been written already.
    Written,
    Handle([u8; 4]),
    Stat(fs::Stat),
    Path(Vec<u8>),
}

impl Server {
    fn path(&self, request: &mut Reader<'_>) -> Result<PathBuf> {
        Ok(self.home.join(OsStr::from_bytes(request.path()?)))
    }

    fn answer(&mut self, packet: &[u8], out: &mut Writer) {
        let mut request = Reader(packet);
        let Ok(kind) = request.u8() else { return };
        if kind == kind::INIT {
            return out.packet(kind::VERSION, |out| {
                out.u32(VERSION);
                for (name, version) in EXTENSIONS {
                    out.string(name.as_bytes());
                    out.string(version.as_bytes());
                }
            });
        }
        // Without a number there is nothing that could be answered.
        let Ok(id) = request.u32() else { return };
        let start = out.bytes.len();
        let (code, message) = match self.perform(kind, id, &mut request, out) {
            Ok(Answer::Written) => return,
            Ok(Answer::Handle(handle)) => {
                return out.packet(kind::HANDLE, |out| {
                    out.u32(id);
                    out.string(&handle);
                });
            }
            Ok(Answer::Stat(stat)) => {
                return out.packet(kind::ATTRS, |out| {
                    out.u32(id);
                    attributes::write(out, &stat);
                });
            }
            Ok(Answer::Path(path)) => {
                return out.packet(kind::NAME, |out| {
                    out.u32(id);
                    out.u32(1);
                    out.string(&path);
                    out.string(&path);
                    out.u32(0);
                });
            }
            Ok(Answer::Done) => (0, "Success".to_owned()),
            Err(fault) => fault.status(),
        };
        out.bytes.truncate(start);
        out.packet(kind::STATUS, |out| {
            out.u32(id);
            out.u32(code);
            out.string(message.as_bytes());
            out.string(b"en");
        });
    }

    fn perform(&mut self, kind: u8, id: u32, request: &mut Reader<'_>, out: &mut Writer) -> Result<Answer> {
        match kind {
            kind::READ => {
                let file = self.handles.file(request.string()?)?;
                read(file, request.u64()?, request.u32()? as usize, id, out)?;
                return Ok(Answer::Written);
            }
            kind::WRITE => write(self.handles.file(request.string()?)?, request.u64()?, request.string()?)?,
            kind::OPEN => {
                let (path, flags) = (self.path(request)?, request.u32()?);
                let given = Attributes::read(request)?;
                self.handles.room()?;
                return self.handles.add(files::open_file(&path, flags, &given)?).map(Answer::Handle);
            }
            kind::OPENDIR => {
                let path = self.path(request)?;
                self.handles.room()?;
                return self.handles.add(files::open_directory(&path)?).map(Answer::Handle);
            }
            kind::CLOSE => self.handles.close(request.string()?)?,
            kind::READDIR => {
                self.list(request.string()?, id, out)?;
                return Ok(Answer::Written);
            }
            kind::STAT => return Ok(Answer::Stat(fs::stat(self.path(request)?)?)),
            kind::LSTAT => return Ok(Answer::Stat(fs::lstat(self.path(request)?)?)),
            kind::FSTAT => return Ok(Answer::Stat(fs::fstat(self.handles.any(request.string()?)?)?)),
            kind::SETSTAT => {
                let path = self.path(request)?;
                Attributes::read(request)?.apply_to(&path, true)?;
            }
            kind::FSETSTAT => {
                let handle = request.string()?;
                let given = Attributes::read(request)?;
                given.apply(self.handles.any(handle)?)?;
            }
            kind::REMOVE => fs::unlink(self.path(request)?)?,
            kind::MKDIR => {
                let path = self.path(request)?;
                let mode = Attributes::read(request)?.mode(DIRECTORY_MODE);
                fs::mkdir(path, mode)?;
            }
            kind::RMDIR => fs::rmdir(self.path(request)?)?,
            kind::REALPATH => return files::real_path(&self.path(request)?).map(Answer::Path),
            kind::RENAME => files::rename(&self.path(request)?, &self.path(request)?)?,
            kind::READLINK => {
                let target = fs::readlink(self.path(request)?, Vec::new())?;
                return Ok(Answer::Path(target.into_bytes()));
            }
            // The target first: OpenSSH has it so, against the draft, and everybody follows.
            kind::SYMLINK => {
                let (target, link) = (request.path()?, self.path(request)?);
                fs::symlink(target, link)?;
            }
            kind::EXTENDED => return self.extended(id, request, out),
            _ => return Err(Fault::Unsupported),
        }
        Ok(Answer::Done)
    }

    fn extended(&mut self, id: u32, request: &mut Reader<'_>, out: &mut Writer) -> Result<Answer> {
        match request.string()? {
            b"posix-rename@openssh.com" => fs::rename(self.path(request)?, self.path(request)?)?,
            b"hardlink@openssh.com" => fs::link(self.path(request)?, self.path(request)?)?,
            b"fsync@openssh.com" => fs::fsync(self.handles.file(request.string()?)?)?,
            b"lsetstat@openssh.com" => {
                let path = self.path(request)?;
                Attributes::read(request)?.apply_to(&path, false)?;
            }
            b"statvfs@openssh.com" => {
                write_space(id, &fs::statvfs(self.path(request)?)?, out);
                return Ok(Answer::Written);
            }
            b"fstatvfs@openssh.com" => {
                write_space(id, &fs::fstatvfs(self.handles.any(request.string()?)?)?, out);
                return Ok(Answer::Written);
            }
            b"limits@openssh.com" => {
                out.packet(kind::EXTENDED_REPLY, |out| {
                    out.u32(id);
                    for limit in [PACKET_BYTES_MAX, READ_BYTES_MAX, READ_BYTES_MAX, HANDLES_MAX] {
                        out.u64(limit as u64);
                    }
                });
                return Ok(Answer::Written);
            }
            b"expand-path@openssh.com" => return files::expand_path(&self.home, request.path()?).map(Answer::Path),
            _ => return Err(Fault::Unsupported),
        }
        Ok(Answer::Done)
    }

    fn list(&mut self, handle: &[u8], id: u32, out: &mut Writer) -> Result<()> {
        let Open::Directory(entries, directory) = self.handles.get(handle)? else {
            return Err(Fault::NoSuchHandle);
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        let start = out.bytes.len();
        out.u32(0);
        out.bytes.push(kind::NAME);
        out.u32(id);
        let counted = out.bytes.len();
        out.u32(0);
        let mut count: u32 = 0;
        while (count as usize) < NAMES_MAX && out.bytes.len() - start < NAMES_BYTES_MAX {
            let Some(entry) = entries.next() else { break };
            let entry = entry?;
            let name = entry.file_name();
            // One that is gone meanwhile is not told.
            let Ok(stat) = fs::statat(&*directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            out.string(name.to_bytes());
            out.string(&self.accounts.line(name.to_bytes(), &stat, now));
            attributes::write(out, &stat);
            count += 1;
        }
        if count == 0 {
            return Err(Fault::End);
        }
        out.bytes[counted..counted + 4].copy_from_slice(&count.to_be_bytes());
        out.close(start);
        Ok(())
    }
}

/// The bytes go from the kernel to where they are sent from.
fn read(file: rustix::fd::BorrowedFd<'_>, offset: u64, length: usize, id: u32, out: &mut Writer) -> Result<()> {
    let start = out.bytes.len();
    out.u32(0);
    out.bytes.push(kind::DATA);
    out.u32(id);
    out.u32(0);
    let data = out.bytes.len();
    out.bytes.resize(data + length.min(READ_BYTES_MAX), 0);
    let count = match rustix::io::pread(file, &mut out.bytes[data..], offset) {
        // Pipes and the like have no offsets.
        Err(rustix::io::Errno::SPIPE) => rustix::io::read(file, &mut out.bytes[data..])?,
        read => read?,
    };
    if count == 0 && length > 0 {
        return Err(Fault::End);
    }
    out.bytes.truncate(data + count);
    out.bytes[data - 4..data].copy_from_slice(&(count as u32).to_be_bytes());
    out.close(start);
    Ok(())
}

fn write(file: rustix::fd::BorrowedFd<'_>, mut offset: u64, mut data: &[u8]) -> Result<()> {
    while !data.is_empty() {
        let count = match rustix::io::pwrite(file, data, offset) {
            Err(rustix::io::Errno::SPIPE) => rustix::io::write(file, data)?,
            Err(rustix::io::Errno::INTR) => continue,
            written => written?,
        };
        data = &data[count..];
        offset += count as u64;
    }
    Ok(())
}

fn write_space(id: u32, space: &StatVfs, out: &mut Writer) {
    let flags = u64::from(space.f_flag.contains(StatVfsMountFlags::RDONLY))
        | u64::from(space.f_flag.contains(StatVfsMountFlags::NOSUID)) << 1;
    out.packet(kind::EXTENDED_REPLY, |out| {
        out.u32(id);
        for value in [
            space.f_bsize,
            space.f_frsize,
            space.f_blocks,
            space.f_bfree,
            space.f_bavail,
            space.f_files,
            space.f_ffree,
            space.f_favail,
            space.f_fsid,
            flags,
            space.f_namemax,
        ] {
            out.u64(value);
        }
    });
}
