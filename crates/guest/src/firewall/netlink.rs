//! Netlink as nf_tables speaks it (linux/netlink.h, nfnetlink.h): messages of attributes, sent to the kernel as one
//! transaction or asked as a listing.
//!
//! ```text
//! message    u32 length | u16 kind | u16 flags | u32 number | u32 0 | u8 family | u8 0 | u16 big-endian | attributes
//! attribute  u16 length | u16 kind | value | zeros up to 4 bytes        numbers in values are big-endian, the rest is not
//! ```
//!
//! Invariants: the kernel takes a transaction whole or not at all. Nothing here waits: it answers before a send returns.

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};
use std::io;

const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
/// In an answer: what is listed has changed meanwhile.
const INTERRUPTED: u16 = 0x10;
pub const CREATE: u16 = 0x400;
pub const APPEND: u16 = 0x800;
const ERROR: u16 = 0x2;
const DONE: u16 = 0x3;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// nf_tables among netfilter's subsystems.
const SUBSYSTEM: u16 = 10;
const HEADER_BYTES: usize = 16;
const FAMILY_BYTES: usize = 4;
const ATTRIBUTE_BYTES: usize = 4;
/// Without the bits that say what a value holds.
const KIND_MASK: u16 = 0x3fff;
/// The kernel answers in pieces of at most 32 KiB.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How often a listing is begun anew because the rules changed under it.
const LISTINGS_MAX: usize = 16;

/// A message's attributes as they are put together.
#[derive(Default)]
pub struct Attributes(Vec<u8>);

impl Attributes {
    pub fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let length = (ATTRIBUTE_BYTES + value.len()) as u16;
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), b"\0"].concat())
    }

    pub fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub fn nest(self, kind: u16, inner: Attributes) -> Self {
        self.bytes(kind, &inner.0)
    }

    #[cfg(test)]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// The attributes of an answer, by kind. It ends at what is none.
pub struct Found<'a>(pub &'a [u8]);

impl<'a> Iterator for Found<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & KIND_MASK;
        let value = self.0.get(ATTRIBUTE_BYTES..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

impl<'a> Found<'a> {
    pub fn value(&self, kind: u16) -> Option<&'a [u8]> {
        Found(self.0).find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    pub fn nest(&self, kind: u16) -> Option<Found<'a>> {
        self.value(kind).map(Found)
    }

    pub fn number(&self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.value(kind)?.try_into().ok()?))
    }

    pub fn text(&self, kind: u16) -> Option<&'a str> {
        std::str::from_utf8(self.value(kind)?.strip_suffix(b"\0")?).ok()
    }
}

/// One step of a transaction.
pub struct Command {
    /// Of nf_tables' messages.
    pub kind: u16,
    pub flags: u16,
    pub attributes: Attributes,
}

pub struct Socket {
    fd: OwnedFd,
    family: u8,
    number: u32,
}

impl Socket {
    /// Whose tables it is about.
    pub fn open(family: u8) -> io::Result<Self> {
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::NETFILTER))?;
        Ok(Self { fd, family, number: 0 })
    }

    /// All of it, at one moment, or nothing and why.
    pub fn commit(&mut self, commands: Vec<Command>) -> io::Result<()> {
        let mut batch = self.message(BATCH_BEGIN, REQUEST, 0, SUBSYSTEM, &Attributes::default());
        let mut awaited = Vec::with_capacity(commands.len());
        for command in commands {
            let kind = (SUBSYSTEM << 8) | command.kind;
            batch.extend(self.message(kind, REQUEST | ACK | command.flags, self.family, 0, &command.attributes));
            awaited.push(self.number);
        }
        batch.extend(self.message(BATCH_END, REQUEST, 0, SUBSYSTEM, &Attributes::default()));
        self.send(&batch)?;
        while !awaited.is_empty() {
            self.receive(|message| {
                if message.kind == ERROR {
                    errno(message.body)?;
                    awaited.retain(|number| *number != message.number);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Everything of one kind that there is in the family, at one moment. `keep` may see some of it twice, before it is
    /// told to begin anew.
    pub fn list<T>(&mut self, kind: u16, keep: impl Fn(Found<'_>) -> Option<T>) -> io::Result<Vec<T>> {
        for _ in 0..LISTINGS_MAX {
            let request = self.message((SUBSYSTEM << 8) | kind, REQUEST | DUMP, self.family, 0, &Attributes::default());
            self.send(&request)?;
            let (number, mut kept) = (self.number, Vec::new());
            let (mut is_done, mut is_whole) = (false, true);
            while !is_done {
                self.receive(|message| {
                    if message.number != number {
                        return Ok(());
                    }
                    is_whole &= message.flags & INTERRUPTED == 0;
                    match message.kind {
                        ERROR => errno(message.body)?,
                        DONE => {
                            is_done = true;
                            match errno(message.body) {
                                Err(error) if error.raw_os_error() == Some(Errno::INTR.raw_os_error()) => {
                                    is_whole = false;
                                }
                                ended => ended?,
                            }
                        }
                        _ => kept.extend(message.body.get(FAMILY_BYTES..).map(Found).and_then(&keep)),
                    }
                    Ok(())
                })?;
            }
            if is_whole {
                return Ok(kept);
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "the rules change faster than they can be read"))
    }

    fn message(&mut self, kind: u16, flags: u16, family: u8, resource: u16, attributes: &Attributes) -> Vec<u8> {
        self.number += 1;
        let length = (HEADER_BYTES + FAMILY_BYTES + attributes.0.len()) as u32;
        let mut message = Vec::with_capacity(length as usize);
        message.extend_from_slice(&length.to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&flags.to_ne_bytes());
        message.extend_from_slice(&self.number.to_ne_bytes());
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(&[family, 0]);
        message.extend_from_slice(&resource.to_be_bytes());
        message.extend_from_slice(&attributes.0);
        message
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        match send(&self.fd, message, SendFlags::empty())? {
            sent if sent == message.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    fn receive(&self, mut each: impl FnMut(Answer<'_>) -> io::Result<()>) -> io::Result<()> {
        let mut buffer = vec![0; ANSWER_BYTES_MAX];
        let (read, _) = recv(&self.fd, &mut buffer[..], RecvFlags::DONTWAIT)?;
        let mut rest = &buffer[..read];
        while let Some(message) = Answer::first(rest) {
            rest = rest.get(message.length.next_multiple_of(4)..).unwrap_or_default();
            each(message)?;
        }
        Ok(())
    }
}

struct Answer<'a> {
    length: usize,
    kind: u16,
    flags: u16,
    number: u32,
    body: &'a [u8],
}

impl<'a> Answer<'a> {
    fn first(bytes: &'a [u8]) -> Option<Self> {
        let length = u32_at(bytes, 0)? as usize;
        let body = bytes.get(HEADER_BYTES..length)?;
        Some(Self { length, kind: u16_at(bytes, 4)?, flags: u16_at(bytes, 6)?, number: u32_at(bytes, 8)?, body })
    }
}

/// An answer begins with the negative of an error's number, or 0.
fn errno(body: &[u8]) -> io::Result<()> {
    match u32_at(body, 0).map(|code| code as i32) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
