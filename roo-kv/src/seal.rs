//! Protection of values at rest.
//!
//! A sealed record is `version (1) | key id (4) | nonce (12) | ciphertext and tag`. The header and the name under
//! which the record is stored are authenticated with it, so a record cannot be moved to another name.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::error::SealError;

const VERSION: u8 = 1;
const KEY_ID_BYTES: usize = 4;
const HEADER_BYTES: usize = 1 + KEY_ID_BYTES;
const TAG_BYTES: usize = 16;

/// Seals and opens records with AES-256-GCM (RFC 5116) under keys derived from the cluster's secret. It seals with one
/// and may open with several; a record says which key it needs.
#[derive(Clone)]
pub struct Sealer {
    own: SealKey,
    others: Vec<SealKey>,
}

#[derive(Clone)]
struct SealKey {
    key: Zeroizing<[u8; 32]>,
    id: [u8; KEY_ID_BYTES],
}

impl Sealer {
    pub(crate) fn new(key: Zeroizing<[u8; 32]>, key_id: [u8; KEY_ID_BYTES]) -> Self {
        Self { own: SealKey { key, id: key_id }, others: Vec::new() }
    }

    /// Opens what `other` seals, too.
    #[must_use]
    pub fn also_opens(mut self, other: &Self) -> Self {
        self.others.push(other.own.clone());
        self
    }

    /// Whether a record was sealed with the key that this one seals with.
    #[must_use]
    pub fn sealed(&self, record: &[u8]) -> bool {
        record.starts_with(&self.own.header())
    }

    /// Encrypts `plain` so that it can only be opened under the same `name`. Every call gives another record.
    ///
    /// # Errors
    /// [`SealError::Random`] if the system has no randomness.
    pub fn seal(&self, name: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0_u8; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| SealError::Random)?;
        let header = self.own.header();
        let mut body = Zeroizing::new(Vec::with_capacity(plain.len() + TAG_BYTES));
        body.extend_from_slice(plain);
        self.own
            .cipher()
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(authenticated(header, name)),
                &mut *body,
            )
            .expect("AES-GCM seals up to 64 GiB, more than a process can hold here");
        let mut record = Vec::with_capacity(HEADER_BYTES + NONCE_LEN + body.len());
        record.extend_from_slice(&header);
        record.extend_from_slice(&nonce);
        record.extend_from_slice(&body);
        Ok(record)
    }

    /// Whether a record was sealed with a key that this one opens.
    pub(crate) fn has_key_of(&self, record: &[u8]) -> bool {
        std::iter::once(&self.own).chain(&self.others).any(|key| record.starts_with(&key.header()))
    }

    /// Opens what [`seal`](Self::seal) made under the same name.
    ///
    /// # Errors
    /// [`SealError`] says whether it is no record, from another secret, or damaged.
    pub fn open(&self, name: &str, record: &[u8]) -> Result<Vec<u8>, SealError> {
        let (header, rest) = record.split_first_chunk::<HEADER_BYTES>().ok_or(SealError::Malformed)?;
        if header[0] != VERSION {
            return Err(SealError::UnknownVersion { version: header[0] });
        }
        let key = std::iter::once(&self.own).chain(&self.others).find(|key| *header == key.header());
        let key = key.ok_or(SealError::OtherKey)?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Malformed)?;
        if body.len() < TAG_BYTES {
            return Err(SealError::Malformed);
        }
        let mut body = Zeroizing::new(body.to_vec());
        let plain = key
            .cipher()
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(authenticated(*header, name)), &mut body)
            .map_err(|_| SealError::Damaged)?;
        Ok(plain.to_vec())
    }
}

impl SealKey {
    fn header(&self) -> [u8; HEADER_BYTES] {
        let [a, b, c, d] = self.id;
        [VERSION, a, b, c, d]
    }

    fn cipher(&self) -> LessSafeKey {
        let key =
            UnboundKey::new(&AES_256_GCM, self.key.as_ref()).expect("AES-256 takes the 32 bytes that the type holds");
        LessSafeKey::new(key)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(..)")
    }
}

fn authenticated(header: [u8; HEADER_BYTES], name: &str) -> Vec<u8> {
    [&header, name.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::Secret;

    use super::*;

    fn sealer(text: &str) -> Sealer {
        Secret::from_text(text).unwrap().sealer()
    }

    #[test]
    fn what_was_sealed_opens_under_its_name_alone() {
        let sealer = sealer("correct horse battery");
        for plain in [&b""[..], b"x", &[7; 5000]] {
            let record = sealer.seal("name", plain).unwrap();
            assert_eq!(sealer.open("name", &record).unwrap(), plain);
            assert_eq!(sealer.open("other", &record), Err(SealError::Damaged));
            assert_ne!(record, sealer.seal("name", plain).unwrap());
        }
    }

    #[test]
    fn another_secret_is_told_apart_from_damage() {
        let record = sealer("correct horse battery").seal("n", b"plain").unwrap();
        assert_eq!(sealer("another horse battery").open("n", &record), Err(SealError::OtherKey));
    }

    #[test]
    fn what_another_key_sealed_is_opened_if_it_is_at_hand() {
        let (old, new) = (sealer("correct horse battery"), sealer("another horse battery"));
        let record = old.seal("n", b"plain").unwrap();
        let both = new.also_opens(&old);
        assert_eq!(both.open("n", &record).unwrap(), b"plain");
        assert!(!both.sealed(&record) && both.sealed(&both.seal("n", b"plain").unwrap()));
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let sealer = sealer("correct horse battery");
        let record = sealer.seal("n", b"plain").unwrap();
        for at in 0..record.len() {
            let mut changed = record.clone();
            changed[at] ^= 1;
            assert!(sealer.open("n", &changed).is_err(), "byte {at}");
            assert!(sealer.open("n", &record[..at]).is_err(), "cut at {at}");
        }
    }
}
