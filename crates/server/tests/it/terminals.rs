//! Terminals over WebSockets on a real engine: exact bytes through every kind of interruption.

use crate::support::workspaces::{Follower, on_stage};
use crate::support::{Backend, on_both};
use rexec_api::error::ErrorCode;
use rexec_api::frames::{ServerControl, close};
use rexec_api::guest::AttachMode;
use rexec_api::ids::TerminalId;
use rexec_api::terminals::NewTerminal;
use rexec_api::tokens::CreatedToken;
use rexec_client::{AttachOptions, Client, Lifecycle, Method, Received};
use serde_json::json;

on_both!(typing_and_watching, a_server_restart_loses_nothing);

/// Times that one terminal is left and found again at random moments.
const RECONNECTS: usize = 1000;

async fn typing_and_watching(backend: Backend) {
    on_stage(backend, &[], async |_, stage| {
        let workspace = stage.workspace().await.id;
        let terminal = stage.terminal(workspace, &["/bin/sh"]).await;
        let mut typist = Follower::new(stage.attach(workspace, terminal, AttachOptions::default()).await, None);
        let first = typist.step().await;
        assert!(
            matches!(first, Received::Control(ServerControl::Attached { cols: 80, rows: 24, controller: true, .. })),
            "{first:?}"
        );
        let view = AttachOptions { mode: AttachMode::View, ..Default::default() };
        let mut watcher = Follower::new(stage.attach(workspace, terminal, view).await, None);
        watcher.attachment.input(b"echo not-from-me\n").await.unwrap();
        watcher.attachment.resize(10, 10).await.unwrap();
        typist.attachment.input("echo gr\u{fc}\u{df}e-$((40+2))\n".as_bytes()).await.unwrap();
        typist.until("gr\u{fc}\u{df}e-42").await;
        watcher.until("gr\u{fc}\u{df}e-42").await;
        typist.attachment.resize(132, 50).await.unwrap();
        typist.attachment.input(b"stty size\n").await.unwrap();
        typist.until("50 132").await;
        typist.attachment.input(b"exit 7\n").await.unwrap();
        assert_eq!(typist.until_closed().await, close::ENDED);
        assert_eq!(typist.exit, Some(7));
        assert!(!typist.has("not-from-me"));

        // What has ended is still to be seen.
        let mut late = Follower::new(stage.attach(workspace, terminal, AttachOptions::default()).await, None);
        assert_eq!(late.until_closed().await, close::ENDED);
        assert_eq!((late.exit, late.has("50 132")), (Some(7), true));
        let listed = stage.client.terminals(workspace).await.unwrap().items;
        assert_eq!(listed.iter().find(|t| t.id == terminal).unwrap().exit_code, Some(7));
        stage.client.delete_terminal(workspace, terminal).await.unwrap();
        let gone = stage.client.delete_terminal(workspace, terminal).await.unwrap_err();
        assert_eq!(gone.code(), Some(ErrorCode::TerminalGone));
        stage
    })
    .await;
}

async fn a_server_restart_loses_nothing(backend: Backend) {
    on_stage(backend, &[], async |place, stage| {
        let workspace = stage.workspace().await.id;
        let counting = "i=0; while :; do i=$((i+1)); echo line-$i; sleep 0.01; done";
        let terminal = stage.terminal(workspace, &["/bin/sh", "-c", counting]).await;
        let from_the_start = AttachOptions { offset: Some(0), ..Default::default() };
        let mut before = Follower::new(stage.attach(workspace, terminal, from_the_start).await, Some(0));
        before.until("line-50\r\n").await;
        let (end, mut bytes) = (before.end, before.bytes.clone());
        let stage = stage.restart_server(place, &[]).await;
        let options = AttachOptions { offset: end, ..Default::default() };
        let mut after = Follower::new(stage.attach(workspace, terminal, options).await, end);
        after.until("line-200\r\n").await;
        bytes.extend_from_slice(&after.bytes);
        assert_consecutive(&bytes);
        stage
    })
    .await;
}

/// The lines of a counter are all there, once each and in order.
fn assert_consecutive(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let start = text.find("line-").unwrap();
    let whole = &text[start..=text.rfind('\n').unwrap()];
    assert!(whole.len() > 100, "output did flow");
    for (i, line) in whole.lines().enumerate() {
        assert_eq!(line, format!("line-{}", i + 1));
    }
}

#[tokio::test]
async fn a_thousand_reconnects_lose_and_double_nothing() {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let workspace = stage.workspace().await.id;
        let counting = "i=0; while :; do i=$((i+1)); echo line-$i; done";
        let terminal = stage.terminal(workspace, &["/bin/sh", "-c", counting]).await;
        let client = Some(uuid::Uuid::new_v4());
        let mut end = Some(0);
        let mut bytes = Vec::new();
        for round in 0..RECONNECTS {
            let options = AttachOptions { offset: end, client, ..Default::default() };
            let mut follower = Follower::new(stage.attach(workspace, terminal, options).await, end);
            // A different moment each time: after some messages, in the middle of the stream.
            for _ in 0..rand::random_range(1..6) {
                let received = follower.step().await;
                assert!(!matches!(received, Received::Snapshot { .. }), "the ring was outrun in round {round}");
            }
            end = follower.end;
            bytes.extend_from_slice(&follower.bytes);
            if round % 2 == 0 {
                // Half of them vanish without a goodbye.
                drop(follower);
            } else {
                follower.attachment.close().await.unwrap();
            }
        }
        assert_consecutive(&bytes);
        stage
    })
    .await;
}

