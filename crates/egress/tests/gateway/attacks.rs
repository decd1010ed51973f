//! What a workspace may try to get around the gateway: none of it leads anywhere.

use crate::world::{ONE, apart, head, rest};
use crate::{hello, tls, tunnel};
use rexec_egress::policy::Preset;
use tokio::io::AsyncWriteExt;

/// Whether a ClientHello, sent in these pieces through a tunnel to `a.example:443`, is answered by a server.
macro_rules! passes {
    ($world:expr, $pieces:expr) => {{
        let mut stream = tunnel(&$world, ONE, "a.example:443").await;
        for piece in $pieces {
            if stream.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let _ = stream.shutdown().await;
        !rest(&mut stream).await.is_empty()
    }};
}

/// The same handshake in records of so many bytes.
fn split(hello: &[u8], bytes: usize) -> Vec<u8> {
    let records = hello[5..]
        .chunks(bytes)
        .map(|piece| [&[22, 3, 1][..], &u16::try_from(piece.len()).unwrap().to_be_bytes(), piece].concat());
    records.flatten().collect()
}

#[test]
fn a_tunnel_leads_to_the_host_that_was_named() {
    apart(async |world| {
        world.allow(ONE, &["a.example"]);
        let right = hello("a.example");
        assert!(passes!(world, [&right[..]]));
        assert!(passes!(world, right.chunks(1)), "byte by byte");
        let whole = split(&right, 7);
        assert!(passes!(world, [&whole[..]]), "record by record");

        let wrong = hello("b.example");
        let none = hello("198.51.100.1");
        for (hello, what) in [(&wrong, "another on the same address"), (&none, "none")] {
            assert!(!passes!(world, [&hello[..]]), "{what}");
            let code = world.told(|record| record.outcome.is_err()).await.outcome;
            assert_eq!(code, Err("egress_sni_mismatch"), "{what}");
            assert!(!passes!(world, hello.chunks(1)), "{what}, byte by byte");
            let split = split(hello, 3);
            assert!(!passes!(world, [&split[..]]), "{what}, record by record");
        }
        let mut oversized = vec![22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff, 3, 3];
        oversized.resize(64 * 1024, 0);
        assert!(!passes!(world, [&oversized[..]]));
        assert!(!passes!(world, [&b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"[..]]), "no TLS at 443");
        assert!(!passes!(world, [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..]]));
        assert!(!passes!(world, [&right[..40]]), "half of one");
        assert!(tls(tunnel(&world, ONE, "a.example:443").await, "evil.example").await.is_err());
    });
}

#[test]
fn addresses_are_reached_by_rules_alone() {
    apart(async |world| {
        world.bind(ONE, Preset::Balanced, &["*:*"], &[]);
        for host in [
            "198.51.100.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "127.1",
            "127.0.0.1",
            "0",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:169.254.169.254]",
            "[64:ff9b::a9fe:a9fe]",
            "[2002:7f00:1::]",
            "169.254.169.254",
            "100.100.100.200",
            "10.9.0.1",
            "10.9.0.3",
            "1.1",
            "0xA9FEA9FE",
            "[fe80::1]",
        ] {
            for request in [
                format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n"),
                format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            ] {
                let (_, head) = world.ask(ONE, &request).await;
                assert!(head.starts_with("HTTP/1.1 40"), "{request}: {head}");
            }
        }
        assert!(world.requests.lock().unwrap().is_empty());
        assert!(world.asked.lock().unwrap().is_empty(), "nor is anybody asked what they are called");
    });
}

#[test]
fn a_name_that_leads_inside_leads_nowhere() {
    apart(async |world| {
        world.bind(ONE, Preset::Open, &[], &[]);
        for inside in [
            crate::world::MACHINE,
            "127.0.0.1",
            "10.9.0.3",
            "169.254.169.254",
            "0.0.0.0",
            "192.168.1.1",
            "100.100.100.200",
        ] {
            world.name("rebinds.example", &[&[inside]]);
            let (_, head) = world.connect(ONE, "rebinds.example:443").await;
            assert!(head.starts_with("HTTP/1.1 403"), "{inside}: {head}");
            // What is vetted is what is dialled: there is no second look.
            world.name("rebinds.example", &[&["198.51.100.2"], &[inside]]);
            let (_, head) = world.connect(ONE, "rebinds.example:22").await;
            assert!(head.starts_with("HTTP/1.1 200"), "{inside}: {head}");
            let told = world.told(|record| record.end.is_some()).await.end.unwrap();
            assert_eq!(told.address.unwrap().to_string(), "198.51.100.2");
        }
        // The good one of several is taken.
        world.name("mixed.example", &[&["10.0.0.1", "127.0.0.1", "198.51.100.1"]]);
        let (_, head) = world.connect(ONE, "mixed.example:22").await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let (_, head) = world.connect(ONE, "nobody.example:443").await;
        assert!(head.starts_with("HTTP/1.1 502") && head.contains("egress_no_such_name"), "{head}");
    });
}

#[test]
fn one_request_is_one_request() {
    apart(async |world| {
        world.allow(ONE, &["a.example"]);
        let inner = "GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n";
        let to_a = |more: &str| format!("POST http://a.example/in HTTP/1.1\r\nHost: a.example\r\n{more}");
        let length = inner.len();
        for request in [
            to_a(&format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}")),
            to_a(&format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n{inner}")),
            to_a(&format!("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{inner}")),
            to_a(&format!("Content-Length: 0\r\nContent-Length: {length}\r\n\r\n{inner}")),
            to_a(&format!("Content-Length: +{length}\r\n\r\n{inner}")),
            to_a(&format!("Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n{inner}")),
            to_a(&format!("Connection: Host, Content-Length\r\nContent-Length: {length}\r\n\r\n{inner}")),
            to_a(&format!("Host: evil.example\r\nContent-Length: 0\r\n\r\n{inner}")),
            to_a(&format!("X: a\rb\r\nContent-Length: 0\r\n\r\n{inner}")),
            format!("GET http://a.example/\rx HTTP/1.1\r\nHost: a.example\r\n\r\n{inner}"),
            format!("GET http://a.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n{inner}"),
            format!("GET http://a.example@evil.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n{inner}"),
            format!("GET http://evil.example#@a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n{inner}"),
            format!("GET /away HTTP/1.1\r\nHost: a.example\r\n\r\n{inner}"),
            format!("GET https://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n{inner}"),
            format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{inner}"),
            inner.to_owned(),
        ] {
            let mut stream = world.dial(ONE).await;
            stream.write_all(request.as_bytes()).await.unwrap();
            let _ = stream.shutdown().await;
            rest(&mut stream).await;
        }
        for head in world.requests.lock().unwrap().iter() {
            let head = head.to_lowercase();
            assert!(head.contains("\r\nhost: a.example\r\n") && !head.contains("evil"), "{head}");
            let framed = head.contains("content-length:") && head.contains("transfer-encoding:");
            assert!(!framed && head.matches("content-length").count() <= 1, "{head}");
        }
        assert!(!world.asked.lock().unwrap().iter().any(|name| name == "evil.example"));
    });
}

#[test]
fn every_request_of_a_connection_is_judged() {
    apart(async |world| {
        world.allow(ONE, &["a.example", "c.example"]);
        let mut stream = world.dial(ONE).await;
        let get = |host: &str, path: &str| format!("GET http://{host}/{path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        for (host, path, status) in [
            ("a.example", "", "200"),
            ("evil.example", "", "403"),
            ("c.example", "", "200"),
            ("a.example", "away", "302"),
            ("169.254.169.254", "latest", "403"),
        ] {
            stream.write_all(get(host, path).as_bytes()).await.unwrap();
            let answer = head(&mut stream).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{host}/{path}: {answer}");
            let length = answer.to_lowercase();
            let length = length.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
            let mut body = vec![0; length.parse().unwrap()];
            tokio::io::AsyncReadExt::read_exact(&mut stream, &mut body).await.unwrap();
        }
        assert_eq!(world.requests.lock().unwrap().len(), 3);
        // A tunnel to port 80 is no way around it.
        let (mut stream, answer) = world.connect(ONE, "a.example:80").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n").await.unwrap();
        assert!(head(&mut stream).await.contains("egress_host_mismatch"));
        let (_, answer) = world.connect(ONE, "evil.example:80").await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    });
}
