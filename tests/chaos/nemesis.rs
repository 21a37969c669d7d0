//! Carries out a schedule of faults.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use http::Method;
use tokio::time::Instant;

use crate::links::{Links, Way};
use crate::member::Member;
use crate::schedule::{Fault, Step, Victim};

/// How long a node may take to tell who leads.
const STATUS_PATIENCE: Duration = Duration::from_millis(200);

/// How long a change of the membership may take before another node is asked.
const CHANGE_PATIENCE: Duration = Duration::from_secs(8);

/// How long a change may take that must happen: longer than faults go on.
const INSISTENCE: Duration = Duration::from_secs(180);

/// Between two attempts at it.
const INSIST_PAUSE: Duration = Duration::from_millis(200);

/// Tries again until it is done.
async fn insist(start: Instant, what: &str, mut done: impl AsyncFnMut() -> bool) -> Result<()> {
    while !done().await {
        ensure!(start.elapsed() < INSISTENCE, "waited {} s in vain: {what}", INSISTENCE.as_secs());
        tokio::time::sleep(INSIST_PAUSE).await;
    }
    Ok(())
}

/// Breaks what it is told to, and mends it again.
pub struct Nemesis {
    members: Vec<Arc<Member>>,
    links: Arc<Links>,
    /// Changes of the membership that were made.
    pub changes: AtomicUsize,
}

impl Nemesis {
    pub fn new(members: Vec<Arc<Member>>, links: Arc<Links>) -> Self {
        Self { members, links, changes: AtomicUsize::new(0) }
    }

    /// Carries out all steps, each at its time, several at once. Everything is whole when it returns.
    pub async fn run(&self, steps: Vec<Step>) -> Result<()> {
        let start = Instant::now();
        let faults = steps.into_iter().map(|step| async move {
            tokio::time::sleep_until(start + step.at).await;
            self.perform(step).await
        });
        futures_util::future::try_join_all(faults).await.map(drop)
    }

    /// Starts the last member, which founded nothing, while faults go on. When it has joined, a founder gives up its vote,
    /// which the newcomer can then take.
    pub async fn grow(&self, after: Duration) -> Result<()> {
        tokio::time::sleep(after).await;
        let start = Instant::now();
        let (Some(newcomer), Some(founder)) = (self.members.last(), self.members.first()) else { return Ok(()) };
        newcomer.start().await?;
        insist(start, "the newcomer joins", async || newcomer.is_ready().await).await?;
        println!("{:>8} ms after its start a newcomer has joined", start.elapsed().as_millis());
        self.changes.fetch_add(1, Ordering::Relaxed);
        let change = async |verb: &str| match founder.id().await {
            Some(id) => self.ask(Method::POST, &format!("/roo/v1/nodes/{id}/{verb}")).await,
            None => false,
        };
        insist(start, "a founder gives up its vote", async || change("demote").await).await?;
        // It may be refused if the newcomer has the place.
        change("promote").await;
        Ok(())
    }

