//! What a client asks for: host, port and scheme.

use std::fmt;
use std::str::FromStr;

use crate::name::{HostPattern, NameError};

/// The client's side of a route, written `<host>[:<port>]:<scheme>`.
///
/// `Display` gives the same form back; a port that is the scheme's own is dropped in parsing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// The name or wildcard.
    pub host: HostPattern,
    /// The port in the client's `Host`; `None` stands for any port that has no route of its own.
    pub port: Option<u16>,
    /// Whether the client comes over TLS.
    pub scheme: Scheme,
}

impl Origin {
    /// An origin with the scheme's default port dropped.
    pub fn new(host: HostPattern, port: Option<u16>, scheme: Scheme) -> Origin {
        let port = port.filter(|port| *port != scheme.default_port());
        Origin { host, port, scheme }
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Origin, OriginError> {
        let (rest, scheme) = text.rsplit_once(':').ok_or(OriginError::SchemeMissing)?;
        let scheme = scheme.parse().map_err(|_| match scheme.parse::<u16>() {
            Ok(_) => OriginError::SchemeMissing,
            Err(_) => OriginError::Scheme { scheme: scheme.into() },
        })?;
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) => (host, Some(parse_port(port)?)),
            None => (rest, None),
        };
        let host = HostPattern::parse(host).map_err(|source| OriginError::Host { source })?;
        Ok(Origin::new(host, port, scheme))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}:{}", self.host, self.scheme),
            None => write!(f, "{}:{}", self.host, self.scheme),
        }
    }
}

/// Plain or over TLS; used for both sides of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// 80 or 443.
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }

    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

impl FromStr for Scheme {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Scheme, OriginError> {
        if text.eq_ignore_ascii_case("http") {
            Ok(Scheme::Http)
        } else if text.eq_ignore_ascii_case("https") {
            Ok(Scheme::Https)
        } else {
            Err(OriginError::Scheme { scheme: text.into() })
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is not an origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// Nothing after the last colon that could be a scheme.
    #[error("the scheme is missing: end the origin with :https or :http, as in shop.example:https")]
    SchemeMissing,
    /// The last part is neither `http` nor `https`.
    #[error("the scheme {scheme:?} is not known: use http or https, as in shop.example:https")]
    Scheme {
        /// The scheme as found.
        scheme: String,
    },
    /// The port is not a number from 1 to 65535.
    #[error("the port {port:?} is not a number from 1 to 65535")]
    Port {
        /// The port as found.
        port: String,
    },
    /// The host does not parse.
    #[error("{source}")]
    Host {
        /// What is wrong with it.
        source: NameError,
    },
}

/// Digits only: `u16::from_str` would also take a plus sign.
pub(crate) fn parse_port(text: &str) -> Result<u16, OriginError> {
    let fault = || OriginError::Port { port: text.into() };
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(fault());
    }
    match text.parse() {
        Ok(0) | Err(_) => Err(fault()),
        Ok(port) => Ok(port),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_default_port_is_dropped() {
        for (text, shown) in [
            ("Shop.Example:443:https", "shop.example:https"),
            ("shop.example:80:http", "shop.example:http"),
            ("shop.example:8443:HTTPS", "shop.example:8443:https"),
            ("*.example:https", "*.example:https"),
        ] {
            assert_eq!(text.parse::<Origin>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn a_bad_origin_is_refused_by_its_fault() {
        let fault = |text: &str| text.parse::<Origin>().unwrap_err();
        assert_eq!(fault("shop.example"), OriginError::SchemeMissing);
        assert_eq!(fault("shop.example:443"), OriginError::SchemeMissing);
        assert!(matches!(fault("shop.example:ftp"), OriginError::Scheme { .. }));
        assert!(matches!(fault("shop.example:0:https"), OriginError::Port { .. }));
        assert!(matches!(fault("shop.example:+1:https"), OriginError::Port { .. }));
        assert!(matches!(fault(":https"), OriginError::Host { .. }));
        assert!(matches!(fault("a:b:c:https"), OriginError::Port { .. }));
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC{0,80}(:[0-9]{1,6})?(:https?)?") {
            if let Ok(origin) = text.parse::<Origin>() {
                prop_assert_eq!(origin.to_string().parse::<Origin>().unwrap(), origin);
            }
        }

        #[test]
        fn a_plausible_origin_survives_the_round_trip(
            text in "(\\*\\.)?[a-zA-Z0-9_]{1,9}(\\.[a-z0-9]{1,9}){0,3}(:[1-9][0-9]{0,3})?:https?"
        ) {
            let origin = text.parse::<Origin>().unwrap();
            prop_assert_eq!(origin.to_string().parse::<Origin>().unwrap(), origin);
        }
    }
}
