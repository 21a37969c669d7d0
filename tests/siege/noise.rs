//! Noise: bytes that begin as messages do and go wrong somewhere, over HTTP/1 and HTTP/2. Whatever becomes of them, the
//! node neither panics nor grows, and serves others.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::HOST;
use crate::cost::Meter;
use crate::frame::{CONTINUATION, DATA, HEADERS, PING, RST_STREAM, SETTINGS, frame, preface, request};
use crate::front::Front;
use crate::good::Good;
use crate::options;

/// Connections in a short run.
const ROUNDS: usize = 600;

/// Bytes that memory may grow by: buffers that are kept for others.
const MEMORY_MAX: u64 = 64 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_neither_breaks_nor_swells_a_node() -> Result<()> {
    // The same in each short run: who looks for more soaks.
    let seed = if options::soak().is_some() { fastrand::u64(..) } else { 20_261 };
    let mut random = fastrand::Rng::with_seed(seed);
    let mut front = Front::start().await?;
    let (http, https) = (front.node.http, front.node.https);
    let (meter, good) = (Meter::of(front.pid()?)?, Good::start(http));
    let began = Instant::now();
    let more = |round| match options::soak() {
        // A part of the hour.
        Some(time) => began.elapsed() < time / 10,
        None => round < ROUNDS,
    };
    let mut round = 0;
    while more(round) {
        let (bytes, is_http2) = if random.bool() { (http1(&mut random), false) } else { (http2(&mut random), true) };
        let mut heard = Vec::new();
        if is_http2 {
            let mut stream = front.https.connect(https, HOST, &["h2"]).await?;
            let _ = stream.write_all(&bytes).await;
            let _ = stream.flush().await;
            let _ = tokio::time::timeout(A_MOMENT, stream.read_buf(&mut heard)).await;
        } else {
            let mut stream = TcpStream::connect(http).await?;
            let _ = stream.write_all(&bytes).await;
            let _ = tokio::time::timeout(A_MOMENT, stream.read_buf(&mut heard)).await;
        }
        round += 1;
    }
    let waits = good.end().await?;
    let cost = meter.read()?;
    println!("{round} connections of noise, seed {seed}: {cost}; {} good requests meanwhile", waits.count());
    ensure!(front.node.process.is_running(), "the node ended, seed {seed}");
    let panics = front.node.process.output().matches("panicked").count();
    ensure!(
        panics == 0,
        "{panics} panics, seed {seed}: {}",
        crate::support::cluster::tail(&front.node.process.output())
    );
    ensure!(cost.memory <= MEMORY_MAX, "seed {seed}: {cost}");
    Ok(())
}

/// To see whether anything comes; most of it is answered at once, and the rest is left.
const A_MOMENT: Duration = Duration::from_millis(20);

/// A few requests, cut, doubled and with bytes exchanged.
fn http1(random: &mut fastrand::Rng) -> Vec<u8> {
    let whole = [
        "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 5\r\n\r\nhello",
        "POST /never HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n0\r\nX: 1\r\n\r\n",
        "GET http://shop.test/large HTTP/1.1\r\nHost: shop.test\r\nConnection: x-own, close\r\nCookie: a=1; b\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: shop.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
        "GET / HTTP/1.0\r\nHost: shop.test\r\nConnection: keep-alive\r\nUpgrade: websocket\r\n\r\n",
    ];
    let bytes = (0..random.usize(1..6)).flat_map(|_| whole[random.usize(..whole.len())].bytes()).collect();
    spoiled(random, bytes)
}

/// Some frames, in any order, with bytes exchanged.
fn http2(random: &mut fastrand::Rng) -> Vec<u8> {
    let kinds = [DATA, HEADERS, 2, RST_STREAM, SETTINGS, 5, PING, 7, 8, CONTINUATION, 0xbe];
    let mut bytes = preface();
    for at in 0..random.u32(1..40) {
        let stream = random.u32(0..12);
        let part = match random.u8(..4) {
            0 | 1 => request(at * 2 + 1, random.bool(), "POST", "/", &[("x-own", "1"), ("cookie", "a=1")]),
            _ => {
                let payload: Vec<u8> = (0..random.usize(0..30)).map(|_| random.u8(..)).collect();
                frame(kinds[random.usize(..kinds.len())], random.u8(..), stream, payload)
            }
        };
        bytes.extend(part);
    }
    let (start, rest) = bytes.split_at(preface().len());
    [start, &spoiled(random, rest.to_vec())].concat()
}

fn spoiled(random: &mut fastrand::Rng, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..random.usize(0..4) {
        let at = random.usize(..bytes.len());
        match random.u8(..4) {
            0 => bytes[at] = random.u8(..),
            1 => bytes.insert(at, b"\0\r\n :,;\xff"[random.usize(..8)]),
            2 if bytes.len() > 1 => drop(bytes.remove(at)),
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes
}
