use super::*;
use h2::client::SendRequest;
use http::{Method, Request};
use rexec_api::guest::GuestError;

/// HTTP/2 by hand to the same guest, to say what our own client would not.
async fn raw(bench: &Bench) -> SendRequest<Bytes> {
    let (near, far) = UnixStream::pair().unwrap();
    tokio::task::spawn_local(routes::serve(bench.guest.clone(), far, None));
    let (requests, connection) = h2::client::handshake(near).await.unwrap();
    tokio::task::spawn_local(connection);
    requests
}

async fn ask(
    requests: &SendRequest<Bytes>,
    method: Method,
    uri: &str,
    header: Option<(&str, &str)>,
    body: &str,
) -> (u16, Option<ErrorCode>) {
    let mut request = Request::builder().method(method).uri(format!("http://guest{uri}"));
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let mut requests = requests.clone().ready().await.unwrap();
    let (answer, mut stream) = requests.send_request(request.body(()).unwrap(), false).unwrap();
    stream.send_data(Bytes::copy_from_slice(body.as_bytes()), true).unwrap();
    let (head, mut body) = answer.await.unwrap().into_parts();
    let mut all = Vec::new();
    while let Some(Ok(bytes)) = body.data().await {
        all.extend_from_slice(&bytes);
    }
    let code = serde_json::from_slice::<GuestError>(&all).map(|error| error.code);
    (head.status.as_u16(), code.ok())
}

#[test]
fn requests_that_are_not_as_agreed_are_refused_by_name() {
    with_configured(|bench| async move {
        use ErrorCode::*;
        let requests = raw(&bench).await;
        let (get, post, delete) = (Method::GET, Method::POST, Method::DELETE);
        let cases = [
            (get.clone(), "/nowhere", None, "", NoSuchRoute),
            (get.clone(), "/terminals/x/y/z", None, "", NoSuchRoute),
            (post.clone(), "/hello", None, "", NoSuchRoute),
            (post.clone(), "/configure", None, "{", InvalidJson),
            (post.clone(), "/configure", None, "[]", InvalidRequest),
            (post.clone(), "/terminals", None, "{\"id\":7}", InvalidRequest),
            (delete.clone(), "/terminals/not-an-id", None, "", InvalidId),
            (post.clone(), "/terminals/not-an-id/attach", None, "", InvalidId),
            (post.clone(), "/exec", None, "", InvalidRequest),
            (post.clone(), "/exec", Some(("x-rexec-exec", "{")), "", InvalidRequest),
            (post.clone(), "/dial", Some(("x-rexec-dial", "{\"type\":\"tcp\",\"port\":70000}")), "", InvalidRequest),
            (post.clone(), "/dial", Some(("x-rexec-dial", "{\"type\":\"tcp\",\"port\":0}")), "", InvalidRequest),
            (get.clone(), "/files", None, "", InvalidRequest),
            (get.clone(), "/files?path=%zz", None, "", InvalidRequest),
            (get.clone(), "/files?path=%ff", None, "", InvalidRequest),
            (get.clone(), "/files?path=etc", None, "", InvalidRequest),
            (delete, "/files?path=/nope&recursive=maybe", None, "", InvalidRequest),
            (post, "/files/move?from=/nope", None, "", InvalidRequest),
            (get, "/files/stat?path=/nope", None, "", FileNotFound),
        ];
        for (method, uri, header, body, expected) in cases {
            let (status, code) = ask(&requests, method, uri, header, body).await;
            assert_eq!(code, Some(expected), "{uri}");
            assert_eq!(status, expected.http_status(), "{uri}");
        }
    });
}

#[test]
fn broken_exec_frames_end_the_command() {
    with_configured(|bench| async move {
        let requests = raw(&bench).await;
        let frames: [&[u8]; 6] = [
            &[0xff, 0xff, 0xff, 0xff],
            &[0, 0, 0, 0],
            &[0, 0, 0, 1, 0x77],
            &[0, 0, 0, 2, 0x02, 0xff],
            &[0, 0, 0, 1, 0x02],
            &[0, 0, 0, 2, 0x01, 0x00],
        ];
        for frame in frames {
            let request = Request::post("http://guest/exec")
                .header("x-rexec-exec", r#"{"command":["sleep","1000"]}"#)
                .body(())
                .unwrap();
            let mut requests = requests.clone().ready().await.unwrap();
            let (answer, mut stream) = requests.send_request(request, false).unwrap();
            stream.send_data(Bytes::copy_from_slice(frame), false).unwrap();
            // Reset without an exit code, perhaps before the guest's acceptance went out.
            if let Ok(answer) = answer.await {
                let end = answer.into_body().data().await.unwrap();
                assert!(end.is_err(), "{frame:?}");
            }
            while bench.client.usage().await.unwrap().execs > 0 {}
        }
        // The connection and the guest go on.
        assert_eq!(ask(&requests, Method::GET, "/hello", None, "").await.0, 200);
    });
}
