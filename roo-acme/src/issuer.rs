//! The loop that runs on every node; whoever holds the claim issues.
//!
//! Check (the schedule), claim, check again (the store, in [`Desk::work`]), order, save fenced, release. Every
//! node decides by itself whether something is due; the claim lets one of them do it.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::agenda::Agenda;
use crate::attempts::Attempts;
use crate::authority::Authority;
use crate::clock::Clock;
use crate::desk::{Desk, Outcome};
use crate::failure::{IssueError, with_sources};
use crate::inventory::{Inventory, Names};
use crate::memory::{Memory, World};
use crate::settings::Settings;
use crate::vault::{Claim, Vault, VaultError};
use crate::wish::Wishes;

/// Gets and renews certificates for all wanted names, together with the issuers of the other nodes.
pub struct Issuer<V> {
    vault: Arc<V>,
    authority: Authority,
    inputs: Inputs,
    settings: Settings,
}

impl<V: Vault> Issuer<V> {
    /// An issuer that does nothing until [`Issuer::run`].
    ///
    /// `wanted` are the names to be served over TLS, lower-case; `have` the certificates in the store by name;
    /// `nudges` names that a handshake waits for: they are put first, never ordered unless wanted.
    pub fn new(
        vault: Arc<V>,
        authority: Authority,
        wanted: watch::Receiver<Names>,
        have: watch::Receiver<Inventory>,
        nudges: mpsc::Receiver<String>,
    ) -> Self {
        // Nobody wishes for anything: a channel that is closed.
        let wishes = watch::channel(Wishes::default()).1;
        Self { vault, authority, inputs: Inputs { wanted, have, wishes, nudges }, settings: Settings::default() }
    }

    /// Follows what people ask for: the wishes in the store.
    #[must_use]
    pub fn with_wishes(mut self, wishes: watch::Receiver<Wishes>) -> Self {
        self.inputs.wishes = wishes;
        self
    }

