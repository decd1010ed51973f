//! Requests to language models: with the operator's key, by whom they are let, and counted.

use crate::world::{GATEWAY, ONE, TWO, World, apart, head, rest};
use rexec_egress::models::Api;
use rexec_egress::policy::Policy;
use rexec_egress::record::{How, Record, Tokens, WAITING_MAX};
use rexec_egress::table::{Bound, Budget};
use rexec_egress::vendors::{Vendor, Vendors};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const OPENAI: u16 = 4001;
const ANTHROPIC: u16 = 4002;
const KEY: &str = "sk-the-operators-own";

/// What a vendor was asked: heads and bodies, connection by connection.
type Asked = Arc<Mutex<Vec<(usize, String, String)>>>;

const CHAT: &str = r#"{"id":"c","choices":[{"message":{"content":"Hi."}}],"usage":{"prompt_tokens":7,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":5}}}"#;
const LIST: &str = r#"{"object":"list","data":[{"id":"good-1"},{"id":"bad-1"}]}"#;

/// Answers as vendors do; `slow` streams say something and wait for ever.
async fn serve(listener: TcpListener, asked: Asked) {
    let mut count = 0;
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        count += 1;
        let asked = Arc::clone(&asked);
        tokio::task::spawn_local(async move {
            loop {
                let head = head(&mut stream).await;
                if head.is_empty() {
                    return;
                }
                let lower = head.to_lowercase();
                if lower.contains("anthropic-beta: early\r\n") {
                    // It answers before it reads, which it never does.
                    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
                    return std::future::pending().await;
                }
                let length = lower.split("\r\ncontent-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
                let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
                stream.read_exact(&mut body).await.unwrap();
                let body = String::from_utf8(body).unwrap();
                asked.lock().unwrap().push((count, head.clone(), body.clone()));
                if body.contains("never") {
                    return std::future::pending().await;
                }
                let (status, kind, answer) = if head.starts_with("GET ") {
                    ("200 OK", "application/json", LIST.to_owned())
                } else if body.contains("\"bad-key\"") {
                    ("401 Unauthorized", "application/json", format!("{{\"error\":\"Incorrect API key: {KEY}\"}}"))
                } else if body.contains("\"busy\"") {
                    ("429 Too Many Requests", "application/json", "{\"error\":\"later\"}".to_owned())
                } else if body.contains("\"stream\":true") {
                    let text =
                        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
                    stream.write_all(text.as_bytes()).await.unwrap();
                    let event = "data: {\"choices\":[{\"delta\":{\"content\":\"Hello, you\"}}]}\n\n";
                    stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await.unwrap();
                    if body.contains("slow") {
                        // It hears of its end.
                        let _ = stream.read_u8().await;
                        asked.lock().unwrap().push((count, String::new(), String::new()));
                        return;
                    }
                    let last = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":4}}\n\ndata: [DONE]\n\n";
                    stream.write_all(format!("{:x}\r\n{last}\r\n0\r\n\r\n", last.len()).as_bytes()).await.unwrap();
                    continue;
                } else {
                    ("200 OK", "application/json", CHAT.to_owned())
                };
                let length = answer.len();
                let text = format!(
                    "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nOpenAI-Organization: acme\r\nSet-Cookie: a=b\r\n\
                     X-Request-Id: r1\r\n\r\n{answer}"
                );
                stream.write_all(text.as_bytes()).await.unwrap();
            }
        });
    }
}

/// Vendors that listen here, and a workspace that may ask them for so much.
async fn offered(world: &World, left: Option<u64>) -> Asked {
    let asked = Asked::default();
    for port in [OPENAI, ANTHROPIC] {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        tokio::task::spawn_local(serve(listener, Arc::clone(&asked)));
    }
    let vendor = |api, port: u16| {
        let base = format!("http://127.0.0.1:{port}/api/v1").parse().unwrap();
        Some(Vendor::new(api, base, Some(KEY)).unwrap())
    };
    world.gateway.offer(Vendors {
        openai: vendor(Api::OpenAi, OPENAI),
        anthropic: vendor(Api::Anthropic, ANTHROPIC),
        allow: Some("good-*,bad-key,busy".parse().unwrap()),
        outward: false,
    });
    let_ask(world, left);
    asked
}

