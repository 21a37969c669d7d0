//! Session tickets that every node of a cluster can open: a client that comes back to another node resumes there.
//!
//! A ticket is what rustls wants to know again (RFC 8446 §4.6.1, RFC 5077), sealed with AES-256-GCM-SIV (RFC 8452):
//!
//! ```text
//! name of the key, 16 bytes │ nonce, 12 bytes │ sealed state │ tag, 16 bytes
//! ```
//!
//! The name is authenticated with the state. The server name is part of the state, and rustls resumes for no other.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

/// How long a client may keep a ticket, in seconds. Whoever hands keys in keeps each so long after its last use.
pub const TICKET_LIFE_SECONDS: u32 = 12 * 60 * 60;

/// The keys that tickets are sealed with. The first seals new ones, all open old ones.
#[derive(Clone, Debug, Default)]
pub struct TicketKeys(Vec<Arc<TicketKey>>);

impl TicketKeys {
    /// Keys from secrets, the one in use first. The same secret yields the same key on every node. With none no tickets
    /// are given, and every handshake is a full one.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a [u8; 32]>) -> TicketKeys {
        // Nothing fails here but a cryptographic library that is broken; then there are no tickets.
        TicketKeys(secrets.into_iter().filter_map(|secret| TicketKey::new(secret).ok()).map(Arc::new).collect())
    }

    /// One key that no other process has.
    fn of_this_process() -> TicketKeys {
        let mut secret = Zeroizing::new([0; 32]);
        match aws_lc_rs::rand::fill(&mut *secret) {
            Ok(()) => TicketKeys::new([&*secret]),
            Err(Unspecified) => TicketKeys::default(),
        }
    }
}

struct TicketKey {
    name: [u8; NAME_BYTES],
    key: RandomizedNonceKey,
}

impl TicketKey {
    fn new(secret: &[u8; 32]) -> Result<TicketKey, Unspecified> {
        let secret = Salt::new(HKDF_SHA256, b"roo session tickets").extract(secret);
        let mut name = [0; NAME_BYTES];
        secret.expand(&[b"name"], Bytes(NAME_BYTES))?.fill(&mut name)?;
        let mut key = Zeroizing::new([0; 32]);
        secret.expand(&[b"key"], Bytes(32))?.fill(&mut *key)?;
        Ok(TicketKey { name, key: RandomizedNonceKey::new(&AES_256_GCM_SIV, &*key)? })
    }

    fn seal(&self, state: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let mut sealed = state.to_vec();
        let nonce = self.key.seal_in_place_append_tag(Aad::from(self.name), &mut sealed)?;
        Ok([&self.name[..], nonce.as_ref(), &sealed].concat())
    }

    fn open(&self, nonce: &[u8; NONCE_LEN], sealed: &[u8]) -> Option<Vec<u8>> {
        let mut state = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let bytes = self.key.open_in_place(nonce, Aad::from(self.name), &mut state).ok()?.len();
        state.truncate(bytes);
        Some(state)
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKey").finish_non_exhaustive()
    }
}

/// An output length of HKDF.
struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

const NAME_BYTES: usize = 16;

/// Seals and opens the tickets of a proxy with the keys that were handed in last; until then with one of its own.
#[derive(Debug)]
pub(crate) struct Tickets(ArcSwap<TicketKeys>);

impl Tickets {
    pub(crate) fn new() -> Tickets {
        Tickets(ArcSwap::from_pointee(TicketKeys::of_this_process()))
    }

    pub(crate) fn set(&self, keys: TicketKeys) {
        self.0.store(Arc::new(keys));
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        !self.0.load().0.is_empty()
    }

    fn lifetime(&self) -> u32 {
        TICKET_LIFE_SECONDS
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.load().0.first()?.seal(plain).ok()
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = cipher.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        // Names are no secret.
        self.0.load().0.iter().find(|key| key.name == *name)?.open(nonce, sealed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn with(secrets: &[[u8; 32]]) -> Tickets {
        let tickets = Tickets::new();
        tickets.set(TicketKeys::new(secrets));
        tickets
    }

    #[test]
    fn another_node_opens_what_one_has_sealed() {
        let ticket = with(&[[1; 32], [2; 32]]).encrypt(b"state").unwrap();
        assert_eq!(with(&[[3; 32], [1; 32]]).decrypt(&ticket).as_deref(), Some(&b"state"[..]));
        assert_eq!(with(&[[2; 32], [3; 32]]).decrypt(&ticket), None, "the key is gone");
    }

    #[test]
    fn the_first_key_seals() {
        let ticket = with(&[[1; 32], [2; 32]]).encrypt(b"state").unwrap();
        assert!(with(&[[1; 32]]).decrypt(&ticket).is_some());
    }

    #[test]
    fn no_bit_of_a_ticket_can_be_changed_and_none_left_out() {
        let tickets = with(&[[1; 32]]);
        let ticket = tickets.encrypt(b"state").unwrap();
        for bit in 0..ticket.len() * 8 {
            let mut changed = ticket.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(tickets.decrypt(&changed), None, "bit {bit}");
        }
        for length in 0..ticket.len() {
            assert_eq!(tickets.decrypt(&ticket[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn a_proxy_alone_has_a_key_of_its_own_and_without_keys_there_are_no_tickets() {
        let (one, other) = (Tickets::new(), Tickets::new());
        let ticket = one.encrypt(b"state").unwrap();
        assert!(one.decrypt(&ticket).is_some() && other.decrypt(&ticket).is_none());
        one.set(TicketKeys::default());
        assert!(!one.enabled() && one.encrypt(b"state").is_none());
    }
}
