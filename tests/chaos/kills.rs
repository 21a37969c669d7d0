//! A node that is killed again and again while it writes: nothing that it acknowledged may be gone afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use fastrand::Rng;
use http::Method;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::http::{Connection, Reply};
use crate::options;
use crate::support::api::Api;
use crate::support::cluster::{Node, Start};
use crate::support::context::Context;
use crate::support::wait::until;

/// Clients that write; each has keys of its own.
const WRITERS: usize = 8;
/// Keys of one transaction at the begin.
const LOAD_BATCH: usize = 500;
/// A node is killed after so many acknowledged writes.
const WRITES_BEFORE_KILL: std::ops::Range<u64> = 1..200;
/// Kills between two looks at every key; only what was written meanwhile is looked at after each.
const KILLS_BEFORE_FULL_LOOK: u64 = 250;
/// Writes that are not acknowledged for so long are a fault.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a restart may take, checked where nothing else runs: in a soak.
const RESTART_MAX: Duration = Duration::from_secs(2);

/// How often a key was written.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    /// It was acknowledged, or seen, this often.
    acknowledged: u64,
    tried: u64,
}

/// Which writes a key must and may show, by key.
type Counts = Vec<Count>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost_by_kills() {
    let seed = options::seed().unwrap_or_else(|| Rng::new().u64(..1 << 32));
    let (kills, keys) = (options::kills(), options::keys());
    println!("{kills} kills with {keys} keys: seed {seed} (again: ROO_CHAOS_SEED={seed})");
    let context = Context::new();
    let restarts = kill_again_and_again(&context, seed, kills, keys).await;
    let mut restarts = restarts.unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
    restarts.sort_unstable();
    let ms = |part: f64| restarts[((restarts.len() - 1) as f64 * part) as usize].as_millis();
    let (median, p99, highest) = (ms(0.5), ms(0.99), ms(1.0));
    println!(
        "{kills} kills, 0 acknowledged writes lost; restart: median {median} ms, p99 {p99} ms, highest {highest} ms"
    );
    let in_time = restarts.last().is_some_and(|highest| *highest < RESTART_MAX);
    assert!(in_time || options::soak(1.0).is_none(), "a restart took {highest} ms");
}

/// Gives the time of each restart.
async fn kill_again_and_again(context: &Context, seed: u64, kills: u64, keys: u64) -> Result<Vec<Duration>> {
    let mut random = Rng::with_seed(seed);
    let start = Start::new(context, "node").without_authority().args(["--acme-directory", "off"]);
    let mut node = start.spawn().await?;
    node.ready().await?;
    let mut counts = load(&node.api, usize::try_from(keys)?).await?;
    let mut restarts = Vec::new();
    for kill in 1..=kills {
        let before = counts.clone();
        counts = write_until_killed(&mut node, counts, &mut random).await.with_context(|| format!("kill {kill}"))?;
        let begin = Instant::now();
        node = start.spawn().await?;
        serves(&node.api).await?;
        restarts.push(begin.elapsed());
        if kill % KILLS_BEFORE_FULL_LOOK == 0 || kill == kills {
            look_at_all(&node.api, &mut counts).await.with_context(|| format!("after kill {kill}"))?;
        } else {
            let touched = (0..counts.len()).filter(|key| counts[*key].tried != before[*key].tried).collect();
            look_at(&node.api, &mut counts, touched).await.with_context(|| format!("after kill {kill}"))?;
        }
    }
    Ok(restarts)
}

/// Writes all keys once, many at a time.
async fn load(api: &Api, keys: usize) -> Result<Counts> {
    let all: Vec<usize> = (0..keys).collect();
    for batch in all.chunks(LOAD_BATCH) {
        let puts = batch.iter().map(|key| json!({ "op": "put", "key": name(*key), "text": text(1) }));
        let txn = json!({ "success": puts.collect::<Vec<_>>() }).to_string();
        let answer = api.call(Method::POST, "/roo/v1/txn", txn).await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
    }
    Ok(vec![Count { acknowledged: 1, tried: 1 }; keys])
}

