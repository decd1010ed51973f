//! Models, from the program that asks to the vendor, and what was used of them.

use crate::support::workspaces::{PATIENCE, Stage, eventually, on_stage};
use crate::support::{Backend, on_both};
use rexec_api::egress::{EgressNetwork, EgressPreset, EgressSettings, EgressState};
use rexec_api::error::ErrorCode;
use rexec_api::ids::WorkspaceId;
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus};
use rexec_client::Lifecycle;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

on_both!(models_are_asked_counted_and_bounded, what_is_not_offered_is_not_let);

const KEY: &str = "sk-the-operators-own";
const ANSWER: &str =
    r#"{"choices":[{"message":{"content":"Hi."}}],"usage":{"prompt_tokens":30,"completion_tokens":10}}"#;

/// A vendor with the API of OpenAI.
struct Vendor {
    base: String,
    heard: Arc<Mutex<Vec<String>>>,
    serving: AbortHandle,
}

impl Drop for Vendor {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Vendor {
    async fn open() -> Vendor {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/v1", listener.local_addr().unwrap());
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let hearing = heard.clone();
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // Whoever breaks off is the test's own gateway.
                tokio::spawn(answer(stream, hearing.clone()));
            }
        });
        Vendor { base, heard, serving: serving.abort_handle() }
    }
}

async fn answer(mut stream: TcpStream, heard: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let length = head
            .to_lowercase()
            .split("content-length: ")
            .nth(1)
            .and_then(|rest| rest.split("\r\n").next()?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body).await?;
        heard.lock().unwrap().push(format!("{head}{}", String::from_utf8_lossy(&body)));
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", ANSWER.len());
        stream.write_all(format!("{head}{ANSWER}").as_bytes()).await?;
    }
}

/// What a program is answered that knows no proxy.
async fn ask(stage: &Stage, id: WorkspaceId, model: &str) -> String {
    let body = format!("{{\"model\":\"{model}\"}}");
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\\r\\nHost: llm.rexec.internal\\r\\nConnection: close\\r\\nContent-Length: {}\\r\\n\\r\\n{}",
        body.len(),
        body.replace('"', "\\\"")
    );
    let script = format!("exec 3<>/dev/tcp/llm.rexec.internal/80; printf \"{request}\" >&3; cat <&3");
    stage.run(id, &format!("bash -c '{script}' 2>&1")).await.stdout
}

fn with_models(preset: EgressPreset) -> EgressSettings {
    EgressSettings { preset, models: true, ..EgressSettings::default() }
}

async fn made(stage: &Stage, egress: EgressSettings) -> WorkspaceId {
    let new = NewWorkspace {
        memory_mb: Some(256),
        wait_ms: Some(PATIENCE.as_millis() as u64),
        egress: Some(egress),
        ..NewWorkspace::default()
    };
    let view = stage.client.create_workspace(&new).await.unwrap();
    assert_eq!(view.status, WorkspaceStatus::Running, "{view:?}");
    view.id
}

async fn models_are_asked_counted_and_bounded(backend: Backend) {
    let vendor = Vendor::open().await;
    let variables = [
        ("LLM_BASE_URL", vendor.base.as_str()),
        ("OPENAI_API_KEY", KEY),
        ("REXEC_MODELS", "good-*"),
        ("REXEC_MODELS_TOKENS_PER_DAY", "100"),
    ];
    on_stage(backend, &variables, async |_, stage| {
        let client = &stage.client;
        let id = made(&stage, with_models(EgressPreset::Locked)).await;
        let view = client.egress(id).await.unwrap();
        assert!(view.models && view.models_offered && view.network == EgressNetwork::Closed, "{view:?}");
        let told = stage.run(id, "echo $OPENAI_BASE_URL $OPENAI_API_KEY; env | grep -c ANTHROPIC; env").await.stdout;
        assert!(told.starts_with("http://llm.rexec.internal/v1 rexec\n0\n") && !told.contains(KEY), "{told}");

        let answered = ask(&stage, id, "good-1").await;
        assert!(answered.starts_with("HTTP/1.1 200") && answered.ends_with(ANSWER), "{answered}");
        let heard = vendor.heard.lock().unwrap().last().unwrap().clone();
        assert!(
            heard.starts_with("POST /v1/chat/completions ") && heard.contains(&format!("Bearer {KEY}\r\n")),
            "{heard}"
        );
        let refused = ask(&stage, id, "bad-1").await;
        assert!(refused.contains("\"model_not_allowed\""), "{refused}");
        let used = eventually("it to be written down", async || {
            let used = client.models().await.unwrap();
            (used.used_today > 0).then_some(used)
        })
        .await;
        assert_eq!((used.openai, used.anthropic, used.models.as_str()), (true, false, "good-*"));
        assert_eq!((used.used_today, used.tokens_per_day, used.tokens_per_workspace), (40, Some(100), None));
        let line = &used.used[0];
        assert_eq!((line.workspace_id, line.model.as_str(), line.requests), (id, "good-1", 1));
        assert_eq!((line.input, line.cached, line.output, line.estimated), (30, 0, 10, 0));
        let log = client.egress_log(id, false).await.unwrap().items;
        let model = log.iter().find(|entry| entry.how == "model" && entry.allowed).unwrap();
        assert_eq!((model.host.as_str(), model.why.as_str(), model.count), ("llm.rexec.internal", "good-1", 1));

        // The day's tokens are a user's: what one workspace uses, another has not.
        let other = made(&stage, with_models(EgressPreset::Open)).await;
        assert_eq!(client.egress(other).await.unwrap().network, EgressNetwork::Closed, "else nobody would answer");
        for _ in 0..2 {
            assert!(ask(&stage, other, "good-2").await.starts_with("HTTP/1.1 200"));
        }
        let used = async || client.models().await.unwrap().used_today;
        eventually("all to be written down", async || (used().await == 120).then_some(())).await;
        eventually("the gateway to be told", async || {
            let answers = [ask(&stage, id, "good-1").await, ask(&stage, other, "good-1").await];
            answers.iter().all(|answer| answer.contains("\"model_budget_spent\"")).then_some(())
        })
        .await;

        // Taken away it is gone at once, and from what is started then.
        let view =
            client.set_egress(id, &EgressSettings { preset: EgressPreset::Locked, ..EgressSettings::default() }).await;
        assert_eq!(view.unwrap().state, EgressState::InForce);
        assert_eq!(stage.run(id, "echo $OPENAI_BASE_URL").await.stdout, "\n");
        let gone = ask(&stage, id, "good-1").await;
        assert!(!gone.contains("HTTP/1.1"), "not even its name is known: {gone}");
        // What was used stays told, also of what is no more.
        client.lifecycle(other, Lifecycle::Stop).await.unwrap();
        client.delete_workspace(other).await.unwrap();
        let left = eventually("it to be gone", async || {
            let used = client.models().await.unwrap();
            used.used.iter().any(|line| line.workspace_id == other && line.workspace.is_none()).then_some(used)
        })
        .await;
        assert!((120..=200).contains(&left.used_today), "one request may have been quicker: {}", left.used_today);
        stage
    })
    .await;
}

async fn what_is_not_offered_is_not_let(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let new = NewWorkspace { egress: Some(with_models(EgressPreset::Locked)), ..NewWorkspace::default() };
        let refused = stage.client.create_workspace(&new).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::InvalidRequest));
        assert!(refused.to_string().contains("OPENAI_API_KEY"), "{refused}");
        let none = stage.client.models().await.unwrap();
        assert!(!none.openai && !none.anthropic && none.used.is_empty());
        stage
    })
    .await;
}
