//! Version 1: a line of text (§2.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{BadHeader, Ends, Header};

const START: &[u8] = b"PROXY ";
/// With its CR LF; what the longest addresses need.
const LINE_BYTES_MAX: usize = 107;

pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header>, BadHeader> {
    let shared = bytes.len().min(START.len());
    if bytes[..shared] != START[..shared] {
        return Err(BadHeader("there is no PROXY header"));
    }
    let window = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = memchr::memchr(b'\n', window) else {
        return match bytes.len() < LINE_BYTES_MAX {
            true => Ok(None),
            false => Err(BadHeader("the PROXY line is longer than 107 bytes")),
        };
    };
    let line = window[START.len()..end].strip_suffix(b"\r").ok_or(BadHeader("the PROXY line ends with no CR LF"))?;
    let line = std::str::from_utf8(line).map_err(|_| BAD_LINE)?;
    Ok(Some(Header { length: end + 1, ends: ends(line)? }))
}

const BAD_LINE: BadHeader = BadHeader("the PROXY line has not the form of its specification");

fn ends(line: &str) -> Result<Option<Ends>, BadHeader> {
    let mut words = line.split(' ');
    let mut word = || words.next().ok_or(BAD_LINE);
    let ends = match word()? {
        // Whatever else the line says has no meaning.
        "UNKNOWN" => return Ok(None),
        "TCP4" => four::<Ipv4Addr>([word()?, word()?, word()?, word()?])?,
        "TCP6" => four::<Ipv6Addr>([word()?, word()?, word()?, word()?])?,
        _ => return Err(BAD_LINE),
    };
    match words.next() {
        None => Ok(Some(ends)),
        Some(_) => Err(BAD_LINE),
    }
}

/// Both addresses, then both ports.
fn four<A: FromStr + Into<IpAddr>>([source, destination, from, to]: [&str; 4]) -> Result<Ends, BadHeader> {
    let address = |text: &str| text.parse::<A>().map(Into::into).map_err(|_| BAD_LINE);
    let source = SocketAddr::new(address(source)?, port(from)?);
    let destination = SocketAddr::new(address(destination)?, port(to)?);
    Ok(Ends::new(source, destination))
}

/// Digits only, and none too many.
fn port(text: &str) -> Result<u16, BadHeader> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_number).ok_or(BAD_LINE)
}

pub(super) fn write(ends: &Ends) -> Vec<u8> {
    let Ends { source, destination } = ends;
    let family = match (source.ip(), destination.ip()) {
        (IpAddr::V4(_), IpAddr::V4(_)) => "TCP4",
        (IpAddr::V6(_), IpAddr::V6(_)) => "TCP6",
        _ => return b"PROXY UNKNOWN\r\n".to_vec(),
    };
    let (from, to) = (source.port(), destination.port());
    format!("PROXY {family} {} {} {from} {to}\r\n", source.ip(), destination.ip()).into_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_is_read() {
        let read = |text: &str| parse(text.as_bytes()).unwrap().unwrap();
        let header = read("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\nGET /");
        let ends = Ends::new("192.0.2.1:56324".parse().unwrap(), "198.51.100.1:443".parse().unwrap());
        assert_eq!(header, Header { length: 45, ends: Some(ends) });
        let ends = read("PROXY TCP6 2001:db8::1 ::1 0 65535\r\n").ends.unwrap();
        assert_eq!((ends.source, ends.destination.port()), ("[2001:db8::1]:0".parse().unwrap(), 65535));
        assert_eq!(
            read("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n").ends.unwrap().source,
            "192.0.2.1:1".parse().unwrap()
        );
        for unknown in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN 192.0.2.1 whatever\r\n"] {
            assert_eq!(read(unknown), Header { length: unknown.len(), ends: None });
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "GET / HTTP/1.1\r\n",
            "proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
            "PROXY TCP4 192.0.2.1  192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 ::1 1 2\r\n",
            "PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 \r\n",
            "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
            "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY \r\n",
            "PROXY TCP4 \u{661} 192.0.2.2 1 2\r\n",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
        let long = format!("PROXY UNKNOWN {}", "x".repeat(LINE_BYTES_MAX));
        assert_eq!(parse(&long.as_bytes()[..LINE_BYTES_MAX - 1]), Ok(None));
        assert!(parse(&long.as_bytes()[..LINE_BYTES_MAX]).is_err());
    }
}
