//! The bound sockets: one per worker and address, sharing each port by `SO_REUSEPORT`.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::origin::Scheme;

/// Sockets bound for a proxy, not yet listening to by anybody. Connections queue in the kernel from
/// the moment of binding.
#[derive(Debug)]
pub struct Listeners {
    workers: usize,
    /// At least one of each scheme.
    pub(crate) bound: Vec<Bound>,
    /// Sockets for ports that routes may name.
    pub(crate) spare: Vec<Bound>,
}

/// A listening socket on its way from one process to another.
#[derive(Debug)]
pub struct ListeningSocket {
    /// What is spoken on it.
    pub scheme: Scheme,
    /// Whether a route has opened it.
    pub is_routes: bool,
    /// The socket.
    pub listener: TcpListener,
}

/// An address and its sockets, one per worker.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) scheme: Scheme,
    pub(crate) address: SocketAddr,
    pub(crate) sockets: Vec<TcpListener>,
}

impl Listeners {
    /// Binds both ports once per worker; port 0 picks a free one. `workers` of zero means one.
    ///
    /// # Errors
    ///
    /// As [`Listeners::bind_all`].
    pub fn bind(http: SocketAddr, https: SocketAddr, workers: usize) -> Result<Listeners, BindError> {
        Listeners::bind_all(&[http], &[https], workers)
    }

    /// Binds all addresses once per worker, as [`Listeners::bind`] does. Neither list may be empty.
    ///
    /// # Errors
    ///
    /// If one of them is held by anybody else, another process of this program included, although the
    /// sockets share their ports among themselves.
    ///
    /// # Panics
    ///
    /// If a list is empty.
    pub fn bind_all(http: &[SocketAddr], https: &[SocketAddr], workers: usize) -> Result<Listeners, BindError> {
        assert!(!http.is_empty() && !https.is_empty(), "a proxy listens for both schemes");
        let workers = workers.max(1);
        Listeners::take(Vec::new(), http, https, workers)
    }

    /// Takes sockets that somebody else has bound, all of a scheme in place of the addresses given for it, and binds as
    /// [`Listeners::bind_all`] what none was handed over for. Sockets that routes have opened wait for such routes.
    ///
    /// # Errors
    ///
    /// As [`Listeners::bind_all`], and if a socket is none that connections may be accepted from.
    ///
    /// # Panics
    ///
    /// If a list is empty.
    pub fn take(
        sockets: Vec<ListeningSocket>,
        http: &[SocketAddr],
        https: &[SocketAddr],
        workers: usize,
    ) -> Result<Listeners, BindError> {
        assert!(!http.is_empty() && !https.is_empty(), "a proxy listens for both schemes");
        let workers = workers.max(1);
        let (spare, fixed): (Vec<_>, Vec<_>) = sockets.into_iter().partition(|socket| socket.is_routes);
        let mut bound = group(fixed, workers)?;
        for (scheme, addresses) in [(Scheme::Http, http), (Scheme::Https, https)] {
            if bound.iter().all(|bound| bound.scheme != scheme) {
                bound.extend(bind_list(scheme, addresses, workers)?);
            }
        }
        bound.sort_by_key(|bound| bound.scheme);
        Ok(Listeners { workers, bound, spare: group(spare, workers)? })
    }

    /// The first address of the plain listener, with the port that was picked.
    pub fn http(&self) -> SocketAddr {
        self.first(Scheme::Http)
    }

    /// The first address of the TLS listener, with the port that was picked.
    pub fn https(&self) -> SocketAddr {
        self.first(Scheme::Https)
    }

    /// All addresses, with the ports that were picked, in the order in which they were given.
    pub fn addresses(&self) -> impl Iterator<Item = (Scheme, SocketAddr)> {
        self.bound.iter().map(|bound| (bound.scheme, bound.address))
    }

    /// How many workers the sockets are for.
    pub fn workers(&self) -> usize {
        self.workers
    }

    fn first(&self, scheme: Scheme) -> SocketAddr {
        let mut of_scheme = self.addresses().filter(|(own, _)| *own == scheme);
        of_scheme.next().map(|(_, address)| address).expect("there is one of each scheme")
    }
}

/// Puts the sockets of an address together, at least one per worker: each must be accepted from.
fn group(sockets: Vec<ListeningSocket>, workers: usize) -> Result<Vec<Bound>, BindError> {
    let mut all: Vec<Bound> = Vec::new();
    for ListeningSocket { scheme, listener, .. } in sockets {
        let fault = |source| BindError { scheme, address: SocketAddr::from(([0; 4], 0)), source };
        listener.set_nonblocking(true).map_err(fault)?;
        let address = listener.local_addr().map_err(fault)?;
        match all.iter_mut().find(|bound| bound.scheme == scheme && bound.address == address) {
            Some(bound) => bound.sockets.push(listener),
            None => all.push(Bound { scheme, address, sockets: vec![listener] }),
        }
    }
    for Bound { scheme, address, sockets } in &mut all {
        let count = sockets.len();
        for index in count..workers {
            let shared = sockets[index % count].try_clone();
            sockets.push(shared.map_err(|source| BindError { scheme: *scheme, address: *address, source })?);
        }
    }
    Ok(all)
}

