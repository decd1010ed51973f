//! Workspaces on the machine's real engine, for one test, gone without a trace afterwards.

use super::{Backend, PASSWORD, Place, Server, in_place};
use futures_util::FutureExt as _;
use rexec_api::ids::{TerminalId, WorkspaceId};
use rexec_api::terminals::NewTerminal;
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus, WorkspaceView};
use rexec_client::{AttachOptions, Attachment, Client, Received};
use rexec_engine::{Engine as _, ImageInfo, Labels, docker::DockerEngine};
use rexec_server::config::Config;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Duration;

/// How long anything may take that involves the engine on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server on the real engine, and a user signed in to it.
pub struct Stage {
    pub server: Server,
    pub client: Client,
    pub engine: DockerEngine,
    pub instance: String,
}

pub fn engine_address() -> String {
    std::env::var("DOCKER_HOST").unwrap_or_else(|_| format!("unix://{}", rexec_server::hosts::usual_socket().display()))
}

/// Runs a test on a stage; what it made at the engine is removed whether it passes or not.
pub async fn on_stage(backend: Backend, extra: &[(&str, &str)], test: impl AsyncFnOnce(&Place, Stage) -> Stage) {
    on_stage_as(backend, extra, |_| {}, test).await;
}

/// The same with a configuration that no variable can give.
pub async fn on_stage_as(
    backend: Backend,
    extra: &[(&str, &str)],
    change: impl Fn(&mut Config),
    test: impl AsyncFnOnce(&Place, Stage) -> Stage,
) {
    in_place(backend, async |place| {
        let stage = Stage::open(place, extra, change).await;
        let (engine, instance) = (stage.engine.clone(), stage.instance.clone());
        let outcome = AssertUnwindSafe(test(place, stage)).catch_unwind().await;
        let orderly = match outcome {
            Ok(stage) => {
                let orderly = stage.server.stop().await;
                sweep(&engine, &instance).await;
                orderly
            }
            Err(panic) => {
                sweep(&engine, &instance).await;
                resume_unwind(panic);
            }
        };
        assert!(orderly, "the server left work behind when it stopped");
    })
    .await;
}

pub async fn sweep(engine: &DockerEngine, instance: &str) {
    let labels = Labels::from([("rexec.instance".to_owned(), instance.to_owned())]);
    // What a server had asked for as it ended may come about a moment later.
    eventually("the engine to be rid of it", async || {
        for container in engine.containers(&labels).await.unwrap() {
            engine.remove(&container.id).await.ok()?;
        }
        for volume in engine.volumes(&labels).await.unwrap() {
            engine.remove_volume(&volume.name).await.ok()?;
        }
        Some(())
    })
    .await;
    let closed = format!("rexec-closed-{instance}");
    if let Some(network) = engine.network(&closed).await.unwrap() {
        engine.remove_network(&closed).await.unwrap();
        if let Some(bridge) = network.bridge {
            rexec_engine::firewall::forget_bridge(&bridge).await.unwrap();
        }
    }
    // An image of a snapshot has its container's labels.
    let ours = |image: &ImageInfo| image.labels.get("rexec.instance").is_some_and(|of| of == instance);
    for image in engine.images().await.unwrap().iter().filter(|image| ours(image)) {
        for reference in &image.references {
            engine.remove_image(reference).await.unwrap();
        }
    }
}

impl Stage {
    async fn open(place: &Place, extra: &[(&str, &str)], change: impl Fn(&mut Config)) -> Self {
        let server = start(place, extra, change).await;
        let (client, _) = Client::new(&server.base).unwrap().register("ada@example.com", PASSWORD).await.unwrap();
        let instance = server.running.app.fleet.local().instance.clone();
        Self { server, client, engine: DockerEngine::connect(&engine_address()).unwrap(), instance }
    }

    /// Stops the server and starts another on the same place: what a deployment does.
    pub async fn restart_server(self, place: &Place, extra: &[(&str, &str)]) -> Self {
        assert!(self.server.stop().await, "the server left work behind when it stopped");
        let server = start(place, extra, |_| {}).await;
        let client = Client::new(&server.base).unwrap().with_token(self.client.token().unwrap());
        Self { server, client, engine: self.engine, instance: self.instance }
    }

    /// A workspace of the smallest size that runs a shell well.
    pub async fn workspace(&self) -> WorkspaceView {
        let new =
            NewWorkspace { memory_mb: Some(256), wait_ms: Some(PATIENCE.as_millis() as u64), ..Default::default() };
        let view = self.client.create_workspace(&new).await.unwrap();
        assert_eq!(view.status, WorkspaceStatus::Running, "{view:?}");
        view
    }

