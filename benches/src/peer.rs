//! The peer: the engine's API over its socket, spoken with as little as can be.
//!
//! One connection per call, HTTP/1.1 by hand; an exec's stream is the raw connection after the
//! head (`Upgrade: tcp`), with a TTY, so that nothing is decoded.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const HEAD_BYTES_MAX: usize = 64 * 1024;
const READ_BYTES: usize = 64 * 1024;

#[derive(Clone)]
pub struct Peer {
    socket: PathBuf,
}

/// An exec with a TTY: what is read and written is the terminal's.
pub struct Exec {
    pub stream: UnixStream,
    /// Came together with the head.
    early: Vec<u8>,
}

impl Peer {
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut stream = self.send(method, path, body, "Connection: close\r\n").await?;
        let (status, _, mut rest) = read_head(&mut stream).await?;
        stream.read_to_end(&mut rest).await?;
        if !(200..300).contains(&status) {
            bail!("{method} {path}: {status} {}", String::from_utf8_lossy(&rest));
        }
        // A chunked body of one JSON value: what stands between the first brace and the last.
        let text = String::from_utf8_lossy(&rest);
        let json = match (text.find(['{', '[']), text.rfind(['}', ']'])) {
            (Some(start), Some(end)) => serde_json::from_str(&text[start..=end]).unwrap_or(Value::Null),
            _ => Value::Null,
        };
        Ok(json)
    }

    /// Unpacks a tar archive at a path of a container, as `docker cp` does.
    pub async fn put_archive(&self, container: &str, path: &str, pieces: &[&[u8]]) -> Result<()> {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut stream = UnixStream::connect(&self.socket).await.context("the engine's socket")?;
        let head = format!(
            "PUT /v1.41/containers/{container}/archive?path={path} HTTP/1.1\r\nHost: engine\r\n\
             Content-Type: application/x-tar\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        for piece in pieces {
            stream.write_all(piece).await?;
        }
        let (status, ..) = read_head(&mut stream).await?;
        if status != 200 {
            bail!("an archive was not taken: {status}");
        }
        Ok(())
    }

    /// Reads a path of a container as a tar archive to its end; gives its bytes with the little that frames them.
    pub async fn get_archive(&self, container: &str, path: &str) -> Result<u64> {
        let target = format!("/containers/{container}/archive?path={path}");
        let mut stream = self.send("GET", &target, None, "Connection: close\r\n").await?;
        let (status, _, early) = read_head(&mut stream).await?;
        if status != 200 {
            bail!("an archive was not given: {status}");
        }
        let (mut bytes, mut buffer) = (early.len() as u64, vec![0; READ_BYTES]);
        loop {
            match stream.read(&mut buffer).await? {
                0 => return Ok(bytes),
                count => bytes += count as u64,
            }
        }
    }

    /// Runs a command in a container of its own, with these volumes, to its end.
    pub async fn run(&self, image: &Value, name: &str, mounts: &[(&str, &str)], command: &[&str]) -> Result<()> {
        let mount = |(volume, target): &(&str, &str)| json!({ "Type": "volume", "Source": volume, "Target": target });
        let mounts: Vec<Value> = mounts.iter().map(mount).collect();
        let body = json!({
            "Image": image, "Entrypoint": [], "Cmd": command, "User": "0:0", "Labels": { "rexec.bench": "1" },
            "HostConfig": { "Mounts": mounts, "NetworkMode": "none" },
        });
        let made = self.call("POST", &format!("/containers/create?name={name}"), Some(&body)).await?;
        let id = made["Id"].as_str().context("an id")?;
        self.call("POST", &format!("/containers/{id}/start"), None).await?;
        let ended = self.call("POST", &format!("/containers/{id}/wait"), None).await?;
        self.call("DELETE", &format!("/containers/{id}?force=1"), None).await?;
        if ended["StatusCode"] != 0 {
            bail!("{command:?} ended with {ended}");
        }
        Ok(())
    }

    async fn send(&self, method: &str, path: &str, body: Option<&Value>, headers: &str) -> Result<UnixStream> {
        let mut stream = UnixStream::connect(&self.socket).await.context("the engine's socket")?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} /v1.41{path} HTTP/1.1\r\nHost: engine\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        Ok(stream)
    }

    /// Makes and starts a container like another: same image, limits, profile, network and
    /// mounts, with a home volume of its own. Its first process only waits.
    pub async fn container_like(&self, model: &Value, name: &str, home: &str) -> Result<String> {
        self.container_running(model, name, home, &["sleep", "infinity"]).await
    }

    /// The same with this command as its first process.
    pub async fn container_running(&self, model: &Value, name: &str, home: &str, command: &[&str]) -> Result<String> {
        let mut host = model["HostConfig"].clone();
        for mount in host["Mounts"].as_array_mut().into_iter().flatten() {
            if mount["Target"] == "/home/user" {
                mount["Source"] = json!(home);
                mount["VolumeOptions"] = json!({ "Labels": { "rexec.bench": "1" } });
            }
        }
        let body = json!({
            "Image": model["Config"]["Image"],
            "Hostname": "bench",
            "Entrypoint": [],
            "Cmd": command,
            "Labels": { "rexec.bench": "1" },
            "HostConfig": host,
        });
        let made = self.call("POST", &format!("/containers/create?name={name}"), Some(&body)).await?;
        let id = made["Id"].as_str().context("an id")?.to_owned();
        self.call("POST", &format!("/containers/{id}/start"), None).await?;
        Ok(id)
    }

    pub async fn remove(&self, container: &str, home: &str) -> Result<()> {
        self.call("DELETE", &format!("/containers/{container}?force=1"), None).await?;
        self.call("DELETE", &format!("/volumes/{home}?force=1"), None).await?;
        Ok(())
    }

    pub async fn inspect(&self, container: &str) -> Result<Value> {
        self.call("GET", &format!("/containers/{container}/json"), None).await
    }

    /// The container of one of our workspaces, as the engine describes it.
    pub async fn workspace(&self, workspace: rexec_api::ids::WorkspaceId) -> Result<Value> {
        // {"label":["rexec.workspace=<id>"]}, percent-encoded.
        let filters = format!("%7B%22label%22%3A%5B%22rexec.workspace%3D{workspace}%22%5D%7D");
        let found = self.call("GET", &format!("/containers/json?filters={filters}"), None).await?;
        self.inspect(found[0]["Id"].as_str().context("the workspace's container")?).await
    }

    /// Runs a command with a TTY as the workspace's user.
    pub async fn exec(&self, container: &str, command: &[&str]) -> Result<Exec> {
        let body = json!({
            "AttachStdin": true, "AttachStdout": true, "AttachStderr": true, "Tty": true,
            "User": "1000:1000", "WorkingDir": "/home/user",
            "Env": ["TERM=xterm-256color", "HOME=/home/user"],
            "Cmd": command,
        });
        let made = self.call("POST", &format!("/containers/{container}/exec"), Some(&body)).await?;
        let id = made["Id"].as_str().context("an exec id")?;
        let start = json!({ "Detach": false, "Tty": true });
        let headers = "Connection: Upgrade\r\nUpgrade: tcp\r\n";
        let mut stream = self.send("POST", &format!("/exec/{id}/start"), Some(&start), headers).await?;
        let (status, _, early) = read_head(&mut stream).await?;
        if status != 101 && status != 200 {
            bail!("exec start: {status}");
        }
        Ok(Exec { stream, early })
    }
}

impl Exec {
    /// Some output, at least one byte.
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if !self.early.is_empty() {
            let taken = self.early.len().min(buffer.len());
            buffer[..taken].copy_from_slice(&self.early[..taken]);
            self.early.drain(..taken);
            return Ok(taken);
        }
        match self.stream.read(buffer).await? {
            0 => bail!("the exec's stream ended"),
            n => Ok(n),
        }
    }

    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }
}

/// Status, head and what came behind it.
async fn read_head(stream: &mut UnixStream) -> Result<(u16, String, Vec<u8>)> {
    let mut bytes = Vec::with_capacity(4096);
    loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let status = head.split_whitespace().nth(1).and_then(|s| s.parse().ok()).context("a status line")?;
            return Ok((status, head, bytes.split_off(end + 4)));
        }
        if bytes.len() > HEAD_BYTES_MAX || stream.read_buf(&mut bytes).await? == 0 {
            bail!("no complete answer from the engine");
        }
    }
}
