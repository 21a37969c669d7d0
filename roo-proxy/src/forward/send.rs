//! Getting a response head: connections tried in order, repeated only where nothing can happen twice.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{Method, Request, Response, Uri};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::Instant;

use super::body::{Progress, RequestBody};
use super::identity::X_ORIGIN_HOST;
use crate::activity::Phase;
use crate::connection::Client;
use crate::event::Event;
use crate::failure::Failure;
use crate::table::Entry;
use crate::upstream::Upstream;
use crate::upstream::connect::{self, ConnectError};
use crate::upstream::pick::{self, Candidate};
use crate::upstream::pool::{Connection, Lease};

type Outgoing = Request<RequestBody>;

/// Sends the request until an upstream has answered, or there is nothing more that is safe to try.
///
/// # Errors
///
/// The last failure; the proxy's owner is told if an upstream is to blame.
pub(crate) async fn send(
    client: &Rc<Client>,
    entry: &Entry,
    request: Outgoing,
    path: &PathAndQuery,
) -> Result<(Response<Incoming>, Lease), Failure> {
    // Until the head is there, the timeouts below are the client's as well.
    let _waiting = client.activity.wait();
    let mut sending = Sending::new(client, entry);
    let candidates = match pick::candidates(&client.worker, &entry.upstreams, sending.connect_by).await {
        Ok(candidates) => candidates,
        Err(failure) => {
            sending.tell(entry.upstreams.list.first().map(AsRef::as_ref), failure);
            return Err(failure);
        }
    };
    let mut request = request;
    let mut last = Failure::NoUpstream;
    for (index, candidate) in candidates.iter().enumerate() {
        if index > 0 {
            if !candidate.is_current(&client.worker) {
                continue;
            }
            entry.measures().retries.increment(1);
        }
        aim(&mut request, &candidate.upstream, path)?;
        match sending.attempt(candidate, candidates.len() - index, request).await {
            Ok((response, connection)) => {
                return Ok((response, Lease::new(connection, client.worker.pool.clone())));
            }
            Err(Missed::Unsent { request: unsent, failure }) => {
                sending.tell(Some(&candidate.upstream), failure);
                request = *unsent;
                last = failure;
            }
            Err(Missed::Over { failure }) => {
                sending.tell(Some(&candidate.upstream), failure);
                return Err(failure);
            }
        }
    }
    Err(last)
}

/// Why an attempt gave no response.
enum Missed {
    /// Nothing was written, or what was written may be repeated: another attempt is safe.
    Unsent { request: Box<Outgoing>, failure: Failure },
    /// It may have been seen: no other attempt.
    Over { failure: Failure },
}

struct Sending<'a> {
    client: &'a Rc<Client>,
    entry: &'a Entry,
    /// The end of all tries to connect together.
    connect_by: Instant,
    response_timeout: Duration,
    /// A request that was written and lost is repeated once.
    may_repeat: bool,
}

impl<'a> Sending<'a> {
    fn new(client: &'a Rc<Client>, entry: &'a Entry) -> Sending<'a> {
        let timeouts = &client.worker.shared.config.timeouts;
        let route = &entry.route;
        Sending {
            client,
            entry,
            connect_by: Instant::now() + route.connect_timeout.unwrap_or(timeouts.connect),
            response_timeout: route.response_timeout.unwrap_or(timeouts.response),
            may_repeat: true,
        }
    }

    /// One address: its pooled connections first, then a new one. `left` counts the addresses that
    /// may still be tried, this one included.
    async fn attempt(
        &mut self,
        candidate: &Candidate,
        left: usize,
        request: Outgoing,
    ) -> Result<(Response<Incoming>, Connection), Missed> {
        let worker = &self.client.worker;
        let key = connect::key(&candidate.upstream, candidate.address);
        let mut request = request;
        while let Some(connection) = worker.pool.take(&key) {
            match self.exchange(connection, request, true).await {
                // A stale connection says nothing about the address.
                Err(Missed::Unsent { request: unsent, .. }) => {
                    self.entry.measures().retries.increment(1);
                    request = *unsent;
                }
                done => return done,
            }
        }
        let deadline = share(Instant::now(), self.connect_by, left);
        match connect::connect(worker, &candidate.upstream, candidate.address, deadline).await {
            Ok(connection) => self.exchange(connection, request, false).await,
            Err(fault) => Err(self.not_connected(candidate, request, &fault)),
        }
    }

    fn not_connected(&self, candidate: &Candidate, request: Outgoing, fault: &ConnectError) -> Missed {
        tracing::debug!(
            route = %self.entry.origin, destination = %candidate.upstream.url, address = %candidate.address,
            %fault, "upstream connection failed"
        );
        self.client.worker.avoided.add(candidate.address, Instant::now());
        // Whatever the fault: nothing of the request was sent.
        Missed::Unsent { request: Box::new(request), failure: fault.failure() }
    }

    /// One request on one connection.
    async fn exchange(
        &mut self,
        mut connection: Connection,
        request: Outgoing,
        reused: bool,
    ) -> Result<(Response<Incoming>, Connection), Missed> {
        let copy = (reused && self.may_repeat).then(|| repeatable(&request)).flatten();
        let progress = request.body().progress();
        let began = Instant::now();
        progress.begin(began);
        let sent = connection.sender.try_send_request(request);
        match head(sent, &progress, self.response_timeout).await {
            Head::Response(response) => {
                self.entry.measures().upstream_duration.record(began.elapsed().as_secs_f64());
                connection.activity.enter(Phase::Exchange);
                Ok((response, connection))
            }
            Head::Late if progress.is_starved() => Err(Missed::Over { failure: Failure::RequestTimeout }),
            Head::Late => Err(Missed::Over { failure: Failure::Timeout }),
            Head::Lost(mut fault) => Err(match (fault.take_message(), copy) {
                (Some(unsent), _) => Missed::Unsent { request: Box::new(unsent), failure: Failure::Reset },
                (None, Some(copy)) if is_disconnect(fault.error()) => {
                    self.may_repeat = false;
                    Missed::Unsent { request: Box::new(copy), failure: Failure::Reset }
                }
                (None, _) => Missed::Over { failure: blame(fault.error()) },
            }),
        }
    }

    fn tell(&self, upstream: Option<&Upstream>, failure: Failure) {
        if let Some(upstream) = upstream
            && failure.is_upstream()
        {
            self.client.worker.shared.events.tell(Event::UpstreamFailed {
                origin: self.entry.origin.clone(),
                destination: upstream.url.clone(),
                reason: failure.reason(),
            });
        }
    }
}

