//! Clients: requests at a fixed rate, whatever becomes of those before, each of which is accounted for.
//!
//! They keep their connections, to all nodes in turn, over TLS. Beside the requests, downloads and WebSockets begin, which
//! go on for long. A client whom a node refuses goes to the next one, as people's do whose name has several addresses;
//! once a request is sent it is to be answered, and nothing is sent twice.

mod client;
mod tally;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::client::Clients;
pub use self::tally::{Kind, Report};
use crate::support::https::Https;

/// Requests a second.
pub const RATE: u32 = 500;
/// A download and a WebSocket begin each time so many requests have.
const LONG_ONES_EACH: u64 = 500;

/// Clients at work.
pub struct Traffic {
    clients: Arc<Clients>,
    stop: CancellationToken,
    /// Ends with the clients, and with it what is under way.
    task: AbortOnDropHandle<()>,
}

impl Traffic {
    /// Starts clients that ask `nodes` for `host`.
    pub fn start(nodes: Vec<SocketAddr>, host: &str, https: Https) -> Self {
        let clients = Arc::new(Clients::new(nodes, host, https));
        let stop = CancellationToken::new();
        let task = AbortOnDropHandle::new(tokio::spawn(ask_all(clients.clone(), stop.clone())));
        Self { clients, stop, task }
    }

    /// What has become of all requests that have ended so far.
    pub fn so_far(&self) -> Report {
        self.clients.tally.report()
    }

    /// Begins no more requests and waits until the last has ended.
    pub async fn end(self) -> Result<Report> {
        self.stop.cancel();
        self.task.await?;
        Ok(self.clients.tally.report())
    }
}

async fn ask_all(clients: Arc<Clients>, stop: CancellationToken) {
    let mut under_way = JoinSet::new();
    let mut ticks = interval(Duration::from_secs(1) / RATE);
    // A late one is made up for at once: the rate is fixed.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut number = 0u64;
    while !stop.is_cancelled() {
        ticks.tick().await;
        let begin = |kind| {
            let clients = clients.clone();
            async move { clients.ask(kind, number).await }
        };
        under_way.spawn(begin(kind_of(number)));
        if number.is_multiple_of(LONG_ONES_EACH) {
            under_way.spawn(begin(Kind::Download));
            under_way.spawn(begin(Kind::Socket));
        }
        number += 1;
        while under_way.try_join_next().is_some() {}
    }
    while under_way.join_next().await.is_some() {}
}

fn kind_of(number: u64) -> Kind {
    match number % 10 {
        0 => Kind::Slow,
        1..=3 => Kind::Post,
        _ => Kind::Get,
    }
}