fn let_ask(world: &World, left: Option<u64>) {
    let_ask_at(world, ONE, left);
}

fn let_ask_at(world: &World, address: &str, left: Option<u64>) {
    let models = Some(Budget { left });
    let bound =
        Bound { workspace: address.into(), version: 1, policy: Policy::default(), reading: None, models, github: None };
    world.gateway.table.bind(address.parse().unwrap(), bound);
}

fn post(path: &str, body: &str, more: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: llm.rexec.internal\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{more}\r\n{body}",
        body.len()
    )
}

fn chat(body: &str) -> String {
    post(
        "http://llm.rexec.internal/v1/chat/completions",
        body,
        "Authorization: Bearer mine\r\nCookie: a=b\r\nOpenAI-Organization: other\r\n",
    )
}

/// A head and a body of that many bytes.
async fn answer(stream: &mut TcpStream) -> (String, String) {
    let head = head(stream).await;
    let length = head
        .to_lowercase()
        .split("\r\ncontent-length: ")
        .nth(1)
        .and_then(|rest| rest.split("\r\n").next()?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.unwrap();
    (head, String::from_utf8(body).unwrap())
}

#[test]
fn a_model_answers_with_the_operators_key_and_is_counted() {
    apart(async |world| {
        let asked = offered(&world, None).await;
        world.lead_here();
        assert!(world.look_up(ONE, "llm.rexec.internal").await.unwrap().ends_with(&[10, 9, 0, 1]));
        world.allow(TWO, &[]);
        assert_eq!(world.look_up(TWO, "llm.rexec.internal").await.unwrap()[3] & 0xf, 3, "for whom it is let");
        let mut stream = world.dial(ONE).await;
        for _ in 0..2 {
            stream.write_all(chat(r#"{"model":"good-1","messages":[]}"#).as_bytes()).await.unwrap();
            let (head, body) = answer(&mut stream).await;
            assert!(head.starts_with("HTTP/1.1 200") && head.contains("x-request-id: r1\r\n"), "{head}");
            assert!(!head.contains("acme") && !head.to_lowercase().contains("cookie"), "{head}");
            assert_eq!(body, CHAT);
            let told = world.told(|record| record.end.is_some()).await;
            assert_eq!(
                (told.how, told.host.as_str(), told.outcome),
                (How::Model, "llm.rexec.internal", Ok("good-1".into()))
            );
            let tokens = Tokens { model: "good-1".into(), input: 7, cached: 5, output: 3, estimated: false };
            assert_eq!(told.tokens, Some(tokens));
        }
        let all = asked.lock().unwrap().clone();
        let (connection, sent, _) = &all[0];
        assert!(sent.starts_with("POST /api/v1/chat/completions HTTP/1.1\r\n"), "{sent}");
        assert!(
            sent.contains(&format!("authorization: Bearer {KEY}\r\n")) && sent.contains("host: 127.0.0.1:4001\r\n")
        );
        assert!(!sent.contains("mine") && !sent.contains("cookie") && !sent.contains("other"), "{sent}");
        assert_eq!(all[1].0, *connection, "one connection for both");

        // By the other API, without a proxy, and the list of what there is.
        let mut direct = world.dial_at(ONE, 80).await;
        let body = r#"{"model":"good-2","max_tokens":9,"messages":[]}"#;
        direct
            .write_all(post("/v1/messages?key=mine&beta=true&model=bad-1", body, "x-api-key: mine\r\n").as_bytes())
            .await
            .unwrap();
        assert!(answer(&mut direct).await.0.starts_with("HTTP/1.1 200"));
        let sent = asked.lock().unwrap().last().unwrap().1.clone();
        assert!(sent.starts_with("POST /api/v1/messages?beta=true HTTP/1.1\r\n"), "{sent}");
        assert!(
            sent.contains(&format!("x-api-key: {KEY}\r\n")) && sent.contains("anthropic-version: 2023-06-01\r\n"),
            "{sent}"
        );
        direct.write_all(b"GET /v1/models HTTP/1.1\r\nHost: llm.rexec.internal\r\n\r\n").await.unwrap();
        assert_eq!(answer(&mut direct).await.1, r#"{"object":"list","data":[{"id":"good-1"}]}"#);
    });
}

#[test]
fn a_stream_is_not_held_back_and_ends_at_the_vendor_too() {
    apart(async |world| {
        let asked = offered(&world, None).await;
        let mut stream = world.dial(ONE).await;
        stream.write_all(chat(r#"{"model":"good-1","stream":true}"#).as_bytes()).await.unwrap();
        assert!(head(&mut stream).await.contains("content-type: text/event-stream\r\n"));
        let mut all = Vec::new();
        while !all.ends_with(b"0\r\n\r\n") {
            all.push(stream.read_u8().await.unwrap());
        }
        assert!(String::from_utf8(all).unwrap().contains("Hello, you"));
        let told = world.told(|record| record.end.is_some()).await.tokens.unwrap();
        assert_eq!((told.input, told.output, told.estimated), (20, 4, false));
        assert!(asked.lock().unwrap()[0].2.contains(r#""include_usage":true"#));

        stream.write_all(chat(r#"{"model":"good-slow","stream":true}"#).as_bytes()).await.unwrap();
        head(&mut stream).await;
        let mut some = [0; 20];
        stream.read_exact(&mut some).await.unwrap();
        drop(stream);
        let told = world.told(|record| record.end.is_some()).await.tokens.unwrap();
        assert!(told.estimated && told.input > 0 && told.output > 0, "{told:?}");
        while !asked.lock().unwrap().last().unwrap().1.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn what_may_not_be_is_refused_and_nothing_is_sent() {
    apart(async |world| {
        let asked = offered(&world, None).await;
        let refused = async |request: String| {
            let mut stream = world.dial(ONE).await;
            stream.write_all(request.as_bytes()).await.unwrap();
            let (head, body) = answer(&mut stream).await;
            let code =
                head.split("x-rexec-egress: ").nth(1).unwrap_or_default().split("\r\n").next().unwrap().to_owned();
            assert!(body.contains(&code), "{body}");
            (head[9..12].to_owned(), code)
        };
        let at = |path: &str| format!("http://llm.rexec.internal{path}");
        let good = r#"{"model":"good-1"}"#;
        for (request, status, code) in [
            (chat(r#"{"model":"bad-1"}"#), "403", "model_not_allowed"),
            (chat(r#"{"model":"good-1","model":"bad-1"}"#), "400", "model_bad_request"),
            (chat(r#"{"model":"good-1","models":["bad-1"]}"#), "403", "model_not_allowed"),
            (chat(r#"{"model":"good-1","plugins":[{"id":"web"}]}"#), "400", "model_outward"),
            (chat("not json"), "400", "model_bad_request"),
            (chat("{}"), "400", "model_missing"),
            (post(&at("/v1/files"), good, ""), "404", "model_no_such_path"),
            (post(&at("/v1/../admin"), good, ""), "404", "model_no_such_path"),
            (post(&at("/v1/models"), good, ""), "405", "model_bad_method"),
            (post(&at("/v1/messages"), good, "Transfer-Encoding: chunked\r\n"), "400", "model_bad_request"),
        ] {
            assert_eq!(refused(request.clone()).await, (status.to_owned(), code.to_owned()), "{request}");
        }
        assert!(asked.lock().unwrap().is_empty());
        let (status, code) = refused(chat(r#"{"model":"bad-key"}"#)).await;
        assert_eq!((status.as_str(), code.as_str()), ("502", "model_vendor_refused"));
        let mut stream = world.dial(ONE).await;
        stream.write_all(chat(r#"{"model":"busy"}"#).as_bytes()).await.unwrap();
        let (head, body) = answer(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 429") && body.contains("later"), "as the vendor said it: {head}");
        assert_eq!(world.told(|record| record.end.is_some()).await.tokens, None, "which costs nothing");

        // Who is not let, is not let, whoever asks and in whatever way.
        world.allow(TWO, &["*:*"]);
        for to in [3128, 80] {
            let mut stream = world.dial_at(TWO, to).await;
            let path = if to == 80 { "/v1/chat/completions" } else { "http://llm.rexec.internal/v1/chat/completions" };
            stream.write_all(post(path, good, "").as_bytes()).await.unwrap();
            assert!(answer(&mut stream).await.0.contains("x-rexec-egress: model_not_let\r\n"));
        }
        let (_, tunnel) = world.connect(ONE, "llm.rexec.internal:443").await;
        assert!(tunnel.contains("egress_not_allowed"), "{tunnel}");
        // Nor does the way to the vendor stand open.
        let (_, vendor) = world.connect(ONE, "127.0.0.1:4001").await;
        assert!(vendor.starts_with("HTTP/1.1 403"), "{vendor}");
        let (_, own) = world.connect(TWO, &format!("{GATEWAY}:80")).await;
        assert!(own.starts_with("HTTP/1.1 403"), "{own}");
    });
}

#[test]
fn a_budget_ends_and_so_does_permission() {
    apart(async |world| {
        let asked = offered(&world, Some(15)).await;
        let mut stream = world.dial(ONE).await;
        let ask = chat(r#"{"model":"good-1"}"#);
        let mut statuses = Vec::new();
        for _ in 0..3 {
            stream.write_all(ask.as_bytes()).await.unwrap();
            let (head, body) = answer(&mut stream).await;
            statuses.push(head[9..12].to_owned());
            if head.starts_with("HTTP/1.1 429") {
                assert!(head.contains("x-should-retry: false\r\n") && body.contains("model_budget_spent"), "{head}");
            }
        }
        // Ten each: the second goes beyond.
        assert_eq!(statuses, ["200", "200", "429"]);
        assert_eq!(asked.lock().unwrap().len(), 2);
        let_ask(&world, Some(1));
        stream.write_all(chat(r#"{"model":"good-slow","stream":true}"#).as_bytes()).await.unwrap();
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 200"), "there is more again");
        world.allow(ONE, &["a.example"]);
        rest(&mut stream).await;
        assert!(world.told(|record| record.tokens.as_ref().is_some_and(|tokens| tokens.estimated)).await.end.is_some());
    });
}

#[test]
fn what_waits_for_a_body_is_bounded() {
    apart(async |world| {
        offered(&world, None).await;
        let mut held = Vec::new();
        for _ in 0..33 {
            let mut stream = world.dial(ONE).await;
            let head = "POST http://llm.rexec.internal/v1/embeddings HTTP/1.1\r\nHost: llm.rexec.internal\r\nContent-Length: 9999\r\n\r\n{";
            stream.write_all(head.as_bytes()).await.unwrap();
            held.push(stream);
        }
        let told = world.told(|record| record.outcome == Err("model_too_many")).await;
        assert_eq!(told.how, How::Model);
        drop(held);
        let mut stream = world.dial(ONE).await;
        let tenant = world.gateway.table.find(ONE.parse().unwrap()).unwrap();
        while tenant.live() > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let long = format!(
            "POST http://llm.rexec.internal/v1/embeddings HTTP/1.1\r\nHost: llm.rexec.internal\r\nContent-Length: {}\r\n\r\n",
            33 << 20
        );
        stream.write_all(long.as_bytes()).await.unwrap();
        let piece = vec![b' '; 1 << 20];
        for _ in 0..33 {
            // It may have been refused by now.
            let _ = stream.write_all(&piece).await;
        }
        assert!(head(&mut stream).await.contains("x-rexec-egress: model_too_long\r\n"));
    });
}

#[test]
fn what_was_judged_is_read_as_it_was_judged() {
    apart(async |world| {
        let asked = offered(&world, None).await;
        let mut stream = world.dial(ONE).await;
        // As a form, this asks for another model.
        let body = r#"{"a":"&model=bad-1&b=","model":"good-1"}"#;
        for kind in ["application/x-www-form-urlencoded", "application/json; charset=utf-7"] {
            let ask = post("http://llm.rexec.internal/v1/chat/completions", body, "Idempotency-Key: 1\r\n");
            stream.write_all(ask.replace("application/json", kind).as_bytes()).await.unwrap();
            assert!(answer(&mut stream).await.0.starts_with("HTTP/1.1 200"));
            let sent = asked.lock().unwrap().last().unwrap().1.to_lowercase();
            assert!(sent.contains("content-type: application/json\r\n") && !sent.contains("utf-7"), "{sent}");
            assert!(!sent.contains("idempotency-key"), "whose answers would be another's: {sent}");
        }
    });
}

#[test]
fn no_model_is_had_in_the_place_of_another() {
    apart(async |world| {
        let asked = offered(&world, None).await;
        for body in [
            r#"{"model":"good-1","models":["good-1","bad-1"]}"#,
            r#"{"model":"good-1","Models":["bad-1"]}"#,
            r#"{"model":"good-1","models":"bad-1"}"#,
            r#"{"model":"good-1","fallbacks":["bad-1"]}"#,
        ] {
            let mut stream = world.dial(ONE).await;
            stream.write_all(chat(body).as_bytes()).await.unwrap();
            let (head, _) = answer(&mut stream).await;
            assert!(head.starts_with("HTTP/1.1 40"), "{body}: {head}");
        }
        assert!(asked.lock().unwrap().is_empty());
        let mut stream = world.dial(ONE).await;
        stream.write_all(chat(r#"{"model":"good-1","models":["good-1","good-2"]}"#).as_bytes()).await.unwrap();
        assert!(answer(&mut stream).await.0.starts_with("HTTP/1.1 200"));
    });
}

#[test]
fn who_hangs_up_before_the_answer_pays_for_the_question() {
    apart(async |world| {
        let asked = offered(&world, Some(10)).await;
        let mut stream = world.dial(ONE).await;
        let body = format!(r#"{{"model":"good-never","x":"{}"}}"#, "x".repeat(400));
        stream.write_all(chat(&body).as_bytes()).await.unwrap();
        while asked.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(stream);
        let told = world.told(|record| record.end.is_some()).await;
        let tokens = told.tokens.unwrap();
        assert!(tokens.input >= 100 && tokens.estimated, "{tokens:?}");
        let mut stream = world.dial(ONE).await;
        stream.write_all(chat(r#"{"model":"good-1"}"#).as_bytes()).await.unwrap();
        assert!(answer(&mut stream).await.0.contains("model_budget_spent"));
    });
}

#[test]
fn what_a_model_cost_is_told_however_much_else_is() {
    apart(async |world| {
        offered(&world, Some(1000)).await;
        let mut stream = world.dial(ONE).await;
        stream.write_all(chat(r#"{"model":"good-1"}"#).as_bytes()).await.unwrap();
        answer(&mut stream).await;
        let noise = world.told(|record| record.end.is_some()).await;
        for _ in 0..WAITING_MAX * 2 {
            world.gateway.tell(Record { tokens: None, ..noise.clone() });
        }
        stream.write_all(chat(r#"{"model":"good-2"}"#).as_bytes()).await.unwrap();
        assert!(answer(&mut stream).await.0.starts_with("HTTP/1.1 200"));
        let told = world.told(|record| record.tokens.is_some()).await.tokens.unwrap();
        assert_eq!((told.model.as_str(), told.input, told.output), ("good-2", 7, 3));
    });
}

#[test]
fn some_workspaces_bodies_leave_room_for_others() {
    apart(async |world| {
        offered(&world, None).await;
        let mut held = Vec::new();
        let piece = vec![b' '; 1 << 20];
        for from in ["127.0.1.1", "127.0.1.2", "127.0.1.3", "127.0.1.4"] {
            let_ask_at(&world, from, None);
            for _ in 0..2 {
                let mut stream = world.dial(from).await;
                let head = "POST http://llm.rexec.internal/v1/embeddings HTTP/1.1\r\nHost: llm.rexec.internal\r\nContent-Length: 33000000\r\n\r\n";
                stream.write_all(head.as_bytes()).await.unwrap();
                for _ in 0..20 {
                    // It may be refused what is more than its share.
                    let _ = stream.write_all(&piece).await;
                }
                held.push(stream);
            }
        }
        world.told(|record| record.outcome == Err("model_too_many")).await;
        let mut stream = world.dial(ONE).await;
        stream.write_all(chat(r#"{"model":"good-1"}"#).as_bytes()).await.unwrap();
        let (head, _) = answer(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    });
}

#[test]
fn requests_for_models_keep_to_a_pace() {
    apart(async |world| {
        let asked = offered(&world, None).await;
        let mut stream = world.dial(ONE).await;
        let ask = b"GET http://llm.rexec.internal/v1/models/good-1 HTTP/1.1\r\nHost: llm.rexec.internal\r\n\r\n";
        let refused = async {
            loop {
                stream.write_all(ask).await.unwrap();
                if answer(&mut stream).await.0.contains("x-rexec-egress: model_too_many\r\n") {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(5), refused).await.expect("it is refused some");
        assert!(asked.lock().unwrap().len() < 1500);
    });
}

#[test]
fn a_body_counts_until_it_has_left() {
    apart(async |world| {
        offered(&world, None).await;
        let body = format!(r#"{{"model":"good-1","x":"{}"}}"#, "x".repeat(30 << 20));
        let ask = post("http://llm.rexec.internal/v1/messages", &body, "anthropic-beta: early\r\n");
        let mut first = world.dial(ONE).await;
        first.write_all(ask.as_bytes()).await.unwrap();
        assert!(head(&mut first).await.starts_with("HTTP/1.1 200"));
        let mut second = world.dial(ONE).await;
        // It may have been refused by now.
        let _ = second.write_all(ask.as_bytes()).await;
        assert!(head(&mut second).await.contains("x-rexec-egress: model_too_many\r\n"));
    });
}

/// Answers each request, and another behind it at once.
async fn serve_twice(listener: TcpListener, extra: &'static str) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::task::spawn_local(async move {
            let mut first = true;
            loop {
                let head = head(&mut stream).await;
                if head.is_empty() {
                    return;
                }
                let lower = head.to_lowercase();
                let length = lower.split("\r\ncontent-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
                let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
                stream.read_exact(&mut body).await.unwrap();
                let extra = if std::mem::take(&mut first) { extra } else { "" };
                let text = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}{extra}"
                );
                if stream.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
    }
}

#[test]
fn an_answer_is_nobody_elses() {
    for extra in
        ["HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON", "garbage", "HTTP/1.1 101 Switching Protocols\r\n\r\n"]
    {
        apart(async move |world| {
            offered(&world, None).await;
            let listener = TcpListener::bind(("127.0.0.1", 4005)).await.unwrap();
            tokio::task::spawn_local(serve_twice(listener, extra));
            let base = "http://127.0.0.1:4005/v1".parse().unwrap();
            world
                .gateway
                .offer(Vendors { openai: Some(Vendor::new(Api::OpenAi, base, None).unwrap()), ..Vendors::default() });
            let_ask_at(&world, TWO, None);
            for turn in 0..20 {
                let mut stream = world.dial(if turn % 2 == 0 { ONE } else { TWO }).await;
                stream.write_all(chat(r#"{"model":"good-1"}"#).as_bytes()).await.unwrap();
                let (head, body) = answer(&mut stream).await;
                assert!(head.starts_with("HTTP/1.1 200") && body == "{}", "{head} {body}");
            }
        });
    }
}

#[test]
fn a_vendor_that_changes_the_protocol_is_not_followed() {
    apart(async |world| {
        offered(&world, None).await;
        let listener = TcpListener::bind(("127.0.0.1", 4005)).await.unwrap();
        tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            head(&mut stream).await;
            let text = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
            stream.write_all(text.as_bytes()).await.unwrap();
            std::future::pending::<()>().await
        });
        let base = "http://127.0.0.1:4005/v1".parse().unwrap();
        let openai = Some(Vendor::new(Api::OpenAi, base, None).unwrap());
        world.gateway.offer(Vendors { openai, ..Vendors::default() });
        let mut stream = world.dial(ONE).await;
        stream.write_all(chat(r#"{"model":"good-1"}"#).as_bytes()).await.unwrap();
        assert!(answer(&mut stream).await.0.contains("x-rexec-egress: model_vendor_unreachable\r\n"));
    });
}
