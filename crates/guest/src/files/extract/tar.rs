//! Reading tar as it arrives: the old format, POSIX, and GNU's long names.

use super::super::archive::BLOCK_BYTES;
use super::maker::Maker;
use super::{damaged, refused};
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
        let header = Header::read(head)?;
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
        let block = BLOCK_BYTES as u64;
        let pad = (block - size % block) % block;
        self.state = State::Content { what, left: size, pad };
        self.turn(maker)
    }
}

impl Said {
    /// Records of `length key=value\n`.
    fn read(&mut self, mut records: &[u8]) -> Result<(), GuestError> {
        let wrong = || damaged("its records are not as POSIX has them");
        while !records.is_empty() {
            let space = records.iter().position(|&byte| byte == b' ').ok_or_else(wrong)?;
            let length: usize =
                std::str::from_utf8(&records[..space]).ok().and_then(|digits| digits.parse().ok()).ok_or_else(wrong)?;
            if length > records.len() || length < space + 3 || records[length - 1] != b'\n' {
                return Err(wrong());
            }
            let record = &records[space + 1..length - 1];
            records = &records[length..];
            let equals = record.iter().position(|&byte| byte == b'=').ok_or_else(wrong)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            let number = || std::str::from_utf8(value).ok();
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.target = Some(value.to_vec()),
                b"size" => self.size = Some(number().and_then(|n| n.parse().ok()).ok_or_else(wrong)?),
                b"mtime" => self.mtime = number().and_then(|n| n.split('.').next()?.parse().ok()),
                _ if key.starts_with(b"GNU.sparse.") => {
                    return Err(damaged("it stores files sparsely; make it without --sparse"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

struct Header {
    name: Vec<u8>,
    mode: u32,
    size: u64,
    mtime: Option<i64>,
    kind: u8,
    target: Vec<u8>,
}

impl Header {
    fn read(head: &[u8]) -> Result<Self, GuestError> {
        let sum: u64 = head
            .iter()
            .enumerate()
            .map(|(at, &byte)| if (148..156).contains(&at) { 32 } else { u64::from(byte) })
            .sum();
        if number(&head[148..156]) != Some(sum) {
            return Err(damaged("it is no tar, or damaged"));
        }
        let mut name = until_nul(&head[..100]).to_vec();
        // The prefix is POSIX's; GNU has other things there.
        if &head[257..263] == b"ustar\0" && head[345] != 0 {
            name = [until_nul(&head[345..500]), b"/", &name].concat();
        }
        Ok(Self {
            name,
            mode: number(&head[100..108]).map_or(0o644, |mode| mode as u32),
            size: number(&head[124..136]).ok_or_else(|| damaged("an entry's size cannot be read"))?,
            mtime: number(&head[136..148]).and_then(|time| i64::try_from(time).ok()),
            kind: head[156],
            target: until_nul(&head[157..257]).to_vec(),
        })
    }
}

/// Octal digits, or GNU's base 256 for what is larger.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        // A set second-highest bit would be a negative number.
        let first = u64::from(field[0] & 0x7f);
        return field[1..].iter().try_fold(first, |sum, &byte| sum.checked_mul(256)?.checked_add(u64::from(byte)));
    }
    let text = std::str::from_utf8(until_nul(field)).ok()?.trim_matches(' ');
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}
