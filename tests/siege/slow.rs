//! Slow clients, many of each kind: they hold what they can get, for as long as they are let. Each must be closed at its
//! deadline (docs/proxy.md has them), and no good client may notice.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::HOST;
use crate::cost::{Meter, descriptors};
use crate::frame::{SETTINGS, frame, preface, request};
use crate::front::{Front, LARGE_BYTES};
use crate::good::{CLIENTS, Good};
use crate::options;
use crate::support::https::Https;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A head that never ends, a byte at a time.
    HeaderDrip,
    /// A body that stops on its way.
    BodyDrip,
    /// A response that is not read.
    SlowRead,
    /// A ClientHello that never ends.
    HalfHandshake,
    /// A response of HTTP/2 without room for any of it.
    ZeroWindow,
    /// A connection that is kept for nothing.
    Idle,
}

const KINDS: [Kind; 6] =
    [Kind::HeaderDrip, Kind::BodyDrip, Kind::SlowRead, Kind::HalfHandshake, Kind::ZeroWindow, Kind::Idle];

impl Kind {
    /// The default that bounds it.
    fn deadline(self) -> Duration {
        Duration::from_secs(match self {
            Kind::HeaderDrip | Kind::HalfHandshake => 10,
            Kind::BodyDrip | Kind::SlowRead | Kind::ZeroWindow | Kind::Idle => 60,
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::HeaderDrip => "header drip",
            Kind::BodyDrip => "body drip",
            Kind::SlowRead => "slow read",
            Kind::HalfHandshake => "half handshake",
            Kind::ZeroWindow => "zero window",
            Kind::Idle => "idle",
        })
    }
}

/// A deadline is met by a sweep, up to a second late; the rest is for a machine that is busy. There a client may also know
/// too late when its time began.
const LATE_MAX: Duration = Duration::from_secs(20);

/// When nothing else goes on.
const QUIET: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_are_closed_at_their_deadline_and_disturb_nobody() -> Result<()> {
    match options::soak() {
        None => besiege(&KINDS, 500).await,
        Some(_) => {
            for kind in KINDS {
                besiege(&[kind], 10_000).await?;
            }
            Ok(())
        }
    }
}

