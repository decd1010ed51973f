//! A stand-in for Hetzner Cloud, for tests: a local server that speaks the documented API over a real socket, keeps machines,
//! and fails as it is told to.
//!
//! Faults are taken in the order in which they were asked for, each by the first request that it is for.

use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

pub const TOKEN: &str = "a-token-that-is-nowhere-else";
const BODY_BYTES_MAX: usize = 1 << 20;

/// What goes wrong with one request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Answered so, and not done.
    Refuse { status: u16, code: &'static str, headers: Vec<(&'static str, String)> },
    /// Not done, and the connection is cut.
    CutBefore,
    /// Done, and the connection is cut instead of an answer.
    CutAfter,
    /// Answered by something that is no API.
    Garbage { status: u16, body: String },
}

impl Fault {
    pub fn refuse(status: u16, code: &'static str) -> Self {
        Self::Refuse { status, code, headers: Vec::new() }
    }
}

/// What is there; tests look at it and change it.
#[derive(Default)]
pub struct World {
    pub servers: BTreeMap<u64, Value>,
    pub actions: BTreeMap<u64, Value>,
    /// Bodies of creations that were done, in their order.
    pub created: Vec<Value>,
    pub deleted: Vec<u64>,
    /// Such as `GET /servers?name=x`, all of them.
    pub requests: Vec<String>,
    /// The address that the next machines have.
    pub address: String,
    /// Creations succeed, and their action fails with this code.
    pub failing_action: Option<&'static str>,
    faults: VecDeque<(String, Fault)>,
    last_id: u64,
}

/// Stops when dropped.
pub struct Fake {
    base: String,
    world: Arc<Mutex<World>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

enum Answer {
    Json(u16, Vec<(&'static str, String)>, Value),
    Raw(u16, String),
    Cut,
}

impl Fake {
    /// On a free port of the loopback.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let base = format!("http://{}/v1", listener.local_addr()?);
        let world = Arc::new(Mutex::new(World { address: "127.0.0.1".into(), last_id: 100, ..World::default() }));
        let shared = world.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let world = shared.clone();
                tokio::spawn(async move {
                    // A test's client that goes away is its own affair.
                    let _ = serve(stream, &world).await;
                });
            }
        });
        Ok(Self { base, world, serving })
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    pub fn settings(&self) -> crate::hetzner::Settings {
        crate::hetzner::Settings { base: self.base.clone(), token: crate::hetzner::Token::new(TOKEN) }
    }

    /// The next request that begins so, such as `POST /servers`, meets this.
    pub fn fail(&self, beginning: &str, fault: Fault) {
        self.world().faults.push_back((beginning.to_owned(), fault));
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(stream: TcpStream, world: &Mutex<World>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let (mut length, mut authorised) = (0, false);
    loop {
        let mut header = String::new();
        if stream.read_line(&mut header).await? == 0 || header.trim().is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "authorization" => authorised = value.trim() == format!("Bearer {TOKEN}"),
            _ => {}
        }
    }
    let mut body = vec![0; length.min(BODY_BYTES_MAX)];
    stream.read_exact(&mut body).await?;
    let answer = {
        let mut world = world.lock().unwrap_or_else(PoisonError::into_inner);
        let path = target.strip_prefix("/v1").unwrap_or(&target);
        answer(&mut world, &method, path, &body, authorised)
    };
    let (status, headers, text) = match answer {
        Answer::Cut => return Ok(()),
        Answer::Json(status, headers, body) => (status, headers, body.to_string()),
        Answer::Raw(status, text) => (status, Vec::new(), text),
    };
    let extra: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n{extra}\r\n",
        text.len()
    );
    stream.get_mut().write_all(format!("{head}{text}").as_bytes()).await?;
    stream.get_mut().shutdown().await
}

fn answer(world: &mut World, method: &str, path: &str, body: &[u8], authorised: bool) -> Answer {
    let asked = format!("{method} {path}");
    world.requests.push(asked.clone());
    if !authorised {
        return refusal(401, "unauthorized");
    }
    let fault = world.faults.iter().position(|(beginning, _)| asked.starts_with(beginning.as_str()));
    match fault.and_then(|at| world.faults.remove(at)).map(|(_, fault)| fault) {
        Some(Fault::Refuse { status, code, headers }) => {
            Answer::Json(status, headers, json!({ "error": { "code": code, "message": "as the test wants" } }))
        }
        Some(Fault::Garbage { status, body }) => Answer::Raw(status, body),
        Some(Fault::CutBefore) => Answer::Cut,
        Some(Fault::CutAfter) => {
            route(world, method, path, body);
            Answer::Cut
        }
        None => route(world, method, path, body),
    }
}

