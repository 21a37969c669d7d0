//! What the nodes of one cluster share, and the keys that are derived from it.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aws_lc_rs::hkdf;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::SecretError;
use crate::seal::Sealer;

/// The fewest characters of a secret.
pub const SECRET_CHARS_MIN: usize = 16;

/// Separates our keys from those of any other program that is fed the same text.
const SALT: &[u8] = b"roo-kv/secret/1";

/// The head of an Ed25519 private key in PKCS#8 (RFC 8410, section 7); the 32 bytes of the seed follow.
const ED25519_PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// The text that makes nodes trust each other. All keys are derived from it by HKDF-SHA256 (RFC 5869).
///
/// Wiped from memory when dropped; never shown by `Debug`.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes any text of at least [`SECRET_CHARS_MIN`] characters; white space around it is ignored.
    ///
    /// # Errors
    /// [`SecretError::TooShort`].
    pub fn from_text(text: &str) -> Result<Self, SecretError> {
        let text = text.trim();
        let chars = text.chars().count();
        if chars < SECRET_CHARS_MIN {
            return Err(SecretError::TooShort { chars, min: SECRET_CHARS_MIN });
        }
        Ok(Self(Zeroizing::new(text.as_bytes().to_vec())))
    }

    /// Makes a new one of 32 random bytes, written in hexadecimal.
    ///
    /// # Errors
    /// [`SecretError::Random`] if the system has no randomness.
    pub fn generate() -> Result<Self, SecretError> {
        let mut random = Zeroizing::new([0_u8; 32]);
        aws_lc_rs::rand::fill(random.as_mut()).map_err(|_| SecretError::Random)?;
        let mut text = Zeroizing::new(Vec::with_capacity(64));
        for byte in random.iter() {
            text.extend_from_slice(format!("{byte:02x}").as_bytes());
        }
        Ok(Self(text))
    }

    /// Reads the secret from a file, or makes one and keeps it there, readable by its owner alone.
    ///
    /// # Errors
    /// [`SecretError::Io`] names the file; [`SecretError::TooShort`] if it holds too little.
    pub fn load_or_create(path: &Path) -> Result<Self, SecretError> {
        let fault = |source| SecretError::Io { path: path.to_owned(), source };
        match fs::read_to_string(path) {
            Ok(text) => return Self::from_text(&Zeroizing::new(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(fault(e)),
        }
        let secret = Self::generate()?;
        secret.write_new(path).map_err(fault)?;
        Ok(secret)
    }

    fn write_new(&self, path: &Path) -> io::Result<()> {
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent)?;
        let temporary = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&self.0)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(parent)?.sync_all()
    }

    /// The admin API's bearer token that follows from this secret: 43 URL-safe characters.
    #[must_use]
    pub fn api_token(&self) -> String {
        use base64::Engine;
        let token = self.derive::<32>(b"api-token");
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(token.as_slice())
    }

    /// The key that protects values at rest.
    #[must_use]
    pub fn sealer(&self) -> Sealer {
        Sealer::new(self.derive::<32>(b"seal"), *self.derive::<4>(b"seal-id"))
    }

    /// Tells this secret from others, and tells nothing about it.
    #[must_use]
    pub fn id(&self) -> SecretId {
        SecretId(u64::from_be_bytes(*self.derive::<8>(b"id")))
    }

    /// The text itself. Whoever shows it or writes it down takes care of it.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(String::from_utf8_lossy(&self.0).into_owned())
    }

    /// The Ed25519 key in PKCS#8 form with which every node signs the certificate that its API shows.
    #[must_use]
    pub fn api_authority_key(&self) -> Zeroizing<Vec<u8>> {
        self.ed25519_key(b"api-authority")
    }

    /// The Ed25519 key in PKCS#8 form with which every node signs the certificate that it shows to its peers.
    pub(crate) fn peer_authority_key(&self) -> Zeroizing<Vec<u8>> {
        self.ed25519_key(b"peer-authority")
    }

    fn ed25519_key(&self, purpose: &[u8]) -> Zeroizing<Vec<u8>> {
        let seed = self.derive::<32>(purpose);
        let mut key = Zeroizing::new(Vec::with_capacity(ED25519_PKCS8_HEAD.len() + seed.len()));
        key.extend_from_slice(&ED25519_PKCS8_HEAD);
        key.extend_from_slice(seed.as_slice());
        key
    }

    fn derive<const N: usize>(&self, purpose: &[u8]) -> Zeroizing<[u8; N]> {
        let mut key = Zeroizing::new([0_u8; N]);
        let info = [purpose];
        hkdf::Salt::new(hkdf::HKDF_SHA256, SALT)
            .extract(&self.0)
            .expand(&info, Length(N))
            .and_then(|okm| okm.fill(key.as_mut()))
            .expect("HKDF-SHA256 yields up to 8160 bytes, and no caller asks for more than 32");
        key
    }
}

/// Which secret it is: sixteen hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SecretId(u64);

impl fmt::Display for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretId({self})")
    }
}

impl std::str::FromStr for SecretId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn short_secrets_are_refused_with_the_number_needed() {
        let error = Secret::from_text("  fifteen-chars..  ").unwrap_err();
        assert!(error.to_string().contains("at least 16"), "{error}");
        assert!(Secret::from_text("sixteen-chars...").is_ok());
    }

    #[test]
    fn the_same_text_yields_the_same_keys_and_another_text_others() {
        let one = Secret::from_text("correct horse battery").unwrap();
        let same = Secret::from_text("correct horse battery\n").unwrap();
        let other = Secret::from_text("correct horse batterz").unwrap();
        assert_eq!(one.api_token(), same.api_token());
        assert_eq!(one.peer_authority_key(), same.peer_authority_key());
        assert_eq!(one.api_authority_key(), same.api_authority_key());
        assert_ne!(one.api_token(), other.api_token());
        assert_ne!(one.peer_authority_key(), other.peer_authority_key());
        assert_ne!(one.api_authority_key(), other.api_authority_key());
        assert_ne!(one.api_authority_key(), one.peer_authority_key());
        assert_eq!(one.api_token().len(), 43);
    }

    #[test]
    fn a_secret_is_kept_in_a_private_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/secret");
        let made = Secret::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Secret::load_or_create(&path).unwrap().api_token(), made.api_token());
    }

    #[test]
    fn debug_shows_nothing() {
        let secret = Secret::from_text("correct horse battery").unwrap();
        assert_eq!(format!("{secret:?} {:?}", secret.sealer()), "Secret(..) Sealer(..)");
    }
}
