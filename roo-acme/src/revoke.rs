//! Revoking a certificate at the CA that signed it (RFC 8555 section 7.6), because somebody asked for it.

use crate::certificate::{Certificate, Facts, Revoked};
use crate::desk::Desk;
use crate::failure::IssueError;
use crate::vault::Vault;
use crate::wish::{Revocation, Wish};

impl<V: Vault> Desk<V> {
    /// Has `certificate` revoked as `wish` says, notes it, and ends the wish. The wish stays if the CA could not be
    /// asked or is busy, and goes if it said no or another certificate was meant. May be dropped at any await and done
    /// again: what is revoked already is no error at the CA.
    pub(crate) async fn revoke(
        &self,
        name: &str,
        certificate: Option<Certificate>,
        wish: &Wish,
    ) -> Result<Option<Facts>, IssueError> {
        let (Some(certificate), Some(revocation)) = (certificate, &wish.revoke) else {
            self.end_wish(name, wish).await?;
            return Ok(None);
        };
        if let Err(error) = self.revoke_at_ca(&certificate, revocation).await {
            if error.ends_revocation() {
                self.end_wish(name, wish).await?;
            }
            return Err(error);
        }
        let Revocation { reason, renew, .. } = *revocation;
        let revoked = Some(Revoked { at: self.settings.clock.now(), reason, renew });
        let noted = Certificate { revoked, ..certificate.clone() };
        let present = self.replace(name, Some(&certificate), noted).await?;
        self.end_wish(name, wish).await?;
        metrics::counter!("roo_acme_revocations_total").increment(1);
        tracing::warn!(name, serial = certificate.serial, ?reason, renew, "certificate revoked");
        Ok(Some(present.facts()))
    }

    async fn revoke_at_ca(&self, certificate: &Certificate, revocation: &Revocation) -> Result<(), IssueError> {
        if let Some(serial) = revocation.serial.as_ref().filter(|serial| **serial != certificate.serial) {
            let (serial, present) = (serial.clone(), certificate.serial.clone());
            return Err(IssueError::Replaced { serial, present });
        }
        let Some(config) = self.authority.acme(&certificate.authority) else {
            return Err(IssueError::NoAccountThere { authority: certificate.authority.clone() });
        };
        let session = self.session(config).await?;
        let leaf = certificate.details()?.leaf;
        session.revoke(&leaf, revocation.reason).await.map_err(IssueError::NotRevoked)
    }
}
