//! The route document: where requests of one origin go, and how.

mod document;
mod duration;
mod ejection;
mod error;
mod networks;

use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::destination::Destination;
use crate::protocol::Protocol;
use crate::proxy_protocol::ProxyProtocol;
use crate::tls::TlsPolicy;
use crate::upstream::balance::Balance;
use document::{Document, parse_destination};
pub use ejection::Ejection;
pub use error::RouteError;

/// The upstream side of a route.
///
/// Stored as a bare URL or as a JSON document:
///
/// ```json
/// {"to": ["http://a:80", "http://b:80/path"], "response_timeout": "30s", "source": "docker:shop"}
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Where requests go; 1 to 64 of them in a parsed route. An empty list answers 503.
    pub to: Vec<Weighted>,
    /// How an instance is chosen for each request.
    pub balance: Balance,
    /// When an instance that fails is passed over.
    pub ejection: Ejection,
    /// Longest wait for the response head after the request was sent; `None` takes the proxy's default.
    pub response_timeout: Option<Duration>,
    /// Longest wait for name and connection; `None` takes the proxy's default.
    pub connect_timeout: Option<Duration>,
    /// Networks in which destinations may be although no other route's may: link-local ones, a cloud's metadata service,
    /// listeners of Roo itself.
    pub allow_addresses: Vec<IpNet>,
    /// The PROXY header by which upstreams are told of the client's connection; `None` sends none.
    pub send_proxy: Option<ProxyProtocol>,
    /// What is spoken to all destinations but those that are `h2c`.
    pub protocol: Protocol,
    /// How `https` destinations are verified.
    pub tls: UpstreamTls,
    /// What clients of an `https` origin must bring to the handshake.
    pub client_tls: TlsPolicy,
    /// Who wrote the route. Opaque to the proxy.
    pub source: Option<String>,
}

/// A destination and its share of the requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weighted {
    /// Where to.
    pub destination: Destination,
    /// Its share, 0 to 100, beside those of the other destinations, whatever the number of its addresses; 0 gets none.
    /// Where no destination of a route has a weight, every address of all of them counts alike.
    pub weight: Option<u8>,
}

/// How the certificate of an `https` destination is judged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamTls {
    /// Accept any certificate. Only ever set by a person's explicit choice.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
    /// PEM certificates trusted besides the system's roots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The name to send as SNI and to verify; the destination's host otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// The name of the certificate to show if the destination asks for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<String>,
}

impl Route {
    /// Parses a stored value: a URL, or a JSON document if it starts with `{`. Surrounding white space
    /// is ignored.
    ///
    /// # Errors
    ///
    /// The first fault found, with what to do about it; nothing unknown is skipped.
    pub fn parse(bytes: &[u8]) -> Result<Route, RouteError> {
        if bytes.len() > DOCUMENT_BYTES_MAX {
            return Err(RouteError::TooLong { bytes: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| RouteError::NotText)?.trim();
        if text.is_empty() {
            return Err(RouteError::Empty);
        }
        if !text.starts_with('{') {
            return Ok(Route::from(parse_destination(text)?));
        }
        let document: Document =
            serde_json::from_str(text).map_err(|fault| RouteError::Document { fault: fault.to_string() })?;
        document.try_into()
    }

    /// The JSON document that [`Route::parse`] turns back into this route.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&Document::from(self)).expect("strings and numbers always serialize")
    }
}

impl From<Destination> for Route {
    fn from(destination: Destination) -> Route {
        Route { to: vec![destination.into()], ..Route::default() }
    }
}

impl From<Destination> for Weighted {
    fn from(destination: Destination) -> Weighted {
        Weighted { destination, weight: None }
    }
}

impl FromStr for Route {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Route, RouteError> {
        Route::parse(text.as_bytes())
    }
}

const DOCUMENT_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_url_is_a_whole_route() {
        let route = Route::parse(b" http://test_test:8080\n").unwrap();
        assert_eq!(route.to[0].destination.to_string(), "http://test_test:8080");
        assert_eq!(route.source, None);
    }

