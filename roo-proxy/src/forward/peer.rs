//! The client's end of a connection, as upstreams are told of it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;

use crate::codec::Claim;
use crate::origin::Scheme;
use crate::proxy_protocol::Ends;

/// What is known of whoever is at the other end of a client's connection.
pub(crate) struct Peer {
    /// Its address as text.
    pub(crate) address: Box<str>,
    /// Whether it is a proxy whose own fields are believed.
    pub(crate) trusted: bool,
    /// Tells the connections of a worker apart; never zero.
    pub(crate) id: u64,
    pub(crate) ends: Ends,
    pub(crate) scheme: Scheme,
    /// The field lines that are the same for all requests of somebody who is not trusted.
    pub(crate) lines: Box<str>,
    /// The field line that tells of the certificate it has shown, and which was verified (RFC 9440 §2.2).
    pub(crate) certificate: Option<Box<str>>,
}

impl Peer {
    pub(crate) fn new(id: u64, ends: Ends, trusted: bool, scheme: Scheme) -> Peer {
        let address = ends.source.ip();
        let lines = format!("x-forwarded-for: {address}\r\nx-real-ip: {address}\r\nx-forwarded-proto: {scheme}\r\n");
        let certificate = None;
        Peer { address: address.to_string().into(), trusted, id, ends, scheme, lines: lines.into(), certificate }
    }

    /// The same, having shown `certificate`.
    pub(crate) fn with_certificate(self, certificate: Option<&CertificateDer<'_>>) -> Peer {
        let line = |der| format!("client-cert: :{}:\r\n", STANDARD.encode(der)).into();
        Peer { certificate: certificate.map(line), ..self }
    }

    /// Whether that is for us alone to say, though others be trusted.
    pub(super) fn claims(&self, claim: Claim) -> bool {
        match claim {
            Claim::XOriginHost => true,
            Claim::ClientCert => self.certificate.is_some(),
            _ => false,
        }
    }
}
