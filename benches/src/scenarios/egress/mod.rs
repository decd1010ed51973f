//! The way out: the gateway's own program, told over its channel as the server tells it, and hosts of this program's at
//! addresses that count as public, in a network of their own.
//!
//! Client and hosts are threads of this program, the gateway a process. What is compared goes through the same gateway in turn,
//! or in turn through it and squid.

pub mod change;
pub mod connect;
mod gateway;
pub mod models;
pub mod reading;
mod world;

use anyhow::{Context, Result};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// The addresses of workspaces.
fn sources(count: usize) -> impl Iterator<Item = IpAddr> + Clone {
    const IN_ROW: usize = 250;
    (0..count).map(|at| IpAddr::V4(Ipv4Addr::new(127, 1, (at / IN_ROW) as u8, (at % IN_ROW) as u8 + 1)))
}

/// What a proxy answers to CONNECT, and the connection.
async fn connect(source: IpAddr, proxy: SocketAddr, name: &str, port: u16) -> Result<(TcpStream, String)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source, 0))?;
    let mut stream = socket.connect(proxy).await?;
    stream.set_nodelay(true)?;
    stream.write_all(format!("CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n").as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.context("the proxy's answer")?);
    }
    Ok((stream, String::from_utf8(head)?))
}

fn is_let(head: &str) -> bool {
    head.starts_with("HTTP/1.1 200")
}

/// As short as a ClientHello that names its server can be (RFC 8446, section 4.1.2).
fn hello(name: &str) -> Vec<u8> {
    let with_length = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let name = with_length(&[&[0], &with_length(name.as_bytes())[..]].concat());
    let extensions = with_length(&[&[0, 0], &with_length(&name)[..]].concat());
    let body = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0], &extensions].concat();
    let length = (body.len() as u32).to_be_bytes();
    let message = [&[1], &length[1..], &body].concat();
    [&[22, 3, 1][..], &with_length(&message)].concat()
}