    /// Replaces the default times and bounds.
    #[must_use]
    pub fn with_settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Runs until `shutdown`; then stops its orders where they are (another node continues them), gives the
    /// claim back and returns. Never fails: what goes wrong is logged and tried again. If the future is dropped
    /// instead, the claim runs out by itself after [`Settings::claim_ttl`].
    pub async fn run(mut self, shutdown: CancellationToken) {
        if self.authority == Authority::Off {
            return shutdown.cancelled().await;
        }
        let mut notes = Notes::default();
        notes.memory.retires = self.settings.retire_after.is_some();
        notes.memory.clock = self.settings.clock.clone();
        let mut reachable = true;
        while !shutdown.is_cancelled() {
            self.take_stock(&mut notes).await;
            self.look(&mut notes);
            if !notes.memory.is_due() {
                let pause = self.pause(&notes);
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = self.inputs.changed(&mut notes) => {}
                    () = sleep(pause) => {}
                }
                continue;
            }
            let asked_at = Instant::now();
            let claimed = tokio::select! {
                () = shutdown.cancelled() => return,
                claimed = self.vault.claim(CLAIM, self.settings.claim_ttl) => claimed,
            };
            report_reachable(&claimed, &mut reachable);
            match claimed {
                Ok(Some(claim)) => self.lead(&mut notes, claim, asked_at, &shutdown).await,
                Ok(None) | Err(_) => self.wait_for_claim(&shutdown).await,
            }
        }
    }

    /// Issues whatever is due, several names at once, until nothing is or the claim is lost.
    async fn lead(&mut self, notes: &mut Notes, claim: Claim, claimed_at: Instant, shutdown: &CancellationToken) {
        let vault = self.vault.clone();
        let mut kept = pin!(keep_until_lost(vault.as_ref(), &claim, claimed_at, self.settings.claim_ttl));
        let desk = Arc::new(self.desk(claim.clone()));
        let mut jobs = Jobs::default();
        let mut lost = match desk.open_books().await {
            Ok(()) => false,
            Err(error) => {
                tracing::warn!(
                    error = with_sources(&error),
                    "what CAs allow can't be read; nothing is ordered until it can"
                );
                true
            }
        };
        while !lost {
            self.take_stock(notes).await;
            notes.memory.note_silent(&self.authority, desk.silent());
            self.look(notes);
            while jobs.len() < self.settings.concurrent_orders_max.max(1) {
                let busy = jobs.names();
                let Some(name) = notes.memory.next(&busy) else { break };
                let wanted = self.is_wanted(&name);
                if !wanted && self.settings.retire_after.is_none() {
                    break;
                }
                jobs.start(&desk, name, wanted);
            }
            if jobs.len() == 0 {
                break;
            }
            let pause = self.pause(notes);
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = &mut kept => lost = true,
                () = self.inputs.changed(notes) => {}
                () = sleep(pause) => {}
                Some((name, outcome)) = jobs.next(&desk.settings.clock) => match outcome {
                    Outcome::ClaimLost => lost = true,
                    outcome => {
                        notes.memory.note(&self.authority, name, outcome);
                        notes.agenda.touch();
                    }
                },
            }
        }
        let settled = tokio::select! {
            settled = desk.settled(), if !lost => settled,
            () = &mut kept, if !lost => {
                lost = true;
                None
            }
            else => None,
        };
        jobs.stop().await;
        drop(settled);
        if lost {
            tracing::warn!("the claim to issue is lost; orders in flight are left to its next holder");
        } else {
            self.release(claim.clone()).await;
        }
    }

    /// Whether a name is to be served, or its certificate to be revoked, which needs no route.
    fn is_wanted(&self, name: &str) -> bool {
        let revoked = || self.inputs.wishes.borrow().get(name).is_some_and(|wish| wish.revoke.is_some());
        self.inputs.wanted.borrow().contains(name) || revoked()
    }

    fn desk(&self, claim: Claim) -> Desk<V> {
        Desk::new(self.vault.clone(), self.authority.clone(), self.settings.clone(), claim)
    }

    /// Asks now and then what was left behind of names that nobody wants.
    async fn take_stock(&self, notes: &mut Notes) {
        let now = self.settings.clock.now();
        if self.settings.retire_after.is_none() || !notes.memory.wants_kept(now) {
            return;
        }
        let kept = async { Ok::<_, VaultError>((self.vault.names().await?, self.vault.unused().await?)) };
        match kept.await {
            Ok((names, marked)) => {
                notes.memory.note_kept(names, marked, now);
                notes.agenda.touch();
            }
            Err(error) => tracing::debug!(%error, "what was left behind is looked for later"),
        }
    }

    fn pause(&self, notes: &Notes) -> Duration {
        notes.agenda.pause(self.settings.clock.now(), notes.memory.wakes_at(), self.settings.look_again)
    }

    fn look(&mut self, notes: &mut Notes) {
        let Notes { memory, agenda } = notes;
        let inputs = &mut self.inputs;
        agenda.look(|| {
            // A closed input never changes.
            if inputs.wanted.has_changed().unwrap_or_default() {
                memory.note_wanted();
            }
            let world = World {
                wanted: inputs.wanted.borrow_and_update().clone(),
                have: inputs.have.borrow_and_update().clone(),
                wishes: inputs.wishes.borrow_and_update().clone(),
            };
            memory.look(&self.authority, world);
        });
    }

    /// Not woken by changes: with many nodes and many names that would be a storm of claims.
    async fn wait_for_claim(&self, shutdown: &CancellationToken) {
        let pause = self.settings.claim_retry.mul_f64(1.0 + fastrand::f64());
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = sleep(pause) => {}
        }
    }

    async fn release(&self, claim: Claim) {
        let released = timeout(self.settings.claim_ttl, self.vault.release(claim)).await;
        if let Ok(Err(error)) = released {
            let error = with_sources(&error);
            tracing::debug!(error, "the claim was not given back and runs out by itself");
        }
    }
}

