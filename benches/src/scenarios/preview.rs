//! A web server in a workspace through its preview, against the same server in a container that is asked at its own
//! address: what the way through the server and the guest costs. The bare address decides nothing about who may come.

use super::Stage;
use crate::report::{Report, median, percentile, show};
use anyhow::{Context, Result, bail};
use rexec_client::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PORT: u16 = 8000;
const WARM_UP: usize = 50;
/// Each asks by every way in turn, so that what disturbs one disturbs all.
const TURNS: usize = 1500;
/// Pairs of crowds, the two ways in turn.
const CROWDS: usize = 5;
const CROWD_REQUESTS: usize = 300;
const VISITORS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than any answer with its head.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
const BODY: &[u8] = b"hello";
/// What the server switches to when asked: it goes on answering heads, and what carries them is a kept stream.
const KEPT: &str = "connection: upgrade\r\nupgrade: bench\r\n";
/// As little of a web server as there can be, so that the way to it is what is measured.
const SERVER: &str = r#"
import asyncio
class Page(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.got = transport, b""
    def data_received(self, data):
        self.got += data
        while b"\r\n\r\n" in self.got:
            head, self.got = self.got.split(b"\r\n\r\n", 1)
            if b"upgrade: bench" in head.lower():
                self.transport.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: bench\r\n\r\n")
            else:
                self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
async def main():
    server = await asyncio.get_running_loop().create_server(Page, "0.0.0.0", 8000)
    await server.serve_forever()
asyncio.run(main())
"#;

/// Where to ask, and with which head.
#[derive(Clone)]
struct Way {
    address: String,
    head: String,
}

/// One kept connection.
struct Visitor {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Visitor {
    async fn of(way: &Way) -> Result<Self> {
        let stream = TcpStream::connect(&way.address).await?;
        stream.set_nodelay(true)?;
        let request = format!("GET / HTTP/1.1\r\n{}\r\n", way.head).into_bytes();
        Ok(Self { stream, request, answer: Vec::with_capacity(ANSWER_BYTES_MAX) })
    }

    /// The same, over a connection that is no longer HTTP: what is asked goes on a stream that stays, with the
    /// same bytes, and the server has nothing to open or to parse.
    async fn kept(way: &Way) -> Result<Self> {
        let mut visitor = Self::of(way).await?;
        let asked = format!("GET / HTTP/1.1\r\n{}{KEPT}\r\n", way.head);
        visitor.stream.write_all(asked.as_bytes()).await?;
        visitor.until("101", b"\r\n\r\n").await?;
        Ok(visitor)
    }

    async fn ask(&mut self) -> Result<Duration> {
        let began = Instant::now();
        self.stream.write_all(&self.request).await?;
        self.until("200", BODY).await?;
        Ok(began.elapsed())
    }

    /// Reads an answer of this status, which ends so.
    async fn until(&mut self, status: &str, end: &[u8]) -> Result<()> {
        let begin = format!("HTTP/1.1 {status} ");
        self.answer.clear();
        while !self.answer.ends_with(end) {
            let count = self.stream.read_buf(&mut self.answer).await?;
            let fits = self.answer.starts_with(&begin.as_bytes()[..begin.len().min(self.answer.len())]);
            // A refusal ends otherwise, on a connection that stays.
            if count == 0 || !fits || self.answer.len() > ANSWER_BYTES_MAX {
                bail!("not the page: {}", String::from_utf8_lossy(&self.answer));
            }
        }
        Ok(())
    }
}

/// A connection for one request, from the first packet on.
async fn ask_once(way: &Way) -> Result<Duration> {
    let began = Instant::now();
    Visitor::of(way).await?.ask().await?;
    Ok(began.elapsed())
}

pub async fn run(stage: &mut Stage<'_>, report: &mut Report) -> Result<()> {
    let ours = ours(stage).await?;
    let (container, home, peer) = direct(stage).await?;
    let outcome = async {
        alone(&ours, &peer, report).await?;
        crowds(&ours, &peer, report).await
    }
    .await;
    stage.peer.remove(&container, &home).await?;
    outcome
}

/// What one request takes by each way. What a preview does for each, letting it in and opening a connection of
/// its own, stands between its requests and its kept stream, which has both behind it.
async fn alone(ours: &Way, peer: &Way, report: &mut Report) -> Result<()> {
    let (mut preview, mut direct) = (Visitor::of(ours).await?, Visitor::of(peer).await?);
    let mut tunnel = Visitor::kept(ours).await?;
    let mut times: [Vec<Duration>; 4] = Default::default();
    for turn in 0..WARM_UP + TURNS {
        let took = [preview.ask().await?, direct.ask().await?, tunnel.ask().await?, ask_once(peer).await?];
        if turn >= WARM_UP {
            for (times, took) in times.iter_mut().zip(took) {
                times.push(took);
            }
        }
    }
    let names = [
        "preview, let in and connected per request",
        "container's address, one connection",
        "preview, one stream kept (as a WebSocket)",
        "container's address, a connection per request",
    ];
    let mut p50 = [Duration::ZERO; 4];
    for (side, name) in names.into_iter().enumerate() {
        p50[side] = median(&mut times[side]);
        let p99 = percentile(&mut times[side], 99.0);
        report.note(format!("{name:<46} p50 {:>8}  p99 {:>8}", show(p50[side]), show(p99)));
    }
    let [preview, direct, tunnel, once] = p50.map(|time| time.as_secs_f64());
    report.note(format!("preview / address, one connection              {:>6.2} x (p50)", preview / direct));
    report.note(format!("preview / address, a connection per request    {:>6.2} x (p50)", preview / once));
    report.note(format!("preview / preview's kept stream                {:>6.2} x (p50)", preview / tunnel));
    report.note(format!("preview's kept stream / address, one connection{:>6.2} x (p50)", tunnel / direct));
    Ok(())
}

/// How many requests a second several visitors get, each on a connection that stays.
async fn crowds(ours: &Way, peer: &Way, report: &mut Report) -> Result<()> {
    let (mut preview, mut direct) = (Vec::new(), Vec::new());
    for pair in 0..=CROWDS {
        let took = [crowd(ours).await?, crowd(peer).await?];
        // The first pair warms caches.
        if pair > 0 {
            preview.push(took[0]);
            direct.push(took[1]);
        }
    }
    let [preview, direct] = [median(&mut preview), median(&mut direct)].map(|time| time.as_secs_f64());
    let requests = (VISITORS * CROWD_REQUESTS) as f64;
    report.note(format!(
        "{VISITORS} visitors: preview {:.0} requests a second, container's address {:.0}",
        requests / preview,
        requests / direct
    ));
    report.note(format!("requests a second, preview / address           {:>6.2} x (median)", direct / preview));
    Ok(())
}

async fn crowd(way: &Way) -> Result<Duration> {
    let mut visitors = Vec::new();
    for _ in 0..VISITORS {
        visitors.push(Visitor::of(way).await?);
    }
    let began = Instant::now();
    let visits = visitors.iter_mut().map(|visitor| async move {
        for _ in 0..CROWD_REQUESTS {
            visitor.ask().await?;
        }
        anyhow::Ok(())
    });
    futures_util::future::try_join_all(visits).await?;
    Ok(began.elapsed())
}

async fn ours(stage: &Stage<'_>) -> Result<Way> {
    let client = &stage.ours.client;
    let base = format!("/api/workspaces/{}", stage.workspace);
    let server = stage.ours.terminal(stage.workspace, &["python3", "-c", SERVER]).await?;
    drop(server);
    let open = client.request(Method::POST, &format!("{base}/ports/{PORT}/open")).json(&json!({})).send().await?;
    let opened: Value = open.error_for_status()?.json().await?;
    let url = opened["url"].as_str().context("an address")?;
    let (host, path) = url.trim_start_matches("http://").split_once('/').context("a path")?;
    let address = client.base().trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).await?;
    stream.write_all(format!("GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).context("a pass")?;
    let cookie = cookie.split(';').next().unwrap_or_default();
    let way = Way { address, head: format!("host: {host}\r\ncookie: {cookie}\r\n") };
    ready(&way).await?;
    Ok(way)
}

/// The same server in a container like the workspace, on the engine's own network, which the host can reach.
async fn direct(stage: &mut Stage<'_>) -> Result<(String, String, Way)> {
    let name = stage.fresh_name();
    let mut model = stage.model.clone();
    model["HostConfig"]["NetworkMode"] = json!("bridge");
    let container = stage.peer.container_running(&model, &name, &name, &["python3", "-c", SERVER]).await?;
    let answering = async {
        let found = stage.peer.inspect(&container).await?;
        let address = found["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].as_str().context("an address")?;
        let way = Way { address: format!("{address}:{PORT}"), head: format!("host: {address}\r\n") };
        ready(&way).await?;
        anyhow::Ok(way)
    };
    match answering.await {
        Ok(way) => Ok((container, name, way)),
        Err(error) => {
            stage.peer.remove(&container, &name).await?;
            Err(error.context("the peer's server does not answer"))
        }
    }
}

async fn ready(way: &Way) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let asked = async { Visitor::of(way).await?.ask().await };
        match asked.await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
