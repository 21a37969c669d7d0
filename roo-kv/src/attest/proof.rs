//! What shows over one connection that its two ends know each other's tokens.
//!
//! HMAC-SHA256 (RFC 2104) with both tokens as its key, over the name of the end that shows it and the connection's
//! exported keying material (RFC 8446, section 7.5). Whoever stands in between has two connections with different
//! material, so that passing a proof on is of no use.

use aws_lc_rs::hmac;

use super::KinTask;

/// What the connection exports: the same at its two ends, and nowhere else.
pub(super) type Material = [u8; 32];

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The one that connected.
    Asking,
    /// The one that was connected to.
    Asked,
}

impl End {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Asking => b"asking",
            Self::Asked => b"asked",
        }
    }
}

/// Makes and checks the proofs of one connection.
pub(super) struct Proofs {
    key: hmac::Key,
    material: Material,
}

impl Proofs {
    pub(super) fn new(asking: &KinTask, asked: &KinTask, material: Material) -> Self {
        // No token holds a zero byte, so that no two pairs make the same key.
        let tokens = zeroize::Zeroizing::new([asking.token.as_bytes(), b"\0", asked.token.as_bytes()].concat());
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &tokens), material }
    }

    /// The proof that this end shows.
    pub(super) fn of(&self, end: End) -> Vec<u8> {
        hmac::sign(&self.key, &self.message(end)).as_ref().to_vec()
    }

    /// Whether an end has shown its proof. Takes the same time for any wrong one.
    pub(super) fn holds(&self, end: End, proof: &[u8]) -> bool {
        hmac::verify(&self.key, &self.message(end), proof).is_ok()
    }

    fn message(&self, end: End) -> Vec<u8> {
        [end.name(), self.material.as_slice()].concat()
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn task(token: &str) -> KinTask {
        KinTask { address: [127, 0, 0, 1].into(), token: Zeroizing::new(token.to_owned()) }
    }

    #[test]
    fn a_proof_holds_for_its_end_its_tokens_and_its_connection_alone() {
        let (one, two) = (task("one"), task("two"));
        let proofs = Proofs::new(&one, &two, [7; 32]);
        let proof = proofs.of(End::Asking);
        assert!(Proofs::new(&one, &two, [7; 32]).holds(End::Asking, &proof));
        assert!(!proofs.holds(End::Asked, &proof), "an end can't send back what it was shown");
        for other in [
            Proofs::new(&two, &one, [7; 32]),
            Proofs::new(&one, &task("else"), [7; 32]),
            Proofs::new(&task("else"), &two, [7; 32]),
            Proofs::new(&one, &two, [8; 32]),
        ] {
            assert!(!other.holds(End::Asking, &proof));
        }
        assert!(!proofs.holds(End::Asking, &proof[..16]) && !proofs.holds(End::Asking, &[]));
    }
}
