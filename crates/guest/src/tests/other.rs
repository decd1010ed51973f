use super::*;
use rexec_api::frames::{ClientFrame, ServerFrame};
use rexec_api::guest::{AcceptSpec, AttachMode, AttachSpec, DialSpec, ListenNews, ListenSpec, TerminalSpec};
use rexec_api::ids::TerminalId;
use rexec_channel::{PortNews, Tunnel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};

fn terminal(words: Option<&[&str]>) -> TerminalSpec {
    TerminalSpec {
        id: TerminalId::new(),
        cols: 80,
        rows: 24,
        command: words.map(|words| words.iter().map(|&w| w.to_owned()).collect()),
        cwd: None,
        env: BTreeMap::new(),
        user: None,
    }
}

#[test]
fn nothing_runs_before_it_is_configured() {
    with_guest(|bench| async move {
        let client = &bench.client;
        assert!(!client.hello().await.unwrap().configured);
        let unready = ErrorCode::WorkspaceUnreachable;
        assert_eq!(code(client.exec(&shell("true")).await), unready);
        assert_eq!(code(client.terminals().await), unready);
        assert_eq!(code(client.create_terminal(&terminal(None)).await), unready);
        assert_eq!(code(client.stat("/").await), unready);
        assert_eq!(code(client.dial(&DialSpec::Tcp { port: 1 }).await), unready);
        assert!(client.usage().await.is_ok());

        bench.configure().await;
        bench.configure().await;
        let hello = client.hello().await.unwrap();
        assert!(hello.configured);
        assert!(client.terminals().await.unwrap().is_empty());
        let mut other = configure(bench.home.path());
        other.user.uid += 1;
        assert_eq!(code(client.configure(&other).await), ErrorCode::InvalidRequest);
    });
}

#[test]
fn an_entrypoint_runs_once_per_boot() {
    with_guest(|bench| async move {
        let mut configure = configure(bench.home.path());
        let mark = format!("echo x >> {}", bench.path("mark"));
        configure.entrypoint = Some(["/bin/sh", "-c", &mark].map(str::to_owned).into());
        for _ in 0..3 {
            bench.client.configure(&configure).await.unwrap();
        }
        while bench.guest.reaper.count() > 0 {
            bench.client.usage().await.unwrap();
        }
        assert_eq!(std::fs::read_to_string(bench.real("mark")).unwrap(), "x\n");
    });
}

#[test]
fn a_terminal_is_typed_into_and_tells_its_exit() {
    with_configured(|bench| async move {
        let client = &bench.client;
        let spec = terminal(Some(&["/bin/sh", "-c", "read line; echo \"<$line>\"; exit 5"]));
        let info = client.create_terminal(&spec).await.unwrap();
        assert_eq!(client.terminals().await.unwrap().len(), 1);
        let attach = AttachSpec { offset: Some(0), mode: AttachMode::Control, client: None };
        let (mut tx, mut rx) = client.attach(info.id, &attach).await.unwrap();
        let typed = ClientFrame::Input(b"hello\n").to_vec();
        tx.send(typed.into()).await.unwrap();
        let (mut text, mut exit) = (Vec::new(), None);
        while let Some(frame) = rx.recv().await.unwrap() {
            match ServerFrame::parse(&frame).unwrap() {
                ServerFrame::Output { bytes, .. } => text.extend_from_slice(bytes),
                ServerFrame::Exit(code) => exit = Some(code),
                _ => {}
            }
        }
        assert!(String::from_utf8(text).unwrap().contains("<hello>"));
        assert_eq!(exit, Some(5));
        assert!(client.usage().await.unwrap().last_input_ms > 0);
        client.remove_terminal(info.id).await.unwrap();
        assert_eq!(code(client.remove_terminal(info.id).await), ErrorCode::TerminalGone);
        assert_eq!(code(client.attach(info.id, &attach).await), ErrorCode::TerminalGone);
    });
}

async fn came(arrivals: &mut rexec_channel::Arrivals) -> AcceptSpec {
    match arrivals.next().await.unwrap().unwrap() {
        ListenNews::Came { id, .. } => AcceptSpec { id },
        news => panic!("{news:?}"),
    }
}

#[test]
fn the_server_listens_in_the_workspace() {
    with_configured(|bench| async move {
        let client = &bench.client;
        let mut arrivals = client.listen_at(&ListenSpec::Tcp { port: 0 }).await.unwrap();
        let Some(ListenNews::Listening { port, path: None }) = arrivals.next().await.unwrap() else { panic!() };
        assert_eq!(code(client.listen_at(&ListenSpec::Tcp { port }).await.map(|_| ())), ErrorCode::FileExists);
        let mut inside = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let spec = came(&mut arrivals).await;
        let (mut tx, mut rx) = client.accepted(&spec).await.unwrap();
        inside.write_all(b"out").await.unwrap();
        assert_eq!(rx.recv().await.unwrap().unwrap(), "out");
        tx.send(Bytes::from_static(b"in")).await.unwrap();
        tx.finish().unwrap();
        let mut heard = String::new();
        inside.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "in");
        assert_eq!(code(client.accepted(&spec).await.map(|_| ())), ErrorCode::NotFound, "taken once");
        drop(arrivals);
        while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {}

        // Sockets are the user's alone, and go with their listener.
        let path = bench.path("listened");
        for spec in [ListenSpec::Unix { path: path.clone() }, ListenSpec::Private] {
            let mut arrivals = client.listen_at(&spec).await.unwrap();
            let Some(ListenNews::Listening { port: 0, path: Some(at) }) = arrivals.next().await.unwrap() else {
                panic!()
            };
            let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&at).unwrap().permissions());
            assert_eq!(mode & 0o777, 0o600);
            let taken = client.listen_at(&ListenSpec::Unix { path: at.clone() }).await;
            assert_eq!(code(taken.map(|_| ())), ErrorCode::FileExists);
            let mut inside = UnixStream::connect(&at).await.unwrap();
            let (_tx, mut rx) = client.accepted(&came(&mut arrivals).await).await.unwrap();
            inside.write_all(b"out").await.unwrap();
            assert_eq!(rx.recv().await.unwrap().unwrap(), "out");
            drop(arrivals);
            while std::path::Path::new(&at).exists() {
                client.usage().await.unwrap();
            }
        }
    });
}

