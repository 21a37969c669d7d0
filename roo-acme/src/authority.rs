//! Who signs certificates.

use std::net::IpAddr;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::cas::{Cas, ExternalAccount};
use crate::challenge::Challenges;
use crate::limits::Limits;

/// Let's Encrypt, trusted by browsers.
pub const LETS_ENCRYPT_PRODUCTION: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// Let's Encrypt's rehearsal stage: generous limits, trusted by nobody.
pub const LETS_ENCRYPT_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

/// Who signs certificates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Authority {
    /// CAs that speak ACME (RFC 8555).
    Acme(Cas),
    /// Roo's own CA, kept sealed in the vault; for private names and development.
    Internal,
    /// Nobody: no certificate is ever ordered or renewed.
    #[default]
    Off,
}

/// How to reach an ACME CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeConfig {
    /// The directory's URL; `https` only (RFC 8555 section 6.1).
    pub directory: String,
    /// Contact for the account, without `mailto:`.
    pub email: Option<String>,
    /// PEM certificates to trust *instead of* the system's when talking to the CA.
    pub extra_roots_pem: Option<Vec<u8>>,
    /// To what the CA already knows the account is bound, where it wants that.
    pub external_account: Option<ExternalAccount>,
    /// How names are proven to it; the same for all CAs.
    pub challenges: Challenges,
    /// How much it allows.
    pub limits: Limits,
    /// The profile to order by (draft-ietf-acme-profiles); `None` = the CA's default.
    pub profile: Option<String>,
    /// Where a name that it has refused often is tried first.
    pub rehearsal: Option<Box<AcmeConfig>>,
}

impl AcmeConfig {
    /// Let's Encrypt production without a contact.
    pub fn lets_encrypt() -> Self {
        Self::at(LETS_ENCRYPT_PRODUCTION)
    }

    /// The CA with this directory, without a contact, trusted by the system's roots.
    pub fn at(directory: &str) -> Self {
        Self {
            directory: directory.to_owned(),
            email: None,
            extra_roots_pem: None,
            external_account: None,
            challenges: Challenges::default(),
            limits: Limits::known(directory),
            profile: None,
            rehearsal: None,
        }
    }

    /// The stage at which orders from it are rehearsed, if one is known: Let's Encrypt's.
    pub fn known_rehearsal(&self) -> Option<Self> {
        (self.directory == LETS_ENCRYPT_PRODUCTION).then(|| self.rehearsing(LETS_ENCRYPT_STAGING))
    }

    /// The same at another directory, to rehearse there what is then ordered here.
    #[must_use]
    pub fn rehearsing(&self, directory: &str) -> Self {
        Self {
            email: self.email.clone(),
            extra_roots_pem: self.extra_roots_pem.clone(),
            challenges: self.challenges.clone(),
            ..Self::at(directory)
        }
    }

    /// Whether others than this house use it: told by having been given no roots to trust it by.
    pub(crate) fn is_public(&self) -> bool {
        self.extra_roots_pem.is_none()
    }

    /// Finds mistakes early: the URL and the extra roots. Does not touch the network.
    pub fn check(&self) -> Result<(), AuthorityError> {
        let invalid = |reason: String| AuthorityError::Directory { url: self.directory.clone(), reason };
        let uri: http::Uri =
            self.directory.parse().map_err(|error: http::uri::InvalidUri| invalid(error.to_string()))?;
        if uri.scheme() != Some(&http::uri::Scheme::HTTPS) || uri.host().is_none() {
            return Err(invalid("it must start with https://".to_owned()));
        }
        if let Some(email) = &self.email
            && !plausible_email(email)
        {
            return Err(AuthorityError::Email { email: email.clone() });
        }
        self.extra_roots().map(drop)
    }

    /// The extra roots parsed; `None` = use the system's.
    pub(crate) fn extra_roots(&self) -> Result<Option<RootCertStore>, AuthorityError> {
        let Some(pem) = &self.extra_roots_pem else {
            return Ok(None);
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| AuthorityError::Roots { reason: error.to_string() })?;
            roots.add(certificate).map_err(|error| AuthorityError::Roots { reason: error.to_string() })?;
        }
        if roots.is_empty() {
            return Err(AuthorityError::Roots { reason: "it holds no certificate".to_owned() });
        }
        Ok(Some(roots))
    }
}

impl Authority {
    /// The text that marks certificates of this authority: the URL of the preferred directory, or `internal`; `off`
    /// has none.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Acme(cas) => Some(&cas.first().directory),
            Self::Internal => Some(INTERNAL),
            Self::Off => None,
        }
    }

    /// The ACME CA that certificates marked `id` are from, if it is one of ours.
    pub(crate) fn acme(&self, id: &str) -> Option<&AcmeConfig> {
        match self {
            Self::Acme(cas) => cas.at(id),
            _ => None,
        }
    }

    /// Who signs for `name`: itself, but for names that mean something here alone Roo's own CA takes the place of
    /// public ones, which are never told of them.
    pub(crate) fn for_name(&self, name: &str) -> &Self {
        match self {
            Self::Acme(cas) if cas.for_name(name).next().is_none() => &INTERNALLY,
            authority => authority,
        }
    }

    /// How far its certificates are trusted, compared with others': 0 internal, 1 rehearsal, 2 anything else.
    pub(crate) fn standing(&self) -> u8 {
        self.id().map_or(0, Self::standing_of)
    }

    /// [`Authority::standing`] from an id.
    pub(crate) fn standing_of(id: &str) -> u8 {
        match id {
            INTERNAL => 0,
            LETS_ENCRYPT_STAGING => 1,
            _ => 2,
        }
    }
}

