//! One order at the CA.

use std::time::Duration;

use instant_acme::{AuthorizationStatus, ChallengeStatus, ChallengeType, OrderStatus, RetryPolicy};
use serde::Deserialize;

use super::fault::{Fault, describe};
use crate::challenge::Challenge;

/// An order as the CA told it last.
pub(crate) struct Order {
    inner: instant_acme::Order,
}

/// Where an order stands (RFC 8555 section 7.1.6): pending → ready → processing → valid, or invalid from any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Challenges are to be answered.
    Pending,
    /// The signing request is to be sent.
    Ready,
    /// The CA is signing.
    Processing,
    /// The certificate can be fetched.
    Valid,
    /// Nothing will come of it.
    Invalid,
}

/// An order as it stands in the account's list, as far as it never changes.
#[derive(Deserialize)]
pub(crate) struct Listed {
    identifiers: Vec<Named>,
    profile: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    value: String,
}

/// What the CA asks for, to be shown to it until the order is decided. No `Debug`: nobody needs it in a log.
pub(crate) struct Proof {
    pub(crate) token: String,
    pub(crate) key_authorization: String,
    /// The text of a TXT record (RFC 8555 section 8.4).
    pub(crate) dns_value: String,
    /// Whether the CA still waits for it.
    pub(crate) awaited: bool,
}

impl Listed {
    /// Whether it is for `name` alone, by this profile if the CA says by which.
    pub(crate) fn is_for(&self, name: &str, profile: Option<&str>) -> bool {
        let alone = matches!(self.identifiers.as_slice(), [only] if only.value.eq_ignore_ascii_case(name));
        alone && (self.profile.is_none() || profile.is_none() || self.profile.as_deref() == profile)
    }
}

impl Order {
    pub(super) fn new(inner: instant_acme::Order) -> Self {
        Self { inner }
    }

    pub(crate) fn url(&self) -> &str {
        self.inner.url()
    }

    pub(crate) fn stage(&mut self) -> Stage {
        match self.inner.state().status {
            OrderStatus::Pending => Stage::Pending,
            OrderStatus::Ready => Stage::Ready,
            OrderStatus::Processing => Stage::Processing,
            OrderStatus::Valid => Stage::Valid,
            OrderStatus::Invalid => Stage::Invalid,
        }
    }

