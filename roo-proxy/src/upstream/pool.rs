//! Idle upstream connections of one worker, newest first.

use std::cell::RefCell;
use std::time::Duration;

use tokio::time::Instant;

use super::address::Address;
use super::connection::Connection;
use crate::activity::Phase;
use crate::map::Map;

/// What makes two upstream connections interchangeable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) address: Address,
    /// The TLS profile's id; zero for a plain connection.
    pub(crate) profile: u64,
    /// The id of an upstream that shares with no other; zero for all others.
    pub(crate) apart: u64,
}

/// The pool. Never shared between threads, hence without a lock.
pub(crate) struct Pool {
    idle: RefCell<Map<Key, Vec<Idle>>>,
    per_key_max: usize,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    pub(crate) fn new(per_key_max: usize) -> Pool {
        Pool { idle: RefCell::default(), per_key_max: per_key_max.max(1) }
    }

    /// The connection used last, if one is still good.
    pub(crate) fn take(&self, key: &Key) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let list = idle.get_mut(key)?;
        while let Some(Idle { mut connection, .. }) = list.pop() {
            if connection.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection whose exchange is complete in both directions.
    pub(crate) fn put(&self, connection: Connection) {
        connection.activity.enter(Phase::Untimed);
        let mut idle = self.idle.borrow_mut();
        let list = idle.entry(connection.key.clone()).or_default();
        if list.len() < self.per_key_max {
            list.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Closes what was unused for `age` or was closed from the other side.
    pub(crate) fn sweep(&self, age: Duration) {
        let now = Instant::now();
        self.idle.borrow_mut().retain(|_, list| {
            list.retain_mut(|idle| now.duration_since(idle.since) < age && idle.connection.is_quiet());
            !list.is_empty()
        });
    }
}
