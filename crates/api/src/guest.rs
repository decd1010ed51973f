//! Messages between the server and a guest, carried by the `channel` crate over HTTP/2.
//!
//! **Version.** [`PROTOCOL`] is negotiated by `hello`: a server speaks to every guest version that
//! may still be running, so fields are added with defaults and never change their meaning.
//!
//! **Trust.** Root in the workspace can become the guest: everything a guest says is the tenant's
//! word and hostile input. The server bounds sizes and counts, and believes no identity in it.
//!
//! **Routes** (requests and answers are JSON unless a stream is named):
//!
//! ```text
//! GET    /hello                         Hello
//! POST   /configure        Configure    -> Hello               idempotent; terminals and exec wait for it
//! GET    /terminals                     -> [TerminalInfo]
//! POST   /terminals        TerminalSpec -> TerminalInfo
//! DELETE /terminals/{id}                -> {}                  hangs up, then forgets
//! POST   /terminals/{id}/attach         stream of terminal frames both ways; header x-rexec-attach: AttachSpec
//! POST   /exec                          stream of ExecFrame both ways; header x-rexec-exec: ExecSpec
//! GET    /files?path=                   body is the content; header x-rexec-file: FileContent;
//!                                       header x-rexec-read of the request: ReadSpec
//! PUT    /files?path=&mode=             body is the content, written beside and renamed -> FileInfo
//! PUT    /files/conditional?path=&mode=&if=&etags=             the same while a [`WriteCondition`] holds; `if` is absent,
//!                                       present or etag, `etags` those that will do, with commas between
//! PUT    /files/upload?path=&mode=&upload=&offset=&total=      body is a piece -> UploadAnswer
//! GET    /files/upload?path=&upload=    -> UploadState
//! DELETE /files/upload?path=&upload=    -> {}                  the pieces are dropped
//! DELETE /files?path=&recursive=
//! GET    /files/stat?path=              -> FileInfo
//! GET    /files/list?path=&after=&limit=                       -> FilePage
//! POST   /files/mkdir?path=             -> FileInfo            parents are made
//! POST   /files/move?from=&to=&overwrite=                      -> FileInfo
//! GET    /files/archive?path=&format=   body is the archive
//! POST   /files/extract?path=&format=   body is the archive -> ExtractSummary
//! GET    /files/watch?path=&recursive=  stream of frames from the guest, each a FileEvent
//! GET    /ports                         -> [PortInfo]
//! GET    /ports/watch                   stream of frames from the guest, each a [PortInfo]: now, then at each change
//! POST   /dial                          byte stream both ways; header x-rexec-dial: DialSpec
//! POST   /listen                        frames from the guest, each a ListenNews; header x-rexec-listen: ListenSpec
//! POST   /accepted                      byte stream both ways, of one that came; header x-rexec-accepted: AcceptSpec
//! GET    /usage                         -> Usage
//! POST   /way-out         WayOut        -> Leaks               tries what must not be reached
//! ```
//!
//! A path is percent-encoded bytes, which need not be UTF-8. A refusal is HTTP 4xx or 5xx with a [`GuestError`] body.
//!
//! **Lanes.** Over a link that the guest dialled, an attach may carry `x-rexec-lane: <uuid>`. A guest
//! that can then dials once more, says [`LANE_PREFACE`], its key and the lane's 16 bytes, and answers
//! with `x-rexec-lane` and no body: the frames go over that connection. Without that header in the
//! answer they go over the stream. A lane's last frame has the length `0xffff_ffff` and no bytes; a
//! lane that ends without it was cut.

use crate::error::ErrorCode;
use crate::files::{FileInfo, UploadState};
use crate::ids::{TerminalId, WorkspaceId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

/// The protocol version that this build speaks.
pub const PROTOCOL: u32 = 1;
/// Where the guest volume is mounted in a workspace.
pub const MOUNT: &str = "/.rexec";
/// The guest's own path there: a symlink `current` names the version.
pub const PROGRAM: &str = "/.rexec/current/guest";
/// What a file or directory takes up at the least, wherever disks and snapshots are measured: one that is empty
/// takes an inode, of which a disk has so many, and file systems commonly have one for every few KiB.
pub const FILE_BYTES_MIN: u64 = 4096;
/// Where a workspace has its home volume.
pub const HOME: &str = "/home/user";
/// Where the server's dial directory is mounted when server and engine share a machine.
pub const DIAL_MOUNT: &str = "/.rexec-dial";
/// The listening socket's name in that directory.
pub const DIAL_SOCKET: &str = "server.sock";
/// The variable in PID 1's environment that holds the workspace's key, 64 hexadecimal digits.
pub const KEY_VARIABLE: &str = "REXEC_GUEST_KEY";
/// A dialling guest first sends this and the 32 bytes of its key, then serves HTTP/2.
pub const DIAL_PREFACE: &[u8; 8] = b"REXECv1\n";
/// Said instead of it for a lane, a connection of one stream; the key and the lane's 16 bytes follow.
pub const LANE_PREFACE: &[u8; 8] = b"REXECl1\n";
pub const KEY_BYTES: usize = 32;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    pub protocol: u32,
    /// The guest's version, such as `0.1.0`.
    pub version: String,
    /// New at each boot of the workspace: terminals of another boot are gone.
    pub boot_id: uuid::Uuid,
    pub configured: bool,
    /// What a joined machine says of itself; absent in a workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineFacts>,
}

