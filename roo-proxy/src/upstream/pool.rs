//! Idle upstream connections of one worker, newest first.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use crate::activity::{Activity, Phase};
use crate::forward::RequestBody;

/// What makes two upstream connections interchangeable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) address: SocketAddr,
    /// The TLS profile's id; zero for a plain connection.
    pub(crate) profile: u64,
}

/// One connection to an upstream.
pub(crate) struct Connection {
    pub(crate) sender: SendRequest<RequestBody>,
    pub(crate) activity: Arc<Activity>,
    pub(crate) key: Key,
}

/// The pool. Never shared between threads, hence without a lock.
pub(crate) struct Pool {
    idle: RefCell<HashMap<Key, Vec<Idle>>>,
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

    /// The connection used last, if one is ready.
    pub(crate) fn take(&self, key: &Key) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let list = idle.get_mut(key)?;
        while let Some(Idle { connection, .. }) = list.pop() {
            if connection.sender.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    fn put(&self, connection: Connection) {
        connection.activity.enter(Phase::Untimed);
        let mut idle = self.idle.borrow_mut();
        let list = idle.entry(connection.key).or_default();
        if list.len() < self.per_key_max {
            list.push(Idle { connection, since: Instant::now() });
        }
    }

    /// Closes what was unused for `age` or was closed from the other side.
    pub(crate) fn sweep(&self, age: Duration) {
        let now = Instant::now();
        self.idle.borrow_mut().retain(|_, list| {
            list.retain(|idle| !idle.connection.sender.is_closed() && now.duration_since(idle.since) < age);
            !list.is_empty()
        });
    }
}

/// A connection in use. Dropping it closes the connection; [`Lease::release`] keeps it.
pub(crate) struct Lease {
    connection: Connection,
    pool: Rc<Pool>,
}

impl Lease {
    pub(crate) fn new(connection: Connection, pool: Rc<Pool>) -> Lease {
        Lease { connection, pool }
    }

    /// Leaves the connection's time to whoever copies its bytes.
    pub(crate) fn untimed(&self) {
        self.connection.activity.enter(Phase::Untimed);
    }

    /// Gives the connection back for the next request. Called when the response has been read.
    pub(crate) fn release(self) {
        let Lease { mut connection, pool } = self;
        if connection.sender.is_closed() {
            return;
        }
        if connection.sender.is_ready() {
            pool.put(connection);
            return;
        }
        // The connection's task has yet to notice that the exchange is over, or the request body is
        // still on its way up although the response has ended.
        tokio::task::spawn_local(async move {
            let ready = tokio::time::timeout(READY_WITHIN, connection.sender.ready()).await;
            if matches!(ready, Ok(Ok(()))) {
                pool.put(connection);
            }
        });
    }
}

const READY_WITHIN: Duration = Duration::from_secs(1);
