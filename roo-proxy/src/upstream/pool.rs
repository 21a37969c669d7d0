//! Idle upstream connections of one worker, newest first.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

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
    /// The id of the client that the upstream was told of; zero if it was told of none.
    pub(crate) client: u64,
}

/// The pool. Never shared between threads, hence without a lock.
#[expect(clippy::vec_box, reason = "connections are handed on often: only where they are is moved")]
pub(crate) struct Pool {
    idle: RefCell<Map<Key, Vec<Box<Connection>>>>,
    /// Those that are one client's alone, by its id.
    of_clients: RefCell<Map<u64, Vec<Box<Connection>>>>,
    per_key_max: usize,
}

impl Pool {
    pub(crate) fn new(per_key_max: usize) -> Pool {
        Pool { idle: RefCell::default(), of_clients: RefCell::default(), per_key_max: per_key_max.max(1) }
    }

    /// The connection used last, if one is still good.
    pub(crate) fn take(&self, key: &Key) -> Option<Box<Connection>> {
        if key.client > 0 {
            return self.take_own(key);
        }
        let mut idle = self.idle.borrow_mut();
        let list = idle.get_mut(key)?;
        while let Some(mut connection) = list.pop() {
            if connection.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    fn take_own(&self, key: &Key) -> Option<Box<Connection>> {
        let mut of_clients = self.of_clients.borrow_mut();
        let list = of_clients.get_mut(&key.client)?;
        while let Some(index) = list.iter().rposition(|connection| connection.key == *key) {
            let mut connection = list.remove(index);
            if connection.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    /// Closes what was kept for a client that is gone.
    pub(crate) fn forget(&self, client: u64) {
        let mut of_clients = self.of_clients.borrow_mut();
        if !of_clients.is_empty() {
            of_clients.remove(&client);
        }
    }

    /// Keeps a connection whose exchange is complete in both directions.
    pub(crate) fn put(&self, mut connection: Box<Connection>) {
        connection.in_flight = None;
        connection.activity.enter(Phase::Untimed);
        if connection.key.client > 0 {
            let mut of_clients = self.of_clients.borrow_mut();
            let list = of_clients.entry(connection.key.client).or_default();
            if list.len() < self.per_key_max {
                list.push(connection);
            }
            return;
        }
        let mut idle = self.idle.borrow_mut();
        match idle.get_mut(&connection.key) {
            Some(list) if list.len() < self.per_key_max => list.push(connection),
            Some(_) => {}
            None => {
                idle.insert(connection.key.clone(), vec![connection]);
            }
        }
    }

    /// How many connections wait, by their address.
    pub(crate) fn idle(&self) -> HashMap<Address, usize> {
        let mut counts = HashMap::new();
        let (idle, of_clients) = (self.idle.borrow(), self.of_clients.borrow());
        for idle in idle.values().chain(of_clients.values()).flatten() {
            *counts.entry(idle.key.address.clone()).or_default() += 1;
        }
        counts
    }

    /// Closes what was unused for `age` or was closed from the other side.
    pub(crate) fn sweep(&self, age: Duration) {
        let keep = |list: &mut Vec<Box<Connection>>| {
            list.retain_mut(|connection| {
                // Not on the way of every request: whoever used it last is soon back as a rule.
                connection.activity.quiet_for() < age && connection.rests()
            });
            !list.is_empty()
        };
        self.idle.borrow_mut().retain(|_, list| keep(list));
        self.of_clients.borrow_mut().retain(|_, list| keep(list));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Wake, Waker};

    use bytes::BytesMut;
    use tokio::io::{AsyncRead, ReadBuf};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::activity::Sweep;
    use crate::stream::Stream;
    use crate::upstream::connection::UpstreamStream;

    struct Task;

    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }

    #[tokio::test]
    async fn an_idle_connection_keeps_no_task() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (socket, _server) = tokio::try_join!(TcpStream::connect(address), listener.accept()).unwrap();
        let activity = Sweep::new().activity();
        let mut stream = UpstreamStream::Plain(Stream::new(socket, activity.clone()));

        let task = Arc::new(Task);
        let waker = Waker::from(task.clone());
        let mut context = Context::from_waker(&waker);
        let mut byte = [0];
        assert!(Pin::new(&mut stream).poll_read(&mut context, &mut ReadBuf::new(&mut byte)).is_pending());
        assert!(activity.poll_expired(&context).is_pending());
        drop(waker);
        assert!(Arc::strong_count(&task) > 1);

        let (pool, key) = (Pool::new(1), Key { address: Address::Ip(address), profile: 0, apart: 0, client: 0 });
        pool.put(Box::new(Connection { stream, input: BytesMut::new(), activity, key: key.clone(), in_flight: None }));
        pool.sweep(Duration::from_secs(60));
        assert_eq!(Arc::strong_count(&task), 1);
        assert!(pool.take(&key).is_some());
    }
}
