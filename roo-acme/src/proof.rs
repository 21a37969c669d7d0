//! Proving a name: the answer is shown by all nodes before the CA is asked to look, and taken back afterwards.

use crate::acme::{Fault, Proof, Stage};
use crate::challenge::Challenge;
use crate::desk::Desk;
use crate::failure::{IssueError, with_sources};
use crate::order::Work;
use crate::vault::{Answer, Vault};

impl<V: Vault> Desk<V> {
    /// Has the CA find `name` proven, by the first kind of challenge that it offers. Of an order that is past this,
    /// only what was left behind is taken back.
    pub(crate) async fn prove(&self, name: &str, work: &mut Work) -> Result<(), IssueError> {
        let (kind, proofs) = work.order.proofs(&work.kinds).await?;
        self.note_challenge(name, work, kind).await?;
        let answers: Vec<Answer> = proofs.iter().map(|proof| answer(name, kind, proof)).collect();
        let awaited = proofs.iter().zip(&answers).filter(|(proof, _)| proof.awaited).map(|(_, answer)| answer);
        let result = match work.order.stage() {
            Stage::Pending => self.shown(kind, awaited, work).await,
            _ => Ok(()),
        };
        self.retract(&answers).await;
        result
    }

    async fn shown(
        &self,
        kind: Challenge,
        awaited: impl Iterator<Item = &Answer>,
        work: &mut Work,
    ) -> Result<(), IssueError> {
        for answer in awaited {
            self.vault.publish_answer(answer, &self.claim).await?;
        }
        work.order.answers_are_published(kind).await?;
        match work.order.validated(self.settings.order_timeout).await {
            Err(fault @ Fault::Refused { .. }) => {
                Err(IssueError::Unproven { challenge: kind, another: work.kinds.len() > 1, fault })
            }
            validated => Ok(validated?),
        }
    }

    /// Best effort: an answer left behind is useless to anybody else and ends by itself.
    async fn retract(&self, answers: &[Answer]) {
        for answer in answers {
            if let Err(error) = self.vault.retract_answer(answer, &self.claim).await {
                let error = with_sources(&error);
                tracing::debug!(error, "an answer was left behind");
            }
        }
    }
}

/// What is published for `proof`.
fn answer(name: &str, kind: Challenge, proof: &Proof) -> Answer {
    let key_authorization = proof.key_authorization.clone();
    match kind {
        Challenge::Http01 => Answer::Http { token: proof.token.clone(), key_authorization },
        Challenge::TlsAlpn01 => Answer::TlsAlpn { name: name.to_owned(), key_authorization },
    }
}
