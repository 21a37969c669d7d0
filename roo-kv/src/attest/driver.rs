//! Brings a node that was given no secret to the one that the others of its service have.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::ask::{AskError, Asker};
use super::channel::Gift;
use super::choose::choose;
use super::{Kin, KinTask, Kinship};
use crate::formation::Clearance;
use crate::runtime::blocking;
use crate::secret::{Secret, SecretId};

/// Between rounds of a node that is in no cluster yet.
const PAUSE: Duration = Duration::from_millis(500);

/// Between rounds of a member that may have to give its cluster up, being alone in it.
const MEMBER_PAUSE: Duration = Duration::from_secs(3);

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
    /// Runs until the node stops, or needs nobody's secret any more.
    pub(super) async fn run(self) {
        let stop = self.kinship.node.stop.clone();
        let rounds = async {
            while self.is_needed() {
                let member = self.kinship.node.identity.cluster().is_some();
                if member {
                    self.look_for_rivals().await
                } else {
                    self.form().await
                }
                tokio::time::sleep(if member { MEMBER_PAUSE } else { PAUSE }).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = rounds => {}
        }
    }

    /// A cluster of several nodes, or one that holds something, is never given up.
    fn is_needed(&self) -> bool {
        self.kinship.node.identity.cluster().is_none() || !self.kinship.node.is_settled()
    }

    /// Takes the secret of the others, and says what the formation of the cluster may do.
    async fn form(&self) {
        let kin = match self.kinship.orchestrator.kin().await {
            Ok(kin) => kin,
            Err(what) => return self.kinship.node.clear(Clearance::Wait(what)),
        };
        for network in &kin.networks {
            self.kinship.node.own_address.told(network.own.address);
        }
        let answers = self.ask(&kin).await;
        let withheld = answers.iter().find_map(|(address, answer)| match answer {
            Err(error @ AskError::NoHandshake(_)) => Some(format!("the secret of the other tasks: {address} {error}")),
            _ => None,
        });
        let (addresses, offers): (Vec<SocketAddr>, Vec<Gift>) =
            answers.into_iter().filter_map(|(address, answer)| Some((address, answer.ok()?))).unzip();
        if let Some(chosen) = choose(self.current(), &offers) {
            self.adopt(chosen).await;
        }
        // The rest would refuse this node, and come to the same secret in a moment.
        let same = addresses.iter().zip(&offers).filter(|(_, offer)| offer.secret_id == self.current());
        let others = same.map(|(address, _)| address.to_string()).collect();
        let clearance = withheld.map_or_else(|| self.clearance(&kin, others), Clearance::Wait);
        self.kinship.node.clear(clearance);
    }

    fn current(&self) -> SecretId {
        self.kinship.keyring.secrets().current().id()
    }

    fn clearance(&self, kin: &Kin, others: Vec<String>) -> Clearance {
        let meant = if self.expect > 0 { Some(self.expect) } else { kin.meant };
        match meant {
            Some(expect) => Clearance::Found { expect, others },
            None => Clearance::Join {
                others,
                lacks: format!("a task of {} on a manager, which alone is told how many there are", kin.service),
            },
        }
    }

    /// A member that is alone may have founded its cluster while it did not see the others.
    async fn look_for_rivals(&self) {
        let Ok(kin) = self.kinship.orchestrator.kin().await else { return };
        for (address, answer) in self.ask(&kin).await {
            if let Ok(gift) = answer
                && let Some(cluster) = gift.cluster
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
        let keyring = Arc::clone(&self.kinship.keyring);
        match blocking(move || keyring.adopt(&secret)).await {
            Ok(()) => tracing::info!(secret = %gift.secret_id, "goes by the secret of the other tasks of this service"),
            Err(error) => tracing::error!(%error, "can't write the secret of the other tasks down; it is tried again"),
        }
    }
}
