//! The network between nodes: each node advertises an address here, and everything that nodes say to each other passes
//! through, as two directions that can be broken by themselves.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Pieces that a slow direction holds before it stops reading.
const PIECES_MAX: usize = 256;
const PIECE_BYTES: usize = 16 << 10;

/// What is wrong with the way from one node to another. Faults overlap, so all of it is counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Way {
    /// Nothing comes through: neither bytes nor ends of connections. What was sent arrives when the way is open again.
    pub cuts: u32,
    /// How much later everything comes.
    pub delay: Duration,
    /// Bytes per second are limited, by as many faults.
    pub narrow: u32,
}

/// What a narrow way lets through in a second.
const NARROW_BYTES_PER_SECOND: f64 = 64_000.0;

/// Every way between nodes.
pub struct Links {
    /// What nodes advertise.
    pub addresses: Vec<SocketAddr>,
    net: Arc<Net>,
    /// Runs everything; all connections end with it.
    _tasks: JoinSet<()>,
}

struct Net {
    /// By sender, then by receiver.
    ways: Vec<Vec<watch::Sender<Way>>>,
    /// Where nodes really listen.
    targets: Vec<Mutex<Option<SocketAddr>>>,
    /// Counted up when all connections of a node are to break.
    breaks: Vec<watch::Sender<u32>>,
}

/// The address from which a node dials and at which it listens.
pub fn ip(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, u8::try_from(node + 1).expect("a few nodes"))
}

fn node_at(address: SocketAddr) -> Option<usize> {
    match address.ip() {
        IpAddr::V4(ip) if ip.octets()[..3] == [127, 0, 1] => usize::from(ip.octets()[3]).checked_sub(1),
        _ => None,
    }
}

impl Links {
    /// Whole links between this many nodes, none of which is there yet.
    pub async fn start(nodes: usize) -> Result<Self> {
        let net = Arc::new(Net {
            ways: (0..nodes).map(|_| (0..nodes).map(|_| watch::Sender::default()).collect()).collect(),
            targets: (0..nodes).map(|_| Mutex::default()).collect(),
            breaks: (0..nodes).map(|_| watch::Sender::default()).collect(),
        });
        let mut addresses = Vec::new();
        let mut tasks = JoinSet::new();
        for node in 0..nodes {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            addresses.push(listener.local_addr()?);
            tasks.spawn(serve(listener, node, Arc::clone(&net)));
        }
        Ok(Self { addresses, net, _tasks: tasks })
    }

    /// Tells where a node listens since its last start.
    pub fn lead_to(&self, node: usize, address: SocketAddr) {
        *self.net.targets[node].lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
    }

    /// Changes the way from one node to another.
    pub fn change(&self, from: usize, to: usize, change: impl FnOnce(&mut Way)) {
        self.net.ways[from][to].send_modify(change);
    }

    /// Breaks all connections of a node, which both ends notice.
    pub fn break_all(&self, node: usize) {
        self.net.breaks[node].send_modify(|count| *count += 1);
    }
}

async fn serve(listener: TcpListener, to: usize, net: Arc<Net>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, remote)) = listener.accept().await else { return };
        let Some(from) = node_at(remote).filter(|from| *from < net.ways.len()) else {
            eprintln!("{remote}, which is no node, dialed node {to}");
            continue;
        };
        let net = Arc::clone(&net);
        connections.spawn(async move {
            let (mut ours, mut theirs) = (net.breaks[from].subscribe(), net.breaks[to].subscribe());
            tokio::select! {
                () = carry(stream, from, to, &net) => {}
                _ = ours.changed() => {}
                _ = theirs.changed() => {}
            }
        });
    }
}

/// Carries a connection until both its directions have ended.
async fn carry(dialer: TcpStream, from: usize, to: usize, net: &Net) {
    let (there, back) = (net.ways[from][to].subscribe(), net.ways[to][from].subscribe());
    open(&mut there.clone()).await;
    let target = *net.targets[to].lock().unwrap_or_else(PoisonError::into_inner);
    let Some(target) = target else { return };
    let Ok(listener) = TcpStream::connect(target).await else { return };
    if dialer.set_nodelay(true).and_then(|()| listener.set_nodelay(true)).is_err() {
        return;
    }
    let (dialer_reads, dialer_writes) = dialer.into_split();
    let (listener_reads, listener_writes) = listener.into_split();
    tokio::join!(pump(dialer_reads, listener_writes, there), pump(listener_reads, dialer_writes, back));
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: watch::Receiver<Way>) {
    let (pieces, mut due) = mpsc::channel::<(Instant, Bytes)>(PIECES_MAX);
    let mut way_in = way.clone();
    let read = async move {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PIECE_BYTES);
            let ended = !matches!(from.read_buf(&mut buffer).await, Ok(count) if count > 0);
            open(&mut way_in).await;
            let at = Instant::now() + way_in.borrow().delay;
            if ended || pieces.send((at, buffer.split().freeze())).await.is_err() {
                return;
            }
        }
    };
    let mut way_out = way;
    let write = async move {
        while let Some((at, piece)) = due.recv().await {
            tokio::time::sleep_until(at).await;
            open(&mut way_out).await;
            if way_out.borrow().narrow > 0 {
                tokio::time::sleep(Duration::from_secs_f64(piece.len() as f64 / NARROW_BYTES_PER_SECOND)).await;
            }
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        // The other end may be gone already.
        drop(to.shutdown().await);
    };
    tokio::join!(read, write);
}

/// Waits until a way is open.
async fn open(way: &mut watch::Receiver<Way>) {
    // The sender lives as long as the links.
    drop(way.wait_for(|way| way.cuts == 0).await);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpSocket;

    async fn dial(links: &Links, from: usize, to: usize) -> Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((ip(from), 0)))?;
        Ok(socket.connect(links.addresses[to]).await?)
    }

    #[tokio::test]
    async fn each_direction_is_cut_and_opened_by_itself() -> Result<()> {
        let links = Links::start(2).await?;
        let listener = TcpListener::bind(SocketAddr::from((ip(1), 0))).await?;
        links.lead_to(1, listener.local_addr()?);
        let mut one = dial(&links, 0, 1).await?;
        let (mut two, _) = listener.accept().await?;
        let mut byte = [0];
        let silence = Duration::from_millis(50);

        links.change(0, 1, |way| way.cuts += 1);
        one.write_all(b"a").await?;
        assert!(tokio::time::timeout(silence, two.read_exact(&mut byte)).await.is_err());
        two.write_all(b"b").await?;
        one.read_exact(&mut byte).await?;
        assert_eq!(&byte, b"b");

        links.change(0, 1, |way| way.cuts -= 1);
        two.read_exact(&mut byte).await?;
        assert_eq!(&byte, b"a");

        links.break_all(1);
        assert!(!matches!(one.read(&mut byte).await, Ok(1..)));
        Ok(())
    }
}
