//! Where an instance listens.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::SERVICE_DOMAIN;

/// Host and port, written `10.0.0.7:8080`, `[2001:db8::7]:8080` or `db.example:5432`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    /// Where.
    pub host: Host,
    /// From 1 to 65535.
    pub port: u16,
}

/// The host of an [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// An address that something can be sent to.
    Ip(IpAddr),
    /// A name that the DNS knows, lower case, with its trailing dot if it was written with one.
    Name(Box<str>),
}

/// Why a text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No `:` before a port.
    #[error("the address {text:?} has no port: write host:port, for example 10.0.0.7:8080")]
    PortMissing {
        /// The text as found.
        text: String,
    },
    /// Not a number from 1 to 65535.
    #[error("the port {port:?} is not a number from 1 to 65535")]
    Port {
        /// The port as found.
        port: String,
    },
    /// Neither an address nor a name.
    #[error("{host:?} is neither an IP address nor a host name; an IPv6 address stands in brackets")]
    Host {
        /// The host as found.
        host: String,
    },
    /// Nobody can connect to it.
    #[error("{ip} stands for no machine: write the address that others reach the instance at")]
    Nowhere {
        /// The address as found.
        ip: IpAddr,
    },
    /// It names a service, not a machine.
    #[error("{host:?} is the name of a service: write the address of the instance itself")]
    Service {
        /// The name as found.
        host: String,
    },
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let (host, port) = text.rsplit_once(':').ok_or_else(|| AddressError::PortMissing { text: shortened(text) })?;
        let number = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok()).flatten();
        let port = number.filter(|port| *port > 0).ok_or_else(|| AddressError::Port { port: shortened(port) })?;
        Ok(Address { host: parse_host(host)?, port })
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Address, AddressError> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

fn parse_host(host: &str) -> Result<Host, AddressError> {
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let ip = match bracketed {
        Some(inner) => inner.parse().map(IpAddr::V6).ok(),
        None => host.parse().map(IpAddr::V4).ok(),
    };
    match ip {
        Some(ip) if ip.is_unspecified() || ip.is_multicast() => Err(AddressError::Nowhere { ip }),
        Some(ip) => Ok(Host::Ip(ip)),
        None => parse_name(host),
    }
}

/// A host name (RFC 1123 §2.1) that may hold `_`, since Docker's names do.
fn parse_name(text: &str) -> Result<Host, AddressError> {
    let name = text.to_ascii_lowercase();
    let bare = name.strip_suffix('.').unwrap_or(&name);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    // What ends in a number is an address that went wrong, never a name.
    let ends_in_number = bare.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    if bare.len() > 253 || !bare.split('.').all(is_label) || ends_in_number {
        return Err(AddressError::Host { host: shortened(text) });
    }
    // Services that lead to services could lead in circles.
    if bare.strip_suffix(SERVICE_DOMAIN).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')) {
        return Err(AddressError::Service { host: shortened(text) });
    }
    Ok(Host::Name(name.into()))
}

fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_has_one_spelling() {
        for (text, shown) in [
            ("10.0.0.7:8080", "10.0.0.7:8080"),
            ("[2001:DB8:0::7]:80", "[2001:db8::7]:80"),
            ("Db.Example:5432", "db.example:5432"),
            ("tasks.shop_web.:80", "tasks.shop_web.:80"),
            ("127.0.0.1:080", "127.0.0.1:80"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn a_bad_address_is_refused_by_its_fault() {
        let fault = |text: &str| text.parse::<Address>().unwrap_err();
        assert!(matches!(fault("10.0.0.7"), AddressError::PortMissing { .. }));
        for text in ["a:", "a:0", "a:65536", "a:+1", "a:b"] {
            assert!(matches!(fault(text), AddressError::Port { .. }), "{text}");
        }
        for text in [":80", "a b:80", "::1:80", "[a]:80", "10.0.0.300:80", "a..b:80", "1:80", "http://a:80"] {
            assert!(matches!(fault(text), AddressError::Host { .. }), "{text}");
        }
        for text in ["0.0.0.0:80", "[::]:80", "224.0.0.1:80"] {
            assert!(matches!(fault(text), AddressError::Nowhere { .. }), "{text}");
        }
        for text in ["shop.service.roo:80", "SERVICE.roo.:80"] {
            assert!(matches!(fault(text), AddressError::Service { .. }), "{text}");
        }
        assert!("my-service.roo:80".parse::<Address>().is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC{0,40}(:[0-9]{0,6})?") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
            }
        }
    }
}
