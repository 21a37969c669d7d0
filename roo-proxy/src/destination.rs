//! Where a route leads: one upstream address by name, with an optional path in front.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use crate::name::{self, NameError};
use crate::origin::{OriginError, Scheme, parse_port};

/// One upstream, written as a URL: `http://stack_service:80`, `https://10.0.0.7:8443/base`, `h2c://grpc:50051`, or a socket
/// of this machine: `unix:/run/app.sock`, with a path to put in front `unix:/run/app.sock:/base`.
///
/// `Display` gives a URL back that parses to the same destination; the scheme's own port is dropped, except before a
/// service, whose instances have ports of their own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// Plain or TLS towards the upstream; plain over a socket of this machine.
    pub scheme: Scheme,
    /// Whether it is spoken to by HTTP/2 in the clear, without asking (RFC 9113 §3.3): written `h2c://`.
    pub is_h2c: bool,
    /// A name to resolve, an address or a service.
    pub host: DestinationHost,
    /// From 1 to 65535; `None` for the scheme's own, or before a service for that of each instance.
    pub port: Option<u16>,
    /// Put in front of the request's path; empty, or starts with `/` and does not end with one.
    pub path: String,
}

/// The host of a destination.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DestinationHost {
    /// An IP literal: never resolved.
    Address(IpAddr),
    /// A name, lower case, with its trailing dot if it was written with one.
    Name(Arc<str>),
    /// The service of this name, written with [`SERVICE_SUFFIX`]: looked up in the
    /// [`ServiceTable`](crate::ServiceTable), never in the DNS.
    Service(Arc<str>),
    /// The absolute path of a socket on this machine.
    Unix(Arc<str>),
}

/// What follows a service's name where it stands as a host: `shop.service.roo` is the service `shop`.
pub const SERVICE_SUFFIX: &str = ".service.roo";

impl Destination {
    /// `host` or `host:port`, as in the authority of the URL.
    pub fn authority(&self) -> String {
        let Destination { host, port, .. } = self;
        port.map_or_else(|| host.to_string(), |port| format!("{host}:{port}"))
    }

    /// The port that is meant where the host has none of its own.
    pub(crate) fn port_or_default(&self) -> u16 {
        self.port.unwrap_or(self.scheme.default_port())
    }
}

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Destination, DestinationError> {
        if text.len() > URL_BYTES_MAX {
            return Err(DestinationError::TooLong);
        }
        if let Some(rest) = text.strip_prefix("unix:") {
            return parse_unix(rest);
        }
        let (scheme, rest) = text.split_once("://").ok_or(DestinationError::SchemeMissing)?;
        let is_h2c = scheme.eq_ignore_ascii_case(H2C);
        let scheme: Scheme = match is_h2c {
            true => Scheme::Http,
            false => scheme.parse().map_err(|_: OriginError| DestinationError::Scheme { scheme: scheme.into() })?,
        };
        if rest.contains(['?', '#']) {
            return Err(DestinationError::QueryOrFragment);
        }
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        let (host, port) = parse_authority(authority)?;
        let is_said = |port: &u16| *port != scheme.default_port() || matches!(host, DestinationHost::Service(_));
        let port = port.filter(is_said);
        Ok(Destination { scheme, is_h2c, host, port, path: parse_path(path)? })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            DestinationHost::Unix(_) if self.path.is_empty() => write!(f, "{}", self.host),
            DestinationHost::Unix(_) => write!(f, "{}:{}", self.host, self.path),
            _ => {
                let scheme = if self.is_h2c { H2C } else { self.scheme.as_str() };
                write!(f, "{scheme}://{}{}", self.authority(), self.path)
            }
        }
    }
}

impl fmt::Display for DestinationHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DestinationHost::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            DestinationHost::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            DestinationHost::Name(name) => f.write_str(name),
            DestinationHost::Service(name) => write!(f, "{name}{SERVICE_SUFFIX}"),
            DestinationHost::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

