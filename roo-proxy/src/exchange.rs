//! The walk of one request, whichever protocol it came by: what is to be done with it.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};

use crate::answer::{self, Form};
use crate::codec::{Kind, Request};
use crate::connection::Client;
use crate::failure::Failure;
use crate::forward::upgrade_wanted;
use crate::origin::Scheme;
use crate::request_id::RequestId;
use crate::table::Entry;
use crate::target::Target;

/// Below this path http-01 challenges are answered, and nothing else (RFC 8555 §8.3).
const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// What is to be done with a request.
pub(crate) enum Verdict {
    /// We answer it ourselves.
    Answer(Response<Bytes>),
    /// It goes to one of the route's upstreams.
    Forward { entry: Arc<Entry>, target: Rc<Target> },
}

/// The steps before anything is sent, in order. Each either ends the walk or hands on to the next.
///
/// # Errors
///
/// Why the request is not served.
pub(crate) fn judge(client: &Client, request: &Request<'_>, id: &RequestId) -> Result<Verdict, Failure> {
    if client.peer.scheme == Scheme::Http
        && let Some(answer) = fixed_reply(client, &request.path)
    {
        return answer.map(Verdict::Answer);
    }
    if request.fields.bytes() > client.worker.shared.config.limits.header_bytes {
        return Err(Failure::HeaderTooLarge);
    }
    unambiguous(client, request)?;
    let target = Target::of(request, &client.recent)?;
    match route(client, &target, &request.path)? {
        // Policies of a route (who may, how often) are to be asked here, before anything is sent.
        Found::Route(entry) => Ok(Verdict::Forward { entry, target }),
        Found::Redirect(location) => Ok(Verdict::Answer(answer::redirect(location, form(request), id))),
    }
}

/// The form of our own answer that the client likes best.
pub(crate) fn form(request: &Request<'_>) -> Form {
    Form::accepted(request.fields.of_kind(Kind::Accept).next())
}

/// Refuses what somebody behind us might understand differently.
fn unambiguous(client: &Client, request: &Request<'_>) -> Result<(), Failure> {
    if !request.path.starts_with('/') && request.path != "*" && request.method != "CONNECT" {
        return Err(Failure::BadRequest { why: "the request target is not a path" });
    }
    if request.path == "*" && request.method != "OPTIONS" {
        return Err(Failure::BadRequest { why: "the target * is for OPTIONS alone" });
    }
    if request.scheme.is_some_and(|scheme| !scheme.eq_ignore_ascii_case(client.peer.scheme.as_str())) {
        return Err(Failure::BadRequest { why: "the scheme of the request target is not that of the connection" });
    }
    if request.fields.has_alias() {
        return Err(Failure::BadRequest { why: "a field name spelled with _ would pass for one of the proxy's" });
    }
    if !request.framing.is_empty() && upgrade_wanted(request).is_some() {
        return Err(Failure::BadRequest { why: "a request to upgrade must not have a body" });
    }
    Ok(())
}

/// The answer from [`Replies`](crate::Replies), or 404 below the path that is theirs alone.
fn fixed_reply(client: &Client, path_and_query: &str) -> Option<Result<Response<Bytes>, Failure>> {
    let (worker, all) = (&client.worker, &client.worker.shared.replies);
    let version = Some(all.version());
    if worker.no_replies.get() == version && !path_and_query.starts_with(CHALLENGES) {
        return None;
    }
    let replies = all.load();
    worker.no_replies.set(version.filter(|_| replies.is_empty()));
    let path = path_and_query.split('?').next().unwrap_or_default();
    match replies.find(path) {
        Some(reply) => {
            let mut response = Response::new(reply.body.clone());
            if let Some(content_type) = reply.content_type() {
                response.headers_mut().insert(CONTENT_TYPE, content_type);
            }
            Some(Ok(response))
        }
        None => path.starts_with(CHALLENGES).then_some(Err(Failure::UnknownChallenge)),
    }
}

enum Found {
    Route(Arc<Entry>),
    Redirect(HeaderValue),
}

/// The whitelist: what has no route is not served.
fn route(client: &Client, target: &Target, path: &str) -> Result<Found, Failure> {
    let shared = &client.worker.shared;
    let version = shared.routes.version();
    if let Some(entry) = target.route(version) {
        return found(client, target, entry);
    }
    let routes = shared.routes.load();
    if let Some(entry) = routes.find(&target.host, target.port, client.peer.scheme) {
        target.routed(version, entry);
        return found(client, target, entry.clone());
    }
    if client.peer.scheme == Scheme::Http && routes.serves(&target.host, Scheme::Https) {
        return Ok(Found::Redirect(to_https(target, shared.https_port, path)?));
    }
    Err(Failure::UnknownHost)
}

fn found(client: &Client, target: &Target, entry: Arc<Entry>) -> Result<Found, Failure> {
    if !is_misdirected(client, target, &entry) {
        return Ok(Found::Route(entry));
    }
    if client.tls.as_ref().is_some_and(|tls| tls.name == target.host) {
        // Nothing on it will be for its own host any more, and many clients do not leave a connection for this answer.
        client.activity.retire();
    }
    Err(Failure::Misdirected)
}

/// Whether the request is for a host that the certificate of its connection does not stand for, or for a route that asks
/// more of a handshake than was asked of this one (RFC 9110, 15.5.20).
fn is_misdirected(client: &Client, target: &Target, entry: &Entry) -> bool {
    client.tls.as_ref().is_some_and(|tls| {
        target.host != tls.name && !tls.served.covers(&target.host)
            || entry.asked.as_ref().is_some_and(|asked| !asked.was_asked(tls.asked.as_deref()))
    })
}

fn to_https(target: &Target, port: u16, path: &str) -> Result<HeaderValue, Failure> {
    let host = &target.host;
    let path = if path.starts_with('/') { path } else { "/" };
    let location = if port == Scheme::Https.default_port() {
        format!("https://{host}{path}")
    } else {
        format!("https://{host}:{port}{path}")
    };
    HeaderValue::try_from(location).map_err(|_| Failure::BadRequest { why: "the request target is not valid" })
}
