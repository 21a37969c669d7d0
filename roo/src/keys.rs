//! The names Roo uses in the store. Every `com.roo.…` key is built and taken apart here, nowhere else.
//!
//! | key | value | who writes |
//! |---|---|---|
//! | `com.roo.host:<host>[:<port>]:<scheme>` | a destination URL or a route document | people, the Swarm watcher |
//! | `com.roo.service:<service>:<instance>` | an instance of a service | the registrar |
//! | `com.roo.cache:<name>` | certificate and key, sealed | the issuer |
//! | `com.roo.client-certificate:<name>` | what upstreams are shown, with its key, sealed | `roo cert client` |
//! | `com.roo.acme.account:<directory>` | the ACME account, sealed | the issuer |
//! | `com.roo.acme.ledger:<directory>` | what is known of the CA, sealed | the issuer |
//! | `com.roo.acme.order:<name>` | the order in flight, sealed | the issuer |
//! | `com.roo.acme.spent:<name>` | what the name has spent of the limits of CAs, sealed | the issuer |
//! | `com.roo.acme.attempts:<name>` | failures and the next try, sealed | the issuer |
//! | `com.roo.acme.wish:<name>` | what a person asks for a certificate, sealed | `roo cert renew`, `roo cert revoke` |
//! | `com.roo.acme.renewal:<name>` | when the CA would like a renewal, sealed | the issuer |
//! | `com.roo.acme.unused:<name>` | since when nobody wants the name, sealed | the issuer |
//! | `com.roo.acme.answer:<token>` | an http-01 key authorization | the issuer |
//! | `com.roo.acme.probe:<name>` | what seemed wrong with the name, sealed | the issuer |
//! | `com.roo.acme.dns-account:<name>:<server>` | the name's account at an acme-dns server, sealed | the issuer |
//! | `com.roo.acme.tls-answer:<name>` | a tls-alpn-01 key authorization | the issuer |
//! | `com.roo.ca` | the internal certificate authority, sealed | the issuer |
//! | `com.roo.tickets` | the keys of session tickets, sealed | whichever node finds them due |
//! | `com.roo.token:<name>` | what a token of the API may do, sealed | `roo token` |
//! | `com.roo.secret` | how far a change of the secret is; the new one sealed with the old one | `roo secret` |
//! | `com.roo.secret.node:<id>` | how far this node has followed it | the node |
//! | `com.roo.lock:<what>` | who holds it, bound to a lease | whoever holds it |

use roo_discovery::{InstanceId, ServiceName};
use roo_kv::Key;
use roo_proxy::Origin;

/// Routes: `com.roo.host:<origin>`.
pub(crate) const ROUTE_PREFIX: &str = "com.roo.host:";
/// Instances: `com.roo.service:<service>:<instance>`. The values are for everybody to read.
pub(crate) const INSTANCE_PREFIX: &str = "com.roo.service:";
/// Certificates: `com.roo.cache:<name>`.
pub(crate) const CERTIFICATE_PREFIX: &str = "com.roo.cache:";
/// Certificates that upstreams are shown: `com.roo.client-certificate:<name>`.
pub(crate) const CLIENT_CERTIFICATE_PREFIX: &str = "com.roo.client-certificate:";
/// What people ask for certificates: `com.roo.acme.wish:<name>`.
pub(crate) const WISH_PREFIX: &str = "com.roo.acme.wish:";
/// Accounts at acme-dns servers, which people's records point at: `com.roo.acme.dns-account:<name>:<server>`.
const DNS_ACCOUNT_PREFIX: &str = "com.roo.acme.dns-account:";
/// Answers to http-01 challenges: `com.roo.acme.answer:<token>`.
pub(crate) const ANSWER_PREFIX: &str = "com.roo.acme.answer:";
/// Answers to tls-alpn-01 challenges: `com.roo.acme.tls-answer:<name>`.
pub(crate) const TLS_ANSWER_PREFIX: &str = "com.roo.acme.tls-answer:";
const LEDGER_PREFIX: &str = "com.roo.acme.ledger:";
const ORDER_PREFIX: &str = "com.roo.acme.order:";
const SPENT_PREFIX: &str = "com.roo.acme.spent:";
const ATTEMPTS_PREFIX: &str = "com.roo.acme.attempts:";
const RENEWAL_PREFIX: &str = "com.roo.acme.renewal:";
/// Marks of disuse: `com.roo.acme.unused:<name>`.
pub(crate) const UNUSED_PREFIX: &str = "com.roo.acme.unused:";
const PROBE_PREFIX: &str = "com.roo.acme.probe:";
/// What the issuer keeps of a name besides its certificate: `<prefix><name>`.
pub(crate) const KEPT_PREFIXES: &[&str] =
    &[ORDER_PREFIX, SPENT_PREFIX, ATTEMPTS_PREFIX, RENEWAL_PREFIX, UNUSED_PREFIX, PROBE_PREFIX];
