//! The PROXY protocol: who is at the other end of a connection that somebody in front passes on.
//!
//! The specification is HAProxy's `proxy-protocol.txt`. A header comes before all else, TLS included, and says which
//! connection this one stands for. Whoever may send one can claim any address, hence only listed sources are asked for it, and
//! those must send it: nothing is guessed (§2: "MUST not try to guess whether the protocol header is present or not").

mod receive;
mod v1;
mod v2;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

pub(crate) use receive::receive;

/// The version of the header that upstreams are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl ProxyProtocol {
    /// The header that stands before a connection made for a client's.
    pub(crate) fn header(self, ends: &Ends) -> Vec<u8> {
        match self {
            ProxyProtocol::V1 => v1::write(ends),
            ProxyProtocol::V2 => v2::write(ends),
        }
    }
}

/// Both ends of a client's connection. IPv4 is never written as IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
}

impl Ends {
    pub(crate) fn new(source: SocketAddr, destination: SocketAddr) -> Ends {
        Ends { source: canonical(source), destination: canonical(destination) }
    }
}

/// A dual-stack socket shows IPv4 addresses as mapped ones.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    /// How many bytes it has.
    length: usize,
    /// Which connection it stands for; `None` for the very one that it came by.
    ends: Option<Ends>,
}

/// Why bytes begin with no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadHeader(pub(crate) &'static str);

/// The header at the front of the bytes, of either version; `None` if all of them belong to one that has not ended.
fn parse(bytes: &[u8]) -> Result<Option<Header>, BadHeader> {
    let shared = bytes.len().min(v2::SIGNATURE.len());
    match bytes[..shared] == v2::SIGNATURE[..shared] {
        true => v2::parse(bytes),
        false => v1::parse(bytes),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn address() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
        let v4 = any::<([u8; 4], u16, [u8; 4], u16)>().prop_map(|(a, b, c, d)| ((a, b).into(), (c, d).into()));
        let v6 = any::<([u8; 16], u16, [u8; 16], u16)>().prop_map(|(a, b, c, d)| ((a, b).into(), (c, d).into()));
        prop_oneof![v4, v6]
    }

    fn version() -> impl Strategy<Value = ProxyProtocol> {
        prop_oneof![Just(ProxyProtocol::V1), Just(ProxyProtocol::V2)]
    }

    proptest! {
        #[test]
        fn a_header_is_read_as_it_was_written(
            version in version(),
            (source, destination) in address(),
            rest in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let ends = Ends::new(source, destination);
            let header = version.header(&ends);
            let is_mixed = ends.source.is_ipv4() != ends.destination.is_ipv4();
            let expected = Header { length: header.len(), ends: (!is_mixed).then_some(ends) };
            for end in 0..header.len() {
                prop_assert_eq!(parse(&header[..end]), Ok(None));
            }
            prop_assert_eq!(parse(&[header, rest].concat()), Ok(Some(expected)));
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            start in prop_oneof![
                Just(Vec::new()),
                Just(b"PROXY TCP4 ".to_vec()),
                Just(b"PROXY TCP6 ::1 ".to_vec()),
                Just(v2::SIGNATURE.to_vec()),
                Just([v2::SIGNATURE, &[0x21, 0x11, 0, 60]].concat()),
                Just([v2::SIGNATURE, &[0x21, 0x21, 0, 60]].concat()),
            ],
            rest in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                "[0-9a-f.: ]{0,120}(\r\n)?".prop_map(String::into_bytes),
            ],
        ) {
            let bytes = [start, rest].concat();
            let mut last = Ok(None);
            for end in 0..=bytes.len() {
                let parsed = parse(&bytes[..end]);
                match last {
                    // What is decided stays so, however much more comes.
                    Ok(Some(_)) | Err(_) => prop_assert_eq!(parsed, last),
                    Ok(None) => {}
                }
                if let Ok(Some(header)) = parsed {
                    prop_assert!(header.length <= end);
                }
                last = parsed;
            }
        }
    }
}