enum Head {
    Response(Response<Incoming>),
    Lost(TrySendError<Outgoing>),
    Late,
}

/// Waits for the response head: `timeout` from the last byte of the request that passed, so that an
/// upload takes as long as it takes.
async fn head<F>(sent: F, progress: &Progress, timeout: Duration) -> Head
where
    F: Future<Output = Result<Response<Incoming>, TrySendError<Outgoing>>>,
{
    let mut sent = pin!(sent);
    let mut late = pin!(tokio::time::sleep_until(progress.at() + timeout));
    loop {
        tokio::select! {
            biased;
            result = &mut sent => return match result {
                Ok(response) => Head::Response(response),
                Err(fault) => Head::Lost(fault),
            },
            () = &mut late => {
                let due = progress.at() + timeout;
                if due <= Instant::now() {
                    return Head::Late;
                }
                late.as_mut().reset(due);
            }
        }
    }
}

/// When a try to connect ends: an even part of the time that is left, so that an address that says
/// nothing leaves enough to those after it. The last of them has all the rest.
fn share(now: Instant, connect_by: Instant, left: usize) -> Instant {
    let left = u32::try_from(left).unwrap_or(u32::MAX).max(1);
    now + connect_by.saturating_duration_since(now) / left
}

/// Sets what depends on the destination.
fn aim(request: &mut Outgoing, upstream: &Upstream, path: &PathAndQuery) -> Result<(), Failure> {
    let prefix = upstream.destination.path.as_str();
    let path = if prefix.is_empty() || path.as_str() == "*" {
        path.clone()
    } else {
        let joined = format!("{prefix}{path}");
        joined.parse().map_err(|_| Failure::BadRequest { why: "the request target is too long" })?
    };
    *request.uri_mut() = Uri::from(path);
    request.headers_mut().insert(X_ORIGIN_HOST, upstream.origin_host.clone());
    Ok(())
}

/// A copy of the request if sending it twice does no more than sending it once (RFC 9110 §9.2.2).
fn repeatable(request: &Outgoing) -> Option<Outgoing> {
    let method = request.method();
    let idempotent = [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE];
    if !idempotent.contains(method) || !request.body().is_end_stream() {
        return None;
    }
    let mut copy = Request::new(RequestBody::empty());
    copy.method_mut().clone_from(method);
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    Some(copy)
}

/// Whether the upstream closed the connection before it said anything.
fn is_disconnect(fault: &hyper::Error) -> bool {
    fault.is_incomplete_message() || fault.is_closed() || fault.is_canceled() || io_fault(fault)
}

fn io_fault(fault: &hyper::Error) -> bool {
    std::error::Error::source(fault).is_some_and(|source| source.is::<std::io::Error>())
}

/// Whose fault a lost exchange is: the client's if its body broke off, the upstream's otherwise.
fn blame(fault: &hyper::Error) -> Failure {
    if fault.is_user() { Failure::BadRequest { why: "the request body broke off" } } else { Failure::Reset }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_share_the_time_evenly() {
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(share(now, after(6), 3), after(2));
        assert_eq!(share(after(2), after(6), 2), after(4));
        assert_eq!(share(after(2), after(6), 1), after(6));
        assert_eq!(share(after(7), after(6), 2), after(7));
    }
}
