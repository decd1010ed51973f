//! Where an engine of this machine usually listens.

use std::path::{Path, PathBuf};

/// The first socket of those where an engine usually listens that takes connections, else the first that is there:
/// an engine that was ended leaves its own behind.
pub fn usual_socket() -> PathBuf {
    let own = format!("/run/user/{}", rustix::process::getuid().as_raw());
    let usual = [
        "/var/run/docker.sock".into(),
        format!("{own}/docker.sock"),
        "/run/podman/podman.sock".into(),
        format!("{own}/podman/podman.sock"),
    ];
    let listens = |path: &&String| std::os::unix::net::UnixStream::connect(path).is_ok();
    let found = usual.iter().find(listens).or_else(|| usual.iter().find(|path| Path::new(path).exists()));
    PathBuf::from(found.unwrap_or(&usual[0]))
}