/// Lets all writers write, kills the node meanwhile, and tells what was tried and what was acknowledged.
async fn write_until_killed(node: &mut Node, counts: Counts, random: &mut Rng) -> Result<Counts> {
    let acknowledged = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let own: Vec<Count> = counts.iter().skip(writer).step_by(WRITERS).copied().collect();
        let random = Rng::with_seed(random.u64(..));
        writers.spawn(write_on(node.api.clone(), writer, own, random, Arc::clone(&acknowledged)));
    }
    let enough = random.u64(WRITES_BEFORE_KILL);
    let deadline = Instant::now() + PATIENCE;
    while acknowledged.load(Ordering::Relaxed) < enough {
        ensure!(Instant::now() < deadline, "only {acknowledged:?} of {enough} writes are acknowledged");
        ensure!(node.process.is_running(), "the node ended by itself:\n{}", node.process.output());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    node.process.kill().await?;
    let mut after = counts;
    while let Some(written) = writers.join_next().await {
        let (writer, own) = written??;
        for (place, count) in after.iter_mut().skip(writer).step_by(WRITERS).zip(own) {
            *place = count;
        }
    }
    Ok(after)
}

/// Writes one key after the other until the node is gone.
async fn write_on(
    api: Api,
    writer: usize,
    mut own: Vec<Count>,
    mut random: Rng,
    acknowledged: Arc<AtomicU64>,
) -> Result<(usize, Vec<Count>)> {
    let mut connection = Connection::default();
    loop {
        let place = random.usize(..own.len());
        let count = &mut own[place];
        count.tried += 1;
        if !write(&mut connection, &api, writer + place * WRITERS, count.tried).await? {
            return Ok((writer, own));
        }
        count.acknowledged = count.tried;
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes a key for the n-th time; `false`: there was no answer.
async fn write(connection: &mut Connection, api: &Api, key: usize, n: u64) -> Result<bool> {
    let body = Bytes::from(text(n));
    match connection.send(api, Method::PUT, &path(key), body).await? {
        Reply::Answered(answer) => {
            ensure!(answer.status == 200, "PUT {key}: {} {}", answer.status, answer.text());
            Ok(true)
        }
        Reply::Lost | Reply::Unsent => Ok(false),
    }
}

/// A value of 100 bytes.
fn text(n: u64) -> String {
    format!("{n:0>100}")
}

fn path(key: usize) -> String {
    format!("/roo/v1/kv/{}", name(key))
}

fn name(key: usize) -> String {
    format!("kills/{key:0>8}")
}

/// Waits until the node answers a linearizable read.
async fn serves(api: &Api) -> Result<()> {
    until("the node serves", async || {
        let answer = api.get(&path(0)).await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
        Ok(())
    })
    .await
}

async fn look_at(api: &Api, counts: &mut Counts, keys: Vec<usize>) -> Result<()> {
    let mut connection = Connection::default();
    for key in keys {
        let Reply::Answered(answer) = connection.send(api, Method::GET, &path(key), Bytes::new()).await? else {
            anyhow::bail!("no answer to a read of key {key}");
        };
        ensure!(answer.status == 200, "key {key} of {:?}: {} {}", counts[key], answer.status, answer.text());
        judge(key, &mut counts[key], &answer.body)?;
    }
    Ok(())
}

async fn look_at_all(api: &Api, counts: &mut Counts) -> Result<()> {
    let mut cursor = String::new();
    let mut seen = 0;
    loop {
        let page = api.get(&format!("/roo/v1/kvs/kills/?cursor={cursor}")).await?.json()?;
        let results = page["results"].as_object().with_context(|| format!("no results: {page}"))?;
        for (key, value) in results {
            let place: usize = key.trim_start_matches("kills/").parse()?;
            judge(place, &mut counts[place], &STANDARD.decode(value.as_str().unwrap_or_default())?)?;
        }
        seen += results.len();
        let Some(next) = page["cursor"].as_str() else { break };
        next.clone_into(&mut cursor);
    }
    ensure!(seen == counts.len(), "{seen} of {} keys are there", counts.len());
    Ok(())
}

/// A key shows its last acknowledged write, or a later one that was tried; what was seen must stay.
fn judge(key: usize, count: &mut Count, value: &[u8]) -> Result<()> {
    let n: u64 = std::str::from_utf8(value)?.parse().with_context(|| format!("key {key} has another value"))?;
    ensure!(n >= count.acknowledged, "LOST: key {key} shows write {n}, and {count:?}");
    ensure!(n <= count.tried, "key {key} shows write {n}, and {count:?}");
    count.acknowledged = n;
    Ok(())
}