impl From<AcmeConfig> for Authority {
    fn from(only: AcmeConfig) -> Self {
        Self::Acme(only.into())
    }
}

/// A mistake in the configuration of an authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The directory's URL is unusable.
    #[error("the ACME directory {url:?} is not usable: {reason} (for instance {LETS_ENCRYPT_PRODUCTION})")]
    Directory {
        /// As configured.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The contact is no mail address.
    #[error("the ACME contact {email:?} is not a mail address: give it as name@example.org")]
    Email {
        /// As configured.
        email: String,
    },
    /// The file with the CA's roots is unusable.
    #[error("the ACME CA file is not usable: {reason}; give PEM certificates")]
    Roots {
        /// What is wrong with it.
        reason: String,
    },
    /// The CA takes accounts of those only who are known to it (RFC 8555 section 7.3.4).
    #[error("the ACME CA {url} binds accounts to those of its customers: give what it gave you by --acme-eab KID:HMAC")]
    ExternalAccount {
        /// The directory.
        url: String,
    },
    /// There is no system trust store.
    #[error(
        "no trusted root certificates on this system, so the ACME CA cannot be verified: install ca-certificates, set SSL_CERT_FILE, or give the CA's file ({reason})"
    )]
    NoSystemRoots {
        /// What the search met.
        reason: String,
    },
}

static INTERNALLY: Authority = Authority::Internal;

/// Top-level and other domains that belong to no one (RFC 6761, 6762, 8375; `.internal` is reserved by ICANN).
const PRIVATE_DOMAINS: [&str; 5] = ["localhost", "test", "local", "internal", "home.arpa"];

/// Whether `name` can't belong to anybody in public: a single label, an address, or under a reserved domain.
pub(crate) fn is_private(name: &str) -> bool {
    let name = name.strip_prefix("*.").unwrap_or(name);
    let under = |domain: &str| name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    !name.contains('.') || name.parse::<IpAddr>().is_ok() || PRIVATE_DOMAINS.iter().any(|domain| under(domain))
}

/// Marks certificates of the internal CA.
pub(crate) const INTERNAL: &str = "internal";

fn plausible_email(email: &str) -> bool {
    let email = email.trim();
    match email.split_once('@') {
        Some((local, domain)) => {
            !local.is_empty()
                && domain.contains('.')
                && !email.contains(|c: char| c.is_whitespace() || c.is_control() || c == ',')
                && !email.contains("mailto:")
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn at(directory: &str) -> AcmeConfig {
        AcmeConfig { directory: directory.to_owned(), ..AcmeConfig::lets_encrypt() }
    }

    #[test]
    fn directories_are_https_urls() {
        assert!(AcmeConfig::lets_encrypt().check().is_ok());
        assert!(at("https://127.0.0.1:14000/dir").check().is_ok());
        for wrong in ["", "acme", "http://ca.example/dir", "ca.example/dir", "https:///dir", "ftp://ca.example"] {
            assert!(matches!(at(wrong).check(), Err(AuthorityError::Directory { .. })), "{wrong}");
        }
    }

    #[test]
    fn contacts_are_mail_addresses() {
        for (email, good) in [
            ("admin@shop.example", true),
            ("admin", false),
            ("@shop.example", false),
            ("admin@localhost", false),
            ("mailto:admin@shop.example", false),
            ("a@shop.example,b@shop.example", false),
        ] {
            let config = AcmeConfig { email: Some(email.to_owned()), ..AcmeConfig::lets_encrypt() };
            assert_eq!(config.check().is_ok(), good, "{email}");
        }
    }

    #[test]
    fn a_ca_file_must_hold_certificates() {
        for wrong in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let config = AcmeConfig { extra_roots_pem: Some(wrong.as_bytes().to_vec()), ..AcmeConfig::lets_encrypt() };
            assert!(matches!(config.check(), Err(AuthorityError::Roots { .. })), "{wrong:?}");
        }
    }

    #[test]
    fn private_names_are_not_told_to_a_public_ca() {
        let public = Authority::from(AcmeConfig::lets_encrypt());
        let roots = Some(Vec::new());
        let in_house = Authority::from(AcmeConfig { extra_roots_pem: roots, ..AcmeConfig::lets_encrypt() });
        for (name, private) in [
            ("shop.example", false),
            ("*.shop.example", false),
            ("nolocalhost.example", false),
            ("mytest", true),
            ("localhost", true),
            ("demo.localhost", true),
            ("*.demo.localhost", true),
            ("db.internal", true),
            ("my.home.arpa", true),
            ("nas.local", true),
            ("a.test", true),
            ("192.0.2.7", true),
            ("2001:db8::1", true),
            ("internal.example", false),
            ("notinternal.com", false),
        ] {
            assert_eq!(*public.for_name(name) == Authority::Internal, private, "{name}");
            assert_eq!(in_house.for_name(name), &in_house, "{name}");
            assert_eq!(Authority::Off.for_name(name), &Authority::Off, "{name}");
        }
    }

    #[test]
    fn certificates_are_marked_by_their_authority() {
        assert_eq!(Authority::from(AcmeConfig::lets_encrypt()).id(), Some(LETS_ENCRYPT_PRODUCTION));
        assert_eq!(Authority::Internal.id(), Some("internal"));
        assert_eq!(Authority::Off.id(), None);
    }
}
