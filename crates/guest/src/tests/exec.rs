use super::*;
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn output_is_split_and_the_code_comes_last() {
    with_configured(|bench| async move {
        let (_tx, mut rx) =
            bench.client.exec(&shell("echo out; echo err >&2; echo $COLOUR; pwd; exit 7")).await.unwrap();
        let said = all(&mut rx).await;
        let expected = format!("out\nviolet\n{}\n", bench.path("").trim_end_matches('/'));
        assert_eq!(String::from_utf8(said.stdout).unwrap(), expected);
        assert_eq!(said.stderr, b"err\n");
        assert_eq!(said.code, Some(7));
        assert_eq!(bench.client.usage().await.unwrap().execs, 0);
    });
}

#[test]
fn input_of_any_size_and_bytes_comes_back() {
    with_configured(|bench| async move {
        let (mut tx, mut rx) = bench.client.exec(&command(&["cat"])).await.unwrap();
        let content: Vec<u8> = (0..3_000_000u32).map(|n| (n * 7 % 251) as u8).collect();
        let send = async {
            for piece in content.chunks(50_000) {
                tx.send(frame(exec_frame::STDIN, piece)).await.unwrap();
            }
            tx.send(frame(exec_frame::STDIN_END, &[])).await.unwrap();
        };
        let (said, ()) = tokio::join!(all(&mut rx), send);
        assert!(said.stdout == content);
        assert_eq!(said.code, Some(0));
    });
}

#[test]
fn a_program_that_does_not_read_can_still_be_signalled() {
    with_configured(|bench| async move {
        let script = "trap 'echo got; exit 9' TERM; echo ready; while :; do sleep 0.01; done";
        let (mut tx, mut rx) = bench.client.exec(&shell(script)).await.unwrap();
        until(&mut rx, "ready").await;
        // More than a pipe holds, less than the guest queues.
        for _ in 0..4 {
            let piece = frame(exec_frame::STDIN, &[0; 40_000]);
            tx.send(piece).await.unwrap();
        }
        tx.send(frame(exec_frame::SIGNAL, &[15])).await.unwrap();
        let said = all(&mut rx).await;
        assert_eq!((said.stdout.as_slice(), said.code), (b"got\n".as_slice(), Some(9)));
    });
}

#[test]
fn a_killing_signal_is_told_as_shells_do() {
    with_configured(|bench| async move {
        let (mut tx, mut rx) = bench.client.exec(&command(&["sleep", "1000"])).await.unwrap();
        tx.send(frame(exec_frame::SIGNAL, &[9])).await.unwrap();
        let said = all(&mut rx).await;
        assert_eq!((said.code, said.signal), (Some(137), Some(9)));
    });
}

#[test]
fn what_stays_in_the_background_is_not_waited_for() {
    with_configured(|bench| async move {
        let (_tx, mut rx) = bench.client.exec(&shell("sleep 1000 & echo $!; head -c 50000 /dev/zero")).await.unwrap();
        let said = all(&mut rx).await;
        assert_eq!(said.code, Some(0));
        let text = String::from_utf8(said.stdout).unwrap();
        let (pid, rest) = text.split_once('\n').unwrap();
        assert_eq!(rest.len(), 50_000);
        let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
    });
}

#[test]
fn a_reset_kills_the_group() {
    with_configured(|bench| async move {
        let (tx, mut rx) = bench.client.exec(&shell("sleep 1000 & echo $! $$.; wait")).await.unwrap();
        let text = until(&mut rx, ".\n").await;
        drop((tx, rx));
        for pid in text.trim_end().trim_end_matches('.').split(' ') {
            gone(pid.parse().unwrap()).await;
        }
    });
}

#[test]
fn the_end_of_our_side_is_the_end_of_input() {
    with_configured(|bench| async move {
        let (mut tx, mut rx) = bench.client.exec(&command(&["cat"])).await.unwrap();
        tx.send(frame(exec_frame::STDIN, b"x")).await.unwrap();
        tx.finish().unwrap();
        let said = all(&mut rx).await;
        assert_eq!((said.stdout.as_slice(), said.code), (b"x".as_slice(), Some(0)));
    });
}

#[test]
fn output_waits_for_a_slow_reader() {
    with_configured(|bench| async move {
        let (_tx, mut rx) = bench.client.exec(&shell("head -c 20000000 /dev/zero")).await.unwrap();
        // Other calls go on while this one is not read.
        for _ in 0..20 {
            bench.client.usage().await.unwrap();
        }
        let said = all(&mut rx).await;
        assert_eq!((said.stdout.len(), said.code), (20_000_000, Some(0)));
    });
}

#[test]
fn a_command_that_cannot_start_is_refused() {
    with_configured(|bench| async move {
        let client = &bench.client;
        let missing = client.exec(&command(&["no-such-program"])).await;
        assert_eq!(code(missing), ErrorCode::CommandNotFound);
        assert_eq!(code(client.exec(&command(&[])).await), ErrorCode::InvalidRequest);
        let nowhere = ExecSpec { cwd: Some("/no/such/place".into()), ..shell("true") };
        assert_eq!(code(client.exec(&nowhere).await), ErrorCode::NotADirectory);
        assert_eq!(client.usage().await.unwrap().execs, 0);
    });
}

/// Only root can become somebody else.
#[test]
fn a_command_runs_as_the_account_that_is_named() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    with_guest(|bench| async move {
        let mut configure = configure(bench.home.path());
        bench.client.configure(&configure).await.unwrap();
        let as_user = |user: &str| ExecSpec { user: Some(user.into()), ..shell("id -u; echo $HOME") };
        let run = async |user: &str| {
            let (_tx, mut rx) = bench.client.exec(&as_user(user)).await.unwrap();
            String::from_utf8(all(&mut rx).await.stdout).unwrap()
        };
        assert_eq!(run("root").await, "0\n/root\n");
        assert_eq!(run("#0").await, "0\n/root\n");
        assert!(run("nobody").await.starts_with("65534\n"));
        assert_eq!(code(bench.client.exec(&as_user("no-such-account")).await), ErrorCode::InvalidRequest);
        configure.sudo = SudoPolicy::Deny;
        bench.client.configure(&configure).await.unwrap();
        assert_eq!(code(bench.client.exec(&as_user("root")).await), ErrorCode::Forbidden);
        assert_eq!(code(bench.client.exec(&as_user("daemon")).await), ErrorCode::Forbidden);
        assert!(run("nobody").await.starts_with("65534\n"));
    });
}