/// What an issuer knows besides what it is told; all of it can be forgotten.
#[derive(Default)]
struct Notes {
    memory: Memory,
    agenda: Agenda,
}

/// What wakes an issuer.
struct Inputs {
    wanted: watch::Receiver<Names>,
    have: watch::Receiver<Inventory>,
    wishes: watch::Receiver<Wishes>,
    nudges: mpsc::Receiver<String>,
}

impl Inputs {
    /// Waits for a change; safe to drop. A closed input never changes.
    async fn changed(&mut self, notes: &mut Notes) {
        tokio::select! {
            Ok(()) = self.wanted.changed() => {
                notes.memory.note_wanted();
                notes.agenda.touch();
            }
            Ok(()) = self.have.changed() => notes.agenda.touch(),
            Ok(()) = self.wishes.changed() => notes.agenda.touch(),
            Some(name) = self.nudges.recv() => {
                notes.memory.asked_for(name);
                notes.agenda.touch();
            }
            else => std::future::pending().await,
        }
    }
}

/// The jobs in flight under one claim. Dropping it stops them.
#[derive(Default)]
struct Jobs {
    running: JoinSet<Outcome>,
    names: BTreeMap<Id, String>,
}

impl Jobs {
    fn len(&self) -> usize {
        self.names.len()
    }

    fn names(&self) -> BTreeSet<String> {
        self.names.values().cloned().collect()
    }

    fn start<V: Vault>(&mut self, desk: &Arc<Desk<V>>, name: String, wanted: bool) {
        let (desk, job_name) = (desk.clone(), name.clone());
        let task = self.running.spawn(async move {
            match desk.settings.retire_after {
                Some(grace) if !wanted => desk.retire(&job_name, grace).await,
                _ => desk.work(&job_name).await,
            }
        });
        self.names.insert(task.id(), name);
    }

    /// The next job to end; safe to drop. A job that panicked counts as refused, without being stored.
    async fn next(&mut self, clock: &Clock) -> Option<(String, Outcome)> {
        let (id, outcome) = match self.running.join_next_with_id().await? {
            Ok((id, outcome)) => (id, outcome),
            Err(error) => (error.id(), panicked(clock.now())),
        };
        Some((self.names.remove(&id)?, outcome))
    }

    async fn stop(mut self) {
        self.running.shutdown().await;
    }
}

/// Keeps `claim` for as long as it can; returns when it is lost, or cannot be known to be ours any more.
pub(crate) async fn keep_until_lost<V: Vault>(vault: &V, claim: &Claim, claimed_at: Instant, ttl: Duration) {
    let mut ours_until = claimed_at + ttl;
    loop {
        sleep(ttl / 4).await;
        let asked_at = Instant::now();
        match timeout(ttl / 4, vault.keep(claim)).await {
            Ok(Ok(())) => ours_until = asked_at + ttl,
            Ok(Err(VaultError::ClaimLost { .. })) => return,
            // Stop in time, not when the next node may have begun.
            Ok(Err(_)) | Err(_) if Instant::now() + ttl / 4 >= ours_until => return,
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

fn panicked(now: Timestamp) -> Outcome {
    let failure = IssueError::Panicked.failure(now);
    tracing::error!(error = failure.error, "a job panicked");
    let attempts = Attempts::after(None, &failure, now, fastrand::f64(), None);
    Outcome::Failed { attempts, pause_until: None }
}

/// Says once when the store stops answering and once when it answers again.
fn report_reachable(claimed: &Result<Option<Claim>, VaultError>, reachable: &mut bool) {
    match claimed {
        Ok(_) if !*reachable => tracing::info!("the store answers again; certificates are issued"),
        Err(error) if *reachable => {
            let error = with_sources(error);
            tracing::warn!(error, "no certificate can be issued until the store answers");
        }
        _ => {}
    }
    *reachable = claimed.is_ok();
}

/// What an issuer claims before it works: see [`Vault::claim`].
pub const CLAIM: &str = "issuer";