/// Why a text is not a destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// No `://`.
    #[error("it has no scheme: write a URL such as http://service:80")]
    SchemeMissing,
    /// None of `http`, `https` and `h2c`.
    #[error("the scheme {scheme:?} is not supported: use http, https or h2c")]
    Scheme {
        /// The scheme as found.
        scheme: String,
    },
    /// Nothing between `://` and the port or path.
    #[error("it has no host: write a URL such as http://service:80")]
    HostMissing,
    /// The host is neither a name nor an address.
    #[error("its host is not valid: {source}")]
    Host {
        /// What is wrong with the name.
        source: NameError,
    },
    /// What stands before [`SERVICE_SUFFIX`] is no service.
    #[error("{name:?} is not the name of a service: use one word of letters, digits, - and _ before {SERVICE_SUFFIX}")]
    Service {
        /// The text before the suffix.
        name: String,
    },
    /// What stands behind `unix:` is not the path of a socket.
    #[error("{path:?} is not a path of a socket: write it from / on, as in unix:/run/app.sock, with at most 107 bytes")]
    Socket {
        /// The path as found.
        path: String,
    },
    /// `[...]` does not hold an IPv6 address.
    #[error("{host:?} is not an IPv6 address in brackets")]
    Ipv6 {
        /// The text as found.
        host: String,
    },
    /// Not a number from 1 to 65535.
    #[error("the port {port:?} is not a number from 1 to 65535")]
    Port {
        /// The port as found.
        port: String,
    },
    /// `user@` or `user:password@`.
    #[error("it carries a user or password: remove everything up to the @")]
    UserInfo,
    /// `?` or `#`.
    #[error("it carries a query or fragment: remove everything from the ? or #")]
    QueryOrFragment,
    /// The path holds something that may not stand in a request line.
    #[error("{character:?} is not allowed in the path: percent-encode it")]
    Path {
        /// The first character that is not allowed.
        character: char,
    },
    /// More than 2,048 bytes.
    #[error("it is longer than 2048 bytes")]
    TooLong,
}

/// The scheme of HTTP/2 in the clear.
const H2C: &str = "h2c";

const URL_BYTES_MAX: usize = 2048;

fn parse_authority(authority: &str) -> Result<(DestinationHost, Option<u16>), DestinationError> {
    if authority.contains('@') {
        return Err(DestinationError::UserInfo);
    }
    if let Some(rest) = authority.strip_prefix('[') {
        let fault = || DestinationError::Ipv6 { host: authority.into() };
        let (address, port) = rest.split_once(']').ok_or_else(fault)?;
        let address: Ipv6Addr = address.parse().map_err(|_| fault())?;
        let port = match port.strip_prefix(':') {
            Some(port) => Some(destination_port(port)?),
            None if port.is_empty() => None,
            None => return Err(fault()),
        };
        return Ok((DestinationHost::Address(address.into()), port));
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(destination_port(port)?)),
        None => (authority, None),
    };
    Ok((parse_host(host)?, port))
}

/// `unix:` is gone already. Three slashes are taken as well, as other programs write it.
fn parse_unix(rest: &str) -> Result<Destination, DestinationError> {
    let (socket, path) = match rest.split_once(':') {
        Some((socket, path)) => (socket, path),
        None => (rest, ""),
    };
    if path.contains(['?', '#']) {
        return Err(DestinationError::QueryOrFragment);
    }
    let socket = socket.strip_prefix("//").unwrap_or(socket);
    let is_part =
        |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(|b| b.is_ascii_graphic());
    let is_socket =
        socket.len() <= SOCKET_BYTES_MAX && socket.strip_prefix('/').is_some_and(|s| s.split('/').all(is_part));
    if !is_socket || !(path.is_empty() || path.starts_with('/')) {
        return Err(DestinationError::Socket { path: rest.into() });
    }
    let host = DestinationHost::Unix(socket.into());
    Ok(Destination { scheme: Scheme::Http, is_h2c: false, host, port: None, path: parse_path(path)? })
}

/// What the system takes (unix(7)), less the NUL at its end.
const SOCKET_BYTES_MAX: usize = 107;

fn parse_host(host: &str) -> Result<DestinationHost, DestinationError> {
    if host.is_empty() {
        return Err(DestinationError::HostMissing);
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(DestinationHost::Address(address));
    }
    let name = name::normal(host).map_err(|source| DestinationError::Host { source })?;
    if let Some(service) = name.strip_suffix(SERVICE_SUFFIX) {
        return parse_service(service);
    }
    // The dot at the end tells the resolver not to try its search domains: keep it.
    Ok(DestinationHost::Name(match host.ends_with('.') {
        true => format!("{name}.").into(),
        false => name.as_ref().into(),
    }))
}

/// One label that begins and ends with a letter or digit; the other rules of a label hold already.
fn parse_service(name: &str) -> Result<DestinationHost, DestinationError> {
    let is_edge = |c: char| c.is_ascii_alphanumeric();
    if name.contains('.') || !name.starts_with(is_edge) || !name.ends_with(is_edge) {
        return Err(DestinationError::Service { name: name.into() });
    }
    Ok(DestinationHost::Service(name.into()))
}

fn destination_port(text: &str) -> Result<u16, DestinationError> {
    parse_port(text).map_err(|_| DestinationError::Port { port: text.into() })
}

