//! The HTTP/2 connections of one worker.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, Shared};
use tokio::time::Instant;

use super::link::Link;
use crate::map::Map;
use crate::upstream::connect::ConnectError;
use crate::upstream::pool::Key;

/// The connections. Never shared between threads, hence without a lock.
#[derive(Default)]
pub(crate) struct Links {
    open: RefCell<Map<Key, Vec<Rc<Link>>>>,
    connecting: RefCell<Map<Key, Connecting>>,
    /// Whether one was ever made for a single client.
    has_own: Cell<bool>,
}

/// One try to connect, for all who wait for it.
type Connecting = Shared<LocalBoxFuture<'static, Result<(), Rc<ConnectError>>>>;

/// A place among the exchanges of a connection, until dropped.
pub(crate) struct Turn(Rc<Link>);

impl Links {
    /// A turn on a connection that has one: the oldest first, so that those too many stand idle and end.
    pub(crate) fn turn(&self, key: &Key) -> Option<Turn> {
        let mut open = self.open.borrow_mut();
        let links = open.get_mut(key)?;
        links.retain(|link| link.is_open());
        links.iter().find_map(|link| link.turn())
    }

    /// Waits for one more connection: `connect` makes it, unless one is being made already. Dropping the future ends
    /// the making if nobody else waits for it.
    ///
    /// # Errors
    ///
    /// If there can be none.
    pub(crate) async fn connect<F>(
        self: &Rc<Links>,
        key: Key,
        connect: impl FnOnce() -> F,
    ) -> Result<(), Rc<ConnectError>>
    where
        F: Future<Output = Result<Link, ConnectError>> + 'static,
    {
        self.has_own.set(self.has_own.get() || key.client > 0);
        let under_way = self.connecting.borrow().get(&key).cloned();
        let connecting = under_way.unwrap_or_else(|| {
            let (links, own, connect) = (self.clone(), key.clone(), connect());
            let connecting = async move {
                let made = connect.await;
                links.connecting.borrow_mut().remove(&own);
                links.open.borrow_mut().entry(own).or_default().push(Rc::new(made.map_err(Rc::new)?));
                Ok(())
            };
            let connecting = connecting.boxed_local().shared();
            self.connecting.borrow_mut().insert(key.clone(), connecting.clone());
            connecting
        });
        let _forget = Forget { links: self, key };
        connecting.await
    }

    /// Lets go what was made for a client that is gone. Exchanges under way keep theirs.
    pub(crate) fn forget(&self, client: u64) {
        if self.has_own.get() {
            self.open.borrow_mut().retain(|key, _| key.client != client);
        }
    }

    /// Lets go what had no exchange for `age`, or has ended.
    pub(crate) fn sweep(&self, age: Duration) {
        let now = Instant::now();
        self.open.borrow_mut().retain(|_, links| {
            links.retain(|link| link.is_open() && !link.is_idle(now, age));
            !links.is_empty()
        });
    }
}

/// Ends a try that nobody waits for any more.
struct Forget<'a> {
    links: &'a Links,
    key: Key,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let mut connecting = self.links.connecting.borrow_mut();
        // That one is of the map itself: this future has dropped its own before.
        if connecting.get(&self.key).is_some_and(|waited_for| waited_for.strong_count().is_none_or(|count| count <= 1))
        {
            connecting.remove(&self.key);
        }
    }
}

impl Turn {
    pub(super) fn new(link: Rc<Link>) -> Turn {
        link.count(|exchanges| exchanges + 1);
        Turn(link)
    }

    pub(crate) fn link(&self) -> &Rc<Link> {
        &self.0
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.count(|exchanges| exchanges - 1);
    }
}
