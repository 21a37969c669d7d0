//! One process of a node taking over from another, with nobody refused meanwhile.
//!
//! The running process starts the new one with a socket as its standard input. Each step is a line over it:
//!
//! 1. new: `hello <version>`. It runs, and understands its settings.
//! 2. old: `sockets <names>`, with the listening sockets (unix(7), `SCM_RIGHTS`), a few at a time; new: `next` after each;
//!    old: `all`.
//! 3. new: `bound`. It has all it needs but the store.
//! 4. old: closes the API and the store, while its proxy serves on from what it knows; `store`.
//! 5. new: opens the store, loads what the proxy needs, accepts connections; `ready`.
//! 6. old: drains and ends.
//!
//! Until the fourth step nothing has changed, whatever goes wrong. After it the old process has no store any more: should the
//! new one fail then, it starts the program that it runs itself in the same way.

mod giver;
mod taker;
mod wire;

use std::net::TcpListener;
use std::time::Duration;

use roo_proxy::{ListeningSocket, Scheme};

pub(super) use giver::{Giver, running_program};
pub(crate) use taker::{Taker, Waiting};

/// Set for a process that is to take over.
pub(super) const VARIABLE: &str = "ROO_HANDOVER";
/// How long each of the first steps may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the new process may take to open the store and to load from it.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// A listening socket and what it is for.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) name: Name,
    pub(crate) listener: TcpListener,
}

/// What a listening socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Proxy {
        scheme: Scheme,
        /// A route has opened it.
        is_routes: bool,
    },
    Api,
    Raft,
}

impl Name {
    const ALL: [(&'static str, Self); 6] = [
        ("http", Self::Proxy { scheme: Scheme::Http, is_routes: false }),
        ("https", Self::Proxy { scheme: Scheme::Https, is_routes: false }),
        ("api", Self::Api),
        ("raft", Self::Raft),
        ("route-http", Self::Proxy { scheme: Scheme::Http, is_routes: true }),
        ("route-https", Self::Proxy { scheme: Scheme::Https, is_routes: true }),
    ];

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, own)| *own)
    }

    fn text(self) -> &'static str {
        Self::ALL.iter().find(|(_, own)| *own == self).map_or("", |(name, _)| name)
    }
}

impl From<ListeningSocket> for Named {
    fn from(socket: ListeningSocket) -> Self {
        let ListeningSocket { scheme, is_routes, listener } = socket;
        Self { name: Name::Proxy { scheme, is_routes }, listener }
    }
}

/// What was handed over, by what it is for.
#[derive(Debug, Default)]
pub(crate) struct Handed {
    pub(crate) proxy: Vec<ListeningSocket>,
    pub(crate) api: Option<TcpListener>,
    pub(crate) raft: Option<TcpListener>,
}

impl From<Vec<Named>> for Handed {
    fn from(all: Vec<Named>) -> Self {
        let mut handed = Self::default();
        for Named { name, listener } in all {
            match name {
                Name::Proxy { scheme, is_routes } => {
                    handed.proxy.push(ListeningSocket { scheme, is_routes, listener });
                }
                Name::Api => handed.api = Some(listener),
                Name::Raft => handed.raft = Some(listener),
            }
        }
        handed
    }
}