fn parse_path(path: &str) -> Result<String, DestinationError> {
    // RFC 3986 §3.3: pchar and the slash.
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~%!$&'()*+,;=:@/".contains(c);
    if let Some(character) = path.chars().find(|c| !allowed(*c)) {
        return Err(DestinationError::Path { character });
    }
    Ok(path.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_url_is_a_destination() {
        for (text, shown) in [
            ("http://test_test:80", "http://test_test"),
            ("http://test_test:8080/", "http://test_test:8080"),
            ("HTTPS://Service.Example/base/", "https://service.example/base"),
            ("http://127.0.0.1:9001", "http://127.0.0.1:9001"),
            ("https://[::1]:9443/a", "https://[::1]:9443/a"),
            ("http://[2001:db8::1]", "http://[2001:db8::1]"),
            ("http://tasks.roo_roo.:6300", "http://tasks.roo_roo.:6300"),
            ("http://Stack_Shop.service.roo.", "http://stack_shop.service.roo"),
            ("http://shop.service.roo:80/a", "http://shop.service.roo:80/a"),
            ("http://service.roo:80", "http://service.roo"),
            ("unix:/run/app.sock", "unix:/run/app.sock"),
            ("unix:///run/app.sock:/", "unix:/run/app.sock"),
            ("unix:/run/app.sock:/base/", "unix:/run/app.sock:/base"),
            ("H2C://grpc:80/a", "h2c://grpc/a"),
            ("h2c://10.0.0.7:50051", "h2c://10.0.0.7:50051"),
        ] {
            assert_eq!(text.parse::<Destination>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn a_bad_url_is_refused_by_its_fault() {
        let fault = |text: &str| text.parse::<Destination>().unwrap_err();
        assert_eq!(fault("test_test:80"), DestinationError::SchemeMissing);
        assert!(matches!(fault("ftp://a"), DestinationError::Scheme { .. }));
        assert_eq!(fault("http://"), DestinationError::HostMissing);
        assert_eq!(fault("http://:80"), DestinationError::HostMissing);
        assert!(matches!(fault("http://a:0"), DestinationError::Port { .. }));
        assert!(matches!(fault("http://a:"), DestinationError::Port { .. }));
        assert!(matches!(fault("http://a:99999"), DestinationError::Port { .. }));
        assert_eq!(fault("http://u:p@a"), DestinationError::UserInfo);
        assert_eq!(fault("http://a/?b"), DestinationError::QueryOrFragment);
        assert_eq!(fault("http://a#b"), DestinationError::QueryOrFragment);
        assert!(matches!(fault("http://a b"), DestinationError::Host { .. }));
        assert!(matches!(fault("http://[::1"), DestinationError::Ipv6 { .. }));
        for name in ["a.b", "_a", "a_"] {
            let url = format!("http://{name}.service.roo");
            assert_eq!(fault(&url), DestinationError::Service { name: name.into() });
        }
        for socket in ["", "app.sock", "/", "/run/", "/run/../app", "/run/./app", "/run//app", "/a b", "/a:b"] {
            assert!(matches!(fault(&format!("unix:{socket}")), DestinationError::Socket { .. }), "{socket}");
        }
        assert!(matches!(fault(&format!("unix:/{}", "a".repeat(107))), DestinationError::Socket { .. }));
        assert_eq!(fault("unix:/a:/b?c"), DestinationError::QueryOrFragment);
        assert!(matches!(fault("http://a/b c"), DestinationError::Path { character: ' ' }));
        assert!(matches!(fault("http://a/b\r\nc"), DestinationError::Path { character: '\r' }));
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "(https?://|h2c://|unix:/)?\\PC{0,60}") {
            if let Ok(destination) = text.parse::<Destination>() {
                prop_assert_eq!(destination.to_string().parse::<Destination>().unwrap(), destination);
            }
        }

        #[test]
        fn a_services_url_survives_the_round_trip(text in "https?://[a-z0-9]{1,9}\\.service\\.roo(:[1-9][0-9]{0,3})?/?") {
            let destination = text.parse::<Destination>().unwrap();
            prop_assert!(matches!(destination.host, DestinationHost::Service(_)));
            prop_assert_eq!(destination.to_string(), text.trim_end_matches('/'));
        }

        #[test]
        fn a_plausible_url_survives_the_round_trip(
            text in "https?://[a-z0-9_]{1,9}(\\.[a-z0-9]{1,9}){0,3}\\.?(:[1-9][0-9]{0,3})?(/[a-z%~]{0,5}){0,3}"
        ) {
            let destination = text.parse::<Destination>().unwrap();
            prop_assert_eq!(destination.to_string().parse::<Destination>().unwrap(), destination);
        }
    }
}
