//! `guest tunnel PROXY HOST PORT`: joins its standard input and output to a host that is reached through an HTTP proxy, for
//! programs that know none, such as `ssh` by its `ProxyCommand`.

use crate::connect::copy;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};

/// A head that is longer is none of a proxy's.
const HEAD_BYTES_MAX: usize = 16 * 1024;

pub fn run(arguments: impl Iterator<Item = OsString>) -> io::Result<()> {
    let words: Vec<String> = arguments.filter_map(|word| word.into_string().ok()).collect();
    let [proxy, host, port] = words.as_slice() else { return Err(usage()) };
    let port: u16 = port.parse().map_err(|_| usage())?;
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    if authority.contains(char::is_whitespace) || authority.contains(char::is_control) {
        return Err(usage());
    }
    let mut socket = TcpStream::connect(proxy)?;
    socket.set_nodelay(true)?;
    socket.write_all(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes())?;
    let head = head(&mut socket)?;
    let status = head.split_ascii_whitespace().nth(1).unwrap_or_default();
    if status != "200" {
        let mut why = String::new();
        // A proxy waits for another request while it may; what it says is told as far as it comes.
        let _ = socket.shutdown(Shutdown::Write);
        let _ = (&socket).take(HEAD_BYTES_MAX as u64).read_to_string(&mut why);
        let why: String = why.chars().filter(|c| !c.is_control()).collect();
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{authority}: {why}")));
    }
    join(socket)
}

fn usage() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "usage: guest tunnel ADDRESS:PORT HOST PORT")
}

/// Not a byte more: what follows is the host's.
fn head(socket: &mut TcpStream) -> io::Result<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        socket.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Ends with what the host says; what is said to it may end before.
fn join(socket: TcpStream) -> io::Result<()> {
    let upward = socket.try_clone()?;
    // Not joined: a blocked read of standard input must not outlive the host's end.
    std::thread::Builder::new().spawn(move || {
        let _ = copy(io::stdin().lock(), &upward);
        let _ = upward.shutdown(Shutdown::Write);
    })?;
    copy(socket, io::stdout().lock())
}
