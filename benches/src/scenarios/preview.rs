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
const REQUESTS: usize = 500;
/// Interleaved rounds, so that what disturbs one side disturbs the other.
const ROUNDS: usize = 3;
const VISITORS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(20);
/// As little of a web server as there can be, so that the way to it is what is measured.
const SERVER: &str = r#"
import asyncio
class Page(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.got = transport, b""
    def data_received(self, data):
        self.got += data
        while b"\r\n\r\n" in self.got:
            self.got = self.got.split(b"\r\n\r\n", 1)[1]
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

/// One kept-alive connection.
struct Visitor {
    stream: TcpStream,
    request: Vec<u8>,
}

impl Visitor {
    async fn of(way: &Way) -> Result<Self> {
        let stream = TcpStream::connect(&way.address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, request: format!("GET / HTTP/1.1\r\n{}\r\n", way.head).into_bytes() })
    }

    async fn ask(&mut self) -> Result<Duration> {
        let began = Instant::now();
        self.stream.write_all(&self.request).await?;
        let mut answer = Vec::with_capacity(1024);
        while !answer.ends_with(b"\r\n\r\nhello") {
            if self.stream.read_buf(&mut answer).await? == 0 || answer.len() > 16 * 1024 {
                bail!("not the page: {}", String::from_utf8_lossy(&answer));
            }
        }
        Ok(began.elapsed())
    }
}

pub async fn run(stage: &mut Stage<'_>, report: &mut Report) -> Result<()> {
    let ours = ours(stage).await?;
    let (container, home, peer) = direct(stage).await?;
    let outcome = compare([("the preview", &ours), ("the container's address", &peer)], report).await;
    stage.peer.remove(&container, &home).await?;
    outcome
}

async fn compare(ways: [(&str, &Way); 2], report: &mut Report) -> Result<()> {
    let mut times = [Vec::new(), Vec::new()];
    let mut rates = [0.0, 0.0];
    for _ in 0..ROUNDS {
        for (side, (_, way)) in ways.iter().enumerate() {
            let mut visitor = Visitor::of(way).await?;
            for request in 0..WARM_UP + REQUESTS {
                let took = visitor.ask().await?;
                if request >= WARM_UP {
                    times[side].push(took);
                }
            }
            rates[side] += crowd(way).await? / ROUNDS as f64;
        }
    }
    let mut p50 = [Duration::ZERO; 2];
    for (side, (name, _)) in ways.iter().enumerate() {
        p50[side] = median(&mut times[side]);
        let p99 = percentile(&mut times[side], 99.0);
        report.note(format!(
            "requests through {name}: p50 {} p99 {}, {:.0} a second by {VISITORS} visitors",
            show(p50[side]),
            show(p99),
            rates[side]
        ));
    }
    report.note(format!(
        "preview to bare address: p50 {:.2} x, requests a second {:.2} x",
        p50[0].as_secs_f64() / p50[1].as_secs_f64(),
        rates[0] / rates[1]
    ));
    Ok(())
}

async fn crowd(way: &Way) -> Result<f64> {
    let began = Instant::now();
    let visits = (0..VISITORS).map(|_| async {
        let mut visitor = Visitor::of(way).await?;
        for _ in 0..REQUESTS {
            visitor.ask().await?;
        }
        anyhow::Ok(())
    });
    futures_util::future::try_join_all(visits).await?;
    Ok((VISITORS * REQUESTS) as f64 / began.elapsed().as_secs_f64())
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
    let found = stage.peer.inspect(&container).await?;
    let address = found["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].as_str().context("an address")?;
    let way = Way { address: format!("{address}:{PORT}"), head: format!("host: {address}\r\n") };
    if let Err(error) = ready(&way).await {
        stage.peer.remove(&container, &name).await?;
        return Err(error.context("the peer's server does not answer"));
    }
    Ok((container, name, way))
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
