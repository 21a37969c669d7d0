//! Proving a name: the answer is shown by all nodes, or by the DNS, before the CA is asked to look, and taken back afterwards.

use crate::acme::{Fault, Proof, Stage};
use crate::authority::AcmeConfig;
use crate::challenge::Challenge;
use crate::desk::Desk;
use crate::failure::{IssueError, with_sources};
use crate::order::Work;
use crate::vault::{Answer, Vault};

impl<V: Vault> Desk<V> {
    /// Has the CA find `name` proven, by the first kind of challenge that it offers. Of an order that is past this,
    /// only what was left behind is taken back.
    pub(crate) async fn prove(&self, config: &AcmeConfig, name: &str, work: &mut Work) -> Result<(), IssueError> {
        let (kind, proofs) = work.order.proofs(&work.kinds).await?;
        self.note_challenge(name, work, kind).await?;
        let result = match work.order.stage() {
            Stage::Pending => self.shown(config, name, kind, &proofs, work).await,
            _ => Ok(()),
        };
        self.retract(proofs.iter().filter_map(|proof| answer(name, kind, proof))).await;
        self.clean_up(config, name, work.records()).await;
        result
    }

    async fn shown(
        &self,
        config: &AcmeConfig,
        name: &str,
        kind: Challenge,
        proofs: &[Proof],
        work: &mut Work,
    ) -> Result<(), IssueError> {
        if kind == Challenge::Dns01 {
            self.write_records(config, name, proofs, work).await?;
        }
        let awaited = proofs.iter().filter(|proof| proof.awaited);
        for answer in awaited.filter_map(|proof| answer(name, kind, proof)) {
            self.vault.publish_answer(&answer, &self.claim).await?;
        }
        work.order.answers_are_published(kind).await?;
        match work.order.validated(self.settings.order_timeout).await {
            Err(fault @ (Fault::Refused { .. } | Fault::Unwilling { .. })) => {
                Err(IssueError::Unproven { challenge: kind, another: work.kinds.len() > 1, fault })
            }
            validated => Ok(validated?),
        }
    }

    /// Best effort: an answer left behind is useless to anybody else and ends by itself.
    async fn retract(&self, answers: impl Iterator<Item = Answer>) {
        for answer in answers {
            if let Err(error) = self.vault.retract_answer(&answer, &self.claim).await {
                let error = with_sources(&error);
                tracing::debug!(error, "an answer was left behind");
            }
        }
    }
}

/// What nodes show for `proof`, if it is theirs to show.
fn answer(name: &str, kind: Challenge, proof: &Proof) -> Option<Answer> {
    let key_authorization = proof.key_authorization.clone();
    match kind {
        Challenge::Http01 => Some(Answer::Http { token: proof.token.clone(), key_authorization }),
        Challenge::TlsAlpn01 => Some(Answer::TlsAlpn { name: name.to_owned(), key_authorization }),
        Challenge::Dns01 => None,
    }
}
