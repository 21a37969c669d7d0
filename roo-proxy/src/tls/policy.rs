//! What a route asks of the handshakes of its clients.

use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use serde::{Deserialize, Serialize};

use super::configs::{Common, Configs};
use crate::upstream::tls;

/// What a route asks of the handshakes of its clients. The default asks for nothing special.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsPolicy {
    /// The oldest version spoken.
    #[serde(skip_serializing_if = "TlsVersion::is_default")]
    pub min_version: TlsVersion,
    /// PEM certificates of authorities, one of which must have signed the certificate that a client shows. Nobody is
    /// asked whether it has been revoked. Each connection shows it anew, none is resumed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Lets in clients that show none; one that can't be verified is refused even so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsVersion {
    /// RFC 5246, with the suites that are still good.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    Tls13,
}

impl TlsVersion {
    fn is_default(&self) -> bool {
        *self == TlsVersion::default()
    }
}

impl TlsPolicy {
    /// What is wrong with it.
    pub(crate) fn fault(&self) -> Option<String> {
        match &self.ca {
            None if self.optional => {
                Some("client_tls.optional is set without client_tls.ca: name the authority of the clients".to_owned())
            }
            None => None,
            Some(pem) => {
                let fault = tls::parse_ca(pem).err()?;
                Some(format!("client_tls.ca holds no valid PEM certificate: {fault}"))
            }
        }
    }

    /// Who judges the certificates that clients show.
    pub(super) fn verifier(&self, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
        let Some(pem) = &self.ca else { return Ok(WebPkiClientVerifier::no_client_auth()) };
        let roots = tls::parse_ca(pem).map_err(rustls::Error::General)?;
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        if self.optional {
            builder = builder.allow_unauthenticated();
        }
        builder.build().map_err(|fault| rustls::Error::General(fault.to_string()))
    }
}

/// A policy that asks for something, made ready by the first handshake under it.
pub(crate) struct Asked {
    policy: TlsPolicy,
    configs: OnceLock<Option<Configs>>,
}

impl Asked {
    /// `None` if nothing special is asked for.
    pub(crate) fn new(policy: &TlsPolicy) -> Option<Arc<Asked>> {
        let asked = || Arc::new(Asked { policy: policy.clone(), configs: OnceLock::new() });
        (*policy != TlsPolicy::default()).then(asked)
    }

    /// Whether a handshake under `other` has brought what is asked for here.
    pub(crate) fn was_asked(&self, other: Option<&Asked>) -> bool {
        other.is_some_and(|other| std::ptr::eq(self, other) || self.policy == other.policy)
    }

    /// `None`: there can be no handshake under this policy, because its certificates can't be used.
    pub(super) fn configs(&self, common: &Common) -> Option<&Configs> {
        self.configs.get_or_init(|| Configs::new(common, &self.policy).ok()).as_ref()
    }
}
