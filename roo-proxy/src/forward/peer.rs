//! The client's end of a connection, as upstreams are told of it.

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
}

impl Peer {
    pub(crate) fn new(id: u64, ends: Ends, trusted: bool, scheme: Scheme) -> Peer {
        let address = ends.source.ip();
        let lines = format!("x-forwarded-for: {address}\r\nx-real-ip: {address}\r\nx-forwarded-proto: {scheme}\r\n");
        Peer { address: address.to_string().into(), trusted, id, ends, scheme, lines: lines.into() }
    }
}
