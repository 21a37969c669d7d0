//! Floods of HTTP/2: frames that cost their sender nothing and the server much. Each must end its connection, at little
//! cost, while others are served.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::HOST;
use crate::cost::Meter;
use crate::frame::{
    CONTINUATION, DATA, END_STREAM, HEADERS, PADDED, PING, RST_STREAM, SETTINGS, block, frame, request,
};
use crate::front::Front;
use crate::good::Good;
use crate::http2::Flood;

const PRIORITY: u8 = 2;
const WINDOW_UPDATE: u8 = 8;

/// What closes within the second that is asked for gets this much on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Of a core, over a second: a quarter is asked for, of a release build on a quiet machine.
const SHARE_MAX: f64 = 1.0;

/// Bytes that memory may grow by.
const MEMORY_MAX: u64 = 8 << 20;

/// A kind of flood, and what it sends in a round.
struct Kind {
    name: &'static str,
    deaf: bool,
    more: fn(u32) -> Vec<u8>,
}

const KINDS: &[Kind] = &[
    Kind {
        name: "rapid reset",
        deaf: false,
        more: |round| streams(round, 50, |id| [get(id, "/"), reset(id)].concat()),
    },
    Kind {
        name: "rapid reset of requests under way",
        deaf: false,
        more: |round| {
            // So that each has gone to its upstream before it is given up.
            let before = if round == 0 { Vec::new() } else { streams(round - 1, 50, reset) };
            [before, streams(round, 50, |id| get(id, "/never"))].concat()
        },
    },
    Kind {
        name: "made you reset, by no room",
        deaf: false,
        more: |round| streams(round, 50, |id| [get(id, "/never"), frame(WINDOW_UPDATE, 0, id, [0; 4])].concat()),
    },
    Kind {
        name: "made you reset, by too much room",
        deaf: false,
        more: |round| {
            streams(round, 50, |id| [get(id, "/never"), frame(WINDOW_UPDATE, 0, id, [0x7f, 255, 255, 255])].concat())
        },
    },
    Kind {
        name: "made you reset, by content behind the end",
        deaf: false,
        more: |round| streams(round, 50, |id| [get(id, "/never"), frame(DATA, 0, id, "x")].concat()),
    },
    Kind {
        name: "made you reset, by a stream of its own",
        deaf: false,
        more: |round| {
            streams(round, 50, |id| {
                let own = [&id.to_be_bytes()[..], &[16]].concat();
                [get(id, "/never"), frame(PRIORITY, 0, id, own)].concat()
            })
        },
    },
    Kind {
        name: "CONTINUATION",
        deaf: false,
        more: |round| {
            let begin =
                if round == 0 { frame(HEADERS, END_STREAM, 1, block(&[(":method", "GET")])) } else { Vec::new() };
            [begin, frame(CONTINUATION, 0, 1, block(&[("a", "b")])).repeat(100)].concat()
        },
    },
    Kind {
        name: "CONTINUATION of nothing",
        deaf: false,
        more: |round| {
            let begin = if round == 0 { frame(HEADERS, END_STREAM, 1, []) } else { Vec::new() };
            [begin, frame(CONTINUATION, 0, 1, []).repeat(100)].concat()
        },
    },
    Kind { name: "SETTINGS", deaf: false, more: |_| frame(SETTINGS, 0, 0, [0, 3, 0, 0, 0, 100]).repeat(100) },
    Kind { name: "SETTINGS, deaf", deaf: true, more: |_| frame(SETTINGS, 0, 0, [0, 3, 0, 0, 0, 100]).repeat(100) },
    Kind { name: "PING", deaf: false, more: |_| frame(PING, 0, 0, [7; 8]).repeat(100) },
    Kind { name: "PING, deaf", deaf: true, more: |_| frame(PING, 0, 0, [7; 8]).repeat(100) },
    Kind { name: "PRIORITY", deaf: false, more: |_| frame(PRIORITY, 0, 1, [0, 0, 0, 3, 16]).repeat(100) },
    Kind { name: "frames of no kind", deaf: false, more: |_| frame(0xbe, 0, 0, [0; 4]).repeat(100) },
    Kind {
        name: "empty DATA",
        deaf: false,
        more: |round| {
            let begin = if round == 0 { request(1, false, "POST", "/never", &[]) } else { Vec::new() };
            [begin, frame(DATA, 0, 1, []).repeat(100)].concat()
        },
    },
    Kind {
        name: "padding",
        deaf: false,
        more: |round| {
            let begin = if round == 0 { request(1, false, "POST", "/never", &[]) } else { Vec::new() };
            [begin, frame(DATA, PADDED, 1, [2, 0, 0]).repeat(100)].concat()
        },
    },
    Kind {
        name: "room for single bytes",
        deaf: false,
        more: |round| {
            if round == 0 {
                // No room but what is given below.
                return [frame(SETTINGS, 0, 0, [0, 4, 0, 0, 0, 0]), get(1, "/large")].concat();
            }
            [frame(WINDOW_UPDATE, 0, 1, [0, 0, 0, 1]), frame(WINDOW_UPDATE, 0, 0, [0, 0, 0, 1])].concat()
        },
    },
    Kind {
        name: "HPACK bomb of small fields",
        deaf: false,
        more: |round| streams(round, 10, |id| bomb(id, &["x"; 1], 8_000)),
    },
    Kind {
        name: "HPACK bomb of large fields",
        deaf: false,
        more: |round| streams(round, 10, |id| bomb(id, &[&"x".repeat(4_000)], 8_000)),
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_end_their_connection_and_disturb_nobody() -> Result<()> {
    let front = Front::start().await?;
    let good = Good::start(front.node.http);
    let mut faults = Vec::new();
    for kind in KINDS {
        let flood = Flood::connect(&front).await?;
        let meter = Meter::of(front.pid()?)?;
        let ended = flood.run(kind.more, kind.deaf, PATIENCE).await;
        let cost = meter.read()?;
        println!("{:42} {} {cost}, told {:?}", kind.name, if ended.closed { "closed" } else { "open  " }, ended.told);
        if !ended.closed || cost.share() > SHARE_MAX || cost.memory > MEMORY_MAX {
            faults.push(format!("{}: {ended:?}, {cost}", kind.name));
        }
    }
    let waits = good.end().await?;
    println!("{} good requests meanwhile, p99 {:.2?}", waits.count(), waits.p99());
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

/// Many responses that a client has room for, but takes a byte of each at most: what is held for it is bounded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_little_is_held_little_for() -> Result<()> {
    let front = Front::start().await?;
    for (name, room) in [("no room on 100 streams", 0), ("a byte of room on 100 streams", 1)] {
        let flood = Flood::connect(&front).await?;
        let meter = Meter::of(front.pid()?)?;
        let ask = |round| match round {
            0 => [frame(SETTINGS, 0, 0, [0, 4, 0, 0, 0, room]), streams(0, 100, |id| get(id, "/large"))].concat(),
            _ => Vec::new(),
        };
        let ended = flood.run(ask, false, HELD_FOR).await;
        let cost = meter.read()?;
        println!("{name:42} {} {cost}", if ended.closed { "closed" } else { "open  " });
        ensure!(cost.memory <= MEMORY_MAX && cost.share() <= SHARE_MAX, "{name}: {cost}");
    }
    Ok(())
}

/// Long enough for all that will be held.
const HELD_FOR: Duration = Duration::from_secs(5);

/// What `make` gives for so many streams of a round, each with a new id.
fn streams(round: u32, count: u32, make: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (0..count).flat_map(|at| make((round * count + at) * 2 + 1)).collect()
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    request(stream, true, "GET", path, &[])
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, [0, 0, 0, 8])
}

fn pseudo(path: &str) -> Vec<u8> {
    block(&[(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", path)])
}

/// A request whose fields are put into the dynamic table, and named from there again and again, a byte each (RFC 7541
/// sections 6.1 and 6.2.1).
fn bomb(stream: u32, values: &[&str], times: usize) -> Vec<u8> {
    let mut fields = pseudo("/never");
    for value in values {
        // As without indexing, but for the first byte.
        let mut field = block(&[("x", value)]);
        field[0] = 0x40;
        fields.extend(field);
    }
    // The newest entry.
    fields.extend([0xbe].repeat(times));
    frame(HEADERS, END_STREAM | 4, stream, fields)
}