    async fn perform(&self, Step { at, fault, lasts }: Step) -> Result<()> {
        println!("{:>8} ms, for {:>4} ms: {fault:?}", at.as_millis(), lasts.as_millis());
        match fault {
            Fault::Kill(victim) => self.member(victim).await.kill_for(lasts).await,
            Fault::Stop(victim) => self.member(victim).await.stop_for(lasts).await,
            Fault::KillAll => {
                let kills = self.members.iter().map(|member| member.kill_for(lasts));
                futures_util::future::try_join_all(kills).await.map(drop)
            }
            Fault::Pause(victim) => {
                let member = self.member(victim).await;
                member.signal("STOP").await?;
                tokio::time::sleep(lasts).await;
                member.signal("CONT").await
            }
            Fault::Isolate(victim) => {
                let node = self.member(victim).await.number;
                self.cut(lasts, |from, to| from == node || to == node).await
            }
            Fault::Deafen(victim) => {
                let node = self.member(victim).await.number;
                self.cut(lasts, |_, to| to == node).await
            }
            Fault::Mute(victim) => {
                let node = self.member(victim).await.number;
                self.cut(lasts, |from, _| from == node).await
            }
            Fault::Split(side) => self.cut(lasts, |from, to| (side >> from) & 1 != (side >> to) & 1).await,
            Fault::CutOneWay(one, other) => self.cut(lasts, |from, to| (from, to) == (one, other)).await,
            Fault::Delay(victim, delay) => {
                let node = self.member(victim).await.number;
                self.change(|from, _| from == node, |way| way.delay += delay);
                tokio::time::sleep(lasts).await;
                self.change(|from, _| from == node, |way| way.delay -= delay);
                Ok(())
            }
            Fault::Narrow(victim) => {
                let node = self.member(victim).await.number;
                self.change(|from, _| from == node, |way| way.narrow += 1);
                tokio::time::sleep(lasts).await;
                self.change(|from, _| from == node, |way| way.narrow -= 1);
                Ok(())
            }
            Fault::Break(victim) => {
                self.links.break_all(self.member(victim).await.number);
                Ok(())
            }
            Fault::SlowDisk(victim, delay) => {
                let member = self.member(victim).await;
                member.control.slow_disk(delay)?;
                tokio::time::sleep(lasts).await;
                member.control.slow_disk(Duration::ZERO)
            }
            Fault::StallDisk(victim) => {
                let member = self.member(victim).await;
                member.control.stall_disk(true)?;
                tokio::time::sleep(lasts).await;
                member.control.stall_disk(false)
            }
            Fault::Clock(victim, seconds) => {
                let member = self.member(victim).await;
                member.control.shift_clock(seconds)?;
                tokio::time::sleep(lasts).await;
                member.control.shift_clock(0)
            }
            Fault::Demote(victim) => {
                let member = self.member(victim).await;
                let Some(id) = member.id().await else { return Ok(()) };
                self.ask(Method::POST, &format!("/roo/v1/nodes/{id}/demote")).await;
                tokio::time::sleep(lasts).await;
                self.ask(Method::POST, &format!("/roo/v1/nodes/{id}/promote")).await;
                Ok(())
            }
            Fault::Remove(victim) => {
                let member = self.member(victim).await;
                member.leave_for(lasts, false, self.remove(member)).await
            }
            Fault::Replace(victim) => {
                let member = self.member(victim).await;
                member.leave_for(lasts, true, self.remove(member)).await
            }
            Fault::Transfer(victim) => {
                if let Some(id) = self.member(victim).await.id().await {
                    self.ask(Method::POST, &format!("/roo/v1/nodes/{id}/transfer")).await;
                }
                Ok(())
            }
        }
    }

    /// Whether the node was surely removed.
    async fn remove(&self, member: &Member) -> bool {
        let Some(id) = member.id().await else { return false };
        self.ask(Method::DELETE, &format!("/roo/v1/nodes/{id}?force=true")).await
    }

    /// Asks one node after the other for a change of the membership, until one answers; whether it was made. The
    /// nodes may refuse, since it could cost the quorum.
    async fn ask(&self, method: Method, path: &str) -> bool {
        for member in &self.members {
            let Some(api) = member.api() else { continue };
            let asked = tokio::time::timeout(CHANGE_PATIENCE, api.call(method.clone(), path, ""));
            if let Ok(Ok(answer)) = asked.await {
                println!("{method} {path}: {} {}", answer.status, answer.text().trim());
                if answer.status == 200 {
                    self.changes.fetch_add(1, Ordering::Relaxed);
                }
                return answer.status == 200;
            }
        }
        false
    }

    async fn cut(&self, lasts: Duration, chosen: impl Fn(usize, usize) -> bool) -> Result<()> {
        self.change(&chosen, |way| way.cuts += 1);
        tokio::time::sleep(lasts).await;
        self.change(&chosen, |way| way.cuts -= 1);
        Ok(())
    }

    fn change(&self, chosen: impl Fn(usize, usize) -> bool, change: impl Fn(&mut Way)) {
        let nodes = self.members.len();
        let ways = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
        for (from, to) in ways.filter(|(from, to)| from != to && chosen(*from, *to)) {
            self.links.change(from, to, &change);
        }
    }

    async fn member(&self, victim: Victim) -> &Member {
        match victim {
            Victim::Node(node) => &self.members[node],
            Victim::Leader => self.leader().await,
        }
    }

    /// Who leads as far as can be told; the first one if nobody says so.
    async fn leader(&self) -> &Member {
        for member in &self.members {
            let Some(api) = member.api() else { continue };
            if let Ok(Ok(status)) = tokio::time::timeout(STATUS_PATIENCE, api.status()).await
                && status["role"] == "leader"
            {
                return member;
            }
        }
        &self.members[0]
    }
}
