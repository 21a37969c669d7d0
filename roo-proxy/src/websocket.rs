//! The handshake of WebSocket over HTTP/1 (RFC 6455 §4).

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The protocol's name in `Upgrade` and `:protocol`.
pub(crate) const WEBSOCKET: &str = "websocket";

/// The field by which a client asks.
pub(crate) const KEY: &str = "sec-websocket-key";

/// The field by which a server shows that it has understood.
pub(crate) const ACCEPT: &str = "sec-websocket-accept";

/// A key for one handshake: 16 bytes that nobody can know before.
pub(crate) fn key() -> String {
    STANDARD.encode(fastrand::u128(..).to_ne_bytes())
}

/// What a server answers to a key.
pub(crate) fn accept(key: &[u8]) -> String {
    const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    // The protocol asks for SHA-1; it protects nothing here.
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(GUID);
    STANDARD.encode(hash.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_answered_as_in_the_rfc() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(key().len(), 24);
        assert_ne!(key(), key());
    }
}
