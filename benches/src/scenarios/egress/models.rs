//! A model's answer as it is streamed: from the writing of an event at the vendor to the reading of it in the workspace, by way
//! of the gateway's `llm.rexec.internal`, which counts its tokens as it passes, and through a tunnel, in which nobody reads.

use super::gateway::{Running, balanced, bound};
use super::world::{VENDOR, World};
use super::{connect, is_let, sources};
use crate::report::{Bound, Report, percentile};
use anyhow::{Context, Result, ensure};
use rexec_api::gateway::{BoundModels, ModelVendor, OfferedModels};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const STREAMS: usize = 10;
const EVENTS: usize = 300;
/// Between two events: quick models say as many tokens in a second.
const EVERY: Duration = Duration::from_millis(4);
const ASKED: &str = r#"{"model":"good-1","stream":true,"messages":[{"role":"user","content":"Say much."}]}"#;
const MODELS: &str = "llm.rexec.internal";
/// What stands before the time at which an event was written, in nanoseconds from [`BEGAN`].
const MARK: &str = "\"content\":\"";
/// As of any request that ends at the gateway.
const BOUND: f64 = 2.0;
/// Of this program.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

pub async fn run(program: &Path, report: &mut Report) -> Result<()> {
    LazyLock::force(&BEGAN);
    let world = World::make()?;
    let vendor =
        ModelVendor { base: format!("http://{}:{}/v1", VENDOR.name, VENDOR.port), key: Some("sk-operator".into()) };
    let gateway = Running::start(program, &world, OfferedModels { openai: Some(vendor), ..Default::default() }).await?;
    let source = sources(1).next().context("a source")?;
    let rule = format!("{}:{}", VENDOR.name, VENDOR.port);
    let mut bound = bound(source, balanced(&[&rule], &[]))?;
    bound.models = Some(BoundModels { left: Some(1 << 40) });
    gateway.client.bind_address(&bound).await?;
    let (mut tunnelled, mut counted) = (Vec::new(), Vec::new());
    for _ in 0..STREAMS {
        let (stream, head) = connect(source, gateway.at, VENDOR.name, VENDOR.port).await?;
        ensure!(is_let(&head), "{head}");
        listen(stream, &format!("{}:{}", VENDOR.name, VENDOR.port), "", &mut tunnelled).await?;
        listen(dial(source, gateway.at).await?, MODELS, &format!("http://{MODELS}"), &mut counted).await?;
    }
    let peer = std::mem::replace(&mut report.peer, "tunnelled");
    for percent in [50.0, 99.0] {
        let (ours, peer) = (percentile(&mut counted, percent), percentile(&mut tunnelled, percent));
        report.times(&format!("an event of a model's answer, p{percent}"), ours, peer, Bound::AtMost(BOUND));
    }
    report.peer = peer;
    Ok(())
}

async fn dial(source: IpAddr, proxy: SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source, 0))?;
    let stream = socket.connect(proxy).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Asks for one stream and reads it to its end.
async fn listen(mut stream: TcpStream, host: &str, place: &str, times: &mut Vec<Duration>) -> Result<()> {
    let request = format!(
        "POST {place}/v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Authorization: Bearer mine\r\nContent-Length: {}\r\n\r\n{ASKED}",
        ASKED.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let (mut lines, mut line, mut count) = (BufReader::new(stream), String::new(), 0);
    while count < EVENTS {
        line.clear();
        ensure!(lines.read_line(&mut line).await? > 0, "the stream ended after {count} events");
        let now = BEGAN.elapsed();
        let Some((_, rest)) = line.split_once(MARK) else { continue };
        let written: u64 = rest.split('"').next().unwrap_or_default().parse()?;
        times.push(now.saturating_sub(Duration::from_nanos(written)));
        count += 1;
    }
    Ok(())
}

/// Answers each request with a stream, and says in each event when that was written.
pub async fn vendor(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            // Whoever breaks off has a part that fails.
            let _ = answer(stream).await;
        });
    }
}

async fn answer(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let (from, mut to) = stream.split();
    let mut from = BufReader::new(from);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let before = head.len();
            if from.read_line(&mut head).await? == 0 {
                return Ok(());
            }
            let line = head[before..].to_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        from.read_exact(&mut vec![0; length]).await?;
        to.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await?;
        for _ in 0..EVENTS {
            tokio::time::sleep(EVERY).await;
            let now = BEGAN.elapsed().as_nanos();
            let event = format!("data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{{{MARK}{now}\"}}}}]}}\n\n");
            to.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
        }
        let last =
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":300}}\n\ndata: [DONE]\n\n";
        to.write_all(format!("{:x}\r\n{last}\r\n0\r\n\r\n", last.len()).as_bytes()).await?;
    }
}
