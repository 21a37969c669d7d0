//! Addresses as people write them: `host:port`, `:port` or a bare port.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// Reads a listening address. `host:port` listens there, `:port` and a bare port on `default_ip`.
/// Port 0 lets the system pick a port. A host name is looked up once, here.
///
/// # Errors
/// A sentence that names what is wrong with `text`.
pub(crate) fn listen(text: &str, default_ip: IpAddr) -> Result<SocketAddr, String> {
    let bare = text.strip_prefix(':').unwrap_or(text);
    if bare.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(SocketAddr::new(default_ip, port(bare)?));
    }
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (host, port_text) =
        text.rsplit_once(':').ok_or_else(|| format!("`{text}` has no port; write host:port, :port or a port"))?;
    let port = port(port_text)?;
    (host, port)
        .to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(|| format!("the host `{host}` in `{text}` is neither an IP address nor a name this machine knows"))
}

/// Checks `host:port` of a peer, with `default_port` where none is written. The name is not looked up.
///
/// # Errors
/// A sentence that names what is wrong with `text`.
pub(crate) fn peer(text: &str, default_port: u16) -> Result<String, String> {
    if text.parse::<SocketAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, default_port).to_string());
    }
    match text.rsplit_once(':') {
        Some((host, port_text)) if is_host(host) => Ok(format!("{host}:{}", port(port_text)?)),
        None if is_host(text) => Ok(format!("{text}:{default_port}")),
        _ => Err(format!("`{text}` is no address of a peer; write host:port, for example 10.0.0.1:{default_port}")),
    }
}

fn is_host(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("`{text}` is no port; a port is a number from 0 to 65535"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_listening_address_has_three_forms() {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        for (text, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
            (":8080", "0.0.0.0:8080"),
            ("8080", "0.0.0.0:8080"),
            ("0", "0.0.0.0:0"),
        ] {
            assert_eq!(listen(text, any), Ok(expected.parse().expect("an address")), "{text}");
        }
        for text in ["", ":", "host", "70000", "127.0.0.1:x", "no.such.host.invalid:1"] {
            assert!(listen(text, any).is_err(), "{text}");
        }
    }

    #[test]
    fn a_peer_may_leave_its_port_out() {
        for (text, expected) in [
            ("10.0.0.1:7", "10.0.0.1:7"),
            ("10.0.0.1", "10.0.0.1:6300"),
            ("::1", "[::1]:6300"),
            ("node-1", "node-1:6300"),
            ("node_1:5", "node_1:5"),
        ] {
            assert_eq!(peer(text, 6300).as_deref(), Ok(expected), "{text}");
        }
        for text in ["", ":1", "a b", "http://x:1", "node:port"] {
            assert!(peer(text, 6300).is_err(), "{text}");
        }
    }
}
