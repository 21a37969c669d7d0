//! The upstream: notes every byte that comes, reads requests strictly, and answers what its script says.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::case::{Script, Then, answer};
use crate::wire::{self, Begin, Message};

/// The path of the request that follows every case, to see what became of proxy and connections.
pub const SENTINEL: &str = "/sentinel";

/// What has come in.
#[derive(Default, Debug, Clone)]
pub struct Record {
    /// The bytes, by connection.
    pub connections: Vec<Vec<u8>>,
    /// The requests that came whole, in that order, those for [`SENTINEL`] apart.
    pub requests: Vec<Message>,
    pub sentinels: Vec<Message>,
    /// Connections that ended within a request.
    pub parts: usize,
    /// Why the bytes of a connection are no requests.
    pub malformed: Vec<String>,
}

pub struct Upstream {
    pub address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

const MOMENT: Duration = Duration::from_secs(2);

/// What is said out of turn, and whom to tell when it is written.
type Saying = (Vec<u8>, oneshot::Sender<()>);

struct State {
    script: Vec<Script>,
    record: Mutex<Record>,
    /// To each connection so far, what is said out of turn.
    sayings: Mutex<Vec<mpsc::UnboundedSender<Saying>>>,
    changed: watch::Sender<()>,
    /// Whose connection is the last.
    last: watch::Sender<Option<SocketAddr>>,
}

impl Upstream {
    pub async fn start(script: Vec<Script>) -> std::io::Result<Upstream> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            script,
            record: Mutex::default(),
            sayings: Mutex::default(),
            changed: watch::Sender::new(()),
            last: watch::Sender::new(None),
        });
        let task = tokio::spawn(accept(listener, state.clone()));
        Ok(Upstream { address, state, task })
    }

    /// Waits until something has come in, but no longer than a moment: a proxy may hold a request back until it has all.
    pub async fn touched(&self) {
        let mut changed = self.state.changed.subscribe();
        let touched = async {
            while self.state.record().connections.iter().all(Vec::is_empty) {
                let _ = changed.changed().await;
            }
        };
        let _ = tokio::time::timeout(MOMENT, touched).await;
    }

    /// Writes out of turn, on the newest connection. Once this returns, the proxy can read it.
    pub async fn say(&self, bytes: Vec<u8>) {
        let (written, done) = oneshot::channel();
        if let Some(sender) = self.state.sayings.lock().expect("nobody panics with it").last() {
            let _ = sender.send((bytes, written));
        }
        let _ = done.await;
    }

    /// Everything that came. The proxy must have ended, so that every connection ends.
    pub async fn finish(self) -> std::io::Result<Record> {
        // The system hands connections out in order: behind this one there is none.
        let last = TcpStream::connect(self.address).await?;
        self.state.last.send_replace(Some(last.local_addr()?));
        drop(last);
        let _ = self.task.await;
        let mut record = self.state.record().clone();
        record.connections.pop();
        Ok(record)
    }
}

impl State {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("nobody panics with it")
    }
}

/// Serves all connections before the last one, to their ends.
async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    let (mut newest, mut last) = (None, state.last.subscribe());
    while newest.is_none() || newest != *last.borrow() {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((socket, peer)) = accepted else { return };
                newest = Some(peer);
                let (sender, sayings) = mpsc::unbounded_channel();
                state.sayings.lock().expect("nobody panics with it").push(sender);
                connections.spawn(serve(socket, state.clone(), sayings));
            }
            _ = last.changed() => {}
        }
    }
    connections.join_all().await;
}

async fn serve(mut socket: TcpStream, state: Arc<State>, mut sayings: mpsc::UnboundedReceiver<Saying>) {
    let _ = socket.set_nodelay(true);
    let own = {
        let mut record = state.record();
        record.connections.push(Vec::new());
        record.connections.len() - 1
    };
    let (mut bytes, mut then, mut is_asked) = (Vec::new(), Then::Keep, false);
    let mut is_answered = false;
    loop {
        let from = bytes.len();
        tokio::select! {
            read = socket.read_buf(&mut bytes) => {
                if !matches!(read, Ok(1..)) {
                    break;
                }
            }
            Some((saying, written)) = sayings.recv() => {
                let _ = socket.write_all(&saying).await;
                let _ = written.send(());
                continue;
            }
        }
        state.record().connections[own].extend_from_slice(&bytes[from..]);
        state.changed.send_replace(());
        while matches!(then, Then::Keep | Then::Dribble) && !bytes.is_empty() {
            match wire::request(&bytes) {
                Begin::Whole(message, length) => {
                    bytes.drain(..length);
                    is_asked = false;
                    let script = state.answer(*message);
                    then = script.then;
                    if std::mem::take(&mut is_answered) {
                        continue;
                    }
                    let pieces = if then == Then::Dribble { 1 } else { script.bytes.len().max(1) };
                    for piece in script.bytes.chunks(pieces) {
                        let _ = socket.write_all(piece).await;
                        tokio::task::yield_now().await;
                    }
                }
                Begin::Part => {
                    let early = state.early().filter(|_| !is_answered && wire::has_head(&bytes));
                    if let Some(script) = early {
                        is_answered = true;
                        let _ = socket.write_all(&script.bytes).await;
                        if script.then == Then::Close {
                            let _ = socket.shutdown().await;
                        }
                    }
                    if !is_asked && wire::expects(&bytes) {
                        is_asked = true;
                        let _ = socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
                    }
                    break;
                }
                Begin::Malformed(why) => {
                    state.record().malformed.push(why);
                    return;
                }
            }
        }
        match then {
            Then::Keep | Then::Dribble => {}
            Then::Close => return,
            Then::Echo => {
                let _ = socket.write_all(&std::mem::take(&mut bytes)).await;
            }
        }
    }
    if !bytes.is_empty() && matches!(then, Then::Keep | Then::Dribble) {
        state.record().parts += 1;
    }
}

impl State {
    /// The script of the next request, if it does not wait for the body.
    fn early(&self) -> Option<Script> {
        let next = self.record().requests.len();
        self.script.get(next).filter(|script| script.is_early).cloned()
    }

    /// Notes a request, and gives what is said to it.
    fn answer(&self, request: Message) -> Script {
        let mut record = self.record();
        let head = request.method() == "HEAD";
        if request.target() == SENTINEL {
            record.sentinels.push(request);
            return plain("sentinel", head);
        }
        record.requests.push(request);
        let index = record.requests.len();
        self.script.get(index - 1).cloned().unwrap_or_else(|| plain(&answer(index), head))
    }
}

fn plain(body: &str, head: bool) -> Script {
    let length = body.len();
    let body = if head { "" } else { body };
    Script {
        bytes: format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes(),
        then: Then::Keep,
        is_early: false,
    }
}
