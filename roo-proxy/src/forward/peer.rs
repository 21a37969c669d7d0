//! The client's end of a connection, as upstreams are told of it.

use std::net::IpAddr;

use crate::origin::Scheme;

/// What is known of whoever is at the other end of a client's connection.
pub(crate) struct Peer {
    /// Its address as text.
    pub(crate) address: Box<str>,
    /// Whether it is a proxy whose own fields are believed.
    pub(crate) trusted: bool,
    pub(crate) scheme: Scheme,
    /// The field lines that are the same for all requests of somebody who is not trusted.
    pub(crate) lines: Box<str>,
}

impl Peer {
    pub(crate) fn new(address: IpAddr, trusted: bool, scheme: Scheme) -> Peer {
        let lines = format!("x-forwarded-for: {address}\r\nx-real-ip: {address}\r\nx-forwarded-proto: {scheme}\r\n");
        Peer { address: address.to_string().into(), trusted, scheme, lines: lines.into() }
    }
}