/// A joined machine in its own words: text to show, and where its user is at home.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineFacts {
    /// Such as `Debian GNU/Linux 12 (bookworm)`.
    pub os: String,
    /// As `uname -m` tells it.
    pub arch: String,
    pub hostname: String,
    /// The account that everything runs as.
    pub user: String,
    pub home: String,
    pub cpus: u32,
    pub memory_mb: u32,
}

/// What `guest firewall close` says on a host's own machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallClosed {
    /// Something had to be set: before, the machine was not closed.
    pub changed: bool,
    /// Whether its kernel asks rules also about packets between two ports of one bridge.
    pub bridges_filtered: bool,
    /// The release of the kernel whose rules these are.
    pub kernel: String,
}

/// What `guest orphan end` says on a host's own machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphanEnded {
    /// How many processes looked after the container that its engine knew nothing of.
    pub ended: u32,
}

/// Who a user's processes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSpec {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: String,
    /// Login shell; the guest falls back to `/bin/sh` when the image lacks it.
    #[serde(default)]
    pub shell: Option<String>,
}

impl Default for UserSpec {
    fn default() -> Self {
        Self { name: "user".into(), uid: 1000, gid: 1000, home: "/home/user".into(), shell: None }
    }
}

/// Whether the workspace's user may become root inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SudoPolicy {
    #[default]
    Allow,
    Deny,
}

/// What a freshly booted guest waits for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Configure {
    pub workspace: WorkspaceId,
    #[serde(default)]
    pub user: UserSpec,
    /// An account of the image, by name or number, that takes the place of `user` where there is one; not in a boot
    /// that has a user already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default)]
    pub sudo: SudoPolicy,
    /// The template's own entrypoint, started once per boot as the image's user asked for.
    #[serde(default)]
    pub entrypoint: Option<Vec<String>>,
    /// Raw output kept per terminal, in bytes.
    #[serde(default)]
    pub ring_bytes: Option<u32>,
    /// Scrollback kept per terminal, in lines.
    #[serde(default)]
    pub scrollback_lines: Option<u32>,
    /// Where its gateway is, on a network that has no other way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<SocketAddrV4>,
    /// The certificate of its own authority, in PEM, where its gateway reads some of its requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}

/// What is to be tried from inside of a workspace that is to reach nothing but its gateway.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WayOut {
    pub gateway: SocketAddrV4,
    /// Its one address.
    pub own: Ipv4Addr,
    /// Ways that must not lead anywhere, and what each is, in words.
    pub shut: Vec<(SocketAddrV4, String)>,
    /// A name that must not be known, asked of whoever the workspace was given for names before it had a gateway.
    pub unknown: String,
    /// How long whoever is asked for it may take, in milliseconds.
    pub unknown_ms: u64,
}

/// In [`Leaks`]: it has another address than its own.
pub const ADDRESSES: &str = "another network";