/// So many slow clients of each of the kinds at the same time.
async fn besiege(kinds: &[Kind], count: usize) -> Result<()> {
    // A client of ours, and up to two connections of the node's, which has the same limit.
    let count = count.min(options::descriptors()?.saturating_sub(1_000) / kinds.len() / 2).max(1);
    let front = Front::start().await?;
    let (http, https) = (front.node.http, front.node.https);
    let quiet = Good::for_a_while(http, QUIET).await?;
    let before = descriptors(front.pid()?)?;

    let (meter, good) = (Meter::of(front.pid()?)?, Good::start(http));
    let (mut clients, over) = (JoinSet::new(), CancellationToken::new());
    let came = Arc::new(AtomicUsize::new(0));
    for at in 0..count {
        for kind in kinds.iter().copied() {
            let address = if matches!(kind, Kind::HalfHandshake | Kind::ZeroWindow) { https } else { http };
            let (tls, over, came) = (front.https.clone(), over.clone(), came.clone());
            clients.spawn(async move {
                let stream = connect(kind, address, at).await;
                came.fetch_add(1, Ordering::SeqCst);
                match stream {
                    Ok(stream) => (kind, slow(kind, stream, (tls, over)).await),
                    Err(fault) => (kind, Err(fault)),
                }
            });
        }
        // Not all of them in one moment: that would be a flood, and the kernel's affair.
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    while came.load(Ordering::SeqCst) < count * kinds.len() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let all_in = Instant::now();
    let due = kinds.iter().map(|kind| kind.deadline()).max().unwrap_or_default();
    // The node may know of the last of them a moment later; none may be gone before.
    tokio::time::sleep(due / 2).await;
    let watched = until_few(&front, CLIENTS, due + LATE_MAX).await;
    println!("no more than {CLIENTS} connections {:.1?} after the last came, due at {due:?}", all_in.elapsed());
    // Those who did not read see now what there is.
    over.cancel();
    let mut ended: Vec<(Kind, Duration)> = Vec::new();
    let mut faults = Vec::new();
    while let Some(client) = clients.join_next().await {
        match client? {
            (kind, Ok(after)) => ended.push((kind, after)),
            (kind, Err(fault)) => faults.push(format!("{kind}: {fault:#}")),
        }
    }
    let cost = meter.read()?;
    let during = good.end().await?;
    println!("{count} of each: {cost}");
    println!(
        "good clients: p99 {:.2?} of {} when quiet, {:.2?} of {} meanwhile",
        quiet.p99(),
        quiet.count(),
        during.p99(),
        during.count()
    );
    for kind in kinds {
        let of_kind = || ended.iter().filter(|(own, _)| own == kind).map(|(_, after)| *after);
        let (first, last) = (of_kind().min().unwrap_or_default(), of_kind().max().unwrap_or_default());
        println!(
            "{kind:16} {:5} closed, {first:.1?} to {last:.1?} after their last sign, due at {:?}",
            of_kind().count(),
            kind.deadline()
        );
        let due = kind.deadline();
        if first < due / 2 || last > due + LATE_MAX {
            faults.push(format!("{kind}: closed {first:?} to {last:?} after, due at {due:?}"));
        }
    }
    faults.extend(watched.err().map(|fault| format!("{fault:#}")));
    faults.truncate(10);
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    // A busy machine is not the node's fault.
    let p99_max = (quiet.p99() * 2).max(Duration::from_millis(if options::soak().is_some() { 20 } else { 2_000 }));
    ensure!(during.p99() <= p99_max, "good clients waited {:?}, {:?} when quiet", during.p99(), quiet.p99());
    let after = crate::support::wait::until("the descriptors are free again", async || {
        let after = descriptors(front.pid()?)?;
        ensure!(after <= before + 64, "{before} before, {after} now");
        Ok(after)
    });
    println!("{before} descriptors before, {} after", after.await?);
    Ok(())
}

/// Waits until the node has no more than so many connections of clients.
async fn until_few(front: &Front, count: usize, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let metrics = front.node.api.get("/metrics").await?.text();
        let open = metrics.lines().filter_map(|line| line.strip_prefix("roo_open_connections{")?.split(' ').nth(1));
        let open: f64 = open.filter_map(|count| count.parse::<f64>().ok()).sum();
        if open <= count as f64 {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{open} connections are still open {patience:?} after the last came");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn connect(kind: Kind, address: SocketAddr, at: usize) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // A host of its own for some thousands each: ports are few.
    let host = [127, 0, 1 + u8::try_from(at / 5_000)?, 1];
    socket.bind(SocketAddr::from((host, 0)))?;
    if kind == Kind::SlowRead {
        socket.set_recv_buffer_size(4_096)?;
    }
    socket.connect(address).await.context("connect")
}

/// Plays a slow client, and tells how long after its last sign of life the node closed it.
async fn slow(kind: Kind, mut stream: TcpStream, (tls, over): (Https, CancellationToken)) -> Result<Duration> {
    match kind {
        Kind::HeaderDrip => header_drip(&mut stream).await,
        Kind::BodyDrip => {
            send(&mut stream, "POST /never HTTP/1.1\r\nHost: {}\r\nContent-Length: 1000\r\n\r\n").await?;
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                stream.write_all(b"x").await?;
            }
            closed(&mut stream).await
        }
        Kind::SlowRead => {
            send(&mut stream, "GET /large HTTP/1.1\r\nHost: {}\r\n\r\n").await?;
            stream.readable().await?;
            over.cancelled().await;
            unread(&mut stream, kind.deadline()).await
        }
        Kind::HalfHandshake => {
            // A record of 512 bytes with a hello of 508, of which no more comes.
            stream.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3, 7, 7, 7]).await?;
            closed(&mut stream).await
        }
        Kind::ZeroWindow => {
            let mut stream = tls.over(stream, HOST, &["h2"]).await?;
            let none = frame(SETTINGS, 0, 0, [0, 4, 0, 0, 0, 0]);
            let ask = [preface(), none, request(1, true, "GET", "/large", &[])].concat();
            stream.write_all(&ask).await?;
            stream.flush().await?;
            let began = Instant::now();
            let mut answer = Vec::new();
            // An end of any kind.
            let _ = stream.read_to_end(&mut answer).await;
            ensure!(answer.len() < 10_000, "a client without room was sent {} bytes", answer.len());
            Ok(began.elapsed())
        }
        Kind::Idle => {
            send(&mut stream, "GET / HTTP/1.1\r\nHost: {}\r\n\r\n").await?;
            let mut answer = Vec::new();
            while !answer.ends_with(b"fine") {
                ensure!(stream.read_buf(&mut answer).await? > 0, "no answer to an idle client's one request");
            }
            closed(&mut stream).await
        }
    }
}

async fn send(stream: &mut TcpStream, text: &str) -> Result<()> {
    Ok(stream.write_all(text.replace("{}", HOST).as_bytes()).await?)
}

/// What is heard until the end, and when that was, from now.
async fn closed(stream: &mut TcpStream) -> Result<Duration> {
    let began = Instant::now();
    let mut answer = Vec::new();
    // An end of any kind.
    let _ = stream.read_to_end(&mut answer).await;
    let text = String::from_utf8_lossy(&answer);
    ensure!(answer.is_empty() || text.starts_with("HTTP/1.1 408 "), "a slow client was told {text}");
    Ok(began.elapsed())
}

/// Bytes of a head do not make its time longer.
async fn header_drip(stream: &mut TcpStream) -> Result<Duration> {
    send(stream, "GET / HTTP/1.1\r\nHost: {}\r\nX-Slow: ").await?;
    let (mut from, mut to) = stream.split();
    let dripping = async {
        while to.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        std::future::pending::<()>().await;
    };
    let began = Instant::now();
    let mut answer = Vec::new();
    tokio::select! {
        _ = from.read_to_end(&mut answer) => {}
        () = dripping => {}
    }
    ensure!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&answer));
    Ok(began.elapsed())
}

/// A client that begins to read when its time is over: what it gets then is what was on its way, not the whole.
async fn unread(stream: &mut TcpStream, deadline: Duration) -> Result<Duration> {
    let (mut bytes, mut part) = (0, vec![0; 64 << 10]);
    while let Ok(count @ 1..) = stream.read(&mut part).await {
        bytes += count;
    }
    ensure!(bytes < LARGE_BYTES, "a client that did not read for {deadline:?} was still served");
    Ok(deadline)
}
