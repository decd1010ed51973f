//! Rules about single requests: each is judged, and only where it can be read.

use crate::secrets::{given, tls};
use crate::tunnel;
use crate::world::{ONE, World, apart, head};
use rexec_egress::record::How;
use rexec_egress::table::READINGS_MAX;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Asks, and gives the code of why not, or nothing.
pub async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = head(stream).await;
    let code = head.split("x-rexec-egress: ").nth(1).map(|rest| rest.split("\r\n").next().unwrap().to_owned());
    let is_chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    let length = head
        .to_lowercase()
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    while is_chunked && !body.ends_with(b"\r\n\r\n") {
        body.push(stream.read_u8().await.unwrap());
    }
    code.unwrap_or_default()
}

#[test]
fn within_tls_only_what_is_allowed_is_asked() {
    apart(async |world: World| {
        let roots = given(&world, ONE, &["GET@api.example:8443/repos/acme/*"], "other.example");
        let mut stream = tls(tunnel(&world, ONE, "api.example:8443").await, roots, "api.example").await.unwrap();
        for (line, code) in [
            ("GET /repos/acme/one", ""),
            ("GET /repos/%61cme/two?x=/../y", ""),
            ("GET /repos/acme/one/../../other", "egress_path_ambiguous"),
            ("GET /repos/acme/%2e%2e/other", "egress_path_ambiguous"),
            ("GET /repos/acme//x", "egress_path_ambiguous"),
            ("GET /repos/other", "egress_request_not_allowed"),
            ("DELETE /repos/acme/one", "egress_request_not_allowed"),
            ("GET /repos/acme/three", ""),
        ] {
            let override_it = "X-HTTP-Method-Override: DELETE\r\nX-Kept: 1\r\n";
            let request = format!("{line} HTTP/1.1\r\nHost: api.example:8443\r\n{override_it}\r\n");
            assert_eq!(ask(&mut stream, &request).await, code, "{line}");
        }
        let came = world.requests.lock().unwrap().clone();
        assert_eq!(came.len(), 3, "{came:?}");
        assert!(came.iter().all(|head| head.contains("x-kept: 1\r\n") && !head.contains("override")), "{came:?}");
        let told = world.told(|record| record.outcome == Err("egress_request_not_allowed")).await;
        assert_eq!((told.host.as_str(), told.port, told.how), ("api.example", 8443, How::Https));
    });
}

#[test]
fn a_secret_for_some_requests_is_not_sent_with_another_by_a_header() {
    apart(async |world: World| {
        let roots = given(&world, ONE, &["api.example:8443"], "GET@api.example:8443/repos/*");
        let mut stream = tls(tunnel(&world, ONE, "api.example:8443").await, roots, "api.example").await.unwrap();
        let more = "Authorization: Bearer sk-kR2vQ8mZt1LcX4bN\r\nX-HTTP-Method-Override: DELETE\r\n";
        for (line, is_put_in) in [("GET /repos/a", true), ("GET /user", false), ("DELETE /repos/a", false)] {
            let request = format!("{line} HTTP/1.1\r\nHost: api.example:8443\r\n{more}\r\n");
            assert_eq!(ask(&mut stream, &request).await, "", "all may be asked");
            let came = world.requests.lock().unwrap().pop().unwrap();
            assert_eq!(came.contains("sk-realrealrealreal"), is_put_in, "{came}");
            assert!(!came.to_lowercase().contains("override"), "{came}");
        }
    });
}

#[test]
fn plain_requests_are_judged_too() {
    apart(async |world| {
        world.bind(ONE, rexec_egress::policy::Preset::Open, &[], &["a.example/admin*", "DELETE@*.example"]);
        let mut proxied = world.dial(ONE).await;
        let mut direct = world.dial_at(ONE, 80).await;
        for (line, path, code) in [
            ("GET", "/public", ""),
            ("GET", "/%61dmin/x", "egress_denied_by_rule"),
            ("DELETE", "/public", "egress_denied_by_rule"),
            ("GET", "/public/../admin", "egress_path_ambiguous"),
            ("GET", "/public", ""),
        ] {
            let whole = format!("{line} http://a.example{path} HTTP/1.1\r\nHost: a.example\r\n\r\n");
            assert_eq!(ask(&mut proxied, &whole).await, code, "{line} {path}");
            let short = format!("{line} {path} HTTP/1.1\r\nHost: a.example\r\n\r\n");
            assert_eq!(ask(&mut direct, &short).await, code, "{line} {path}");
        }
        assert_eq!(world.requests.lock().unwrap().len(), 4);
    });
}

#[test]
fn what_cannot_be_read_is_not_tunnelled() {
    apart(async |world| {
        // Without an authority of its own.
        world.allow(ONE, &["GET@a.example:*/x", "b.example:22"]);
        let (_, head) = world.connect(ONE, "a.example:443").await;
        assert!(head.contains("x-rexec-egress: egress_unreadable\r\n"), "{head}");
        let (_, ssh) = world.connect(ONE, "a.example:22").await;
        assert!(ssh.contains("egress_unreadable"), "{ssh}");
        let mut direct = world.dial_at(ONE, 443).await;
        direct.write_all(&crate::hello("a.example")).await.unwrap();
        assert_eq!(crate::world::rest(&mut direct).await[0], 21, "an alert");
        // Port 80 begins with bytes that may be TLS.
        let mut stream = tunnel(&world, ONE, "a.example:80").await;
        stream.write_all(&crate::hello("a.example")).await.unwrap();
        assert!(crate::world::rest(&mut stream).await.is_empty());
        assert_eq!(world.told(|record| record.port == 80).await.outcome, Err("egress_unreadable"));
    });
}

#[test]
fn connections_that_are_read_are_bounded() {
    apart(async |world: World| {
        let roots = given(&world, ONE, &["GET@api.example:8443"], "other.example");
        let mut held = Vec::new();
        for _ in 0..READINGS_MAX {
            let stream = tunnel(&world, ONE, "api.example:8443").await;
            held.push(tls(stream, roots.clone(), "api.example").await.unwrap());
        }
        let stream = tunnel(&world, ONE, "api.example:8443").await;
        assert!(tls(stream, roots.clone(), "api.example").await.is_err());
        assert_eq!(world.told(|record| record.outcome.is_err()).await.outcome, Err("egress_too_many"));
        drop(held);
        let tenant = world.gateway.table.find(ONE.parse().unwrap()).unwrap();
        while tenant.readings.available_permits() < READINGS_MAX {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let stream = tunnel(&world, ONE, "api.example:8443").await;
        assert!(tls(stream, roots, "api.example").await.is_ok());
    });
}
