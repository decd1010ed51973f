//! What passes through a preview, and what does not: bodies, streams, sockets, headers, hostile bytes.

use crate::support::Backend;
use crate::support::previews::{Visitor, seen};
use crate::support::workspaces::{PATIENCE, Stage, on_stage};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use reqwest::Method;
use rexec_api::ids::WorkspaceId;
use sha2::{Digest as _, Sha256};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

const BIG_BYTES: usize = 40 * 1024 * 1024;

async fn with_preview(test: impl AsyncFnOnce(&Stage, WorkspaceId, Visitor)) {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let id = stage.workspace().await.id;
        stage.serve(id, 8000).await;
        let visitor = stage.guest(id, 8000).await;
        test(&stage, id, visitor).await;
        stage
    })
    .await;
}

/// Connects and says this; gives what is answered until it is enough or the connection ends.
async fn raw(stage: &Stage, said: &str, enough: impl Fn(&str) -> bool) -> String {
    let mut stream = TcpStream::connect(stage.server.running.addr).await.unwrap();
    stream.write_all(said.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = async {
        while !enough(&String::from_utf8_lossy(&answer)) {
            let mut piece = [0; 4096];
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => break,
                Ok(count) => answer.extend_from_slice(&piece[..count]),
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("no answer");
    String::from_utf8_lossy(&answer).into_owned()
}

fn head(visitor: &Visitor, line: &str, rest: &str) -> String {
    format!("{line}\r\nhost: {}\r\ncookie: {}\r\n{rest}\r\n", visitor.host, visitor.cookie.as_ref().unwrap())
}

#[tokio::test]
async fn bodies_of_any_length_pass_both_ways() {
    with_preview(async |_, _, visitor| {
        let content = Bytes::from((0..BIG_BYTES).map(|i| (i % 251) as u8).collect::<Vec<_>>());
        let digest = hex::encode(Sha256::digest(&content));
        let counted = visitor.request(Method::PUT, "/up").body(content.clone());
        let pieces = stream::iter(content.chunks(100_000).map(Bytes::copy_from_slice).collect::<Vec<_>>());
        let chunked = reqwest::Body::wrap_stream(pieces.map(Ok::<_, std::convert::Infallible>));
        for request in [counted, visitor.request(Method::POST, "/up").body(chunked)] {
            let answer = seen(request.send().await.unwrap()).await;
            let told = answer.json();
            assert_eq!(
                (told["bytes"].as_u64(), told["sha256"].as_str()),
                (Some(BIG_BYTES as u64), Some(digest.as_str()))
            );
        }
        let empty = visitor.request(Method::POST, "/up").header("content-length", "0");
        assert_eq!(seen(empty.send().await.unwrap()).await.told("content-length"), ["0"]);
        let down = visitor.request(Method::GET, &format!("/big?{BIG_BYTES}")).send().await.unwrap();
        assert_eq!(down.content_length(), Some(BIG_BYTES as u64));
        assert_eq!(down.bytes().await.unwrap().len(), BIG_BYTES);
        let head = visitor.request(Method::HEAD, "/").send().await.unwrap();
        assert!(head.status().is_success() && head.headers()["content-length"] != "0");
    })
    .await;
}

#[tokio::test]
async fn events_come_as_they_are_sent() {
    with_preview(async |_, _, visitor| {
        let mut events = visitor.request(Method::GET, "/events").send().await.unwrap();
        assert_eq!(events.chunk().await.unwrap().unwrap(), "data: first\n\n");
        // Only now may there be a second.
        assert_eq!(visitor.get("/release", &[]).await.status, 200);
        assert_eq!(events.chunk().await.unwrap().unwrap(), "data: second\n\n");
        assert_eq!(events.chunk().await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn web_sockets_pass_and_end_with_the_session() {
    with_preview(async |stage, _, visitor| {
        let connect = async |origin: &str| {
            let mut request = format!("ws://{}/socket", visitor.host).into_client_request().unwrap();
            let headers = request.headers_mut();
            headers.insert("cookie", visitor.cookie.as_ref().unwrap().parse().unwrap());
            headers.insert("origin", origin.parse().unwrap());
            let stream = TcpStream::connect(stage.server.running.addr).await.unwrap();
            tokio_tungstenite::client_async(request, stream).await
        };
        assert!(connect("http://evil.example").await.is_err());
        let (mut socket, answer) = connect(&format!("http://{}", visitor.host)).await.unwrap();
        assert_eq!(answer.status(), 101);
        for text in ["one", &"long ".repeat(5000)] {
            socket.send(Message::text(text)).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(text));
        }
        stage.client.log_out().await.unwrap();
        let ended = tokio::time::timeout(PATIENCE, socket.next()).await.expect("it goes on");
        assert!(!matches!(ended, Some(Ok(_))), "{ended:?}");
    })
    .await;
}

#[tokio::test]
async fn http_2_passes() {
    with_preview(async |stage, _, visitor| {
        let stream = TcpStream::connect(stage.server.running.addr).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = |path: &str| {
            let uri = format!("http://{}{path}", visitor.host);
            let pass = visitor.cookie.as_ref().unwrap();
            // HTTP/2 may split cookies.
            let request =
                http::Request::post(uri).header("cookie", "a=1").header("cookie", pass).header("cookie", "b=2");
            request.body(()).unwrap()
        };
        let mut answers = Vec::new();
        for i in 0..20 {
            let (answer, mut body) = client.send_request(request(&format!("/{i}")), false).unwrap();
            body.send_data(Bytes::from_static(b"hello"), true).unwrap();
            answers.push(answer);
        }
        for (i, answer) in answers.into_iter().enumerate() {
            let (head, mut body) = answer.await.unwrap().into_parts();
            assert_eq!(head.status, 200);
            let mut text = Vec::new();
            while let Some(piece) = body.data().await {
                text.extend_from_slice(&piece.unwrap());
            }
            let told: serde_json::Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(
                (told["line"].as_str(), told["bytes"].as_u64()),
                (Some(format!("POST /{i} HTTP/1.1").as_str()), Some(5))
            );
            let cookies = told["headers"].as_array().unwrap().iter().filter(|pair| pair[0] == "cookie");
            assert_eq!(cookies.map(|pair| pair[1].as_str().unwrap()).collect::<Vec<_>>(), ["a=1; b=2"]);
        }
        drop(client);
        connection.await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test]
async fn headers_say_only_what_they_may() {
    with_preview(async |_, _, mut visitor| {
        let pass = visitor.cookie.clone().unwrap();
        visitor.cookie = Some(format!("a=1; __Host-rexec=secret; {pass}; rexec=secret"));
        let lies = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-real-ip", "6.6.6.6"),
            ("x_forwarded_for", "6.6.6.6"),
            ("forwarded", "for=6.6.6.6"),
            ("proxy-authorization", "Basic x"),
            ("te", "trailers"),
            ("authorization", "Bearer their-own"),
        ];
        let told = visitor.get("/", &lies).await;
        assert_eq!(
            (told.told("cookie"), told.told("x-forwarded-for")),
            (vec!["a=1".to_owned()], vec!["127.0.0.1".to_owned()])
        );
        assert_eq!(
            (told.told("host"), told.told("x-forwarded-host")),
            (vec![visitor.host.clone()], vec![visitor.host.clone()])
        );
        assert_eq!(told.told("authorization"), ["Bearer their-own"]);
        for gone in ["x-real-ip", "x_forwarded_for", "proxy-authorization", "te"] {
            assert!(told.told(gone).is_empty(), "{gone}");
        }
        let set = visitor.get("/cookies", &[]).await;
        assert_eq!(set.headers.get_all("set-cookie").iter().collect::<Vec<_>>(), ["mine=1"]);
        assert!(!set.headers.contains_key("x-accel-redirect"));
        assert!(!set.headers.contains_key("content-security-policy"), "the page's own rules stand");
        let answer = visitor.get("/api/me", &[]).await;
        assert_eq!(answer.json()["line"], "GET /api/me HTTP/1.1", "nothing of ours is on a preview's origin");
    })
    .await;
}

#[tokio::test]
async fn requests_cannot_be_smuggled() {
    with_preview(async |stage, _, visitor| {
        // One connection, several requests, each with an answer of its own.
        let two = head(&visitor, "GET /1 HTTP/1.1", "") + &head(&visitor, "GET /2 HTTP/1.1", "connection: close\r\n");
        let answer = raw(stage, &two, |_| false).await;
        assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
        assert!(answer.contains("GET /1 ") && answer.contains("GET /2 "));

        // Lengths that contradict each other are refused, or only the framing counts.
        let hidden = "0\r\n\r\nGET /hidden HTTP/1.1\r\nhost: x\r\n\r\n";
        let cases = [
            format!("content-length: 5\r\ncontent-length: 60\r\nconnection: close\r\n\r\nhello{hidden}"),
            format!(
                "transfer-encoding: chunked\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{hidden}",
                hidden.len()
            ),
            format!("transfer-encoding: xchunked\r\nconnection: close\r\n\r\n{hidden}"),
            format!("transfer-encoding : chunked\r\nconnection: close\r\n\r\n{hidden}"),
            format!("transfer-encoding: chunked, identity\r\nconnection: close\r\n\r\n{hidden}"),
        ];
        for case in cases {
            let said = head(&visitor, "POST /seen HTTP/1.1", &case);
            let answer = raw(stage, &said, |_| false).await;
            assert!(answer.matches("HTTP/1.1 200").count() <= 1 && !answer.contains("hidden"), "{case:?}: {answer}");
        }

        // A workspace that answers nonsense, or more than was asked, harms nobody else.
        for path in ["/two-lengths", "/no-http"] {
            let answer = visitor.get(path, &[]).await;
            assert_eq!((answer.status.as_u16(), answer.code().as_str()), (502, "preview_failed"), "{path}");
        }
        assert_eq!(visitor.get("/after", &[]).await.status, 200);

        // The authority of an absolute address counts, as for the application.
        let line = format!("GET http://{}/x HTTP/1.1", visitor.host);
        let pass = visitor.cookie.as_ref().unwrap();
        let mixed =
            format!("{line}\r\nhost: {}\r\ncookie: {pass}\r\nconnection: close\r\n\r\n", stage.server.running.addr);
        assert!(raw(stage, &mixed, |_| false).await.contains("GET /x "));
        for method in ["TRACE / HTTP/1.1", "CONNECT x:80 HTTP/1.1"] {
            let answer = raw(stage, &head(&visitor, method, "connection: close\r\n"), |_| false).await;
            assert!(!answer.starts_with("HTTP/1.1 200"), "{method}: {answer}");
        }
        tokio::time::timeout(Duration::from_secs(60), visitor.get("/still", &[])).await.unwrap();
    })
    .await;
}
