//! Why a name got no certificate, and what follows for the next try.

use std::time::Duration;

use jiff::Timestamp;

use crate::acme::Fault;
use crate::attempts::{Failure, FailureKind};
use crate::certificate::CertificateError;
use crate::challenge::Challenge;
use crate::desk::ClaimLost;
use crate::dns::DnsError;
use crate::internal::InternalError;
use crate::keys::KeyError;
use crate::record::RecordError;
use crate::vault::{Item, VaultError};

/// Why a name got no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    #[error(transparent)]
    Acme(#[from] Fault),
    /// The CA could not see the proof by this kind of challenge.
    #[error("{challenge}: {fault}")]
    Unproven {
        challenge: Challenge,
        /// Whether the name may be proven in another way.
        another: bool,
        fault: Fault,
    },
    /// The stage where the order was rehearsed refused it; the CA itself was not asked.
    #[error("a rehearsal at {directory} failed, so the CA was not asked again: {error}")]
    Rehearsal { directory: String, error: Box<IssueError> },
    /// The DNS did not show the proof; the CA was not asked to look.
    #[error("dns-01: {fault}")]
    Dns {
        /// Whether the name may be proven in another way.
        another: bool,
        fault: DnsError,
    },
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error("the stored {item} is not readable: {source}")]
    Record {
        item: Item,
        #[source]
        source: RecordError,
    },
    #[error("the account at the ACME CA cannot be used: {0}")]
    Account(#[source] Fault),
    #[error(transparent)]
    Internal(InternalError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("the authority's certificate is not usable: {0}")]
    Certificate(#[from] CertificateError),
    #[error("the certificate is due for renewal from its first day: check this machine's clock")]
    BornOld,
    #[error(
        "the CA wanted the certificate before this one to be replaced within a day; if that goes on, ask the CA why"
    )]
    Hasty,
    #[error("the order was not complete after {} s", timeout.as_secs())]
    TooSlow { timeout: Duration },
    #[error("the certificate was not revoked: {0}")]
    NotRevoked(#[source] Fault),
    #[error("the certificate was not revoked: it is of {authority}, and this node has no account there")]
    NoAccountThere { authority: String },
    #[error(
        "the certificate {serial} was not revoked: it was replaced by {present} before; ask again to revoke that one"
    )]
    Replaced { serial: String, present: String },
    #[error("the claim to issue is lost")]
    ClaimLost,
    #[error("issuing stopped unexpectedly; this is a mistake in Roo")]
    Panicked,
}

impl IssueError {
    /// Whether the node may not go on writing.
    pub(crate) fn is_claim_lost(&self) -> bool {
        matches!(self, Self::ClaimLost | Self::Vault(VaultError::ClaimLost { .. }))
    }

    /// Whether the order behind it will never bring a certificate: the next try needs a new one.
    pub(crate) fn ends_order(&self) -> bool {
        match self {
            Self::Acme(fault) => match fault {
                Fault::Refused { .. }
                | Fault::Unwilling { .. }
                | Fault::OrderGone { .. }
                | Fault::AccountGone { .. }
                | Fault::NotOffered { .. } => true,
                Fault::Unreachable { .. }
                | Fault::Limited { .. }
                | Fault::Slow { .. }
                | Fault::Silent
                | Fault::Profile { .. }
                | Fault::Setup(_) => false,
            },
            Self::Unproven { .. } | Self::Key(_) | Self::Certificate(_) => true,
            _ => false,
        }
    }

    /// Whether the CA asks to slow down.
    pub(crate) fn is_limit(&self) -> bool {
        matches!(self, Self::Acme(Fault::Limited { .. }))
    }

    /// Whether a revocation that failed so would fail for ever.
    pub(crate) fn ends_revocation(&self) -> bool {
        match self {
            Self::NotRevoked(fault) => {
                matches!(fault, Fault::Refused { .. } | Fault::Unwilling { .. } | Fault::NotOffered { .. })
            }
            Self::NoAccountThere { .. } | Self::Replaced { .. } => true,
            _ => false,
        }
    }

    /// Whether other names would meet the same at this CA now.
    pub(crate) fn concerns_all_names(&self) -> bool {
        match self {
            Self::Acme(fault) => matches!(
                fault,
                Fault::Unreachable { .. }
                    | Fault::Limited { .. }
                    | Fault::AccountGone { .. }
                    | Fault::Profile { .. }
                    | Fault::Setup(_)
            ),
            Self::Account(_) => true,
            _ => false,
        }
    }

    /// Whether no name can be worked on now.
    pub(crate) fn is_of_store(&self) -> bool {
        matches!(self, Self::Vault(VaultError::Unavailable { .. }))
    }

    /// Whether another CA might well issue what this one does not.
    pub(crate) fn is_of_ca(&self) -> bool {
        match self {
            Self::Acme(fault) | Self::Unproven { fault, .. } => matches!(
                fault,
                Fault::Unreachable { .. }
                    | Fault::Slow { .. }
                    | Fault::Limited { .. }
                    | Fault::Unwilling { .. }
                    | Fault::Profile { .. }
                    | Fault::NotOffered { .. }
                    | Fault::Setup(_)
            ),
            Self::Account(_) => true,
            _ => false,
        }
    }

