use super::*;
use crate::descriptors::{self, Sender};
use crate::sudo::broker::session;
use crate::sudo::wire::{LENGTH_BYTES, Reply, Request, What, encode, length};
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn request(what: What, terminal: Option<(u16, u16)>) -> Request {
    Request { what, user: None, cwd: "/".into(), env: BTreeMap::new(), terminal }
}

fn run(script: &str) -> What {
    What::Run { command: ["/bin/sh", "-c", script].map(str::to_owned).into() }
}

/// Sends a request as the `sudo` command does.
fn ask(bench: &Bench, request: &Request, given: &[OwnedFd]) -> UnixStream {
    let (near, far) = UnixStream::pair().unwrap();
    let guest = bench.guest.clone();
    tokio::task::spawn_local(async move { session(&guest, far).await });
    let bytes = encode(request).unwrap();
    let given: Vec<_> = given.iter().map(AsFd::as_fd).collect();
    assert_eq!(descriptors::send(&near, &bytes, &given, Sender::Named).unwrap(), bytes.len());
    near
}

async fn reply(stream: &mut UnixStream) -> (Reply, Option<OwnedFd>) {
    let mut prefix = [0; LENGTH_BYTES];
    let mut received = crate::control::receive(stream, &mut prefix).await.unwrap();
    assert_eq!(received.count, LENGTH_BYTES);
    let mut json = vec![0; length(prefix).unwrap()];
    stream.read_exact(&mut json).await.unwrap();
    (serde_json::from_slice(&json).unwrap(), received.descriptors.pop())
}

#[test]
fn a_program_gets_our_descriptors_and_tells_its_code() {
    with_configured(|bench| async move {
        let (stdin, mut stdin_ours) = pipe_with(PipeFlags::CLOEXEC).map(|(r, w)| (r, File::from(w))).unwrap();
        let (mut stdout_ours, stdout) = pipe_with(PipeFlags::CLOEXEC).map(|(r, w)| (File::from(r), w)).unwrap();
        let stderr = stdout.try_clone().unwrap();
        let script = "cat; echo $SUDO_USER $HOME >&2; exit 6";
        let mut stream = ask(&bench, &request(run(script), None), &[stdin, stdout, stderr]);
        assert_eq!(reply(&mut stream).await.0, Reply::Started);
        stdin_ours.write_all(b"in ").unwrap();
        drop(stdin_ours);
        assert_eq!(reply(&mut stream).await.0, Reply::Exited { code: 6 });
        let mut text = String::new();
        stdout_ours.read_to_string(&mut text).unwrap();
        assert_eq!(text, "in nobody /root\n");
    });
}

#[test]
fn a_program_gets_a_terminal_of_our_size() {
    with_configured(|bench| async move {
        let script = "stty size; read line; echo \"<$line>\"";
        let mut stream = ask(&bench, &request(run(script), Some((91, 37))), &[]);
        let (started, pty) = reply(&mut stream).await;
        assert_eq!(started, Reply::Started);
        let pty = pty.unwrap();
        rustix::io::write(&pty, b"typed\n").unwrap();
        assert_eq!(reply(&mut stream).await.0, Reply::Exited { code: 0 });
        let mut text = String::new();
        // Ends with an error when the program's end is closed.
        let _ = File::from(pty).read_to_string(&mut text);
        assert!(text.contains("37 91"), "{text}");
        assert!(text.contains("<typed>"), "{text}");
    });
}

#[test]
fn signals_are_passed_on_and_a_lost_caller_hangs_up() {
    with_configured(|bench| async move {
        let null = || File::open("/dev/null").unwrap().into();
        let mut stream = ask(&bench, &request(run("exec sleep 1000"), None), &[null(), null(), null()]);
        assert_eq!(reply(&mut stream).await.0, Reply::Started);
        stream.write_u8(2).await.unwrap();
        assert_eq!(reply(&mut stream).await.0, Reply::Exited { code: 130 });

        let mut stream = ask(&bench, &request(run("exec sleep 1000"), None), &[null(), null(), null()]);
        assert_eq!(reply(&mut stream).await.0, Reply::Started);
        drop(stream);
        while bench.guest.reaper.count() > 0 {
            bench.client.usage().await.unwrap();
        }
    });
}

#[test]
fn policy_and_nonsense_are_refused() {
    with_guest(|bench| async move {
        let mut stream = ask(&bench, &request(What::Validate, None), &[]);
        assert!(matches!(reply(&mut stream).await.0, Reply::Refused { .. }));
        bench.configure().await;
        let mut stream = ask(&bench, &request(What::Validate, None), &[]);
        assert_eq!(reply(&mut stream).await.0, Reply::Exited { code: 0 });
        let mut stream = ask(&bench, &request(run("true"), None), &[]);
        assert!(matches!(reply(&mut stream).await.0, Reply::Refused { .. }));
        let mut unknown = request(run("true"), Some((80, 24)));
        unknown.user = Some("no-such-user".into());
        let mut stream = ask(&bench, &unknown, &[]);
        assert!(matches!(reply(&mut stream).await.0, Reply::Refused { .. }));

        // The policy holds for the user; root, who needs no leave, is who runs this test elsewhere.
        let mut denied = configure(bench.home.path());
        denied.sudo = SudoPolicy::Deny;
        bench.client.configure(&denied).await.unwrap();
        let workspace = bench.guest.workspace().unwrap();
        assert!(crate::sudo::broker::permit(&workspace, denied.user.uid).is_err());
        assert!(crate::sudo::broker::permit(&workspace, 4321).is_err());
        assert!(crate::sudo::broker::permit(&workspace, 0).is_ok());

        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(&[0xff; 64]).await.unwrap();
        assert!(session(&bench.guest, far).await.is_err());
    });
}