/// The keys of session tickets.
pub(crate) const TICKETS: &str = "com.roo.tickets";
/// Tokens of the API: `com.roo.token:<name>`.
pub(crate) const TOKEN_PREFIX: &str = "com.roo.token:";
/// How far a change of the secret is. Also the name under which the new one is sealed.
pub(crate) const SECRET: &str = "com.roo.secret";
/// How far nodes have followed it: `com.roo.secret.node:<id>`.
pub(crate) const SECRET_NODE_PREFIX: &str = "com.roo.secret.node:";
/// What is sealed with the cluster's secret begins with one of these.
pub(crate) const SEALED_PREFIXES: &[&str] = &[
    CERTIFICATE_PREFIX,
    CLIENT_CERTIFICATE_PREFIX,
    TOKEN_PREFIX,
    "com.roo.acme.account:",
    LEDGER_PREFIX,
    SPENT_PREFIX,
    ORDER_PREFIX,
    ATTEMPTS_PREFIX,
    PROBE_PREFIX,
    DNS_ACCOUNT_PREFIX,
    WISH_PREFIX,
    RENEWAL_PREFIX,
    UNUSED_PREFIX,
    "com.roo.ca",
    TICKETS,
];
/// Of what belongs to Roo, what people write: a cluster that has none of it, and nothing else, counts as empty.
pub(crate) const WRITTEN_BY_PEOPLE: &[&str] = &[ROUTE_PREFIX, CERTIFICATE_PREFIX, CLIENT_CERTIFICATE_PREFIX];
/// Everything that belongs to Roo.
pub(crate) const ROO_PREFIX: &str = "com.roo.";

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

/// Whether keys of Roo's own, except routes, may lie under `prefix`.
pub(crate) fn reserves_under(prefix: &str) -> bool {
    ROO_PREFIX.starts_with(prefix) || access(prefix) == Access::Reserved
}

/// Whether Roo writes the key by itself and makes it anew when it is gone.
pub(crate) fn is_made_anew(key: &str) -> bool {
    // Certificates may be people's own, whose key is nowhere else.
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| key.starts_with(prefix));
    ["com.roo.ca", TICKETS].contains(&key)
        || begins(&["com.roo.acme.", "com.roo.lock:"]) && !begins(&[DNS_ACCOUNT_PREFIX, WISH_PREFIX])
}

/// The key of the route for `origin`.
pub(crate) fn route(origin: &Origin) -> Key {
    known(format!("{ROUTE_PREFIX}{origin}"))
}

/// The key of the instance `id` of `service`. A service's name holds no colon, so that no prefix of one service is
/// one of another.
pub(crate) fn instance(service: &ServiceName, id: &InstanceId) -> Key {
    known(format!("{INSTANCE_PREFIX}{service}:{id}"))
}

/// The key of the certificate for `name`.
pub(crate) fn certificate(name: &str) -> Key {
    known(format!("{CERTIFICATE_PREFIX}{name}"))
}

/// The key of the client certificate called `name`.
pub(crate) fn client_certificate(name: &str) -> Key {
    known(format!("{CLIENT_CERTIFICATE_PREFIX}{name}"))
}

/// The key of the ACME account at `directory`.
pub(crate) fn account(directory: &str) -> Key {
    known(format!("com.roo.acme.account:{directory}"))
}

/// The key of what is known of the CA with this directory.
pub(crate) fn ledger(directory: &str) -> Key {
    known(format!("{LEDGER_PREFIX}{directory}"))
}

/// The key of what `name` has spent of the limits of CAs.
pub(crate) fn spent(name: &str) -> Key {
    known(format!("{SPENT_PREFIX}{name}"))
}

