//! Clients: each asks one thing after the other over its own connection and notes what it was told, and when.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use fastrand::Rng;
use http::{HeaderMap, Method, StatusCode};
use serde_json::Value as Json;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::history::{Action, Current, Expect, Operation, Outcome, Revision, Value};
use crate::http::{Connection, Reply};
use crate::member::Member;
use crate::support::api::Answer;

/// Keys that are written at the same time: few, so that clients get in each other's way.
const HOT_KEYS: usize = 3;
/// After this the clients go on with other keys, so that no key's history becomes too long to be judged.
const PHASE: Duration = Duration::from_secs(6);
/// Longest pause between two calls.
const PAUSE_MS_MAX: u64 = 16;
/// Range of how long a client waits for an answer.
const PATIENCE_MS: std::ops::Range<u64> = 500..7000;

/// What reads ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    Linearizable,
    /// The lie that the checker must find: stale reads that are noted as linearizable.
    StaleAsLinearizable,
}

impl Reads {
    fn level(self) -> &'static str {
        match self {
            Self::Linearizable => "linearizable",
            Self::StaleAsLinearizable => "stale",
        }
    }
}

/// One client.
pub struct Client {
    number: usize,
    members: Vec<Arc<Member>>,
    /// The node that it asks.
    member: usize,
    connection: Connection,
    random: Rng,
    clock: Clock,
    reads: Reads,
    written: u64,
    /// What it last saw of each hot key.
    seen: [Option<(usize, Value, Revision)>; HOT_KEYS],
    history: Vec<Operation>,
}

impl Client {
    pub fn new(number: usize, members: Vec<Arc<Member>>, random: Rng, clock: Clock, reads: Reads) -> Self {
        let member = number % members.len();
        let (connection, written) = (Connection::default(), 0);
        let (seen, history) = ([None; HOT_KEYS], Vec::new());
        Self { number, members, member, connection, random, clock, reads, written, seen, history }
    }

    /// Works until told to stop.
    pub async fn run(mut self, stop: watch::Receiver<bool>) -> Result<Vec<Operation>> {
        while !*stop.borrow() {
            let phase = usize::try_from(self.clock.elapsed().as_secs() / PHASE.as_secs())?;
            let hot = self.random.usize(..HOT_KEYS);
            let key = phase * HOT_KEYS + hot;
            let action = self.choose(key, hot);
            let patience = Duration::from_millis(self.random.u64(PATIENCE_MS));
            match self.perform(key, action, patience).await? {
                Some(operation) => self.learn(hot, operation),
                None => self.member = self.random.usize(..self.members.len()),
            }
            tokio::time::sleep(Duration::from_millis(self.random.u64(..PAUSE_MS_MAX))).await;
        }
        Ok(self.history)
    }

    /// Reads every key that was written in these operations, once.
    pub async fn read_all(mut self, history: &[Operation]) -> Result<Vec<Operation>> {
        let keys: std::collections::BTreeSet<usize> = history.iter().map(|operation| operation.key).collect();
        for key in keys {
            self.perform(key, Action::Get, FINAL_PATIENCE).await?.context("the node can't be reached")?;
        }
        Ok(self.history)
    }

    fn choose(&mut self, key: usize, hot: usize) -> Action {
        self.written += 1;
        let value = ((self.number as u64 + 1) << 32) | self.written;
        match self.random.u8(..20) {
            0..=8 => Action::Get,
            9..=12 => Action::Put(value),
            13..=14 => Action::Delete,
            kind => match self.seen[hot] {
                Some((of, seen, revision)) if of == key => {
                    let expect = if kind % 2 == 0 { Expect::Revision(revision) } else { Expect::Value(seen) };
                    Action::Swap(expect, value)
                }
                _ => Action::Swap(Expect::Absent, value),
            },
        }
    }

    fn learn(&mut self, hot: usize, operation: Operation) {
        let Operation { key, action, outcome, .. } = operation;
        self.seen[hot] = match (outcome, action.value()) {
            (Outcome::Found(value, revision), _) | (Outcome::Written(revision), Some(value)) => {
                Some((key, value, revision))
            }
            (Outcome::Missing | Outcome::Written(_) | Outcome::Conflict(_), _) => None,
            (Outcome::Refused | Outcome::Unknown, _) => self.seen[hot],
        };
    }

