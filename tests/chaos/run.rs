//! One run: a cluster, its clients and its faults; then recovery, and the verdict on what the clients saw.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::client::{Client, Reads};
use crate::clock::Clock;
use crate::history::{Operation, Outcome};
use crate::links::Links;
use crate::member::Member;
use crate::nemesis::Nemesis;
use crate::support::context::Context;
use crate::support::wait::until;
use crate::{linearizability, revisions, schedule, shim};

/// Clients at each node.
const CLIENTS: usize = 2;

/// What a run is made of.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    pub seed: u64,
    pub nodes: usize,
    /// For how long faults begin.
    pub duration: Duration,
    pub reads: Reads,
}

/// What came of it.
pub struct Report {
    pub history: Vec<Operation>,
    /// Changes of the membership that were made.
    pub changes: usize,
    /// Why the history is wrong, if it is.
    pub verdict: Result<(), String>,
}

impl Report {
    /// How many operations have an answer.
    pub fn done(&self) -> usize {
        self.history.len() - self.count(Outcome::Unknown) - self.count(Outcome::Refused)
    }

    /// How many operations had which outcome.
    pub fn summary(&self) -> String {
        let (unknown, refused) = (self.count(Outcome::Unknown), self.count(Outcome::Refused));
        let verdict = if self.verdict.is_ok() { "linearizable" } else { "NOT linearizable" };
        format!(
            "{} operations done, {unknown} of unknown outcome, {refused} refused, {} members changed: {verdict}",
            self.done(),
            self.changes,
        )
    }

    fn count(&self, outcome: Outcome) -> usize {
        self.history.iter().filter(|operation| operation.outcome == outcome).count()
    }
}

impl Run {
    /// Runs it. A wrong history is no error, but stands in the report.
    ///
    /// # Errors
    /// The cluster did not start or did not recover, or something else than was broken broke.
    pub async fn run(&self, context: &Context) -> Result<Report> {
        // One more than found the cluster: it joins under way.
        let all = self.nodes + 1;
        let links = Arc::new(Links::start(all).await?);
        let shim = shim::compile(context.dir())?;
        let members = (0..all).map(|number| Member::plan(context, &shim, &links, number, self.nodes).map(Arc::new));
        let members: Vec<Arc<Member>> = members.collect::<Result<_>>()?;
        let founders = &members[..self.nodes];
        for member in founders {
            member.start().await?;
        }
        for member in founders {
            member.ready().await?;
        }

        let clock = Clock::start();
        let (stop, stopped) = watch::channel(false);
        let client = |number: usize| {
            let random = Rng::with_seed(self.seed.wrapping_mul(1000).wrapping_add(number as u64));
            Client::new(number, members.clone(), random, clock, self.reads)
        };
        let mut clients = JoinSet::new();
        for number in 0..self.nodes * CLIENTS {
            clients.spawn(client(number).run(stopped.clone()));
        }
        let steps = schedule::draw(self.seed, self.nodes, self.duration);
        let nemesis = Nemesis::new(members.clone(), Arc::clone(&links));
        tokio::try_join!(nemesis.run(steps), nemesis.grow(self.duration / 4))?;
        recovered(&members).await.context("everything is whole again")?;
        stop.send_replace(true);
        let mut history = Vec::new();
        while let Some(operations) = clients.join_next().await {
            history.extend(operations??);
        }
        let last = client(self.nodes * CLIENTS).read_all(&history).await?;
        history.extend(last);
        agreed(&members).await?;
        for member in &members {
            member.control.check_used()?;
        }

        let verdict = revisions::check(&history).and_then(|()| linearizability::check(&history));
        if verdict.is_err() {
            write_down(context, &history)?;
        }
        Ok(Report { history, changes: nemesis.changes.into_inner(), verdict })
    }
}

/// Waits until all nodes are ready.
async fn recovered(members: &[Arc<Member>]) -> Result<()> {
    for member in members {
        member.check_running().await.with_context(|| format!("node {}", member.number))?;
        member.ready().await.with_context(|| format!("node {}", member.number))?;
    }
    Ok(())
}

/// Waits until all nodes, each asked for what it has itself, have the same.
async fn agreed(members: &[Arc<Member>]) -> Result<()> {
    until("all nodes have the same revision and content", async || {
        let mut first = None;
        for member in members {
            let api = member.api().context("it never started")?;
            let page = api.get("/roo/v1/kvs?level=stale").await?.json()?;
            ensure!(page["revision"].is_u64() && page["cursor"].is_null(), "not everything on one page: {page}");
            let first = first.get_or_insert_with(|| page.clone());
            ensure!(*first == page, "node {} has\n{page}\nand node 0 has\n{first}", member.number);
        }
        Ok(())
    })
    .await
}

fn write_down(context: &Context, history: &[Operation]) -> Result<()> {
    let mut sorted = history.to_vec();
    sorted.sort_by_key(|operation| operation.called);
    let mut text = String::new();
    for operation in sorted {
        writeln!(text, "{operation}")?;
    }
    Ok(std::fs::write(context.path("history"), text)?)
}