    /// Whether the CA has something against this very name, as another one would.
    pub(crate) fn is_of_name(&self) -> bool {
        matches!(
            self,
            Self::Unproven { .. }
                | Self::Acme(Fault::Refused { .. } | Fault::Unwilling { .. } | Fault::NotOffered { .. })
        )
    }

    /// For the memory of failures; it happened at `now`.
    pub(crate) fn failure(&self, now: Timestamp) -> Failure {
        let (kind, retry_at) = match self {
            Self::Acme(fault) | Self::Account(fault) | Self::NotRevoked(fault) => kind_of(fault, now),
            Self::Dns { .. } | Self::Vault(_) | Self::TooSlow { .. } => (FailureKind::Unreachable, None),
            _ => (FailureKind::Refused, None),
        };
        let (challenge, another) = match self {
            Self::Unproven { challenge, another, .. } => (Some(*challenge), *another),
            Self::Rehearsal { error, .. } => {
                let inner = error.failure(now);
                (inner.challenge, inner.another)
            }
            Self::Dns { another, .. } => (Some(Challenge::Dns01), *another),
            _ => (None, false),
        };
        let revocation = self.ends_revocation();
        Failure { error: with_sources(self), kind, retry_at, challenge, another, ca: None, revocation }
    }
}

impl From<ClaimLost> for IssueError {
    fn from(ClaimLost: ClaimLost) -> Self {
        Self::ClaimLost
    }
}

impl From<InternalError> for IssueError {
    fn from(error: InternalError) -> Self {
        match error {
            InternalError::Vault(error) => Self::Vault(error),
            other => Self::Internal(other),
        }
    }
}

fn kind_of(fault: &Fault, now: Timestamp) -> (FailureKind, Option<Timestamp>) {
    match fault {
        Fault::Limited { retry_at, .. } => (FailureKind::Refused, *retry_at),
        Fault::Slow { retry_in } => {
            let retry_at = retry_in.and_then(|wait| now.saturating_add(wait).ok());
            (FailureKind::Unreachable, retry_at)
        }
        // Nothing was ordered with a profile that the CA has not.
        Fault::Unreachable { .. }
        | Fault::AccountGone { .. }
        | Fault::OrderGone { .. }
        | Fault::Profile { .. }
        | Fault::Silent => (FailureKind::Unreachable, None),
        Fault::Refused { .. } | Fault::Unwilling { .. } | Fault::NotOffered { .. } | Fault::Setup(_) => {
            (FailureKind::Refused, None)
        }
    }
}

/// The error and its causes in one line, each said once.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acme(fault: Fault) -> IssueError {
        IssueError::Acme(fault)
    }

    fn reason() -> String {
        "because".to_owned()
    }

    #[test]
    fn an_order_survives_what_may_pass() {
        let limited = Fault::Limited { reason: reason(), retry_at: None };
        for passing in [
            acme(Fault::Unreachable { reason: reason() }),
            acme(limited),
            acme(Fault::Slow { retry_in: None }),
            IssueError::Vault(VaultError::unavailable("no quorum")),
            IssueError::TooSlow { timeout: Duration::from_secs(1) },
        ] {
            assert!(!passing.ends_order(), "{passing}");
        }
        for ending in [
            acme(Fault::Refused { reason: reason() }),
            acme(Fault::OrderGone { reason: reason() }),
            IssueError::Certificate(CertificateError::KeyMismatch),
        ] {
            assert!(ending.ends_order(), "{ending}");
        }
    }

    #[test]
    fn another_ca_is_asked_for_what_is_this_ones_own_reason() {
        let unproven = |fault| IssueError::Unproven { challenge: Challenge::Http01, another: false, fault };
        for (error, expected) in [
            (acme(Fault::Unreachable { reason: reason() }), true),
            (acme(Fault::Limited { reason: reason(), retry_at: None }), true),
            (unproven(Fault::Unwilling { reason: reason() }), true),
            (IssueError::Account(Fault::Refused { reason: reason() }), true),
            (unproven(Fault::Refused { reason: reason() }), false),
            (acme(Fault::Slow { retry_in: None }), true),
            (IssueError::Vault(VaultError::unavailable("no quorum")), false),
        ] {
            assert_eq!(error.is_of_ca(), expected, "{error}");
        }
    }

    #[test]
    fn only_a_no_of_the_authority_counts_as_refusal() {
        let kind = |error: IssueError| error.failure(Timestamp::UNIX_EPOCH).kind;
        let refused = acme(Fault::Refused { reason: reason() });
        assert_eq!(kind(refused), FailureKind::Refused);
        let unreachable = acme(Fault::Unreachable { reason: reason() });
        assert_eq!(kind(unreachable), FailureKind::Unreachable);
        let store = IssueError::Vault(VaultError::unavailable("no quorum"));
        assert_eq!(store.failure(Timestamp::UNIX_EPOCH).error, "the store is not available: no quorum");
        assert_eq!(kind(store), FailureKind::Unreachable);
    }
}