fn route(world: &mut World, method: &str, path: &str, body: &[u8]) -> Answer {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let query: BTreeMap<String, String> = query.split('&').filter_map(pair).collect();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let id = parts.get(1).and_then(|id| id.parse::<u64>().ok());
    match (method, parts.as_slice(), id) {
        ("POST", ["servers"], _) => create(world, body),
        ("GET", ["servers"], _) => list(world, &query),
        ("GET", ["servers", _], Some(id)) => match world.servers.get(&id) {
            Some(server) => ok(json!({ "server": server })),
            None => refusal(404, "not_found"),
        },
        ("DELETE", ["servers", _], Some(id)) => match world.servers.remove(&id) {
            Some(_) => {
                world.deleted.push(id);
                let action = action(world, "delete_server", None);
                ok(json!({ "action": action }))
            }
            None => refusal(404, "not_found"),
        },
        ("GET", ["actions", _], Some(id)) => match world.actions.get(&id) {
            Some(action) => ok(json!({ "action": action })),
            None => refusal(404, "not_found"),
        },
        ("GET", ["server_types"], _) => {
            let kind = json!({ "id": 1, "name": "cx22", "cores": 2, "memory": 4.0, "disk": 40, "architecture": "x86" });
            ok(
                json!({ "server_types": if query.get("name").is_none_or(|name| name == "cx22") { vec![kind] } else { vec![] } }),
            )
        }
        ("GET", ["networks"], _) => ok(json!({ "networks": [{ "id": 11, "name": "inner" }] })),
        ("GET", ["firewalls"], _) => ok(json!({ "firewalls": [{ "id": 12, "name": "wall" }] })),
        _ => refusal(404, "not_found"),
    }
}

fn create(world: &mut World, body: &[u8]) -> Answer {
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return refusal(400, "json_error") };
    let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
    let name = text("name");
    if name.is_empty() || text("server_type") != "cx22" || text("image").is_empty() || text("user_data").len() > 32_768
    {
        return refusal(422, "invalid_input");
    }
    if world.servers.values().any(|server| server["name"] == name.as_str()) {
        return refusal(409, "uniqueness_error");
    }
    world.last_id += 1;
    let id = world.last_id;
    let address = world.address.clone();
    let private: Vec<Value> =
        body["networks"].as_array().into_iter().flatten().map(|net| json!({ "network": net, "ip": address })).collect();
    let server = json!({
        "id": id, "name": name, "status": "running", "labels": body["labels"], "private_net": private,
        "public_net": { "ipv4": { "ip": address, "blocked": false }, "ipv6": { "ip": "2001:db8::/64" }, "floating_ips": [] },
    });
    world.servers.insert(id, server.clone());
    world.created.push(body);
    let failing = world.failing_action;
    let action = action(world, "create_server", failing);
    Answer::Json(
        201,
        Vec::new(),
        json!({ "server": server, "action": action, "next_actions": [], "root_password": null }),
    )
}

fn list(world: &World, query: &BTreeMap<String, String>) -> Answer {
    let number = |key: &str, or: usize| query.get(key).and_then(|n| n.parse().ok()).unwrap_or(or).max(1);
    let (page, per_page) = (number("page", 1), number("per_page", 25).min(50));
    let wanted: Vec<(String, String)> =
        query.get("label_selector").map(|s| s.split(',').filter_map(pair).collect()).unwrap_or_default();
    let fits = |server: &&Value| {
        query.get("name").is_none_or(|name| server["name"] == name.as_str())
            && wanted.iter().all(|(key, value)| server["labels"][key] == value.as_str())
    };
    let all: Vec<&Value> = world.servers.values().filter(fits).collect();
    let last = all.len().div_ceil(per_page).max(1);
    let next = (page < last).then_some(page + 1);
    let servers: Vec<_> = all.iter().skip((page - 1) * per_page).take(per_page).collect();
    let pages =
        json!({ "page": page, "per_page": per_page, "next_page": next, "last_page": last, "total_entries": all.len() });
    ok(json!({ "servers": servers, "meta": { "pagination": pages } }))
}

fn action(world: &mut World, command: &str, failing: Option<&str>) -> Value {
    world.last_id += 1;
    let id = world.last_id;
    let (status, error) = match failing {
        Some(code) => ("error", json!({ "code": code, "message": "it failed" })),
        None => ("success", Value::Null),
    };
    world
        .actions
        .insert(id, json!({ "id": id, "command": command, "status": status, "progress": 100, "error": error }));
    // At first nothing is known of how it ends.
    json!({ "id": id, "command": command, "status": "running", "progress": 0, "error": null })
}

fn ok(body: Value) -> Answer {
    Answer::Json(200, vec![("RateLimit-Limit", "3600".into()), ("RateLimit-Remaining", "3599".into())], body)
}

fn refusal(status: u16, code: &str) -> Answer {
    Answer::Json(status, Vec::new(), json!({ "error": { "code": code, "message": code } }))
}

/// `key=value`, with escapes undone.
fn pair(text: &str) -> Option<(String, String)> {
    let (key, value) = text.split_once('=')?;
    let mut out = Vec::new();
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let hex = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    Some((key.to_owned(), String::from_utf8(out).ok()?))
}