    /// What the CA asks for by the first of `kinds` that it offers, of decided authorizations too. Asks the CA once
    /// per authorization; one that is open but offers none of them is [`Fault::NotOffered`].
    pub(crate) async fn proofs(&mut self, kinds: &[Challenge]) -> Result<(Challenge, Vec<Proof>), Fault> {
        let kind = self.offered(kinds).await?;
        let mut proofs = Vec::new();
        let mut authorizations = self.inner.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            let awaited = authorization.status == AuthorizationStatus::Pending;
            let Some(challenge) = authorization.challenge(type_of(kind)) else { continue };
            if !is_token(&challenge.token) {
                return Err(Fault::Refused { reason: "its challenge has a token that is none".to_owned() });
            }
            let authorization = challenge.key_authorization();
            let (key_authorization, dns_value) = (authorization.as_str().to_owned(), authorization.dns_value());
            proofs.push(Proof { token: challenge.token.clone(), key_authorization, dns_value, awaited });
        }
        Ok((kind, proofs))
    }

    /// The first of `kinds` that all open authorizations offer.
    async fn offered(&mut self, kinds: &[Challenge]) -> Result<Challenge, Fault> {
        let mut fitting = kinds.to_vec();
        let mut offered = Vec::new();
        let mut authorizations = self.inner.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let authorization = authorization?;
            if authorization.status == AuthorizationStatus::Pending {
                offered = authorization.challenges.iter().map(|challenge| label_of(&challenge.r#type)).collect();
                fitting.retain(|kind| offered.iter().any(|offered| offered == kind.label()));
            }
        }
        let wanted = || kinds.iter().map(|kind| kind.label().to_owned()).collect();
        fitting.first().copied().ok_or_else(|| Fault::NotOffered { wanted: wanted(), offered })
    }

    /// Tells the CA that the answers are published. Telling it again is harmless.
    pub(crate) async fn answers_are_published(&mut self, kind: Challenge) -> Result<(), Fault> {
        let mut authorizations = self.inner.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            if let Some(mut challenge) = authorization.challenge(type_of(kind))
                && challenge.status == ChallengeStatus::Pending
            {
                challenge.set_ready().await?;
            }
        }
        Ok(())
    }

    /// Waits until the CA has checked the answers; [`Fault::Refused`] or
    /// [`Fault::Unwilling`] with its reason if they failed.
    pub(crate) async fn validated(&mut self, timeout: Duration) -> Result<(), Fault> {
        match self.inner.poll_ready(&patience(timeout)).await? {
            OrderStatus::Ready => Ok(()),
            _ => Err(self.refusal().await),
        }
    }

    /// Sends the signing request (DER).
    pub(crate) async fn finalize(&mut self, request: &[u8]) -> Result<(), Fault> {
        Ok(self.inner.finalize_csr(request).await?)
    }

    /// Waits for the chain, PEM.
    pub(crate) async fn chain(&mut self, timeout: Duration) -> Result<String, Fault> {
        if self.stage() == Stage::Valid
            && let Some(chain) = self.inner.certificate().await?
        {
            return Ok(chain);
        }
        Ok(self.inner.poll_certificate(&patience(timeout)).await?)
    }

    /// Why the CA gave the order up: the reason stands at the challenge that failed.
    pub(crate) async fn refusal(&mut self) -> Fault {
        if let Some(problem) = &self.inner.state().error {
            return Fault::from(problem);
        }
        let mut authorizations = self.inner.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            let Ok(state) = authorization.refresh().await else {
                break;
            };
            let mut errors = state.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
            if let Some(problem) = errors.next() {
                return match Fault::from(problem) {
                    unwilling @ Fault::Unwilling { .. } => unwilling,
                    _ => Fault::Refused { reason: describe(problem) },
                };
            }
        }
        Fault::Refused { reason: "the order became invalid, no reason was given".to_owned() }
    }
}

/// A token has only characters of the base64url alphabet (RFC 8555, 8.3); it becomes part of a path.
fn is_token(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=TOKEN_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

/// CAs use a few dozen.
const TOKEN_BYTES_MAX: usize = 512;

fn type_of(kind: Challenge) -> ChallengeType {
    match kind {
        Challenge::Http01 => ChallengeType::Http01,
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        Challenge::Dns01 => ChallengeType::Dns01,
    }
}

fn label_of(kind: &ChallengeType) -> String {
    match kind {
        ChallengeType::Http01 => "http-01".to_owned(),
        ChallengeType::Dns01 => "dns-01".to_owned(),
        ChallengeType::TlsAlpn01 => "tls-alpn-01".to_owned(),
        ChallengeType::Unknown(kind) => kind.clone(),
        other => format!("{other:?}"),
    }
}

/// Asks soon, then less and less often; the CA's `Retry-After` goes before.
fn patience(timeout: Duration) -> RetryPolicy {
    RetryPolicy::new().initial_delay(Duration::from_millis(200)).backoff(1.5).timeout(timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_for_one_name_and_profile() {
        let listed = |text: &str| serde_json::from_str::<Listed>(text).expect("an order");
        let one = listed(r#"{"status":"pending","identifiers":[{"type":"dns","value":"A.example"}]}"#);
        assert!(one.is_for("a.example", None) && one.is_for("a.example", Some("short")));
        assert!(!one.is_for("b.example", None));
        let two = listed(r#"{"identifiers":[{"value":"a.example"},{"value":"b.example"}]}"#);
        assert!(!two.is_for("a.example", None));
        let short = listed(r#"{"identifiers":[{"value":"a.example"}],"profile":"short"}"#);
        assert!(short.is_for("a.example", Some("short")) && !short.is_for("a.example", Some("classic")));
    }

    #[test]
    fn a_token_is_base64url_and_short() {
        for token in ["a", "DGyRejmCefe7v4NfDGDKfA", "a-b_c"] {
            assert!(is_token(token), "{token}");
        }
        for token in ["", "a/b", "a\0b", "a b", &"x".repeat(513)] {
            assert!(!is_token(token), "{token}");
        }
    }
}
