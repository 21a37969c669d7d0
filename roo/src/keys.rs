//! The names Roo uses in the store. Every `com.roo.…` key is built and taken apart here, nowhere else.
//!
//! | key | value | who writes |
//! |---|---|---|
//! | `com.roo.host:<host>[:<port>]:<scheme>` | a destination URL or a route document | people, the Swarm watcher |
//! | `com.roo.cache:<name>` | certificate and key, sealed | the issuer |
//! | `com.roo.acme.account:<directory>` | the ACME account, sealed | the issuer |
//! | `com.roo.acme.order:<name>` | the order in flight, sealed | the issuer |
//! | `com.roo.acme.attempts:<name>` | failures and the next try, sealed | the issuer |
//! | `com.roo.acme.answer:<token>` | an http-01 key authorization | the issuer |
//! | `com.roo.ca` | the internal certificate authority, sealed | the issuer |
//! | `com.roo.lock:<what>` | who holds it, bound to a lease | whoever holds it |

use roo_kv::Key;
use roo_proxy::Origin;

/// Routes: `com.roo.host:<origin>`.
pub(crate) const ROUTE_PREFIX: &str = "com.roo.host:";
/// Certificates: `com.roo.cache:<name>`.
pub(crate) const CERTIFICATE_PREFIX: &str = "com.roo.cache:";
/// Answers to http-01 challenges: `com.roo.acme.answer:<token>`.
pub(crate) const ANSWER_PREFIX: &str = "com.roo.acme.answer:";
/// What is sealed with the cluster's secret begins with one of these.
pub(crate) const SEALED_PREFIXES: &[&str] =
    &[CERTIFICATE_PREFIX, "com.roo.acme.account:", "com.roo.acme.order:", "com.roo.acme.attempts:", "com.roo.ca"];
/// Everything that belongs to Roo.
const ROO_PREFIX: &str = "com.roo.";

/// What an ordinary caller of the API may do with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Free for all uses.
    Ordinary,
    /// A route: readable and writable, but the value must be a valid route.
    Route,
    /// Roo's own: never written by callers; of the value only facts are shown.
    Reserved,
}

/// Decides what a caller may do with `key`.
pub(crate) fn access(key: &str) -> Access {
    if key.starts_with(ROUTE_PREFIX) {
        Access::Route
    } else if key.starts_with(ROO_PREFIX) {
        Access::Reserved
    } else {
        Access::Ordinary
    }
}

/// The key of the route for `origin`.
pub(crate) fn route(origin: &Origin) -> Key {
    known(format!("{ROUTE_PREFIX}{origin}"))
}

/// The key of the certificate for `name`.
pub(crate) fn certificate(name: &str) -> Key {
    known(format!("{CERTIFICATE_PREFIX}{name}"))
}

/// The key of the ACME account at `directory`.
pub(crate) fn account(directory: &str) -> Key {
    known(format!("com.roo.acme.account:{directory}"))
}

/// The key of the order in flight for `name`.
pub(crate) fn order(name: &str) -> Key {
    known(format!("com.roo.acme.order:{name}"))
}

/// The key of the failures recorded for `name`.
pub(crate) fn attempts(name: &str) -> Key {
    known(format!("com.roo.acme.attempts:{name}"))
}

/// The key of the answer to the http-01 challenge with `token`.
pub(crate) fn answer(token: &str) -> Key {
    known(format!("{ANSWER_PREFIX}{token}"))
}

/// The key of the internal certificate authority.
pub(crate) fn internal_ca() -> Key {
    known("com.roo.ca".to_owned())
}

/// The key of the lock on `what`.
pub(crate) fn lock(what: &str) -> Key {
    known(format!("com.roo.lock:{what}"))
}

/// Host names, tokens and directory URLs have bounded lengths, far below the limit of a key.
fn known(text: String) -> Key {
    Key::try_from(text).expect("a key of Roo's own is short and not empty")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_routes_and_foreign_keys_may_be_written() {
        for (key, expected) in [
            ("test", Access::Ordinary),
            ("com.roost", Access::Ordinary),
            ("com.roo.host:a.b:https", Access::Route),
            ("com.roo.cache:a.b", Access::Reserved),
            ("com.roo.cluster:x", Access::Reserved),
            ("com.roo.ca", Access::Reserved),
        ] {
            assert_eq!(access(key), expected, "{key}");
        }
    }
}