/// The key of the order in flight for `name`.
pub(crate) fn order(name: &str) -> Key {
    known(format!("{ORDER_PREFIX}{name}"))
}

/// The key of the failures recorded for `name`.
pub(crate) fn attempts(name: &str) -> Key {
    known(format!("{ATTEMPTS_PREFIX}{name}"))
}

/// The key of the CA's advice on renewing the certificate for `name`.
pub(crate) fn renewal(name: &str) -> Key {
    known(format!("{RENEWAL_PREFIX}{name}"))
}

/// The key of the mark that nobody wants `name` any more.
pub(crate) fn unused(name: &str) -> Key {
    known(format!("{UNUSED_PREFIX}{name}"))
}

/// The key of what is asked for the certificate of `name`.
pub(crate) fn wish(name: &str) -> Key {
    known(format!("{WISH_PREFIX}{name}"))
}

/// The key of the answer to the http-01 challenge with `token`.
pub(crate) fn answer(token: &str) -> Key {
    known(format!("{ANSWER_PREFIX}{token}"))
}

/// The key of the answer to the tls-alpn-01 challenge of `name`.
pub(crate) fn tls_answer(name: &str) -> Key {
    known(format!("{TLS_ANSWER_PREFIX}{name}"))
}

/// The key of what was found when `name` was looked at.
pub(crate) fn probe(name: &str) -> Key {
    known(format!("{PROBE_PREFIX}{name}"))
}

/// The key of the account for `name` at the acme-dns server with the URL `server`.
pub(crate) fn dns_account(name: &str, server: &str) -> Key {
    known(format!("{DNS_ACCOUNT_PREFIX}{name}:{server}"))
}

/// The key of the internal certificate authority.
pub(crate) fn internal_ca() -> Key {
    known("com.roo.ca".to_owned())
}

/// The key of the keys of session tickets.
pub(crate) fn tickets() -> Key {
    known(TICKETS.to_owned())
}

/// The key of what is known about the API's token called `name`.
pub(crate) fn token(name: &str) -> Key {
    known(format!("{TOKEN_PREFIX}{name}"))
}

/// The key of the record about a change of the secret.
pub(crate) fn secret() -> Key {
    known(SECRET.to_owned())
}

/// The key of what a node has confirmed of it.
pub(crate) fn secret_of_node(node: roo_kv::NodeId) -> Key {
    secret_of(&node.to_string())
}

/// The same, for an id that was read from such a key.
pub(crate) fn secret_of(node: &str) -> Key {
    known(format!("{SECRET_NODE_PREFIX}{node}"))
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
    fn what_may_hold_keys_of_roo_is_known_by_its_prefix() {
        for (prefix, expected) in [
            ("", true),
            ("com", true),
            ("com.roo.", true),
            ("com.roo.h", true),
            ("com.roo.host:", false),
            ("com.roo.host:a", false),
            ("com.roo.cache:a", true),
            ("com.roost", false),
            ("x", false),
        ] {
            assert_eq!(reserves_under(prefix), expected, "{prefix}");
        }
    }

    #[test]
    fn what_people_have_brought_in_is_not_made_anew() {
        for (key, expected) in [
            ("com.roo.ca", true),
            ("com.roo.tickets", true),
            ("com.roo.acme.account:x", true),
            ("com.roo.acme.attempts:a.b", true),
            ("com.roo.lock:issuer", true),
            ("com.roo.cache:a.b", false),
            ("com.roo.acme.dns-account:a.b:x", false),
            ("com.roo.acme.wish:a.b", false),
            ("com.roo.host:a.b:https", false),
        ] {
            assert_eq!(is_made_anew(key), expected, "{key}");
        }
    }

    #[test]
    fn only_routes_and_foreign_keys_may_be_written() {
        for (key, expected) in [
            ("test", Access::Ordinary),
            ("com.roost", Access::Ordinary),
            ("com.roo.host:a.b:https", Access::Route),
            ("com.roo.cache:a.b", Access::Reserved),
            ("com.roo.cluster:x", Access::Reserved),
            ("com.roo.ca", Access::Reserved),
            ("com.roo.service:shop:a", Access::Reserved),
        ] {
            assert_eq!(access(key), expected, "{key}");
        }
    }
}
