//! A link of a network of its own ([`Apart`]) to ours, as the network between two machines is one: it can be slow, lose
//! all that it is given, or be unplugged.
//!
//! ```text
//!   this server 10.218.x.y -- tun [ a thread of ours, which delays or drops ] tun -- 10.218.x.y+1 [ the engine's network ]
//! ```
//!
//! Packets pass through this process, so that no queueing discipline is needed which a kernel may lack (`netem`). Both
//! devices end with their open files, thus with this process, however that ends.

use super::apart::{Apart, run};
use rustix::ioctl::{Opcode, Updater, ioctl};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// `TUNSETIFF` of linux/if_tun.h, and what it takes: `struct ifreq`, a name of 16 bytes and flags.
const TUNSETIFF: Opcode = 0x4004_54ca;
const IFREQ_BYTES: usize = 40;
const NAME_BYTES: usize = 16;
/// `IFF_TUN | IFF_NO_PI`: packets of IP, without a header of the device's.
const FLAGS: u16 = 0x0001 | 0x1000;
const PACKET_BYTES_MAX: usize = 2048;
/// Packets on their way, as in a router's queue; more are dropped.
const QUEUE_MAX: usize = 8192;

pub struct Wire {
    /// The device on our side.
    name: String,
    there: Ipv4Addr,
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    /// Nothing gets through, and nobody is told.
    black: AtomicBool,
    /// One way.
    delay_us: AtomicU64,
}

impl Wire {
    pub async fn to(apart: &Apart) -> Wire {
        let name = format!("rxl{}", &uuid::Uuid::new_v4().simple().to_string()[..10]);
        // One of 16384 networks of four addresses.
        let (third, fourth) = (rand::random::<u8>(), rand::random::<u8>() & 0xfc);
        let [here, there] = [1, 2].map(|n| Ipv4Addr::new(10, 218, third, fourth + n));
        let near = open(&name);
        let network = File::open(apart.path()).unwrap();
        let far = std::thread::spawn(move || {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            open("wire")
        });
        let far = far.join().unwrap();
        run("ip", &["addr", "add", &format!("{here}/30"), "dev", &name]).await;
        run("ip", &["link", "set", &name, "up"]).await;
        let inside = apart.name();
        run("ip", &["-n", inside, "addr", "add", &format!("{there}/30"), "dev", "wire"]).await;
        run("ip", &["-n", inside, "link", "set", "wire", "up"]).await;
        let state = Arc::new(State::default());
        let (stop, stopped) = oneshot::channel();
        let carried = state.clone();
        // A runtime of its own: a test that blocks its own must not hold up the network.
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(carry(near, far, carried, stopped));
        });
        Wire { name, there, state, stop: Some(stop), thread: Some(thread) }
    }

    /// Where the engine's machine is reached.
    pub fn address(&self) -> Ipv4Addr {
        self.there
    }

    /// Takes all packets and delivers none: who waits for an answer waits for ever.
    pub fn blackhole(&self) {
        self.state.black.store(true, Ordering::Relaxed);
    }

    /// Unplugs it: whoever sends hears at once that there is no way.
    pub async fn cut(&self) {
        run("ip", &["link", "set", &self.name, "down"]).await;
    }

    /// Lets a round trip take this much longer.
    pub fn slow(&self, round_trip: Duration) {
        let one_way = u64::try_from(round_trip.as_micros() / 2).unwrap();
        self.state.delay_us.store(one_way, Ordering::Relaxed);
    }

    /// All is as it was at first.
    pub async fn heal(&self) {
        self.state.black.store(false, Ordering::Relaxed);
        self.slow(Duration::ZERO);
        run("ip", &["link", "set", &self.name, "up"]).await;
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A device of this name in the network of this thread.
fn open(name: &str) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    let file = options.open("/dev/net/tun").expect("/dev/net/tun is there, and ours");
    let mut request = [0; IFREQ_BYTES];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[NAME_BYTES..NAME_BYTES + 2].copy_from_slice(&FLAGS.to_ne_bytes());
    // SAFETY: the number and the value are those of the kernel's header; it reads and writes the value alone, which is
    // as large as it takes it to be.
    unsafe { ioctl(&file, Updater::<TUNSETIFF, [u8; IFREQ_BYTES]>::new(&mut request)) }.expect("a device of our own");
    file
}

async fn carry(near: File, far: File, state: Arc<State>, stopped: oneshot::Receiver<()>) {
    // SAFETY: a `File` keeps its descriptor, open and the same, until it is dropped.
    let [near, far] = [near, far].map(|file| unsafe { AsyncFd::register(file) }.unwrap());
    tokio::select! {
        _ = stopped => {}
        () = carry_to(&near, &far, &state) => {}
        () = carry_to(&far, &near, &state) => {}
    }
}

/// One way; packets stay in order.
async fn carry_to(from: &AsyncFd<File>, to: &AsyncFd<File>, state: &State) {
    let (queue, mut queued) = mpsc::channel::<(Instant, Vec<u8>)>(QUEUE_MAX);
    let take = async {
        let mut packet = [0; PACKET_BYTES_MAX];
        loop {
            let Ok(mut ready) = from.readable().await else { return };
            match ready.try_io(|file| file.get_ref().read(&mut packet)) {
                Ok(Ok(length)) if !state.black.load(Ordering::Relaxed) => {
                    let delay = Duration::from_micros(state.delay_us.load(Ordering::Relaxed));
                    let _ = queue.try_send((Instant::now() + delay, packet[..length].to_vec()));
                }
                // Whatever the device says while it is down.
                Ok(Err(_)) => tokio::time::sleep(Duration::from_millis(1)).await,
                Ok(Ok(_)) | Err(_) => {}
            }
        }
    };
    let give = async {
        while let Some((due, packet)) = queued.recv().await {
            tokio::time::sleep_until(due).await;
            // What was on its way when the way ended is lost, too.
            if !state.black.load(Ordering::Relaxed) {
                let _ = write(to, &packet).await;
            }
        }
    };
    tokio::join!(take, give);
}

async fn write(to: &AsyncFd<File>, packet: &[u8]) -> io::Result<()> {
    loop {
        let mut ready = to.writable().await?;
        if let Ok(written) = ready.try_io(|file| file.get_ref().write(packet)) {
            return written.map(|_| ());
        }
    }
}
