//! Trying a name elsewhere before a CA is asked again that has refused it often.
//!
//! Each failed validation counts against a CA's limits (Let's Encrypt: "Rate Limits", failed authorizations), and those of
//! its rehearsal stage are generous. So a name that was refused [`REFUSALS`] times in a row is first ordered there; only when
//! that works out is the CA itself asked once more. What the rehearsal brings is thrown away.

use crate::attempts::Attempts;
use crate::authority::AcmeConfig;
use crate::desk::Desk;
use crate::failure::IssueError;
use crate::vault::Vault;

/// So often a name is refused before it is rehearsed.
const REFUSALS: u32 = 3;

impl<V: Vault> Desk<V> {
    /// Rehearses an order for `name`, if it was refused too often to ask `config` outright.
    ///
    /// A rehearsal that does not come about tells nothing of the name, and stands in no order's way.
    ///
    /// # Errors
    /// [`IssueError::Rehearsal`] if the name is refused there as well.
    pub(crate) async fn rehearse(
        &self,
        config: &AcmeConfig,
        name: &str,
        attempts: Option<&Attempts>,
    ) -> Result<(), IssueError> {
        let Some(stage) = config.rehearsal.as_deref() else { return Ok(()) };
        if attempts.is_none_or(|attempts| attempts.refusals < REFUSALS) {
            return Ok(());
        }
        if self.ordered_at(name).await?.is_some_and(|at| at == config.directory) {
            return Ok(());
        }
        tracing::info!(name, directory = stage.directory, "rehearsing the order first, for it was refused often");
        match self.tried(stage, name).await {
            Ok(()) => Ok(()),
            Err(error) if error.is_claim_lost() || error.is_of_store() => Err(error),
            Err(error) if error.is_of_name() => {
                Err(IssueError::Rehearsal { directory: stage.directory.clone(), error: Box::new(error) })
            }
            Err(error) => {
                tracing::info!(name, %error, "there was no rehearsal");
                Ok(())
            }
        }
    }
}