/// What was reached that must not be, in words; well if there is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaks {
    pub reached: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TerminalSpec {
    pub id: TerminalId,
    pub cols: u16,
    pub rows: u16,
    #[serde(default)]
    pub command: Option<Vec<String>>,
    #[serde(default)]
    pub cwd: Option<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// An account of the workspace, by name or as `#` and a number; absent, the workspace's user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TerminalInfo {
    pub id: TerminalId,
    pub command: Vec<String>,
    pub title: Option<String>,
    pub cols: u16,
    pub rows: u16,
    pub viewers: u32,
    pub end: u64,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    pub last_input_ms: i64,
    pub last_output_ms: i64,
    pub exit_code: Option<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachMode {
    /// May type and size.
    Control,
    /// Watches only.
    View,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttachSpec {
    /// Go on from here if the ring still has it.
    #[serde(default)]
    pub offset: Option<u64>,
    pub mode: AttachMode,
    /// Names a client across reconnects, so that its input is taken once.
    #[serde(default)]
    pub client: Option<uuid::Uuid>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecSpec {
    pub command: Vec<String>,
    #[serde(default)]
    pub cwd: Option<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// As in [`TerminalSpec::user`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// Exec frames: a kind byte and a payload, like terminal frames.
///
/// Server to guest: `0x00` stdin bytes, `0x01` end of stdin, `0x02` u8 signal number.
/// Guest to server: `0x00` stdout, `0x01` stderr, `0x02` i32 exit code and, if a signal ended the program, its u8 number
/// (the last frame; guests of before tell the code only).
/// The process group is killed when the stream is reset before the exit.
pub mod exec_frame {
    pub const STDIN: u8 = 0x00;
    pub const STDIN_END: u8 = 0x01;
    pub const SIGNAL: u8 = 0x02;
    pub const STDOUT: u8 = 0x00;
    pub const STDERR: u8 = 0x01;
    pub const EXIT: u8 = 0x02;

    /// What follows [`EXIT`]: the exit code, which is 128 + n if signal n ended the program, and then n.
    pub fn read_exit(rest: &[u8]) -> Option<(i32, Option<u8>)> {
        let (code, signal) = rest.split_first_chunk()?;
        let signal = match signal {
            [] => None,
            [signal] => Some(*signal),
            _ => return None,
        };
        Some((i32::from_be_bytes(*code), signal))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortInfo {
    pub port: u16,
    /// Whether it listens on loopback only.
    pub loopback: bool,
    /// The program that listens, when it can be told.
    pub process: Option<String>,
    /// The address that it listens on, `0.0.0.0` or `::` for any. Guests of before do not say.
    #[serde(default)]
    pub address: Option<String>,
    #[serde(default)]
    pub pid: Option<u32>,
    /// The user whose socket it is.
    #[serde(default)]
    pub uid: Option<u32>,
    /// When it was first seen to listen, in milliseconds since 1970; 0 when that is not known.
    #[serde(default)]
    pub since_ms: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DialSpec {
    /// A port on the workspace's loopback.
    Tcp {
        port: u16,
    },
    Unix {
        path: String,
    },
}

/// Where to listen, as long as the stream lasts that asks for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ListenSpec {
    /// On the workspace's loopback; port 0: any that is free.
    Tcp { port: u16 },
    /// A socket of the user's alone, where nothing is yet.
    Unix { path: String },
    /// A socket of the user's alone, in a directory that is made for it.
    Private,
}

/// What a listener tells: first where it listens, then who comes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ListenNews {
    /// The port is 0 for a socket, whose path it then has.
    Listening {
        port: u16,
        #[serde(default)]
        path: Option<String>,
    },
    /// To be taken by `/accepted` within seconds. From where, as far as it is known.
    Came { id: uuid::Uuid, address: String, port: u16 },
}

/// Which of those who came is taken.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct AcceptSpec {
    pub id: uuid::Uuid,
}

/// What the workspace uses, and the signals from which idleness is judged.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Usage {
    pub processes: u32,
    pub terminals: u32,
    pub execs: u32,
    /// Milliseconds since 1970; 0 when never.
    pub last_input_ms: i64,
    pub last_output_ms: i64,
    /// Terminals where something else than their first program, such as a shell's job, is in the foreground.
    #[serde(default)]
    pub foreground: u32,
    /// When a command of the server last began or ended.
    #[serde(default)]
    pub last_exec_ms: i64,
    /// The guest's own resident memory, in bytes.
    pub guest_rss_bytes: u64,
}

/// Which part of a file is wanted, and when. Absent: all of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ReadSpec {
    /// The value of a `Range` field (RFC 9110, section 14.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<String>,
    /// The range counts only while the file's etag is this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_etag: Option<String>,
    /// No content is wanted while the file's etag is one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unless_etag: Vec<String>,
    /// The description alone is wanted.
    #[serde(default)]
    pub head: bool,
}

/// What must be true of a file for it to be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteCondition {
    /// Nothing has that name.
    Absent,
    /// It is there.
    Present,
    /// Its etag is one of these.
    Etag(Vec<String>),
}

/// A file and the part of it that follows. Without `part` the whole content follows, however long
/// it turns out to be: some files of the kernel do not tell.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FileContent {
    #[serde(flatten)]
    pub info: FileInfo,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<FilePart>,
}

/// Bytes of a file, never more than it had when it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePart {
    pub first: u64,
    pub bytes: u64,
    /// Asked for by a range, rather than being all.
    #[serde(default)]
    pub ranged: bool,
}

/// Entries of a directory by name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FilePage {
    pub items: Vec<FileInfo>,
    /// Where the next page begins, as the guest understands it; absent on the last.
    #[serde(default)]
    pub next: Option<String>,
}

/// What became of a piece: how far the upload is, and the file once it is whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UploadAnswer {
    pub state: UploadState,
    #[serde(default)]
    pub file: Option<FileInfo>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GuestError {
    pub code: ErrorCode,
    pub message: String,
    /// The number that goes with the code: a file's size, or the offset to go on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
}
