//! A network of its own for a second engine, as another machine has one, and a piece of the world behind it. Its routes,
//! rules and listeners are nobody else's, and go with it.
//!
//! ```text
//!   workspaces -- bridge -- [ the engine's network ] 203.0.113.2 -- 203.0.113.1 [ the world: OUTSIDE, ALLOWED, CLOSED ]
//! ```

use super::workspaces::PATIENCE;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::os::fd::AsFd;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::task::JoinSet;

/// What anybody may reach, what workspaces may reach where the operator says so, and what none may.
pub const OUTSIDE: &str = "198.51.100.7";
pub const ALLOWED: &str = "10.78.0.1";
pub const CLOSED: &[&str] = &[
    // Metadata of clouds.
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    // Private, shared, for measurement.
    "10.77.0.1",
    "172.31.255.1",
    "192.168.255.1",
    "100.64.7.1",
    "198.19.7.1",
];
/// Where both sides answer with [`GREETING`].
pub const PORT: u16 = 80;
/// Another such, at which no HTTP is expected.
pub const PLAIN_PORT: u16 = 8022;
/// And one of the world alone.
pub const NAMES_PORT: u16 = 53;
pub const GREETING: &str = "hello";

pub struct Apart {
    name: String,
    world: String,
    /// Answer until dropped.
    _greeters: JoinSet<()>,
}

impl Apart {
    pub async fn make() -> Apart {
        // Should this process be killed, `scripts/leftovers.sh` knows by its number what to take away.
        let name = format!("rxn{}-{}", std::process::id(), &uuid::Uuid::new_v4().simple().to_string()[..10]);
        let world = format!("{name}w");
        for namespace in [&name, &world] {
            run("ip", &["netns", "add", namespace]).await;
            run("ip", &["-n", namespace, "link", "set", "lo", "up"]).await;
        }
        run("ip", &["link", "add", "e0", "netns", &name, "type", "veth", "peer", "name", "e0", "netns", &world]).await;
        for (namespace, address) in [(&name, "203.0.113.2/24"), (&world, "203.0.113.1/24")] {
            run("ip", &["-n", namespace, "addr", "add", address, "dev", "e0"]).await;
            run("ip", &["-n", namespace, "link", "set", "e0", "up"]).await;
        }
        run("ip", &["-n", &name, "route", "add", "default", "via", "203.0.113.1"]).await;
        for address in CLOSED.iter().chain([&OUTSIDE, &ALLOWED]) {
            run("ip", &["-n", &world, "addr", "add", &format!("{address}/32"), "dev", "lo"]).await;
        }
        let mut greeters = JoinSet::new();
        for namespace in [&name, &world] {
            for port in [PORT, PLAIN_PORT] {
                greeters.spawn(greet(listen(namespace, port)));
            }
        }
        greeters.spawn(greet(listen(&world, NAMES_PORT)));
        Apart { name, world, _greeters: greeters }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file.
    pub fn path(&self) -> String {
        path(&self.name)
    }

    /// To run a program in the engine's network, go before it.
    pub fn enter(&self) -> [String; 2] {
        ["nsenter".into(), format!("--net={}", path(&self.name))]
    }

    /// Another program of the machine's, which has this port at all of its addresses.
    pub fn occupy(&self, port: u16) -> std::net::TcpListener {
        listen(&self.name, port)
    }

    /// A service of the world.
    pub fn serve(&self, port: u16) -> tokio::net::TcpListener {
        let listener = listen(&self.world, port);
        listener.set_nonblocking(true).unwrap();
        tokio::net::TcpListener::from_std(listener).unwrap()
    }

    /// What a program says that runs in the engine's network, if it ends well.
    pub async fn says(&self, program: &str, args: &[&str]) -> Option<String> {
        let [nsenter, net] = self.enter();
        output(&nsenter, &[&[net.as_str(), program], args].concat()).await
    }

    pub async fn remove(self) {
        for namespace in [&self.name, &self.world] {
            run("ip", &["netns", "del", namespace]).await;
        }
    }
}

fn path(namespace: &str) -> String {
    format!("/run/netns/{namespace}")
}

/// A socket belongs to the network of the thread that made it.
fn listen(namespace: &str, port: u16) -> std::net::TcpListener {
    let network = File::open(path(namespace)).unwrap();
    let thread = std::thread::spawn(move || {
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        std::net::TcpListener::bind(("0.0.0.0", port)).unwrap()
    });
    thread.join().unwrap()
}

async fn greet(listener: std::net::TcpListener) {
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    while let Ok((mut stream, _)) = listener.accept().await {
        let _ = stream.write_all(format!("{GREETING}\n").as_bytes()).await;
    }
}

pub async fn run(program: &str, args: &[&str]) {
    assert!(output(program, args).await.is_some(), "{program} {args:?}");
}

/// What it printed, if it ended well.
pub async fn output(program: &str, args: &[&str]) -> Option<String> {
    let ran = Command::new(program).args(args).stdin(Stdio::null()).kill_on_drop(true).output();
    let ran = tokio::time::timeout(PATIENCE, ran).await.ok()?.ok()?;
    ran.status.success().then(|| String::from_utf8_lossy(&ran.stdout).into_owned())
}
