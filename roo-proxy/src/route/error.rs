//! Why bytes are not a route.

use crate::destination::DestinationError;

/// Why bytes are not a route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Nothing but white space.
    #[error("the route is empty: write a URL such as http://service:80")]
    Empty,
    /// More than 64 KiB.
    #[error("the route is {bytes} bytes long, more than 65536")]
    TooLong {
        /// The length found.
        bytes: usize,
    },
    /// Not UTF-8.
    #[error("the route is not UTF-8 text")]
    NotText,
    /// Not JSON, or a field that is unknown, missing or of the wrong type.
    #[error("the route document is not valid: {fault}")]
    Document {
        /// The parser's words, with line and column.
        fault: String,
    },
    /// `to` holds nothing.
    #[error("\"to\" is empty: list at least one URL")]
    NoDestination,
    /// `to` holds too many.
    #[error("\"to\" lists {count} URLs, more than 64")]
    TooManyDestinations {
        /// How many were found.
        count: usize,
    },
    /// All destinations have the weight 0.
    #[error("every weight in \"to\" is 0: give at least one destination a share of the requests")]
    NoWeight,
    /// Not a number from 0 to 100.
    #[error("{field} is {number}: write a number from 0 to 100")]
    Percentage {
        /// The field's name.
        field: &'static str,
        /// The number as found.
        number: u64,
    },
    /// A destination does not parse.
    #[error("the destination {url:?} is not valid: {source}")]
    Destination {
        /// The URL as found.
        url: String,
        /// What is wrong with it.
        source: DestinationError,
    },
    /// A duration does not parse or is out of range.
    #[error("{field} is {text:?}: write a duration from 1ms to 24h, such as 500ms, 30s or 5m")]
    Duration {
        /// The field's name.
        field: &'static str,
        /// The value as found.
        text: String,
    },
    /// `allow_addresses` holds what is neither an address nor a network.
    #[error("allow_addresses holds {text:?}: write networks or addresses, such as 169.254.0.0/16 or fe80::1")]
    Address {
        /// The text as found.
        text: String,
    },
    /// `tls.ca` is not PEM with certificates.
    #[error("tls.ca holds no valid PEM certificate: {fault}")]
    Ca {
        /// What is wrong with it.
        fault: String,
    },
    /// `client_tls` does not hold together.
    #[error("{fault}")]
    ClientTls {
        /// What is wrong with it, and what to do.
        fault: String,
    },
    /// `tls.server_name` is not a DNS name or address.
    #[error("tls.server_name {name:?} is neither a DNS name nor an IP address")]
    ServerName {
        /// The name as found.
        name: String,
    },
}

/// Error messages do not repeat more than a line of what they refuse.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}
