//! gRPC through a preview: whoever calls, and the program that is called.
//!
//! The program's HTTP/2 is spoken here, by a library: what runs in the workspace only joins each connection
//! to the called port with one that comes through the preview of another port.

use super::previews::Visitor;
use super::workspaces::{PATIENCE, Stage, eventually};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use rexec_api::ids::WorkspaceId;
use serde_json::json;
use std::future::Future;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const RELAY: &str = include_str!("relay.py");
/// The program's port.
pub const CALLED: u16 = 5051;
/// Where the test answers for the program.
const ANSWERED: u16 = 5052;

/// What listens on [`CALLED`].
pub struct Program {
    /// The name of where the test answers.
    host: String,
    address: SocketAddr,
}

impl Stage {
    /// Starts the program that the test answers for.
    pub async fn program(&self, workspace: WorkspaceId) -> Program {
        self.terminal(workspace, &["python3", "-c", RELAY, &CALLED.to_string(), &ANSWERED.to_string()]).await;
        eventually("the program to listen", async || {
            let listening = self.ports(workspace).await.items.into_iter().filter(|view| view.listening);
            let ports: Vec<u16> = listening.map(|view| view.port).collect();
            (ports.contains(&CALLED) && ports.contains(&ANSWERED)).then_some(())
        })
        .await;
        // Public, so that what ends a caller's session leaves the program alone.
        let public = self.set_port(workspace, &ANSWERED.to_string(), json!({ "visibility": "public" })).await;
        assert_eq!(public.status, 200, "{public:?}");
        Program { host: self.stranger(workspace, ANSWERED).host, address: self.server.running.addr }
    }

    pub async fn caller(&self, visitor: &Visitor) -> Caller {
        let stream = TcpStream::connect(self.server.running.addr).await.unwrap();
        let (calls, connection) = h2::client::handshake(stream).await.unwrap();
        // It ends, well or badly, with the server.
        let connection = tokio::spawn(async move { drop(connection.await) });
        Caller { calls, connection, host: visitor.host.clone(), cookie: visitor.cookie.clone() }
    }
}

impl Program {
    /// Answers the next connection's one call. Ends once the connection has, which it must by itself.
    pub async fn answers<F>(
        &self,
        answer: impl FnOnce(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + 'static,
    ) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let asked = format!("GET / HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: relay\r\n\r\n", self.host);
        stream.write_all(asked.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            let (request, respond) = connection.accept().await.expect("no call came").unwrap();
            let answering = tokio::spawn(answer(request, respond));
            let next = tokio::time::timeout(PATIENCE, connection.accept()).await.expect("the connection stays open");
            assert!(!matches!(next, Some(Ok(_))), "a second call on one connection");
            answering.await.unwrap();
        })
    }
}

/// One who calls, on one connection to the server.
pub struct Caller {
    calls: SendRequest<Bytes>,
    connection: JoinHandle<()>,
    pub host: String,
    pub cookie: Option<String>,
}

impl Caller {
    pub fn call(&mut self, headers: &[(&str, &str)]) -> (ResponseFuture, SendStream<Bytes>) {
        let uri = format!("http://{}/demo.Greeter/Hello", self.host);
        let mut request = Request::post(uri).header("content-type", "application/grpc+proto").header("te", "trailers");
        for (name, value) in headers.iter().copied().chain(self.cookie.iter().map(|pass| ("cookie", pass.as_str()))) {
            request = request.header(name, value);
        }
        self.calls.send_request(request.body(()).unwrap(), false).unwrap()
    }

    /// Calls with one message, and gives the answer whole.
    pub async fn unary(&mut self, headers: &[(&str, &str)]) -> Answer {
        let (answer, mut request) = self.call(headers);
        request.send_data(message(b"hello"), true).unwrap();
        let (head, mut body) = in_time(answer).await.unwrap().into_parts();
        let ended = body.is_end_stream();
        let (bytes, trailers) = whole(&mut body).await;
        Answer { head: Response::from_parts(head, ()), all_head: ended, bytes, trailers }
    }

    /// Closes the connection to the server.
    pub async fn leave(self) {
        drop(self.calls);
        in_time(self.connection).await.unwrap();
    }
}

#[derive(Debug)]
pub struct Answer {
    pub head: Response<()>,
    /// Whether nothing could follow the head.
    pub all_head: bool,
    pub bytes: Vec<u8>,
    pub trailers: HeaderMap,
}

impl Answer {
    /// A header, once.
    pub fn head(&self, name: &str) -> &str {
        assert!(self.head.headers().get_all(name).iter().count() <= 1, "{self:?}");
        self.head.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A message as gRPC frames it: not compressed, and its length.
pub fn message(content: &[u8]) -> Bytes {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&[0], length.as_slice(), content].concat().into()
}

/// Reads on until these bytes have come, and no more.
pub async fn expect(body: &mut RecvStream, awaited: &[u8]) {
    let mut come = Vec::new();
    while come.len() < awaited.len() {
        let piece = in_time(body.data()).await.expect("an early end").unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        come.extend_from_slice(&piece);
    }
    assert_eq!(come, awaited);
}

/// All that still comes.
pub async fn whole(body: &mut RecvStream) -> (Vec<u8>, HeaderMap) {
    let mut bytes = Vec::new();
    while let Some(piece) = in_time(body.data()).await {
        let piece = piece.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        bytes.extend_from_slice(&piece);
    }
    (bytes, in_time(body.trailers()).await.unwrap().unwrap_or_default())
}

pub async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("nothing came")
}
