//! Packets: numbers, strings and their bounds.

/// Longest packet after its length, as OpenSSH has it.
pub const PACKET_BYTES_MAX: usize = 256 * 1024;
/// Most that one read returns, and that one write can carry.
pub const READ_BYTES_MAX: usize = PACKET_BYTES_MAX - 1024;
/// Files and directories open at once.
pub const HANDLES_MAX: usize = 512;

pub const VERSION: u32 = 3;

pub mod kind {
    pub const INIT: u8 = 1;
    pub const VERSION: u8 = 2;
    pub const OPEN: u8 = 3;
    pub const CLOSE: u8 = 4;
    pub const READ: u8 = 5;
    pub const WRITE: u8 = 6;
    pub const LSTAT: u8 = 7;
    pub const FSTAT: u8 = 8;
    pub const SETSTAT: u8 = 9;
    pub const FSETSTAT: u8 = 10;
    pub const OPENDIR: u8 = 11;
    pub const READDIR: u8 = 12;
    pub const REMOVE: u8 = 13;
    pub const MKDIR: u8 = 14;
    pub const RMDIR: u8 = 15;
    pub const REALPATH: u8 = 16;
    pub const STAT: u8 = 17;
    pub const RENAME: u8 = 18;
    pub const READLINK: u8 = 19;
    pub const SYMLINK: u8 = 20;
    pub const STATUS: u8 = 101;
    pub const HANDLE: u8 = 102;
    pub const DATA: u8 = 103;
    pub const NAME: u8 = 104;
    pub const ATTRS: u8 = 105;
    pub const EXTENDED: u8 = 200;
    pub const EXTENDED_REPLY: u8 = 201;
}

/// Why a request was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    End,
    /// Whatever the kernel said.
    Os(rustix::io::Errno),
    /// The packet makes no sense.
    Malformed,
    Unsupported,
    TooManyHandles,
    NoSuchHandle,
}

impl From<rustix::io::Errno> for Fault {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Os(error)
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::Os(rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO))
    }
}

impl Fault {
    /// The status code and a sentence for a person.
    pub fn status(self) -> (u32, String) {
        use rustix::io::Errno;
        match self {
            Self::End => (1, "End of file".into()),
            Self::Os(error) => {
                let code = match error {
                    Errno::NOENT | Errno::NOTDIR | Errno::LOOP => 2,
                    Errno::ACCESS | Errno::PERM | Errno::ROFS => 3,
                    _ => 4,
                };
                (code, std::io::Error::from(error).to_string())
            }
            Self::Malformed => (5, "The request is malformed".into()),
            Self::Unsupported => (8, "The request is not supported".into()),
            Self::TooManyHandles => (4, "Too many files are open; close some".into()),
            Self::NoSuchHandle => (4, "This handle is not open".into()),
        }
    }
}

pub type Result<T> = std::result::Result<T, Fault>;

/// A packet's content, taken from its beginning.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Fault::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    pub fn u32(&mut self) -> Result<u32> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from(self.u32()?) << 32 | u64::from(self.u32()?))
    }

    pub fn string(&mut self) -> Result<&'a [u8]> {
        let count = self.u32()? as usize;
        self.take(count)
    }

    /// A path, which the kernel would cut off at a zero byte. Empty means here.
    pub fn path(&mut self) -> Result<&'a [u8]> {
        match self.string()? {
            [] => Ok(b"."),
            path if path.contains(&0) => Err(Fault::Malformed),
            path => Ok(path),
        }
    }
}

/// Packets on their way out, one behind the other.
#[derive(Default)]
pub struct Writer {
    pub bytes: Vec<u8>,
}

impl Writer {
    /// A packet whose content `fill` appends.
    pub fn packet(&mut self, kind: u8, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.u32(0);
        self.bytes.push(kind);
        fill(self);
        self.close(start);
    }

    /// Sets the length of the packet that began at `start`.
    pub fn close(&mut self, start: usize) {
        let length = (self.bytes.len() - start - 4) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    pub fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub fn string(&mut self, value: &[u8]) {
        self.u32(value.len() as u32);
        self.bytes.extend_from_slice(value);
    }
}
