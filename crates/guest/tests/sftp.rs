//! `guest sftp`, examined by OpenSSH's `sftp`, which can do without a connection.

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn sftp(dir: &std::path::Path, home: &std::path::Path, batch: &str) -> Output {
    let server = format!("{} sftp", env!("CARGO_BIN_EXE_rexec-guest"));
    let mut sftp = Command::new("sftp");
    sftp.args(["-D", &server, "-b", "-"]).env("HOME", home).current_dir(dir);
    let mut child = sftp.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sftp");
    child.stdin.take().expect("stdin").write_all(batch.as_bytes()).expect("a batch");
    child.wait_with_output().expect("an end")
}

#[test]
fn files_go_to_the_home_and_back() {
    let (dir, home) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a home"));
    let content: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    std::fs::write(dir.path().join("file"), &content).expect("a file");
    let done = sftp(dir.path(), home.path(), "mkdir sub\nput file sub/file\nget sub/file back\nls -l sub\n");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(std::fs::read(home.path().join("sub/file")).expect("a file") == content);
    assert!(std::fs::read(dir.path().join("back")).expect("a file") == content);
    assert!(!sftp(dir.path(), home.path(), "get nothing\n").status.success());
}
