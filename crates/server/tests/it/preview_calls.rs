//! gRPC through a preview: messages and trailers both ways, how calls end, and how they are refused.

use crate::support::Backend;
use crate::support::calls::{CALLED, Caller, Program, expect, in_time, message, whole};
use crate::support::previews::{Visitor, seen};
use crate::support::workspaces::{Stage, on_stage};
use bytes::Bytes;
use h2::SendStream;
use h2::server::SendResponse;
use http::{HeaderMap, Response};
use reqwest::Method;
use rexec_api::ids::WorkspaceId;
use std::future::poll_fn;

/// Larger than every window on the way.
const LONG_BYTES: usize = 4 * 1024 * 1024;

async fn with_program(test: impl AsyncFnOnce(&Stage, WorkspaceId, Program, Visitor)) {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let id = stage.workspace().await.id;
        let program = stage.program(id).await;
        let visitor = stage.guest(id, CALLED).await;
        test(&stage, id, program, visitor).await;
        stage
    })
    .await;
}

fn map(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn begin(respond: &mut SendResponse<Bytes>) -> SendStream<Bytes> {
    let head = Response::builder().header("content-type", "application/grpc+proto");
    respond.send_response(head.header("set-cookie", "rexec=stolen").body(()).unwrap(), false).unwrap()
}

#[tokio::test]
async fn a_call_passes_with_trailers_both_ways() {
    with_program(async |stage, _, program, visitor| {
        let mut caller = stage.caller(&visitor).await;
        let host = caller.host.clone();
        let answered = program.answers(|mut request, mut respond| async move {
            assert_eq!(request.uri().to_string(), format!("http://{host}/demo.Greeter/Hello"));
            let told = |name: &str| request.headers().get(name).map_or("", |value| value.to_str().unwrap());
            assert_eq!((told("te"), told("content-type")), ("trailers", "application/grpc+proto"));
            assert_eq!((told("grpc-timeout"), told("x-forwarded-for")), ("10S", "127.0.0.1"));
            assert_eq!((told("cookie"), told("x-forwarded-host")), ("theirs=1", host.as_str()));
            let (bytes, trailers) = whole(request.body_mut()).await;
            assert_eq!((bytes.as_slice(), trailers), (message(b"hello").as_ref(), map(&[("x-sum", "5")])));
            let mut answer = begin(&mut respond);
            answer.send_data(message(b"to you, too"), false).unwrap();
            answer.send_trailers(map(&[("grpc-status", "0"), ("x-own", "1"), ("set-cookie", "rexec=stolen")])).unwrap();
        });
        let answered = answered.await;
        let (answer, mut request) =
            caller.call(&[("cookie", "theirs=1"), ("grpc-timeout", "10S"), ("x-forwarded-for", "6.6.6.6")]);
        request.send_data(message(b"hello"), false).unwrap();
        request.send_trailers(map(&[("x-sum", "5"), ("x-forwarded-for", "6.6.6.6"), ("cookie", "a=1")])).unwrap();
        let (head, mut body) = in_time(answer).await.unwrap().into_parts();
        assert_eq!(
            (head.status.as_u16(), head.headers["content-type"].as_bytes()),
            (200, b"application/grpc+proto".as_slice())
        );
        assert!(!head.headers.contains_key("set-cookie"));
        let (bytes, trailers) = whole(&mut body).await;
        assert_eq!(
            (bytes.as_slice(), trailers),
            (message(b"to you, too").as_ref(), map(&[("grpc-status", "0"), ("x-own", "1")]))
        );
        in_time(answered).await.unwrap();
        // A connection does not end while its streams are held.
        drop((body, request));
        caller.leave().await;
    })
    .await;
}

#[tokio::test]
async fn messages_pass_as_they_come_and_of_any_length() {
    with_program(async |stage, id, program, _| {
        // A token lets in as well as a pass does, and goes no further.
        let bearer = format!("Bearer {}", stage.client.token().unwrap());
        let mut caller = stage.caller(&stage.stranger(id, CALLED)).await;
        let long = message(&vec![7; LONG_BYTES]);
        let sent = long.clone();
        let answered = program.answers(|mut request, mut respond| async move {
            assert!(!request.headers().contains_key("authorization"));
            let body = request.body_mut();
            let mut answer = begin(&mut respond);
            answer.send_data(message(b"first"), false).unwrap();
            // Each waits for what the other says only after it has heard.
            expect(body, &message(b"second")).await;
            answer.send_data(message(b"third"), false).unwrap();
            let (bytes, _) = whole(body).await;
            assert!(bytes == sent, "{} bytes", bytes.len());
            answer.send_data(sent, false).unwrap();
            answer.send_trailers(map(&[("grpc-status", "0")])).unwrap();
        });
        let answered = answered.await;
        let (answer, mut request) = caller.call(&[("authorization", &bearer)]);
        let mut body = in_time(answer).await.unwrap().into_body();
        expect(&mut body, &message(b"first")).await;
        request.send_data(message(b"second"), false).unwrap();
        expect(&mut body, &message(b"third")).await;
        request.send_data(long.clone(), true).unwrap();
        let (bytes, trailers) = whole(&mut body).await;
        assert!(bytes == long, "{} bytes", bytes.len());
        assert_eq!(trailers["grpc-status"], "0");
        in_time(answered).await.unwrap();
        // A connection does not end while its streams are held.
        drop((body, request));
        caller.leave().await;
    })
    .await;
}

#[tokio::test]
async fn an_error_may_be_all_head() {
    with_program(async |stage, _, program, visitor| {
        let mut caller = stage.caller(&visitor).await;
        let answered = program.answers(|_, mut respond| async move {
            let head = Response::builder().header("content-type", "application/grpc").header("grpc-status", "5");
            respond.send_response(head.header("grpc-message", "no such greeting").body(()).unwrap(), true).unwrap();
        });
        let answered = answered.await;
        let answer = caller.unary(&[]).await;
        assert_eq!((answer.head("grpc-status"), answer.head("grpc-message")), ("5", "no such greeting"));
        assert!(answer.all_head && answer.bytes.is_empty() && answer.trailers.is_empty(), "{answer:?}");
        in_time(answered).await.unwrap();
        caller.leave().await;
    })
    .await;
}

/// Calls, and has the program answer with one message and then only wait for the end.
async fn endless(
    program: &Program,
    caller: &mut Caller,
) -> (h2::RecvStream, SendStream<Bytes>, tokio::task::JoinHandle<()>) {
    let answered = program.answers(|_request, mut respond| async move {
        let mut answer = begin(&mut respond);
        answer.send_data(message(b"first"), false).unwrap();
        // A reset and a lost connection are both an end.
        let _ = poll_fn(|cx| answer.poll_reset(cx)).await;
    });
    let answered = answered.await;
    let (answer, request) = caller.call(&[]);
    let mut body = in_time(answer).await.unwrap().into_body();
    expect(&mut body, &message(b"first")).await;
    (body, request, answered)
}

#[tokio::test]
async fn a_call_ends_with_its_caller_and_with_the_session() {
    with_program(async |stage, _, program, visitor| {
        let mut caller = stage.caller(&visitor).await;
        let (body, request, answered) = endless(&program, &mut caller).await;
        drop((body, request));
        in_time(answered).await.unwrap();

        let (mut body, _request, answered) = endless(&program, &mut caller).await;
        stage.client.log_out().await.unwrap();
        let ended = in_time(body.data()).await;
        assert!(matches!(ended, Some(Err(_))), "{ended:?}");
        in_time(answered).await.unwrap();
        let refused = caller.unary(&[]).await;
        assert_eq!((refused.head("grpc-status"), refused.head("x-rexec-error")), ("16", "session_revoked"));
    })
    .await;
}

#[tokio::test]
async fn a_call_that_cannot_be_is_refused_with_the_reason() {
    on_stage(Backend::Sqlite, &[], async |_, stage| {
        let id = stage.workspace().await.id;
        stage.serve(id, 8000).await;
        let visitor = stage.guest(id, 8000).await;
        let post = async |kind: &str| {
            let request = visitor.request(Method::POST, "/demo.Greeter/Hello").header("content-type", kind);
            seen(request.body(message(b"hello")).send().await.unwrap()).await
        };
        for kind in ["application/grpc", "application/grpc+proto"] {
            let refused = post(kind).await;
            assert_eq!((refused.status.as_u16(), refused.code().as_str()), (505, "http2_required"), "{kind}");
        }
        // gRPC-Web was made for HTTP/1.1.
        assert_eq!(post("application/grpc-web+proto").await.json()["line"], "POST /demo.Greeter/Hello HTTP/1.1");

        let cases = [
            (visitor, "14", "preview_failed", "does not speak HTTP/2"),
            (stage.guest(id, 8001).await, "14", "port_closed", "Nothing listens on port 8001"),
            (stage.stranger(id, 8000), "16", "unauthenticated", "private"),
        ];
        for (visitor, status, code, reason) in cases {
            let mut caller = stage.caller(&visitor).await;
            let refused = caller.unary(&[("accept", "text/html")]).await;
            let told = (refused.head.status().as_u16(), refused.head("grpc-status"), refused.head("x-rexec-error"));
            assert_eq!(told, (200, status, code), "{refused:?}");
            assert!(refused.all_head && refused.head("grpc-message").contains(reason), "{refused:?}");
            caller.leave().await;
        }
        stage
    })
    .await;
}
