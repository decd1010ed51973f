//! Commands over a WebSocket, their input and output side by side.

use crate::support::workspaces::{eventually, on_stage};
use crate::support::{Backend, PASSWORD, PATIENCE};
use futures_util::StreamExt as _;
use rexec_api::error::ErrorCode;
use rexec_api::exec::{ExecStart, SUBPROTOCOL};
use rexec_api::tokens::{NewToken, Scope};
use rexec_client::{Client, ClientError, CommandEvents, CommandOutput};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

fn shell(script: &str) -> ExecStart {
    let command = ["sh", "-c", script].map(str::to_owned).into();
    ExecStart { command, ..Default::default() }
}

async fn next(events: &mut CommandEvents) -> Result<CommandOutput, ClientError> {
    tokio::time::timeout(PATIENCE, events.next()).await.expect("nothing came")
}

/// Standard output, standard error and exit code.
async fn whole(events: &mut CommandEvents) -> (Vec<u8>, Vec<u8>, i32) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    loop {
        match next(events).await.unwrap() {
            CommandOutput::Stdout(bytes) => out.extend_from_slice(&bytes),
            CommandOutput::Stderr(bytes) => err.extend_from_slice(&bytes),
            CommandOutput::Exit(code) => return (out, err, code),
        }
    }
}

fn code<T>(result: Result<T, ClientError>) -> Option<ErrorCode> {
    result.err().and_then(|error| error.code())
}

#[tokio::test]
async fn a_command_is_fed_and_read_at_once_and_ends_with_who_asked() {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let (id, client) = (stage.workspace().await.id, &stage.client);

        // More than anything on the way holds, so that neither direction may wait for the other.
        let bytes: Vec<u8> = (0..8_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let (mut input, mut events) = client.run_command(id, &shell("cat; echo aside >&2; exit 7")).await.unwrap();
        let given = bytes.clone();
        let feeding = async {
            input.write(&given).await.unwrap();
            input.end().await.unwrap();
        };
        let ((), (out, err, exit)) = tokio::join!(feeding, whole(&mut events));
        assert!(out == bytes, "{} bytes came back", out.len());
        assert_eq!((err.as_slice(), exit), (&b"aside\n"[..], 7));

        // Where, for whom, and with what.
        let mut start = shell("pwd; echo $A; id -un");
        (start.cwd, start.user) = (Some("/tmp".into()), Some("root".into()));
        start.env.insert("A".into(), "b c".into());
        let (_input, mut events) = client.run_command(id, &start).await.unwrap();
        assert_eq!(whole(&mut events).await.0, b"/tmp\nb c\nroot\n");

        let (mut input, mut events) = client.run_command(id, &shell("echo up; sleep 600")).await.unwrap();
        assert_eq!(next(&mut events).await.unwrap(), CommandOutput::Stdout("up\n".into()));
        input.signal(15).await.unwrap();
        assert_eq!(whole(&mut events).await.2, 128 + 15);

        // Its process group goes with the connection.
        let (input, mut events) = client.run_command(id, &shell("echo $$; sleep 600; :")).await.unwrap();
        let CommandOutput::Stdout(pid) = next(&mut events).await.unwrap() else { panic!("no pid") };
        let alive = format!("test -d /proc/{}", String::from_utf8_lossy(&pid).trim());
        assert_eq!(stage.run(id, &alive).await.exit_code, 0);
        drop((input, events));
        eventually("the command to end", async || (stage.run(id, &alive).await.exit_code == 1).then_some(())).await;
        stage
    })
    .await;
}

#[tokio::test]
async fn what_may_not_or_cannot_run_is_told_with_its_code() {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let (id, client) = (stage.workspace().await.id, &stage.client);
        let none = ExecStart { command: vec!["no-such-program".into()], ..Default::default() };
        assert_eq!(code(client.run_command(id, &none).await), Some(ErrorCode::CommandNotFound));
        assert_eq!(code(client.run_command(id, &ExecStart::default()).await), Some(ErrorCode::InvalidRequest));
        let anyone = Client::new(client.base()).unwrap();
        assert_eq!(code(anyone.run_command(id, &shell("true")).await), Some(ErrorCode::Unauthenticated));
        let (other, _) = anyone.register("eve@example.com", PASSWORD).await.unwrap();
        assert_eq!(code(other.run_command(id, &shell("true")).await), Some(ErrorCode::NotFound));

        // What let it in ends, and the command with it.
        let new = NewToken { name: "ci".into(), scopes: vec![Scope::Exec], expires_in_days: None, workspaces: None };
        let made = client.create_token(&new).await.unwrap();
        // One who has not said yet what is to run, and says it later.
        let mut request = format!("{}/api/workspaces/{id}/exec/ws", client.base().replacen("http", "ws", 1))
            .into_client_request()
            .unwrap();
        let headers = request.headers_mut();
        headers.insert("authorization", format!("Bearer {}", made.token).parse().unwrap());
        headers.insert("sec-websocket-protocol", SUBPROTOCOL.parse().unwrap());
        let stream = TcpStream::connect(stage.server.running.addr).await.unwrap();
        let (mut late, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        let by_token = anyone.clone().with_token(made.token);
        let (_input, mut events) = by_token.run_command(id, &shell("echo up; sleep 600")).await.unwrap();
        assert_eq!(next(&mut events).await.unwrap(), CommandOutput::Stdout("up\n".into()));
        client.revoke_token(made.view.id).await.unwrap();
        assert_eq!(code(next(&mut events).await), Some(ErrorCode::TokenRevoked));
        let told = tokio::time::timeout(PATIENCE, late.next()).await.unwrap().unwrap().unwrap();
        assert!(told.to_text().unwrap().contains("token_revoked"), "{told}");
        stage
    })
    .await;
}
