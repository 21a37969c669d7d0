//! Revoking a certificate at the CA that signed it (RFC 8555 section 7.6), because somebody asked for it.

use crate::certificate::{Certificate, Facts, Revoked};
use crate::desk::Desk;
use crate::failure::IssueError;
use crate::vault::Vault;
use crate::wish::{Meant, Revocation, Wish};

impl<V: Vault> Desk<V> {
    /// Has the certificate that `wish` means revoked, and the one with another kind of key beside it; notes it if that is
    /// the present one, and ends the wish. The wish stays if the CA could not be asked or is busy, and goes if it said no.
    /// May be dropped at any await and done again: what is revoked already is no error at the CA.
    pub(crate) async fn revoke(
        &self,
        name: &str,
        certificate: Option<Certificate>,
        wish: &Wish,
    ) -> Result<Option<Facts>, IssueError> {
        let Some(revocation) = &wish.revoke else { return Ok(certificate.map(|certificate| certificate.facts())) };
        if let Err(error) = self.revoke_at_ca(certificate.as_ref(), revocation).await {
            if error.ends_revocation() {
                self.end_wish(name, wish).await?;
            }
            return Err(error);
        }
        let &Revocation { reason, renew, ref serial, .. } = revocation;
        let facts = match certificate {
            Some(present) if serial.as_ref().is_none_or(|serial| *serial == present.serial) => {
                let revoked = Some(Revoked { at: self.settings.clock.now(), reason, renew });
                let noted = Certificate { revoked, ..present.clone() };
                Some(self.replace(name, Some(&present), noted).await?.facts())
            }
            // Another one has taken its place: it is good.
            other => other.map(|other| other.facts()),
        };
        self.end_wish(name, wish).await?;
        metrics::counter!("roo_acme_revocations_total").increment(1);
        tracing::warn!(name, serial, ?reason, renew, "certificate revoked");
        Ok(facts)
    }

    async fn revoke_at_ca(&self, present: Option<&Certificate>, revocation: &Revocation) -> Result<(), IssueError> {
        let meant = match (&revocation.meant, present, &revocation.serial) {
            (Some(meant), _, _) => meant.clone(),
            (None, Some(present), Some(serial)) if *serial != present.serial => {
                let (serial, present) = (serial.clone(), present.serial.clone());
                return Err(IssueError::Replaced { serial, present });
            }
            (None, Some(present), _) => Meant::both(present)?,
            (None, None, _) => return Ok(()),
        };
        let Some(config) = self.authority.acme(&meant.authority) else {
            return Err(IssueError::NoAccountThere { authority: meant.authority });
        };
        let session = self.session(config).await?;
        for leaf in meant.leaves() {
            session.revoke(&leaf, revocation.reason).await.map_err(IssueError::NotRevoked)?;
        }
        Ok(())
    }
}