#[test]
fn ports_and_sockets_of_the_workspace_can_be_dialled() {
    with_configured(|bench| async move {
        let client = &bench.client;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let ports = client.ports().await.unwrap();
        assert!(ports.iter().any(|p| p.port == port && p.loopback));
        let echo = tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await.unwrap();
        });
        let (mut tx, mut rx) = client.dial(&DialSpec::Tcp { port }).await.unwrap();
        let content = vec![5; 1_000_000];
        let send = async {
            tx.send(Bytes::from(content.clone())).await.unwrap();
            tx.finish().unwrap();
        };
        let receive = async {
            let mut all = Vec::new();
            while let Some(bytes) = rx.recv().await.unwrap() {
                all.extend_from_slice(&bytes);
            }
            all
        };
        let ((), all) = tokio::join!(send, receive);
        assert!(all == content);
        echo.await.unwrap();
        let refused = client.dial(&DialSpec::Tcp { port }).await;
        assert_eq!(code(refused), ErrorCode::NotFound);

        let path = bench.path("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(&path, mode).unwrap();
        let (mut tx, _rx) = client.dial(&DialSpec::Unix { path }).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        tx.send(Bytes::from_static(b"hi")).await.unwrap();
        let mut greeting = [0; 2];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"hi");
        stream.shutdown().await.unwrap();
        let nowhere = DialSpec::Unix { path: bench.path("nowhere") };
        assert_eq!(code(client.dial(&nowhere).await), ErrorCode::NotFound);
    });
}

#[test]
fn a_dialled_port_reads_and_writes_like_a_socket() {
    with_configured(|bench| async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tx, rx) = bench.client.dial(&DialSpec::Tcp { port }).await.unwrap();
        let mut tunnel = Tunnel::new(tx, rx);
        let (mut stream, _) = listener.accept().await.unwrap();
        let content = vec![7; 3_000_000];
        let near = async {
            let (mut read, mut write) = tokio::io::split(&mut tunnel);
            let send = async {
                write.write_all(&content).await.unwrap();
                write.shutdown().await.unwrap();
                assert!(write.write_all(b"x").await.is_err(), "our direction has ended");
            };
            let mut back = Vec::new();
            tokio::join!(send, read.read_to_end(&mut back)).1.unwrap();
            back
        };
        let far = async {
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let (back, ()) = tokio::join!(near, far);
        assert!(back == content);
        drop(tunnel);
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0, "whoever was dialled sees the end");
    });
}

#[test]
fn ports_are_told_as_they_come_and_go() {
    with_configured(|bench| async move {
        let mut news = bench.client.watch_ports().await.unwrap();
        news.next().await.unwrap().unwrap();
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let told = async |news: &mut PortNews, there: bool| loop {
            let found = news.next().await.unwrap().unwrap().into_iter().find(|p| p.port == port);
            if found.is_some() == there {
                return found;
            }
        };
        let found = told(&mut news, true).await.unwrap();
        assert_eq!((found.loopback, found.address.as_deref()), (false, Some("0.0.0.0")));
        assert!(found.since_ms > 0);
        drop(listener);
        told(&mut news, false).await;
    });
}

#[test]
fn usage_counts_what_runs() {
    with_configured(|bench| async move {
        let client = &bench.client;
        let (tx, rx) = client.exec(&command(&["sleep", "1000"])).await.unwrap();
        let info = client.create_terminal(&terminal(Some(&["cat"]))).await.unwrap();
        let usage = client.usage().await.unwrap();
        assert_eq!((usage.execs, usage.terminals), (1, 1));
        assert!(usage.processes >= 2);
        assert!(usage.guest_rss_bytes > 100_000);
        client.remove_terminal(info.id).await.unwrap();
        drop((tx, rx));
        while client.usage().await.unwrap().execs > 0 {}
        assert_eq!(client.usage().await.unwrap().terminals, 0);
    });
}

#[test]
fn usage_tells_of_work_in_the_foreground() {
    with_configured(|bench| async move {
        let client = &bench.client;
        assert_eq!(client.usage().await.unwrap().last_exec_ms, 0);
        let info = client.create_terminal(&terminal(Some(&["/bin/sh", "-i"]))).await.unwrap();
        let attach = AttachSpec { offset: Some(0), mode: AttachMode::Control, client: None };
        let (mut tx, _rx) = client.attach(info.id, &attach).await.unwrap();
        while client.terminals().await.unwrap()[0].last_output_ms == 0 {}
        assert_eq!(client.usage().await.unwrap().foreground, 0, "a shell at its prompt");
        tx.send(ClientFrame::Input(b"sleep 1000\n").to_vec().into()).await.unwrap();
        while client.usage().await.unwrap().foreground == 0 {}
        tx.send(ClientFrame::Input(b"\x03").to_vec().into()).await.unwrap();
        while client.usage().await.unwrap().foreground > 0 {}

        let (_tx, mut rx) = client.exec(&command(&["true"])).await.unwrap();
        assert_eq!(all(&mut rx).await.code, Some(0));
        assert!(client.usage().await.unwrap().last_exec_ms > 0);
        client.remove_terminal(info.id).await.unwrap();
    });
}
