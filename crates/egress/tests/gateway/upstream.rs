//! Where everything leaves by another proxy.

use crate::world::{ONE, UPSTREAM_WANTS, apart_by_upstream, head, rest};
use crate::{tls, tunnel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn everything_leaves_by_the_other_proxy() {
    apart_by_upstream(async |world| {
        world.allow(ONE, &["a.example", "*.example:22", "only.example"]);
        let mut secure = tls(tunnel(&world, ONE, "a.example:443").await, "a.example").await.unwrap();
        secure.write_all(b"hello").await.unwrap();
        let mut back = [0; 5];
        secure.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"hello");
        let asked = world.requests.lock().unwrap().pop().unwrap();
        assert!(asked.starts_with("CONNECT a.example:443 HTTP/1.1\r\n"), "{asked}");
        drop(secure);
        let told = world.told(|record| record.end.is_some()).await;
        assert_eq!((told.host.as_str(), told.end.unwrap().address), ("a.example", None));

        // Who speaks first is heard, also what came with the proxy's answer.
        let mut ssh = tunnel(&world, ONE, "b.example:22").await;
        let mut greeting = [0; 14];
        ssh.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"SSH-2.0-here\r\n");
        // A name that our own servers do not know.
        assert!(world.connect(ONE, "only.example:443").await.1.starts_with("HTTP/1.1 200"));

        // Requests as a proxy is asked, with what it wants and nothing that was for us.
        let request = "GET http://a.example/x?y HTTP/1.1\r\nHost: a.example\r\nProxy-Authorization: Basic eA==\r\n\r\n";
        let (mut stream, answer) = world.ask(ONE, request).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let mut body = [0; 3];
        stream.read_exact(&mut body).await.unwrap();
        assert_eq!(&body, b"via");
        let asked = world.requests.lock().unwrap().pop().unwrap();
        assert!(asked.starts_with("GET http://a.example/x?y HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains(&format!("proxy-authorization: {UPSTREAM_WANTS}\r\n")), "{asked}");
        assert!(asked.contains("host: a.example\r\n") && !asked.contains("eA=="), "{asked}");

        let whole = "OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n";
        let mut tunnelled = tunnel(&world, ONE, "a.example:80").await;
        tunnelled.write_all(whole.as_bytes()).await.unwrap();
        assert!(head(&mut tunnelled).await.starts_with("HTTP/1.1 200"));
        let asked = world.requests.lock().unwrap().pop().unwrap();
        assert!(asked.starts_with("OPTIONS http://a.example/ HTTP/1.1\r\n"), "{asked}");

        // What may not be reached any more ends, as it does elsewhere.
        world.allow(ONE, &["a.example"]);
        assert!(rest(&mut ssh).await.is_empty());
    });
}

#[test]
fn the_other_proxy_is_asked_for_nothing_that_is_closed() {
    apart_by_upstream(async |world| {
        world.allow(ONE, &["*.example", "10.0.0.0/8"]);
        world.name("inside.example", &[&["192.168.0.1"]]);
        world.name("metadata.example", &[&["198.51.100.1", "169.254.169.254"]]);
        for closed in ["inside.example:443", "metadata.example:443", "other.test:443", "169.254.169.254:443"] {
            let (_, answer) = world.connect(ONE, closed).await;
            assert!(answer.starts_with("HTTP/1.1 403"), "{closed}: {answer}");
        }
        let (_, answer) = world.ask(ONE, "GET http://inside.example/ HTTP/1.1\r\nHost: inside.example\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        assert!(world.requests.lock().unwrap().is_empty());

        let (_, answer) = world.connect(ONE, "refused.example:443").await;
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
        assert!(answer.contains("x-rexec-egress: egress_upstream_refused\r\n"), "{answer}");
        world.upstream.abort();
        let gone = async {
            loop {
                let (_, answer) = world.connect(ONE, "a.example:443").await;
                if answer.contains("x-rexec-egress: egress_no_upstream\r\n") {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        gone.await;
        let mut stream = world.dial(ONE).await;
        stream.write_all(b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n").await.unwrap();
        assert!(head(&mut stream).await.contains("egress_no_upstream"));
    });
}