/// A listener that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {scheme}: {source}")]
pub struct BindError {
    /// For what.
    pub scheme: Scheme,
    /// The address asked for.
    pub address: SocketAddr,
    /// The system's reason.
    pub source: io::Error,
}

/// Connections that wait for a worker, per socket.
const BACKLOG: i32 = 4_096;

/// Binds all addresses or none.
pub(crate) fn bind_list(scheme: Scheme, addresses: &[SocketAddr], workers: usize) -> Result<Vec<Bound>, BindError> {
    let bind = |address: &SocketAddr| {
        // `[::]` serves IPv4 clients as well, whatever the system's default, unless somebody else does.
        let has_v4 = addresses.iter().any(|other| other.is_ipv4() && other.port() == address.port());
        let only_v6 = address.is_ipv6() && (has_v4 || !address.ip().is_unspecified());
        let (picked, sockets) =
            bind_one(*address, only_v6, workers).map_err(|source| BindError { scheme, address: *address, source })?;
        Ok(Bound { scheme, address: picked, sockets })
    };
    addresses.iter().map(bind).collect()
}

fn bind_one(address: SocketAddr, only_v6: bool, workers: usize) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    probe(address, only_v6)?;
    let first = bind_shared(address, only_v6)?;
    let picked = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(bind_shared(picked, only_v6)?);
    }
    Ok((picked, sockets))
}

/// Fails if anybody listens there. A socket with `SO_REUSEPORT` would silently join the other's.
fn probe(address: SocketAddr, only_v6: bool) -> io::Result<()> {
    if address.port() != 0 {
        unbound(address, only_v6)?.bind(&address.into())?;
    }
    Ok(())
}

fn bind_shared(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = unbound(address, only_v6)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn unbound(address: SocketAddr, only_v6: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // Without it, connections of a former process in TIME_WAIT would hold the port.
    socket.set_reuse_address(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn any() -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }

    #[test]
    fn all_workers_share_the_picked_ports() {
        let listeners = Listeners::bind(any(), any(), 3).unwrap();
        assert_eq!(listeners.workers(), 3);
        assert_ne!(listeners.http().port(), 0);
        assert_ne!(listeners.http(), listeners.https());
        for bound in &listeners.bound {
            assert_eq!(bound.sockets.len(), 3);
            assert!(bound.sockets.iter().all(|socket| socket.local_addr().unwrap() == bound.address));
        }
    }

    #[test]
    fn a_port_held_by_another_proxy_is_refused() {
        let first = Listeners::bind(any(), any(), 1).unwrap();
        let fault = Listeners::bind(any(), first.https(), 1).unwrap_err();
        assert_eq!(fault.scheme, Scheme::Https);
        assert_eq!(fault.address, first.https());
        assert_eq!(fault.source.kind(), io::ErrorKind::AddrInUse);
        let fault = Listeners::bind(first.http(), any(), 1).unwrap_err();
        assert_eq!(fault.scheme, Scheme::Http);
    }

    #[test]
    fn several_addresses_are_bound_each_for_all_workers() {
        let two = [any(), ([127, 0, 0, 2], 0).into()];
        let listeners = Listeners::bind_all(&two, &two, 2).unwrap();
        let addresses: Vec<_> = listeners.addresses().collect();
        let schemes: Vec<_> = addresses.iter().map(|(scheme, address)| (*scheme, address.ip().to_string())).collect();
        let (http, https) = (Scheme::Http, Scheme::Https);
        let expected = [(http, "127.0.0.1"), (http, "127.0.0.2"), (https, "127.0.0.1"), (https, "127.0.0.2")];
        assert_eq!(schemes, expected.map(|(scheme, ip)| (scheme, ip.to_owned())));
        assert_eq!((listeners.http(), listeners.https()), (addresses[0].1, addresses[2].1));
        let taken = [any(), addresses[1].1];
        let fault = Listeners::bind_all(&taken, &[any()], 1).unwrap_err();
        assert_eq!((fault.scheme, fault.address), (Scheme::Http, addresses[1].1));
    }

    #[test]
    fn both_families_may_be_listed_side_by_side() {
        let held = Listeners::bind(any(), any(), 1).unwrap();
        let port = held.http().port();
        drop(held);
        // On a machine without IPv6 there is nothing to see.
        if TcpListener::bind("[::1]:0").is_ok() {
            let both = [([0, 0, 0, 0], port).into(), ([0u16; 8], port).into()];
            let bound = bind_list(Scheme::Http, &both, 2);
            assert!(bound.is_ok() || bound.is_err_and(|fault| fault.address.is_ipv4()));
        }
    }

    #[test]
    fn a_port_held_by_a_stranger_is_refused() {
        let stranger = TcpListener::bind(any()).unwrap();
        let held = stranger.local_addr().unwrap();
        assert!(Listeners::bind(held, any(), 1).is_err());
    }

    #[test]
    fn a_port_is_free_again_once_dropped() {
        let first = Listeners::bind(any(), any(), 2).unwrap();
        let (http, https) = (first.http(), first.https());
        drop(first);
        Listeners::bind(http, https, 2).unwrap();
    }
}
