//! Brings a node that was given no secret to the one that the others of its service have.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::ask::{AskError, Asker};
use super::channel::Gift;
use super::choose::choose;
use super::{Kin, KinNetwork, KinTask, Kinship};
use crate::formation::Clearance;
use crate::identity::Standing;
use crate::runtime::blocking;
use crate::secret::{Secret, SecretId};

/// Between rounds of a node that is in no cluster yet.
const PAUSE: Duration = Duration::from_millis(500);

/// Between rounds of a member that may have to give its cluster up, being alone in it.
const UNSETTLED_PAUSE: Duration = Duration::from_secs(3);

/// Between rounds of any other member.
const MEMBER_PAUSE: Duration = Duration::from_secs(60);

/// Tasks asked at once.
const ASKED_MAX: usize = 16;

/// Asks the other tasks, round after round.
pub(super) struct Driver {
    pub(super) kinship: Kinship,
    pub(super) asker: Asker,
    /// How many nodes a person said to expect; zero: as many as the orchestrator says.
    pub(super) expect: usize,
}

impl Driver {
    /// Runs until the node stops.
    pub(super) async fn run(self) {
        let stop = self.kinship.node.stop.clone();
        let mut complained = false;
        let rounds = async {
            loop {
                let pause = if self.kinship.node.identity.cluster().is_none() {
                    self.form(&mut complained).await;
                    PAUSE
                } else if !self.kinship.node.is_settled() {
                    self.look_for_rivals().await;
                    UNSETTLED_PAUSE
                } else {
                    // One looks for all.
                    if self.kinship.node.leading().is_some() {
                        self.look_for_rivals().await;
                    }
                    MEMBER_PAUSE
                };
                tokio::time::sleep(pause).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = rounds => {}
        }
    }

    /// Takes the secret of the others, and says what the formation of the cluster may do.
    async fn form(&self, complained: &mut bool) {
        let clearance = match self.kinship.orchestrator.kin().await {
            Ok(kin) => self.form_with(&kin).await,
            Err(what) => Clearance::Wait(what),
        };
        if let Clearance::Wait(what) = &clearance
            && !std::mem::replace(complained, true)
        {
            tracing::warn!("nobody gave this node a secret, and it waits for {what}");
        }
        self.kinship.node.clear(clearance);
    }

    async fn form_with(&self, kin: &Kin) -> Clearance {
        // Of several networks the one where others are counts.
        let by_others = |network: &&KinNetwork| network.others.len();
        if let Some(network) = kin.networks.iter().max_by_key(by_others) {
            self.kinship.node.own_address.told(network.own.address);
        }
        let answers = self.ask(kin).await;
        let withheld = answers.iter().find_map(|(address, answer)| match answer {
            Err(error @ AskError::NoHandshake(_)) => Some(format!("the secret of the other tasks: {address} {error}")),
            _ => None,
        });
        let (addresses, offers): (Vec<SocketAddr>, Vec<Gift>) =
            answers.into_iter().filter_map(|(address, answer)| Some((address, answer.ok()?))).unzip();
        self.release(&offers).await;
        if let Some(chosen) = choose(self.current(), &offers) {
            self.adopt(chosen).await;
        }
        // The rest would refuse this node, and come to the same secret in a moment.
        let same = addresses.iter().zip(&offers).filter(|(_, offer)| offer.secret_id == self.current());
        let others = same.map(|(address, _)| address.to_string()).collect();
        match withheld {
            Some(what) => Clearance::Wait(what),
            None => self.clearance(kin, others).await,
        }
    }

    fn current(&self) -> SecretId {
        self.kinship.keyring.secrets().current().id()
    }

    async fn clearance(&self, kin: &Kin, others: Vec<String>) -> Clearance {
        let service = &kin.service;
        let meant = self.kinship.orchestrator.meant().await;
        let lacks = match &meant {
            Ok(Some(_)) => None,
            Ok(None) => Some(format!(
                "a task of {service} on a manager, for only managers are told how many there are: have one run there, or set \
                 ROO_EXPECT"
            )),
            Err(why) => {
                Some(format!("word of how many tasks of {service} there are meant to be ({why}), or ROO_EXPECT"))
            }
        };
        match lacks {
            Some(lacks) if self.expect == 0 => Clearance::Join { others, lacks },
            _ => {
                let running = kin.networks.iter().map(|network| network.others.len() + 1).max();
                let counts = [Some(self.expect), meant.ok().flatten(), running];
                Clearance::Found { others, expect: counts.into_iter().flatten().max().unwrap_or(1) }
            }
        }
    }

    /// Takes a grant back when the one who was to found with it says that it does not. By greeting it would not be heard, for
    /// it may go by another secret by now.
    async fn release(&self, offers: &[Gift]) {
        let standing = self.kinship.node.identity.standing();
        let Standing::Promised { initiator, cluster, .. } = standing else { return };
        if offers.iter().any(|offer| offer.node == initiator && !offer.is_for(cluster)) {
            let identity = Arc::clone(&self.kinship.node.identity);
            let released = blocking(move || identity.replace(&standing, Standing::Pristine)).await;
            if let Err(error) = released {
                tracing::error!(%error, "cannot write to the data directory");
            }
        }
    }

    /// Two that did not see each other may each have founded a cluster.
    async fn look_for_rivals(&self) {
        let Ok(kin) = self.kinship.orchestrator.kin().await else { return };
        for (address, answer) in self.ask(&kin).await {
            if let Ok(gift) = answer
                && let Some(cluster) = gift.cluster()
            {
                self.kinship.node.meet_rival(cluster, &address.to_string(), gift.settled);
            }
        }
    }

    async fn ask(&self, kin: &Kin) -> Vec<(SocketAddr, Result<Gift, AskError>)> {
        let pairs: Vec<(KinTask, KinTask)> = kin.others().map(|(own, other)| (own.clone(), other.clone())).collect();
        let asking = stream::iter(pairs).map(|(own, other)| async move {
            let address = self.asker.target(other.address);
            let answer = self.asker.ask(&own, &other).await;
            if let Err(error) = &answer {
                tracing::debug!(%address, %error, "a task of this service gave no secret");
            }
            (address, answer)
        });
        asking.buffer_unordered(ASKED_MAX).collect().await
    }

    async fn adopt(&self, gift: &Gift) {
        let secret = match Secret::from_text(&gift.secret) {
            Ok(secret) => secret,
            Err(error) => return tracing::error!(%error, "the secret of another task can't be used"),
        };
        let (identity, keyring) = (Arc::clone(&self.kinship.node.identity), Arc::clone(&self.kinship.keyring));
        let from = gift.cluster();
        match blocking(move || identity.adopt(from, || keyring.adopt(&secret))).await {
            Ok(true) => {
                tracing::info!(secret = %gift.secret_id, "goes by the secret of the other tasks of this service")
            }
            // It has come into a cluster since it asked, or others count on it for one.
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "can't write the secret of the other tasks down; it is tried again"),
        }
    }
}