    /// Asks and notes; `None` if nothing could be asked.
    async fn perform(&mut self, key: usize, action: Action, patience: Duration) -> Result<Option<Operation>> {
        let Some(api) = self.members[self.member].api() else { return Ok(None) };
        let (method, path, body) = spoken(key, action, self.reads);
        let called = self.clock.now();
        let sent = tokio::time::timeout(patience, self.connection.send(&api, method, &path, body)).await;
        let returned = self.clock.now();
        let (outcome, store) = match sent {
            Ok(reply) => match reply? {
                Reply::Unsent => return Ok(None),
                // The node is down, or up elsewhere, and its proxy has got the port that its API had.
                Reply::Answered(answer) if answer.headers.contains_key("roo-error") => return Ok(None),
                Reply::Lost => (Outcome::Unknown, None),
                Reply::Answered(answer) => {
                    let outcome = understood(action, &answer).with_context(|| format!("{action:?}: {answer:?}"))?;
                    (outcome, store_revision(&answer.headers))
                }
            },
            Err(_) => {
                self.connection.reset();
                (Outcome::Unknown, None)
            }
        };
        let operation = Operation { client: self.number, key, action, outcome, called, returned, store };
        self.history.push(operation);
        Ok(Some(operation))
    }
}

/// How long reads at the end may take, when nothing is broken any more.
const FINAL_PATIENCE: Duration = Duration::from_secs(30);

/// The name of a key in the store.
pub fn name(key: usize) -> String {
    format!("chaos/{key}")
}

fn spoken(key: usize, action: Action, reads: Reads) -> (Method, String, Bytes) {
    let path = format!("/roo/v1/kv/{}", name(key));
    let text = |value: Value| Bytes::from(value.to_string());
    match action {
        Action::Get => (Method::GET, format!("{path}?level={}", reads.level()), Bytes::new()),
        Action::Put(value) => (Method::PUT, path, text(value)),
        Action::Delete => (Method::DELETE, path, Bytes::new()),
        Action::Swap(Expect::Absent, value) => (Method::PUT, format!("{path}?prev_revision=0"), text(value)),
        Action::Swap(Expect::Revision(revision), value) => {
            (Method::PUT, format!("{path}?prev_revision={revision}"), text(value))
        }
        Action::Swap(Expect::Value(expected), value) => {
            let (key, expected, value) = (name(key), expected.to_string(), value.to_string());
            let txn = serde_json::json!({
                "compare": [{ "key": key, "text": expected }],
                "success": [{ "op": "put", "key": key, "text": value }],
            });
            (Method::POST, "/roo/v1/txn".to_owned(), Bytes::from(txn.to_string()))
        }
    }
}

fn understood(action: Action, answer: &Answer) -> Result<Outcome> {
    if answer.status == StatusCode::OK {
        return succeeded(action, answer);
    }
    let said = answer.json()?;
    match (action, said["code"].as_str().context("an error without a code")?) {
        (_, "outcome-unknown") => Ok(Outcome::Unknown),
        (Action::Get | Action::Delete, "not-found") => Ok(Outcome::Missing),
        (Action::Swap(..), "conflict") => Ok(Outcome::Conflict(current(&answer.headers))),
        // Faults of the harness, which nothing that it breaks explains.
        (_, code) if answer.status.is_client_error() => bail!("{code} was not expected"),
        // Every other error promises that nothing was changed.
        _ => Ok(Outcome::Refused),
    }
}

fn succeeded(action: Action, answer: &Answer) -> Result<Outcome> {
    if action == Action::Get {
        let revision = etag(&answer.headers).context("no revision")?;
        return Ok(Outcome::Found(answer.text().parse()?, revision));
    }
    let said: Json = answer.json()?;
    if let Action::Swap(Expect::Value(_), _) = action
        && said["succeeded"] == false
    {
        return Ok(Outcome::Conflict(Current::Untold));
    }
    let revision = said["revision"].as_u64().context("no revision")?;
    ensure!(revision > 0, "the revision 0");
    Ok(Outcome::Written(revision))
}

/// The revision of a key's last write.
fn etag(headers: &HeaderMap) -> Option<Revision> {
    headers.get("etag")?.to_str().ok()?.trim_matches('"').parse().ok()
}

fn current(headers: &HeaderMap) -> Current {
    match etag(headers) {
        Some(revision) => Current::Revision(revision),
        None => Current::Absent,
    }
}

fn store_revision(headers: &HeaderMap) -> Option<Revision> {
    headers.get("x-roo-revision")?.to_str().ok()?.parse().ok()
}