    pub async fn terminal(&self, workspace: WorkspaceId, command: &[&str]) -> TerminalId {
        let command = (!command.is_empty()).then(|| command.iter().map(|arg| (*arg).to_owned()).collect());
        let new = NewTerminal { cols: 80, rows: 24, command, ..Default::default() };
        self.client.create_terminal(workspace, &new).await.unwrap().id
    }

    pub async fn run(&self, workspace: WorkspaceId, script: &str) -> rexec_api::exec::ExecResult {
        let request = rexec_api::exec::ExecRequest {
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            ..Default::default()
        };
        self.client.exec(workspace, &request).await.unwrap()
    }

    /// Waits until the workspace is as it should be.
    pub async fn until(&self, id: WorkspaceId, what: &str, fits: impl Fn(&WorkspaceView) -> bool) -> WorkspaceView {
        eventually(what, async || {
            let view = self.client.workspace(id).await.unwrap();
            fits(&view).then_some(view)
        })
        .await
    }

    /// The workspace's containers at the engine.
    pub async fn containers(&self, id: WorkspaceId) -> Vec<rexec_engine::ContainerInfo> {
        let labels = Labels::from([("rexec.workspace".to_owned(), id.to_string())]);
        self.engine.containers(&labels).await.unwrap()
    }

    pub async fn volumes(&self, id: WorkspaceId) -> Vec<String> {
        let labels = Labels::from([("rexec.workspace".to_owned(), id.to_string())]);
        self.engine.volumes(&labels).await.unwrap().into_iter().map(|volume| volume.name).collect()
    }

    pub async fn attach(&self, workspace: WorkspaceId, terminal: TerminalId, options: AttachOptions) -> Attachment {
        self.client.attach(workspace, terminal, options).await.unwrap()
    }
}

async fn start(place: &Place, extra: &[(&str, &str)], change: impl Fn(&mut Config)) -> Server {
    let address = engine_address();
    let mut variables = vec![("DOCKER_HOST", address.as_str())];
    variables.extend_from_slice(extra);
    let mut config = place.config(&variables);
    change(&mut config);
    let server = place.start_as(config).await;
    let mut host = server.running.app.fleet.local().watch();
    let ready = host.wait_for(|state| state.facts().is_some());
    if tokio::time::timeout(PATIENCE, ready).await.is_err() {
        panic!("no container engine is ready ({:?}): run `make setup`", server.running.app.fleet.local().ready());
    }
    server
}

/// Asks again until there is an answer.
pub async fn eventually<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "in vain waited for: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Follows an attachment and keeps the bytes that came, checking that none is lost or doubled.
pub struct Follower {
    pub attachment: Attachment,
    /// Where the stream stands.
    pub end: Option<u64>,
    pub bytes: Vec<u8>,
    pub exit: Option<i32>,
    pub closed: Option<u16>,
    pub accepted: Option<u64>,
}

impl Follower {
    pub fn new(attachment: Attachment, from: Option<u64>) -> Self {
        Self { attachment, end: from, bytes: Vec::new(), exit: None, closed: None, accepted: None }
    }

    /// Takes in one message, acknowledging what it draws.
    pub async fn step(&mut self) -> Received {
        let received = tokio::time::timeout(PATIENCE, self.attachment.next()).await.expect("nothing came").unwrap();
        self.take(&received).await;
        received
    }

    /// The same of one that came already.
    pub async fn take(&mut self, received: &Received) {
        match received {
            Received::Output { offset, bytes } => {
                if let Some(end) = self.end {
                    assert_eq!(*offset, end, "bytes were lost or doubled");
                }
                self.bytes.extend_from_slice(bytes);
                self.draw(offset + bytes.len() as u64).await;
            }
            Received::Snapshot { offset, bytes } => {
                self.bytes = bytes.to_vec();
                self.draw(*offset).await;
            }
            Received::Exit(code) => self.exit = Some(*code),
            Received::Closed(code) => self.closed = Some(*code),
            Received::InputAccepted(count) => self.accepted = Some(*count),
            Received::Control(_) => {}
        }
    }

    async fn draw(&mut self, end: u64) {
        self.end = Some(end);
        // The server may be closing already; what it sent before is still to be read.
        let _ = self.attachment.acknowledge(end).await;
    }

    /// Follows until the text has come.
    pub async fn until(&mut self, text: &str) {
        while !self.has(text) {
            self.step().await;
            assert!(self.closed.is_none(), "closed ({:?}) before {text:?} came: {:?}", self.closed, self.text());
        }
    }

    pub async fn until_closed(&mut self) -> u16 {
        loop {
            if let Some(code) = self.closed {
                return code;
            }
            self.step().await;
        }
    }

    pub fn has(&self, text: &str) -> bool {
        self.bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}
