//! The blocks of tar (POSIX.1-2001, `pax`), both ways: headers, and the records before them that hold what
//! does not fit into one. Pure; what an error says is the end of a sentence about the archive.

pub const BLOCK_BYTES: usize = 512;
/// The largest numbers of a field of 12 bytes, and of one of 8.
const LONG_MAX: u64 = 0o77_777_777_777;
const SHORT_MAX: u64 = 0o7_777_777;
/// Bytes of the fields for a name and for a link's target.
const NAME_BYTES: usize = 100;
/// What the records of extended attributes are called, before the attribute's own name.
const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";

/// An entry's head, as it is to be written.
pub struct Head<'a> {
    pub name: &'a [u8],
    pub kind: u8,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub size: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    pub target: &'a [u8],
}

impl Head<'_> {
    /// Adds the header to `out`, and before it these records and those of what does not fit.
    pub fn write(&self, mut records: Vec<u8>, out: &mut Vec<u8>) {
        for (key, value) in [("path", self.name), ("linkpath", self.target)] {
            if value.len() > NAME_BYTES {
                if std::str::from_utf8(value).is_err() {
                    record(&mut records, b"hdrcharset", b"BINARY");
                }
                record(&mut records, key.as_bytes(), value);
            }
        }
        for (key, value, most) in
            [("size", self.size, LONG_MAX), ("uid", self.uid, SHORT_MAX), ("gid", self.gid, SHORT_MAX)]
        {
            if value > most {
                record(&mut records, key.as_bytes(), value.to_string().as_bytes());
            }
        }
        if !records.is_empty() {
            let size = records.len() as u64;
            let pax = Head { name: b"PaxHeader", kind: b'x', mode: 0o644, uid: 0, gid: 0, size, mtime: 0, target: b"" };
            out.extend_from_slice(&pax.block());
            out.extend_from_slice(&records);
            out.resize(out.len() + padding(size), 0);
        }
        out.extend_from_slice(&self.block());
    }

    /// What is too large for a field is told by a record and here cut off.
    fn block(&self) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        let mut text = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        text(0, &self.name[..self.name.len().min(NAME_BYTES)]);
        text(100, format!("{:07o}", self.mode).as_bytes());
        text(108, format!("{:07o}", self.uid.min(SHORT_MAX)).as_bytes());
        text(116, format!("{:07o}", self.gid.min(SHORT_MAX)).as_bytes());
        text(124, format!("{:011o}", self.size.min(LONG_MAX)).as_bytes());
        text(136, format!("{:011o}", u64::try_from(self.mtime).unwrap_or(0).min(LONG_MAX)).as_bytes());
        text(148, b"        ");
        text(156, &[self.kind]);
        text(157, &self.target[..self.target.len().min(NAME_BYTES)]);
        text(257, b"ustar\x0000");
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

/// Adds a record: `length key=value\n`, where the length counts itself.
pub fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut digits = rest.to_string().len();
    if (rest + digits).to_string().len() > digits {
        digits += 1;
    }
    records.extend_from_slice(format!("{} ", rest + digits).as_bytes());
    for part in [key, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

/// Adds the record of an extended attribute as GNU tar does: `=` and `%` of its name as `%3D` and `%25`.
pub fn attribute(records: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let mut key = ATTRIBUTE.to_vec();
    for &byte in name {
        match byte {
            b'=' => key.extend_from_slice(b"%3D"),
            b'%' => key.extend_from_slice(b"%25"),
            byte => key.push(byte),
        }
    }
    record(records, &key, value);
}

/// The attribute that a record is of, if it is of one.
pub fn attribute_of(key: &[u8]) -> Option<Vec<u8>> {
    let text = key.strip_prefix(ATTRIBUTE)?.iter().map(|&byte| char::from(byte)).collect::<String>();
    Some(text.replace("%3D", "=").replace("%25", "%").chars().map(|c| c as u8).collect())
}

/// Zeroes that follow content of so many bytes, to the end of its last block.
pub fn padding(size: u64) -> usize {
    let block = BLOCK_BYTES as u64;
    ((block - size % block) % block) as usize
}

/// A header as it was read.
pub struct Header {
    pub name: Vec<u8>,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub size: u64,
    pub mtime: Option<i64>,
    pub kind: u8,
    pub target: Vec<u8>,
    /// Major and minor number of a device.
    pub device: Option<(u64, u64)>,
}

impl Header {
    /// `head` is a block.
    pub fn read(head: &[u8]) -> Result<Self, &'static str> {
        let sum: u64 = head
            .iter()
            .enumerate()
            .map(|(at, &byte)| if (148..156).contains(&at) { 32 } else { u64::from(byte) })
            .sum();
        if number(&head[148..156]) != Some(sum) {
            return Err("it is no tar, or damaged");
        }
        let mut name = until_nul(&head[..100]).to_vec();
        // The prefix is POSIX's; GNU has other things there.
        if &head[257..263] == b"ustar\0" && head[345] != 0 {
            name = [until_nul(&head[345..500]), b"/", &name].concat();
        }
        Ok(Self {
            name,
            mode: number(&head[100..108]).map_or(0o644, |mode| mode as u32),
            uid: number(&head[108..116]).unwrap_or(0),
            gid: number(&head[116..124]).unwrap_or(0),
            size: number(&head[124..136]).ok_or("an entry's size cannot be read")?,
            mtime: number(&head[136..148]).and_then(|time| i64::try_from(time).ok()),
            kind: head[156],
            target: until_nul(&head[157..257]).to_vec(),
            device: number(&head[329..337]).zip(number(&head[337..345])),
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

pub fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Keys and values of records; ends after the first that is none.
pub struct Records<'a>(pub &'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        let records = std::mem::take(&mut self.0);
        if records.is_empty() {
            return None;
        }
        let parsed = || {
            let space = records.iter().position(|&byte| byte == b' ')?;
            let length: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
            if length > records.len() || length < space + 3 || records[length - 1] != b'\n' {
                return None;
            }
            let record = &records[space + 1..length - 1];
            let equals = record.iter().position(|&byte| byte == b'=')?;
            Some(((&record[..equals], &record[equals + 1..]), &records[length..]))
        };
        Some(match parsed() {
            Some((record, rest)) => {
                self.0 = rest;
                Ok(record)
            }
            None => Err("its records are not as POSIX has them"),
        })
    }
}
