//! TLS towards clients: the name decides, before anything costs.

mod acme;
mod configs;
mod policy;
mod tickets;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use rustls::server::Acceptor;
use tokio::io::AsyncWriteExt;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::{StartHandshake, TlsStream};

use crate::certificate::Served;
use crate::connection::apart;
use crate::event::Event;
use crate::metric::Handshake;
use crate::name::HostName;
use crate::origin::Scheme;
use crate::stream::Stream;
use crate::table::Entry;
use crate::worker::Worker;
pub use acme::{TlsAnswer, TlsAnswers};
pub(crate) use configs::{Common, Configs};
pub(crate) use policy::Asked;
pub use policy::{TlsPolicy, TlsVersion};
pub(crate) use tickets::Tickets;
pub use tickets::{TICKET_LIFE_SECONDS, TicketKeys};

/// A connection whose handshake is done.
pub(crate) struct Accepted {
    /// Boxed: it is large, and moves on.
    pub(crate) stream: Box<TlsStream<Stream>>,
    pub(crate) name: HostName,
    pub(crate) served: Arc<Served>,
    pub(crate) is_http2: bool,
    /// What was asked of it beyond the usual.
    pub(crate) asked: Option<Arc<Asked>>,
}

/// Takes a connection to `port` through its handshake.
///
/// # Errors
///
/// How it ended otherwise; the client has been told by an alert where it can be.
pub(crate) async fn accept(worker: &Rc<Worker>, stream: Stream, port: u16) -> Result<Accepted, Handshake> {
    let within = worker.shared.config.timeouts.handshake;
    let mut start = tokio::time::timeout(within, LazyConfigAcceptor::new(Acceptor::default(), stream))
        .await
        .map_err(|_| Handshake::Timeout)?
        .map_err(|_| Handshake::Failed)?;
    if acme::is_asked_by(&start.client_hello()) {
        return Err(apart(|| acme::answer(worker, start)).await);
    }
    let Some((name, entry)) = routed_name(worker, &start, port) else {
        refuse(start.io).await;
        return Err(Handshake::UnknownName);
    };
    let Some(served) = certificate(worker, &name, &entry).await else {
        refuse(start.io).await;
        return Err(Handshake::NoCertificate);
    };
    let configs = match &entry.asked {
        None => &*worker.tls,
        Some(asked) => asked.configs(&worker.shared.tls).ok_or(Handshake::Failed)?,
    };
    let config = configs.of(&start.client_hello());
    start.io.hold();
    let shaken = tokio::time::timeout(within, start.into_stream(config).into_fallible()).await;
    let mut stream = match shaken.map_err(|_| Handshake::Timeout)? {
        Ok(stream) => stream,
        Err((_, io)) => {
            apart(|| say_last(io)).await;
            return Err(Handshake::Failed);
        }
    };
    stream.get_mut().0.release();
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok(Accepted { stream: Box::new(stream), name, served, is_http2, asked: entry.asked.clone() })
}

/// The name asked for and its route, if it has one over TLS: that of the port it came to before others.
fn routed_name(worker: &Worker, start: &StartHandshake<Stream>, port: u16) -> Option<(HostName, Arc<Entry>)> {
    let hello = start.client_hello();
    let name = HostName::parse(hello.server_name()?).ok()?;
    let routes = worker.shared.routes.load();
    let of_port = routes.find(&name, Some(worker.shared.named_port(port)), Scheme::Https);
    let entry = of_port.or_else(|| routes.entry_of(&name, Scheme::Https))?.clone();
    Some((name, entry))
}

/// Sends the alert that tells the client what is wrong, if that can be at once.
async fn say_last(mut stream: Stream) {
    stream.release();
    // The client may be gone already, which is just as well.
    let _ = stream.flush().now_or_never();
}

/// Ends a handshake with the alert `unrecognized_name` (RFC 6066 §3). It goes out in the clear, before
/// any key is made.
async fn refuse(mut stream: Stream) {
    // Record type alert, version TLS 1.2, two bytes: fatal, unrecognized_name.
    const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
    // The client may be gone already, which is just as well.
    let _: io::Result<()> = async {
        stream.write_all(&ALERT).await?;
        stream.shutdown().await
    }
    .await;
}

/// The certificate for a name, waited for if it is still to be ordered.
async fn certificate(worker: &Worker, name: &HostName, entry: &Entry) -> Option<Arc<Served>> {
    let shared = &worker.shared;
    let current = || shared.tls.certificates.load().find(name).cloned();
    if let Some(served) = current() {
        return Some(served);
    }
    // From before the second look, so that no snapshot slips through between look and wait.
    let mut changed = shared.certificates_changed.subscribe();
    shared.events.tell(Event::CertificateWanted { name: name.clone() });
    // The route's own places first: names made up below one wildcard must not take those of all.
    let _of_route = Waiter::admit(&entry.waiters, WAITERS_PER_ROUTE)?;
    let _of_all = Waiter::admit(&shared.counts.certificate_waiters, shared.config.limits.certificate_waiters)?;
    let appears = async {
        loop {
            if let Some(served) = current() {
                return Some(served);
            }
            changed.changed().await.ok()?;
        }
    };
    tokio::select! {
        served = tokio::time::timeout(shared.config.certificate_wait, appears) => served.ok().flatten(),
        () = worker.stop.drain.cancelled() => None,
    }
}

/// Handshakes that may wait for certificates of one route at the same time; one more is ended.
const WAITERS_PER_ROUTE: usize = 64;

/// A place among a bounded number of waiting handshakes.
struct Waiter<'a>(&'a AtomicUsize);

impl Waiter<'_> {
    fn admit(count: &AtomicUsize, max: usize) -> Option<Waiter<'_>> {
        let before = count.fetch_add(1, Ordering::Relaxed);
        let waiter = Waiter(count);
        (before < max.max(1)).then_some(waiter)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiters_are_bounded_and_leave_no_trace() {
        let count = AtomicUsize::new(0);
        let first = Waiter::admit(&count, 1);
        assert!(first.is_some());
        assert!(Waiter::admit(&count, 1).is_none());
        drop(first);
        assert_eq!(count.load(Ordering::Relaxed), 0);
        assert!(Waiter::admit(&count, 1).is_some());
    }
}
