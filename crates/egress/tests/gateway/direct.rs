//! Programs that know no proxies: names lead them to the gateway itself.

use crate::world::{ONE, STRANGER, World, apart, head, rest};
use crate::{hello, tls};
use rexec_egress::policy::Preset;
use rexec_egress::record::How;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const HTTP: u16 = 80;
const HTTPS: u16 = 443;
/// A fatal alert: `access_denied`, and `handshake_failure` (RFC 8446, 6).
const DENIED: [u8; 7] = [21, 3, 1, 0, 2, 2, 49];
const FAILED: [u8; 7] = [21, 3, 1, 0, 2, 2, 40];

#[test]
fn names_lead_to_the_gateway_and_from_there_to_whom_they_name() {
    apart(async |world| {
        world.allow(ONE, &["a.example", "b.example:22", "c.example:443"]);
        let true_one = &[198, 51, 100, 1];
        assert!(world.look_up(ONE, "a.example").await.unwrap().ends_with(true_one), "nobody listens there yet");
        world.lead_here();
        for (name, leads_to) in [("a.example", &[10, 9, 0, 1]), ("c.example", &[10, 9, 0, 1]), ("b.example", true_one)]
        {
            assert!(world.look_up(ONE, name).await.unwrap().ends_with(leads_to), "{name}");
        }
        assert_eq!(world.look_up(ONE, "evil.example").await.unwrap()[3] & 0xf, 3, "it is not there");

        let mut secure = tls(world.dial_at(ONE, HTTPS).await, "a.example").await.unwrap();
        secure.write_all(b"hello").await.unwrap();
        let mut back = [0; 5];
        secure.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"hello");
        drop(secure);
        let told = world.told(|record| record.end.is_some()).await;
        assert_eq!((told.host.as_str(), told.port, told.how), ("a.example", HTTPS, How::Direct));

        let mut plain = world.dial_at(ONE, HTTP).await;
        for path in ["/one", "/two"] {
            plain.write_all(format!("GET {path} HTTP/1.1\r\nHost: A.example\r\n\r\n").as_bytes()).await.unwrap();
            assert!(head(&mut plain).await.starts_with("HTTP/1.1 200"));
            assert_eq!(plain.read_u16().await.unwrap(), u16::from_be_bytes(*b"ok"));
        }
        assert!(world.requests.lock().unwrap()[0].contains("\r\nhost: a.example\r\n"));
    });
}

#[test]
fn what_is_not_allowed_is_refused_and_says_so() {
    apart(async |world| {
        world.allow(ONE, &["a.example", "b.example:80"]);
        for (name, alert, code) in [
            ("evil.example", DENIED, "egress_not_allowed"),
            ("b.example", DENIED, "egress_not_allowed"),
            ("169.254.169.254", FAILED, "egress_no_name"),
        ] {
            let mut stream = world.dial_at(ONE, HTTPS).await;
            stream.write_all(&hello(name)).await.unwrap();
            assert_eq!(rest(&mut stream).await, alert, "{name}");
            assert_eq!(world.told(|record| record.how == How::Direct).await.outcome, Err(code));
        }
        for (bytes, code) in
            [(&b"GET / HTTP/1.1\r\n\r\n"[..], "egress_not_tls"), (&[22, 3, 1, 255, 255, 1], "egress_broken_tls")]
        {
            let mut stream = world.dial_at(ONE, HTTPS).await;
            stream.write_all(bytes).await.unwrap();
            assert_eq!(rest(&mut stream).await, FAILED);
            assert_eq!(world.told(|record| record.how == How::Direct).await.outcome, Err(code));
        }
        for (request, code) in [
            ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "egress_not_allowed"),
            ("GET / HTTP/1.1\r\nHost: a.example:8080\r\n\r\n", "egress_host_mismatch"),
            ("GET / HTTP/1.1\r\nHost: a.example\r\nHost: evil.example\r\n\r\n", "egress_host_mismatch"),
            ("GET http://evil.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", "egress_host_mismatch"),
            ("GET / HTTP/1.1\r\n\r\n", "egress_bad_request"),
            ("GET / HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n", "egress_closed_range"),
            ("GET / HTTP/1.1\r\nHost: 10.9.0.1\r\n\r\n", "egress_address_literal"),
            ("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n", "egress_bad_request"),
        ] {
            let mut stream = world.dial_at(ONE, HTTP).await;
            stream.write_all(request.as_bytes()).await.unwrap();
            let head = head(&mut stream).await;
            assert!(head.contains(&format!("x-rexec-egress: {code}\r\n")), "{request}: {head}");
        }
        // SOCKS is for the proxy's port.
        let mut socks = world.dial_at(ONE, HTTP).await;
        socks.write_all(&[5, 1, 0]).await.unwrap();
        socks.shutdown().await.unwrap();
        assert!(!rest(&mut socks).await.starts_with(&[5]));
        assert!(world.requests.lock().unwrap().is_empty(), "nothing left");
        for port in [HTTP, HTTPS] {
            assert!(rest(&mut world.dial_at(STRANGER, port).await).await.is_empty(), "not a byte for nobody's");
        }
    });
}

#[test]
fn a_gateway_is_no_way_to_itself() {
    apart(async |world| {
        world.bind(ONE, Preset::Open, &["10.9.0.1"], &[]);
        world.name("round.example", &[&[crate::world::GATEWAY]]);
        let mut plain = world.dial_at(ONE, HTTP).await;
        plain.write_all(b"GET / HTTP/1.1\r\nHost: round.example\r\n\r\n").await.unwrap();
        assert!(head(&mut plain).await.contains("x-rexec-egress: egress_closed_range\r\n"));
        let mut secure = world.dial_at(ONE, HTTPS).await;
        secure.write_all(&hello("round.example")).await.unwrap();
        assert_eq!(rest(&mut secure).await, DENIED);
    });
}

#[test]
fn what_is_open_ends_with_its_permission() {
    apart(async |world: World| {
        world.allow(ONE, &["a.example"]);
        let mut secure = tls(world.dial_at(ONE, HTTPS).await, "a.example").await.unwrap();
        let mut silent = world.dial_at(ONE, HTTPS).await;
        silent.write_all(&hello("a.example")[..20]).await.unwrap();
        world.told(|record| record.outcome.is_ok()).await;
        world.allow(ONE, &["b.example"]);
        assert_eq!(secure.read(&mut [0]).await.unwrap_or(0), 0);
        world.gateway.table.unbind(ONE.parse().unwrap());
        assert!(rest(&mut silent).await.is_empty());
    });
}
