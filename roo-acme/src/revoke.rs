//! Revoking a certificate at the CA that signed it (RFC 8555 section 7.6), because somebody asked for it.

use crate::attempts::FailureKind;
use crate::authority::Authority;
use crate::certificate::{Certificate, Facts, Revoked};
use crate::desk::{Desk, wish_of};
use crate::failure::IssueError;
use crate::vault::Vault;
use crate::wish::Revocation;

impl<V: Vault> Desk<V> {
    /// Has `certificate` revoked, notes it, and ends the wish. The wish stays if the CA could not be asked, and goes if
    /// it said no. May be dropped at any await and done again: what is revoked already is no error at the CA.
    pub(crate) async fn revoke(
        &self,
        name: &str,
        certificate: Option<Certificate>,
        revocation: Revocation,
    ) -> Result<Option<Facts>, IssueError> {
        let Some(mut certificate) = certificate else {
            self.vault.remove(&wish_of(name), &self.claim).await?;
            return Ok(None);
        };
        if let Err(error) = self.revoke_at_ca(&certificate, revocation).await {
            if error.failure(self.settings.clock.now()).kind == FailureKind::Refused {
                self.vault.remove(&wish_of(name), &self.claim).await?;
            }
            return Err(error);
        }
        let Revocation { reason, renew } = revocation;
        certificate.revoked = Some(Revoked { at: self.settings.clock.now(), reason, renew });
        self.save(name, &certificate).await?;
        self.vault.remove(&wish_of(name), &self.claim).await?;
        metrics::counter!("roo_acme_revocations_total").increment(1);
        tracing::warn!(name, serial = certificate.serial, ?reason, renew, "certificate revoked");
        Ok(Some(certificate.facts()))
    }

    async fn revoke_at_ca(&self, certificate: &Certificate, revocation: Revocation) -> Result<(), IssueError> {
        let config = match &self.authority {
            Authority::Acme(config) if config.directory == certificate.authority => config,
            _ => return Err(IssueError::NoAccountThere { authority: certificate.authority.clone() }),
        };
        let session = self.session(config).await?;
        let leaf = certificate.details()?.leaf;
        session.revoke(&leaf, revocation.reason).await.map_err(IssueError::NotRevoked)
    }
}
