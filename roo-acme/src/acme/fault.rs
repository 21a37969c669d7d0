//! What can go wrong between us and the CA, sorted by what follows from it.

use std::time::Duration;

use instant_acme::{Error, Problem};
use jiff::Timestamp;

use super::http::HttpError;
use crate::authority::AuthorityError;
use crate::failure::with_sources;

/// A failed exchange with the CA.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// No usable answer: network, TLS, time, or a server in trouble. Nothing is known to have happened.
    #[error("the ACME CA did not answer properly: {reason}")]
    Unreachable { reason: String },
    /// The CA asks us to slow down.
    #[error("the ACME CA limits our requests: {reason}")]
    Limited { reason: String, retry_at: Option<Timestamp> },
    /// The CA said no.
    #[error("the ACME CA refused: {reason}")]
    Refused { reason: String },
    /// The CA said no for a reason of its own; another one may well issue.
    #[error("the ACME CA refused: {reason}")]
    Unwilling { reason: String },
    /// The CA does not know the order, or will never complete it.
    #[error("the ACME CA does not know the order any more: {reason}")]
    OrderGone { reason: String },
    /// The CA does not know our account.
    #[error("the ACME CA does not know our account any more: {reason}")]
    AccountGone { reason: String },
    /// The CA did not come to a decision in time; the order goes on.
    #[error("the ACME CA takes longer than expected")]
    Slow { retry_in: Option<Duration> },
    /// The CA does not know the profile.
    #[error("the ACME CA has no profile {wanted:?}, it offers {offered}: change --acme-profile")]
    Profile { wanted: String, offered: String },
    /// The CA does not tell when to renew.
    #[error("the ACME CA does not tell when to renew")]
    Silent,
    /// The CA offers no challenge that we can answer.
    #[error(
        "the ACME CA offers {offered:?} for this name, and of these none is among {wanted:?}; see --acme-challenge"
    )]
    NotOffered { wanted: Vec<String>, offered: Vec<String> },
    /// We are set up wrongly.
    #[error(transparent)]
    Setup(#[from] AuthorityError),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Api(problem) => Self::from(&problem),
            Error::Timeout(retry_at) => Self::Slow { retry_in: retry_at.map(from_now) },
            Error::Other(inner) => match inner.downcast::<HttpError>() {
                Ok(http) => Self::from(*http),
                Err(other) => unreachable(&*other),
            },
            Error::Json(error) => {
                Self::Unreachable { reason: format!("its answer is not ACME ({error}); is this the directory's URL?") }
            }
            other => unreachable(&other),
        }
    }
}

impl From<HttpError> for Fault {
    fn from(error: HttpError) -> Self {
        let reason = with_sources(&error);
        match error {
            HttpError::Busy { limited: true, retry_at, .. } => Self::Limited { reason, retry_at },
            HttpError::Busy { retry_at: Some(retry_at), .. } => Self::Limited { reason, retry_at: Some(retry_at) },
            _ => Self::Unreachable { reason },
        }
    }
}

impl From<&Problem> for Fault {
    /// Sorts by the error types of RFC 8555 section 6.7.
    fn from(problem: &Problem) -> Self {
        let reason = describe(problem);
        let kind = problem.r#type.as_deref().unwrap_or_default();
        match kind.strip_prefix(URN).unwrap_or(kind) {
            "rateLimited" => Self::Limited { reason, retry_at: None },
            "accountDoesNotExist" => Self::AccountGone { reason },
            "serverInternal" | "badNonce" => Self::Unreachable { reason },
            "caa" | "rejectedIdentifier" | "externalAccountRequired" => Self::Unwilling { reason },
            _ => Self::Refused { reason },
        }
    }
}

/// The problem in one line: what, the CA's words, and the same for each part.
pub(super) fn describe(problem: &Problem) -> String {
    let kind = problem.r#type.as_deref().unwrap_or("problem");
    let mut text = kind.strip_prefix(URN).unwrap_or(kind).to_owned();
    if let Some(detail) = &problem.detail {
        text.push_str(": ");
        text.push_str(detail);
    }
    for part in &problem.subproblems {
        text.push_str("; ");
        text.push_str(part.detail.as_deref().unwrap_or("no detail"));
    }
    text
}

fn unreachable(error: &dyn std::error::Error) -> Fault {
    Fault::Unreachable { reason: with_sources(error) }
}

/// The library reports a point on the monotonic clock.
fn from_now(instant: std::time::Instant) -> Duration {
    instant.saturating_duration_since(std::time::Instant::now())
}

const URN: &str = "urn:ietf:params:acme:error:";

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(kind: &str) -> Fault {
        Fault::from(Error::Api(Problem {
            r#type: Some(format!("{URN}{kind}")),
            detail: Some("because".to_owned()),
            status: Some(400),
            subproblems: Vec::new(),
        }))
    }

    #[test]
    fn problems_are_sorted_by_what_follows() {
        assert!(matches!(fault("rateLimited"), Fault::Limited { .. }));
        assert!(matches!(fault("serverInternal"), Fault::Unreachable { .. }));
        assert!(matches!(fault("accountDoesNotExist"), Fault::AccountGone { .. }));
        for (kind, own) in [("dns", false), ("caa", true), ("rejectedIdentifier", true), ("unheardOf", false)] {
            let fault = fault(kind);
            assert_eq!(matches!(fault, Fault::Unwilling { .. }), own);
            assert_eq!(matches!(fault, Fault::Refused { .. }), !own);
            assert_eq!(fault.to_string(), format!("the ACME CA refused: {kind}: because"));
        }
    }

    #[test]
    fn a_busy_server_is_a_limit_only_if_it_says_how_long() {
        let busy = |limited, retry_at| {
            Fault::from(Error::Other(Box::new(HttpError::Busy {
                status: 503,
                detail: String::new(),
                limited,
                retry_at,
            })))
        };
        let later = Timestamp::now();
        assert!(matches!(busy(false, None), Fault::Unreachable { .. }));
        assert!(matches!(busy(false, Some(later)), Fault::Limited { .. }));
        assert!(matches!(busy(true, None), Fault::Limited { .. }));
    }
}
