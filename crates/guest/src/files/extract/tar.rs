//! Reading tar as it arrives: the old format, POSIX, and GNU's long names.

use super::super::archive::is_users;
use super::maker::Maker;
use super::{damaged, refused};
use crate::tar::{BLOCK_BYTES, Header, Records, attribute_of, padding, until_nul};
use rexec_api::guest::GuestError;

/// Longest list of records, and longest name of GNU's kind, that is kept.
const RECORDS_BYTES_MAX: u64 = 64 * 1024;

/// A tar so far.
#[derive(Default)]
pub struct TarReader {
    state: State,
    /// What records before the next entry have said of it.
    said: Said,
    entries: bool,
    zero_blocks: u32,
}

#[derive(Default)]
struct Said {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    mtime: Option<i64>,
    /// Extended attributes of the user's.
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

enum State {
    /// Bytes of the next header that have come.
    Header(Vec<u8>),
    Content {
        what: What,
        left: u64,
        /// Zeroes that follow.
        pad: u64,
    },
    Ended,
}

enum What {
    File,
    /// An entry of which nothing is made, such as global records.
    Nothing,
    /// A list of records, or a long name, being gathered.
    Kept(Kind, Vec<u8>),
}

#[derive(Clone, Copy)]
enum Kind {
    Records,
    LongName,
    LongTarget,
}

impl Default for State {
    fn default() -> Self {
        Self::Header(Vec::new())
    }
}

impl TarReader {
    pub fn feed(&mut self, mut bytes: &[u8], maker: &mut Maker) -> Result<(), GuestError> {
        while !bytes.is_empty() {
            match &mut self.state {
                // What follows the end is filler.
                State::Ended => return Ok(()),
                State::Header(head) => {
                    let count = bytes.len().min(BLOCK_BYTES - head.len());
                    head.extend_from_slice(&bytes[..count]);
                    bytes = &bytes[count..];
                    if head.len() == BLOCK_BYTES {
                        let head = std::mem::take(head);
                        self.header(&head, maker)?;
                    }
                }
                State::Content { what, left, pad } => {
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    let (content, rest) = bytes.split_at(count);
                    *left -= count as u64;
                    match what {
                        What::File => maker.write(content)?,
                        What::Nothing => {}
                        What::Kept(_, kept) => kept.extend_from_slice(content),
                    }
                    let filler = usize::try_from(*pad).unwrap_or(usize::MAX).min(rest.len());
                    if *left == 0 {
                        *pad -= filler as u64;
                        bytes = &rest[filler..];
                    } else {
                        bytes = rest;
                    }
                    self.turn(maker)?;
                }
            }
        }
        Ok(())
    }

    /// Goes on to the next header if the content has come in full.
    fn turn(&mut self, maker: &mut Maker) -> Result<(), GuestError> {
        if !matches!(self.state, State::Content { left: 0, pad: 0, .. }) {
            return Ok(());
        }
        let State::Content { what, .. } = std::mem::take(&mut self.state) else {
            return Ok(());
        };
        match what {
            What::File => maker.close(),
            What::Nothing => Ok(()),
            What::Kept(Kind::Records, records) => self.said.read(&records),
            What::Kept(Kind::LongName, name) => {
                self.said.path = Some(until_nul(&name).to_vec());
                Ok(())
            }
            What::Kept(Kind::LongTarget, target) => {
                self.said.target = Some(until_nul(&target).to_vec());
                Ok(())
            }
        }
    }

    /// The archive ends here.
    pub fn finish(&self) -> Result<(), GuestError> {
        match &self.state {
            State::Ended => Ok(()),
            // Some writers leave the end's zeroes out.
            State::Header(head) if head.is_empty() && (self.entries || self.zero_blocks > 0) => Ok(()),
            _ => Err(damaged("it ends too early, or is no tar")),
        }
    }

    fn header(&mut self, head: &[u8], maker: &mut Maker) -> Result<(), GuestError> {
        if head.iter().all(|&byte| byte == 0) {
            self.zero_blocks += 1;
            self.state = if self.zero_blocks >= 2 { State::Ended } else { State::default() };
            return Ok(());
        }
        self.zero_blocks = 0;
        let header = Header::read(head).map_err(damaged)?;
        self.entries = true;
        let what = match header.kind {
            b'x' => What::Kept(Kind::Records, Vec::new()),
            b'L' => What::Kept(Kind::LongName, Vec::new()),
            b'K' => What::Kept(Kind::LongTarget, Vec::new()),
            b'g' => What::Nothing,
            _ => return self.entry(header, maker),
        };
        if header.size > RECORDS_BYTES_MAX {
            return Err(damaged("it has records of more than 64 KiB"));
        }
        self.content(what, header.size, maker)
    }

    fn entry(&mut self, header: Header, maker: &mut Maker) -> Result<(), GuestError> {
        let said = std::mem::take(&mut self.said);
        let name = said.path.unwrap_or(header.name);
        let target = said.target.unwrap_or(header.target);
        let size = said.size.unwrap_or(header.size);
        match header.kind {
            // An old tar marks a directory by its name alone.
            b'0' | 0 | b'7' if name.ends_with(b"/") => {
                maker.directory(&name)?;
                self.content(What::Nothing, size, maker)
            }
            b'0' | 0 | b'7' => {
                maker.fits(size)?;
                maker.open(&name, header.mode, said.mtime.or(header.mtime))?;
                maker.attributes(&said.attributes);
                self.content(What::File, size, maker)
            }
            // These have no content, whatever the header says of a size.
            b'1' => {
                maker.hard_link(&name, &target)?;
                self.content(What::Nothing, 0, maker)
            }
            b'2' => {
                maker.link(&name, &target)?;
                self.content(What::Nothing, 0, maker)
            }
            b'5' => {
                maker.directory(&name)?;
                self.content(What::Nothing, 0, maker)
            }
            b'3' | b'4' => Err(refused(&name, "is a device")),
            b'6' => Err(refused(&name, "is a FIFO")),
            b'S' => Err(refused(&name, "is stored sparsely; make the archive without --sparse")),
            _ => Err(refused(&name, "is of an unknown kind")),
        }
    }

    fn content(&mut self, what: What, size: u64, maker: &mut Maker) -> Result<(), GuestError> {
        let pad = padding(size) as u64;
        self.state = State::Content { what, left: size, pad };
        self.turn(maker)
    }
}

impl Said {
    fn read(&mut self, records: &[u8]) -> Result<(), GuestError> {
        for record in Records(records) {
            let (key, value) = record.map_err(damaged)?;
            let number = || std::str::from_utf8(value).ok();
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.target = Some(value.to_vec()),
                b"size" => {
                    let size = number().and_then(|n| n.parse().ok());
                    self.size = Some(size.ok_or_else(|| damaged("an entry's size cannot be read"))?);
                }
                b"mtime" => self.mtime = number().and_then(|n| n.split('.').next()?.parse().ok()),
                _ if key.starts_with(b"GNU.sparse.") => {
                    return Err(damaged("it stores files sparsely; make it without --sparse"));
                }
                _ => match attribute_of(key) {
                    Some(name) if is_users(&name) => self.attributes.push((name, value.to_vec())),
                    _ => {}
                },
            }
        }
        Ok(())
    }
}