#[tokio::test]
async fn garbage_is_refused_in_words() {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let workspace = stage.workspace().await.id;
        let terminal = stage.terminal(workspace, &["/bin/sh"]).await;
        for garbage in [vec![], vec![0xff, 1, 2], vec![1, 0, 0, 0, 24], vec![1, 0xff, 0xff, 0, 24], vec![3, b'{']] {
            let mut follower = Follower::new(stage.attach(workspace, terminal, AttachOptions::default()).await, None);
            follower.attachment.send_raw(garbage.clone()).await.unwrap();
            let mut code = None;
            loop {
                match follower.step().await {
                    Received::Control(ServerControl::Error { code: said, .. }) => code = Some(said),
                    Received::Closed(closed) => {
                        assert_eq!((code, closed), (Some(ErrorCode::BadFrame), close::PROTOCOL), "{garbage:?}");
                        break;
                    }
                    _ => {}
                }
            }
        }
        let ahead = AttachOptions { offset: Some(u64::MAX), ..Default::default() };
        let mut follower = Follower::new(stage.attach(workspace, terminal, ahead).await, None);
        let mut said = None;
        while follower.closed.is_none() {
            if let Received::Control(ServerControl::Error { code, .. }) = follower.step().await {
                said = Some(code);
            }
        }
        assert_eq!(said, Some(ErrorCode::OffsetAhead));
        let mut nowhere =
            Follower::new(stage.attach(workspace, TerminalId::new(), AttachOptions::default()).await, None);
        assert_eq!(nowhere.until_closed().await, close::ENDED);

        for (cols, rows) in [(0, 24), (80, 0), (60_000, 24), (80, 60_000)] {
            let new = NewTerminal { cols, rows, ..Default::default() };
            let refused = stage.client.create_terminal(workspace, &new).await.unwrap_err();
            assert_eq!(refused.code(), Some(ErrorCode::InvalidRequest));
        }
        // After all that, the terminal still works.
        let mut follower = Follower::new(stage.attach(workspace, terminal, AttachOptions::default()).await, None);
        follower.attachment.input(b"echo still-$((1+1))\n").await.unwrap();
        follower.until("still-2").await;
        stage
    })
    .await;
}

#[tokio::test]
async fn news_of_the_workspace_and_the_session_reach_the_viewer() {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let workspace = stage.workspace().await.id;
        let terminal = stage.terminal(workspace, &["/bin/sh"]).await;
        let mut viewer = Follower::new(stage.attach(workspace, terminal, AttachOptions::default()).await, None);
        viewer.step().await;
        stage.client.lifecycle(workspace, Lifecycle::Pause).await.unwrap();
        loop {
            if let Received::Control(ServerControl::Status { status, .. }) = viewer.step().await {
                assert_eq!(status.as_str(), "paused");
                break;
            }
        }
        stage.client.lifecycle(workspace, Lifecycle::Resume).await.unwrap();
        // A program's viewer ends with its token.
        let new = json!({ "name": "viewer", "scopes": ["terminals"], "workspaces": [workspace] });
        let made = stage.client.request(Method::POST, "/api/tokens").json(&new).send().await.unwrap();
        let made: CreatedToken = made.error_for_status().unwrap().json().await.unwrap();
        let program = Client::new(&stage.server.base).unwrap().with_token(&made.token);
        let attachment = program.attach(workspace, terminal, AttachOptions::default()).await.unwrap();
        let mut programs = Follower::new(attachment, None);
        programs.step().await;
        let path = format!("/api/tokens/{}", made.view.id);
        stage.client.request(Method::DELETE, &path).send().await.unwrap().error_for_status().unwrap();
        assert_eq!(programs.until_closed().await, close::SIGN_IN);
        stage.client.log_out().await.unwrap();
        assert_eq!(viewer.until_closed().await, close::SIGN_IN);
        stage
    })
    .await;
}

#[tokio::test]
async fn terminals_too_large_for_the_workspace_are_refused_before_they_end_it() {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let workspace = stage.workspace().await.id;
        let small = stage.terminal(workspace, &["/bin/sh"]).await;
        let command = Some(["/bin/sh", "-c", "printf '\\033[?1049h'; exec yes"].map(str::to_owned).to_vec());
        let large = NewTerminal { cols: 1000, rows: 500, command, ..Default::default() };
        let mut opened = Vec::new();
        let refused = loop {
            match stage.client.create_terminal(workspace, &large).await {
                Ok(terminal) => opened.push(terminal.id),
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused.code(), Some(ErrorCode::TerminalMemory));
        assert!(!opened.is_empty());
        // Nothing has died of it, and closing one makes room.
        let mut follower = Follower::new(stage.attach(workspace, small, AttachOptions::default()).await, None);
        follower.attachment.input(b"echo still-$((1+1))\n").await.unwrap();
        follower.until("still-2").await;
        stage.client.delete_terminal(workspace, opened[0]).await.unwrap();
        stage.client.create_terminal(workspace, &large).await.unwrap();
        stage
    })
    .await;
}
