//! The bound sockets: one per worker and port, sharing each port by `SO_REUSEPORT`.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Sockets bound for a proxy, not yet listening to by anybody. Connections queue in the kernel from
/// the moment of binding.
#[derive(Debug)]
pub struct Listeners {
    http: SocketAddr,
    https: SocketAddr,
    pub(crate) pairs: Vec<Pair>,
}

/// The sockets of one worker.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) http: TcpListener,
    pub(crate) https: TcpListener,
}

impl Listeners {
    /// Binds both ports once per worker; port 0 picks a free one. `workers` of zero means one.
    ///
    /// # Errors
    ///
    /// If a port is held by anybody else, another process of this program included, although the
    /// sockets share their ports among themselves.
    pub fn bind(http: SocketAddr, https: SocketAddr, workers: usize) -> Result<Listeners, BindError> {
        let workers = workers.max(1);
        let (http, plain) = bind_all(Port::Http, http, workers)?;
        let (https, tls) = bind_all(Port::Https, https, workers)?;
        let pairs = plain.into_iter().zip(tls).map(|(http, https)| Pair { http, https }).collect();
        Ok(Listeners { http, https, pairs })
    }

    /// The address of the plain listener, with the port that was picked.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// The address of the TLS listener, with the port that was picked.
    pub fn https(&self) -> SocketAddr {
        self.https
    }

    /// How many workers the sockets are for.
    pub fn workers(&self) -> usize {
        self.pairs.len()
    }
}

/// Which of the two listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// Plain.
    Http,
    /// TLS.
    Https,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Port::Http => "http",
            Port::Https => "https",
        })
    }
}

/// A listener that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {port}: {source}")]
pub struct BindError {
    /// Which listener.
    pub port: Port,
    /// The address asked for.
    pub address: SocketAddr,
    /// The system's reason.
    pub source: io::Error,
}

/// Connections that wait for a worker, per socket.
const BACKLOG: i32 = 4_096;

fn bind_all(port: Port, address: SocketAddr, workers: usize) -> Result<(SocketAddr, Vec<TcpListener>), BindError> {
    let fault = |source| BindError { port, address, source };
    probe(address).map_err(fault)?;
    let first = bind_shared(address).map_err(fault)?;
    let picked = first.local_addr().map_err(fault)?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(bind_shared(picked).map_err(fault)?);
    }
    Ok((picked, sockets))
}

/// Fails if anybody listens there. A socket with `SO_REUSEPORT` would silently join the other's.
fn probe(address: SocketAddr) -> io::Result<()> {
    if address.port() != 0 {
        unbound(address)?.bind(&address.into())?;
    }
    Ok(())
}

fn bind_shared(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = unbound(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn unbound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // `[::]` serves IPv4 clients as well, whatever the system's default.
        socket.set_only_v6(!address.ip().is_unspecified())?;
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
        for pair in &listeners.pairs {
            assert_eq!(pair.http.local_addr().unwrap(), listeners.http());
            assert_eq!(pair.https.local_addr().unwrap(), listeners.https());
        }
    }

    #[test]
    fn a_port_held_by_another_proxy_is_refused() {
        let first = Listeners::bind(any(), any(), 1).unwrap();
        let fault = Listeners::bind(any(), first.https(), 1).unwrap_err();
        assert_eq!(fault.port, Port::Https);
        assert_eq!(fault.address, first.https());
        assert_eq!(fault.source.kind(), io::ErrorKind::AddrInUse);
        let fault = Listeners::bind(first.http(), any(), 1).unwrap_err();
        assert_eq!(fault.port, Port::Http);
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