    #[test]
    fn a_document_is_read_in_full() {
        let route = Route::parse(
            br#"{"to":["http://a:80",{"url":"http://b:80/path","weight":0}],"response_timeout":"30s","connect_timeout":2,"send_proxy":"v2",
                 "allow_addresses":["169.254.0.0/16","fe80::1"],"protocol":"h2",
                 "balance":"least-requests","ejection":{"failures":3,"backoff":"1s","percent_max":100},
                 "tls":{"insecure":true,"server_name":"b.example"},"client_tls":{"min_version":"1.3"},"source":"docker:svc"}"#,
        )
        .unwrap();
        assert_eq!(route.to.len(), 2);
        assert_eq!(route.to[1].destination.path, "/path");
        assert_eq!(route.response_timeout, Some(Duration::from_secs(30)));
        assert_eq!(route.connect_timeout, Some(Duration::from_secs(2)));
        assert_eq!(route.allow_addresses, ["169.254.0.0/16", "fe80::1/128"].map(|text| text.parse().unwrap()));
        assert_eq!(route.send_proxy, Some(ProxyProtocol::V2));
        assert_eq!(route.protocol, Protocol::Http2);
        assert!(route.tls.insecure);
        assert_eq!(route.client_tls.min_version, crate::TlsVersion::Tls13);
        assert_eq!((route.to[0].weight, route.to[1].weight), (None, Some(0)));
        assert_eq!(route.balance, Balance::LeastRequests);
        let ejection =
            Ejection { failures: 3, backoff: Duration::from_secs(1), percent_max: 100, ..Ejection::default() };
        assert_eq!(route.ejection, ejection);
        assert_eq!(route.source.as_deref(), Some("docker:svc"));
        assert_eq!(Route::parse(route.to_json().as_bytes()).unwrap(), route);
    }

    #[test]
    fn a_bad_route_names_its_fault() {
        for (text, fault) in [
            ("", "empty"),
            ("service:80", "no scheme"),
            ("ftp://a", "ftp"),
            ("http://u@a", "user or password"),
            ("http://a:0", "1 to 65535"),
            (r#"{"to":[]}"#, "at least one"),
            (r#"{"to":5}"#, "list of URLs"),
            (r#"{"to":"http://a","tow":1}"#, "tow"),
            (r#"{"source":"x"}"#, "to"),
            (r#"{"to":"http://a","response_timeout":"0s"}"#, "response_timeout"),
            (r#"{"to":"http://a","response_timeout":"soon"}"#, "500ms"),
            (r#"{"to":"http://a","allow_addresses":["link-local"]}"#, "169.254.0.0/16"),
            (r#"{"to":"http://a","send_proxy":"v3"}"#, "v3"),
            (r#"{"to":"http://a","tls":{"ca":"x"}}"#, "tls.ca"),
            (r#"{"to":"http://a","tls":{"server_name":"a b"}}"#, "server_name"),
            (r#"{"to":"http://a","tls":{"secure":false}}"#, "secure"),
            (r#"{"to":"http://a?b"}"#, "query"),
            (r#"{"to":[{"url":"http://a","weight":101}]}"#, "weight is 101: write a number from 0 to 100"),
            (r#"{"to":{"url":"http://a","weight":0}}"#, "every weight"),
            (r#"{"to":[{"url":"http://a","wait":1}]}"#, "weight"),
            (r#"{"to":"http://a","balance":"random"}"#, "least-requests"),
            (r#"{"to":"http://a","ejection":{"percent_max":101}}"#, "ejection.percent_max is 101"),
            (r#"{"to":"http://a","ejection":{"backoff":"0s"}}"#, "ejection.backoff"),
            (r#"{"to":"http://a","ejection":{"ever":1}}"#, "ever"),
            (r#"{"to":"http://a","protocol":"h3"}"#, "h3"),
            (r#"{"to":"http://a","client_tls":{"min_version":"1.1"}}"#, "1.2"),
            (r#"{"to":"http://a","client_tls":{"optional":true}}"#, "client_tls.ca"),
            (r#"{"to":"http://a","client_tls":{"ca":"x"}}"#, "client_tls.ca holds no"),
            ("{", "not valid"),
        ] {
            let message = Route::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(message.contains(fault), "{text}: {message}");
        }
        assert_eq!(Route::parse(b"\xff"), Err(RouteError::NotText));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Route::parse(&bytes);
        }

        #[test]
        fn any_document_survives_the_round_trip(
            to in proptest::collection::vec("https?://[a-z_]{1,9}(:[1-9][0-9]{0,3})?(/[a-z]{1,5})?", 1..5),
            response in proptest::option::of(1u64..100_000),
            weight in proptest::option::of(1u8..=100),
            balance in prop_oneof![Just(Balance::RoundRobin), Just(Balance::LeastRequests), Just(Balance::Latency)],
            (failures, percent_max, backoff) in (0u32..9, 0u8..=100, 1u64..100_000),
            insecure in any::<bool>(),
            source in proptest::option::of("\\PC{0,20}"),
        ) {
            let route = Route {
                to: to.iter().map(|url| Weighted { destination: url.parse().unwrap(), weight }).collect(),
                balance,
                ejection: Ejection {
                    failures,
                    percent_max,
                    backoff: Duration::from_millis(backoff),
                    ..Ejection::default()
                },
                response_timeout: response.map(Duration::from_millis),
                tls: UpstreamTls { insecure, ..UpstreamTls::default() },
                source,
                ..Route::default()
            };
            prop_assert_eq!(Route::parse(route.to_json().as_bytes()).unwrap(), route);
        }
    }
}
