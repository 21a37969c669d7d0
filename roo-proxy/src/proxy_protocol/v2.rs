//! Version 2: binary (§2.2).

use std::net::{IpAddr, SocketAddr};

use super::{BadHeader, Ends, Header};

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const START_BYTES: usize = 16;
/// Addresses and some further values need a tenth of it; a client's certificate among them may need it.
pub(super) const BYTES_MAX: usize = 4096;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const UNSPECIFIED: u8 = 0x00;
const TCP_4: u8 = 0x11;
const TCP_6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;
/// The type of the value that is a checksum (§2.2.4).
const CRC32C: u8 = 0x03;

pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header>, BadHeader> {
    let Some(start) = bytes.get(..START_BYTES) else { return Ok(None) };
    let length = START_BYTES + usize::from(u16::from_be_bytes([start[14], start[15]]));
    if length > BYTES_MAX {
        return Err(BadHeader("the PROXY header is longer than 4096 bytes"));
    }
    let is_known = matches!(start[12], LOCAL | PROXY);
    if !is_known {
        return Err(BadHeader("the PROXY header has another version or command than 2 with LOCAL or PROXY"));
    }
    let Some(header) = bytes.get(..length) else { return Ok(None) };
    // The proxy speaks for itself, to see whether we live: nothing that follows has a meaning.
    let ends = if start[12] == LOCAL { None } else { ends(header)? };
    Ok(Some(Header { length, ends }))
}

fn ends(header: &[u8]) -> Result<Option<Ends>, BadHeader> {
    let short = BadHeader("the PROXY header is too short for its addresses");
    let split = |at: usize| header[START_BYTES..].split_at_checked(at).ok_or(short);
    let (ends, values) = match header[13] {
        UNSPECIFIED => (None, split(0)?.1),
        TCP_4 => {
            let (addresses, values) = split(12)?;
            (pair::<4>(addresses), values)
        }
        TCP_6 => {
            let (addresses, values) = split(36)?;
            (pair::<16>(addresses), values)
        }
        // Who is at the other end of such a socket has no address that anybody could use.
        UNIX_STREAM => (None, split(216)?.1),
        _ => return Err(BadHeader("the PROXY header is of a connection that is no stream")),
    };
    check_values(header, values)?;
    Ok(ends)
}

/// Both addresses, then both ports.
fn pair<const N: usize>(bytes: &[u8]) -> Option<Ends>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = bytes.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (from, to) = rest.split_first_chunk::<2>()?;
    let end = |ip: &[u8; N], port: [u8; 2]| SocketAddr::new(IpAddr::from(*ip), u16::from_be_bytes(port));
    Some(Ends::new(end(source, *from), end(destination, to.try_into().ok()?)))
}

/// Walks over type, length and value to the very end. None of them matters but the checksum.
fn check_values(header: &[u8], mut values: &[u8]) -> Result<(), BadHeader> {
    while let Some((kind, rest)) = values.split_first() {
        let torn = BadHeader("a value of the PROXY header is longer than what is left");
        let (length, rest) = rest.split_first_chunk::<2>().ok_or(torn)?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(torn)?;
        if *kind == CRC32C {
            let said: [u8; 4] =
                value.try_into().map_err(|_| BadHeader("the PROXY header's checksum has not 4 bytes"))?;
            let at = header.len() - rest.len() - said.len();
            let cleared = [&header[..at], &[0; 4], rest].concat();
            if u32::from_be_bytes(said) != crc32c(&cleared) {
                return Err(BadHeader("the PROXY header's checksum is not that of its bytes"));
            }
        }
        values = rest;
    }
    Ok(())
}

/// RFC 3720 §12.1. Bit by bit: headers are short, and few carry one.
fn crc32c(bytes: &[u8]) -> u32 {
    let bit = |crc: u32| crc >> 1 ^ 0x82f6_3b78 & (crc & 1).wrapping_neg();
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| bit(crc)))
}

