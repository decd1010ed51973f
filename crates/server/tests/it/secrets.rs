//! Secrets, from where they are stored to the host that they are for.

use crate::support::outside::{Outside, head, tunnel};
use crate::support::workspaces::{PATIENCE, Stage, eventually, on_stage};
use crate::support::{Backend, on_both};
use rexec_api::egress::{EgressNetwork, EgressPreset, EgressSettings};
use rexec_api::error::ErrorCode;
use rexec_api::ids::WorkspaceId;
use rexec_api::secrets::PutSecret;
use rexec_api::workspaces::{NewWorkspace, WorkspaceStatus};
use rexec_client::{ClientError, Lifecycle};
use tokio::io::AsyncWriteExt as _;

on_both!(a_secret_is_used_and_never_had, what_is_no_secret_is_refused);

const HOST: &str = "api.example";
const VALUE: &str = "sk-proj-0123456789abcdefXYZ";
const ANOTHER: &str = "sk-proj-ABCDEFGHIJKLMNOPQRS";

fn echo(asked: &str) -> String {
    format!("HTTP/1.1 204 No Content\r\nX-Echo: {}\r\n\r\n", asked.replace("\r\n", "|"))
}

/// What the host answers a program that uses its variable.
async fn ask(stage: &Stage, id: WorkspaceId, key: &str) -> std::io::Result<String> {
    let mut stream = tunnel(stage, id, HOST).await?;
    let request = format!("GET /v1/models HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {key}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    head(&mut stream).await
}

fn secret(value: &str, hosts: &[&str]) -> PutSecret {
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    PutSecret { value: Some(value.into()), hosts: Some(hosts), headers: None }
}

fn egress(secrets: &[&str]) -> EgressSettings {
    EgressSettings {
        preset: EgressPreset::Locked,
        allow: vec![HOST.into()],
        secrets: secrets.iter().map(|name| (*name).to_owned()).collect(),
        ..EgressSettings::default()
    }
}

async fn a_secret_is_used_and_never_had(backend: Backend) {
    let outside = Outside::open(HOST, echo).await;
    let authority = outside.authority.path().to_str().unwrap();
    let variables = [("REXEC_EGRESS_UPSTREAM", outside.proxy.as_str()), ("REXEC_EGRESS_CA_FILE", authority)];
    on_stage(backend, &variables, async |_, stage| {
        let client = &stage.client;
        let stored = client.put_secret("API_KEY", &secret(VALUE, &["api.example"])).await.unwrap();
        assert_eq!((stored.hosts.as_slice(), stored.used_at), ([format!("{HOST}:443")].as_slice(), None));
        let new = NewWorkspace {
            memory_mb: Some(256),
            wait_ms: Some(PATIENCE.as_millis() as u64),
            egress: Some(egress(&["API_KEY"])),
            ..Default::default()
        };
        let view = client.create_workspace(&new).await.unwrap();
        assert_eq!(view.status, WorkspaceStatus::Running, "{view:?}");
        let id = view.id;
        assert_eq!(client.egress(id).await.unwrap().network, EgressNetwork::Closed);

        // Inside there is a text of its shape.
        let inside = async || stage.run(id, "printf %s \"$API_KEY\"").await.stdout;
        let placeholder = inside().await;
        assert!(placeholder.starts_with("sk-proj-") && placeholder.len() == VALUE.len(), "{placeholder}");
        assert_ne!(placeholder, VALUE);
        let told = ask(&stage, id, &placeholder).await.unwrap();
        assert!(outside.last().contains(&format!("authorization: Bearer {VALUE}\r\n")), "{}", outside.last());
        assert!(told.starts_with("HTTP/1.1 204") && told.contains(&placeholder) && !told.contains(VALUE), "{told}");
        eventually("its use to be told", async || client.secrets().await.unwrap().items[0].used_at.clone()).await;
        let log = eventually("the log to have it", async || {
            client.egress_log(id, false).await.unwrap().items.into_iter().find(|entry| entry.how == "https")
        })
        .await;
        assert_eq!((log.host.as_str(), log.port, log.allowed), (HOST, 443, true));

        // Another value takes its place, and nothing inside is to know.
        client.put_secret("API_KEY", &PutSecret { value: Some(ANOTHER.into()), ..PutSecret::default() }).await.unwrap();
        eventually("the other value", async || {
            ask(&stage, id, &placeholder).await.unwrap();
            outside.last().contains(&format!("Bearer {ANOTHER}\r\n")).then_some(())
        })
        .await;
        assert_eq!(inside().await, placeholder);

        // After a restart it is as it was.
        client.lifecycle(id, Lifecycle::Restart).await.unwrap();
        stage.until(id, "it to run", |view| view.status == WorkspaceStatus::Running).await;
        assert_eq!(inside().await, placeholder);
        ask(&stage, id, &placeholder).await.unwrap();
        assert!(outside.last().contains(ANOTHER));

        // One more is had at once by what is started from now on; one that is taken away is not sent any more.
        client.put_secret("OTHER_KEY", &secret("0123456789abcdef", &["*.other.example"])).await.unwrap();
        client.set_egress(id, &egress(&["OTHER_KEY"])).await.unwrap();
        eventually("its variable", async || {
            let other = stage.run(id, "printf %s \"$OTHER_KEY:$API_KEY\"").await.stdout;
            (other.len() == "0123456789abcdef:".len() && !other.starts_with("0123456789abcdef")).then_some(())
        })
        .await;
        // Its host's requests are not read any more: it shows its own certificate, which nobody inside trusts.
        assert!(ask(&stage, id, &placeholder).await.is_err());

        for name in ["API_KEY", "OTHER_KEY"] {
            client.delete_secret(name).await.unwrap();
        }
        eventually("both to be gone", async || {
            let left = stage.run(id, "env | grep -c -e _KEY= -e CA_CERTS=; true").await.stdout;
            (left == "0\n").then_some(())
        })
        .await;
        assert_eq!(client.egress(id).await.unwrap().secrets, ["OTHER_KEY"], "named, and to be had again");

        // git finds a token of GitHub's by itself.
        let token = "ghp_0123456789abcdefghijABCDEFGHIJ012345";
        client
            .put_secret("GITHUB_TOKEN", &PutSecret { value: Some(token.into()), ..PutSecret::default() })
            .await
            .unwrap();
        client.set_egress(id, &egress(&["GITHUB_TOKEN"])).await.unwrap();
        let fill = "printf 'protocol=https\\nhost=github.com\\n\\n' | git credential fill; echo $GITHUB_TOKEN";
        let filled = eventually("git to know it", async || {
            let filled = stage.run(id, fill).await.stdout;
            filled.contains("password=ghp_").then_some(filled)
        })
        .await;
        let inside = filled.lines().last().unwrap();
        assert!(filled.contains(&format!("username=x-access-token\npassword={inside}\n")), "{filled}");
        assert!(inside.len() == token.len() && inside != token, "{filled}");
        // Rules about single requests have them read, too, with nothing to put in.
        let rule = |rule: &str| EgressSettings { allow: vec![rule.into()], ..egress(&[]) };
        client.set_egress(id, &rule("GET@api.example/v1/*")).await.unwrap();
        let told = eventually("its authority", async || ask(&stage, id, "none").await.ok()).await;
        assert!(told.starts_with("HTTP/1.1 204"), "{told}");
        client.set_egress(id, &rule("POST@api.example")).await.unwrap();
        let refused = ask(&stage, id, "none").await.unwrap();
        assert!(refused.contains("x-rexec-egress: egress_request_not_allowed\r\n"), "{refused}");
        client.purge_workspace(id).await.unwrap();
        stage
    })
    .await;
}

fn field(outcome: Result<impl std::fmt::Debug, ClientError>) -> String {
    match outcome.unwrap_err() {
        ClientError::Refused(error) => {
            assert_eq!(error.code, ErrorCode::InvalidRequest, "{error:?}");
            error.details["field"].as_str().unwrap().to_owned()
        }
        other => panic!("{other}"),
    }
}

async fn what_is_no_secret_is_refused(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let client = &stage.client;
        let put = async |name: &str, secret: PutSecret| client.put_secret(name, &secret).await;
        assert_eq!(field(put("1KEY", secret(VALUE, &["a.example"])).await), "name");
        assert_eq!(field(put("KEY", PutSecret::default()).await), "value");
        for value in ["short", "with a space in it", "0123456789\u{e9}bcdef", "----------------"] {
            assert_eq!(field(put("KEY", secret(value, &["a.example"])).await), "value", "{value}");
        }
        for host in ["*", "10.0.0.1", "*.com", "a.example:80"] {
            assert_eq!(field(put("KEY", secret(VALUE, &[host])).await), "hosts", "{host}");
        }
        assert_eq!(field(put("KEY", PutSecret { value: Some(VALUE.into()), ..PutSecret::default() }).await), "hosts");
        let headers = Some(vec!["host".to_owned()]);
        assert_eq!(field(put("KEY", PutSecret { headers, ..secret(VALUE, &["a.example"]) }).await), "headers");
        assert!(client.secrets().await.unwrap().items.is_empty());

        // Of a widely known name its hosts are known.
        let known = put("GITHUB_TOKEN", PutSecret { value: Some(VALUE.into()), ..PutSecret::default() }).await.unwrap();
        assert!(known.hosts.contains(&"api.github.com:443".to_owned()), "{known:?}");
        let listed = serde_json::to_string(&client.secrets().await.unwrap()).unwrap();
        assert!(listed.contains("GITHUB_TOKEN") && !listed.contains(VALUE));

        // Another user's are nobody's here.
        let new = NewWorkspace { egress: Some(egress(&["NOT_MINE"])), ..Default::default() };
        assert_eq!(field(client.create_workspace(&new).await), "egress.secrets");
        let missing = client.delete_secret("NOT_MINE").await.unwrap_err();
        assert_eq!(missing.code(), Some(ErrorCode::NotFound));
        client.delete_secret("GITHUB_TOKEN").await.unwrap();
        stage
    })
    .await;
}