pub(super) fn write(ends: &Ends) -> Vec<u8> {
    let Ends { source, destination } = ends;
    let mut addresses = Vec::with_capacity(36);
    let family = match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            addresses.extend_from_slice(&source.octets());
            addresses.extend_from_slice(&destination.octets());
            TCP_4
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            addresses.extend_from_slice(&source.octets());
            addresses.extend_from_slice(&destination.octets());
            TCP_6
        }
        _ => UNSPECIFIED,
    };
    if family != UNSPECIFIED {
        addresses.extend_from_slice(&source.port().to_be_bytes());
        addresses.extend_from_slice(&destination.port().to_be_bytes());
    }
    let length = u8::try_from(addresses.len()).unwrap_or_default();
    [SIGNATURE, &[PROXY, family, 0, length], &addresses].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, body].concat()
    }

    /// From 192.0.2.1:256 to 198.51.100.1:443.
    const V4: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 1, 1, 0, 1, 187];

    fn with(values: &[u8]) -> Vec<u8> {
        header(PROXY, TCP_4, &[V4, values].concat())
    }

    fn read(bytes: &[u8]) -> Option<Ends> {
        let read = parse(bytes).unwrap().unwrap();
        assert_eq!(read.length, bytes.len());
        read.ends
    }

    #[test]
    fn addresses_are_read() {
        let ends = Ends::new("192.0.2.1:256".parse().unwrap(), "198.51.100.1:443".parse().unwrap());
        assert_eq!(read(&with(&[])), Some(ends));
        // A host name and something unknown behind them.
        assert_eq!(read(&with(&[2, 0, 1, b'a', 0xee, 0, 0])), Some(ends));
        let v6 = [&[0x20; 16][..], &[0x30; 16], &[0, 1, 0, 2]].concat();
        assert_eq!(read(&header(PROXY, TCP_6, &v6)).unwrap().destination.port(), 2);
    }

    #[test]
    fn what_has_no_address_stands_for_itself() {
        assert_eq!(read(&header(LOCAL, UNSPECIFIED, &[])), None);
        assert_eq!(read(&header(LOCAL, TCP_4, V4)), None);
        assert_eq!(read(&header(LOCAL, 0xff, &[1, 2, 3])), None);
        assert_eq!(read(&header(PROXY, UNSPECIFIED, &[])), None);
        assert_eq!(read(&header(PROXY, UNIX_STREAM, &[0; 216])), None);
    }

    #[test]
    fn anything_else_is_refused() {
        for (what, bytes) in [
            ("version 1", header(0x11, TCP_4, V4)),
            ("an unknown command", header(0x22, TCP_4, V4)),
            ("datagrams", header(PROXY, 0x12, V4)),
            ("an unknown family", header(PROXY, 0x41, V4)),
            ("short addresses", header(PROXY, TCP_4, &V4[1..])),
            ("short addresses", header(PROXY, TCP_6, V4)),
            ("short addresses", header(PROXY, UNIX_STREAM, V4)),
            ("a torn value", with(&[2])),
            ("a torn value", with(&[2, 0, 2, b'a'])),
            ("a short checksum", with(&[CRC32C, 0, 3, 0, 0, 0])),
            ("too long", header(PROXY, TCP_4, &[0; BYTES_MAX - START_BYTES + 1])),
        ] {
            assert!(parse(&bytes).is_err(), "{what}");
        }
    }

    #[test]
    fn a_checksum_must_be_right() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        let mut bytes = with(&[CRC32C, 0, 4, 0, 0, 0, 0, 4, 0, 1, 7]);
        assert!(parse(&bytes).is_err());
        let sum = crc32c(&bytes).to_be_bytes();
        let at = bytes.len() - 8;
        bytes[at..at + 4].copy_from_slice(&sum);
        assert!(read(&bytes).is_some());
        *bytes.last_mut().unwrap() += 1;
        assert!(parse(&bytes).is_err());
    }
}
