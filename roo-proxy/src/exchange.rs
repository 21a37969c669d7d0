//! The walk of one request, from its head to the last byte of its response.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::activity::Exchanging;
use crate::answer::{self, Form};
use crate::connection::Client;
use crate::failure::Failure;
use crate::forward::identity::{self, X_REQUEST_ID};
use crate::forward::{self, ResponseBody};
use crate::metric;
use crate::origin::Scheme;
use crate::table::Entry;
use crate::target::Target;

/// Below this path http-01 challenges are answered, and nothing else (RFC 8555 §8.3).
const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// Answers one request. Dropping the future means that the client is gone; the upstream is let go.
pub(crate) async fn handle(
    client: Rc<Client>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let asked = Asked::of(&client, &request);
    let mut record = Record::begin(client.clone(), &request);
    let mut response = match walk(&client, &asked, &mut record, request).await {
        Ok(response) => response,
        Err(failure) => asked.own(answer::failure(failure, asked.form(), &asked.id, asked.version)),
    };
    record.status = Some(response.status());
    if asked.version < Version::HTTP_2 && client.is_draining() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response.headers_mut().insert(X_REQUEST_ID, asked.id);
    Ok(response.map(|body| body.recorded(record)))
}

/// The steps, in order. Each either ends the walk or hands on to the next.
async fn walk(
    client: &Rc<Client>,
    asked: &Asked,
    record: &mut Record,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Failure> {
    let shared = &client.worker.shared;
    if client.scheme == Scheme::Http
        && let Some(response) = fixed_reply(client, asked, &request)
    {
        return response;
    }
    if header_bytes(request.headers()) > shared.config.limits.header_bytes {
        return Err(Failure::HeaderTooLarge);
    }
    let target = Target::of(&request)?;
    let found = route(client, &target, request.uri())?;
    let entry = match found {
        Found::Route(entry) => entry,
        Found::Redirect(location) => {
            return Ok(asked.own(answer::redirect(location, asked.form(), &asked.id)));
        }
    };
    record.entry = Some(entry.clone());
    // Policies of a route (who may, how often) are to be asked here, before anything is sent.
    forward::forward(client, &entry, &target, &asked.id, request).await
}

/// The answer from [`Replies`](crate::Replies), or 404 below the path that is theirs alone.
fn fixed_reply(
    client: &Client,
    asked: &Asked,
    request: &Request<Incoming>,
) -> Option<Result<Response<ResponseBody>, Failure>> {
    let path = request.uri().path();
    let replies = client.worker.shared.replies.load();
    match replies.find(path) {
        Some(reply) => {
            let mut response = Response::new(reply.body.clone());
            if let Some(content_type) = reply.content_type() {
                response.headers_mut().insert(CONTENT_TYPE, content_type);
            }
            Some(Ok(asked.own(response)))
        }
        None => path.starts_with(CHALLENGES).then_some(Err(Failure::UnknownChallenge)),
    }
}

/// Bytes of all fields, names and values.
fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

enum Found {
    Route(Arc<Entry>),
    Redirect(HeaderValue),
}

/// The whitelist: what has no route is not served.
fn route(client: &Client, target: &Target, uri: &Uri) -> Result<Found, Failure> {
    let shared = &client.worker.shared;
    let routes = shared.routes.load();
    if let Some(entry) = routes.find(&target.host, target.port, client.scheme) {
        return if is_misdirected(client, target) {
            Err(Failure::Misdirected)
        } else {
            Ok(Found::Route(entry.clone()))
        };
    }
    if client.scheme == Scheme::Http && routes.serves(&target.host, Scheme::Https) {
        return Ok(Found::Redirect(to_https(target, shared.https_port, uri)?));
    }
    Err(Failure::UnknownHost)
}

/// Whether the request is for a host that the certificate of its connection does not stand for (RFC 9110, 15.5.20).
fn is_misdirected(client: &Client, target: &Target) -> bool {
    client.tls.as_ref().is_some_and(|tls| target.host != tls.name && !tls.served.covers(&target.host))
}

fn to_https(target: &Target, port: u16, uri: &Uri) -> Result<HeaderValue, Failure> {
    let host = &target.host;
    let path = match uri.path_and_query() {
        Some(path) if path.as_str().starts_with('/') => path.as_str(),
        _ => "/",
    };
    let location = if port == Scheme::Https.default_port() {
        format!("https://{host}{path}")
    } else {
        format!("https://{host}:{port}{path}")
    };
    HeaderValue::try_from(location).map_err(|_| Failure::BadRequest { why: "the request target is not valid" })
}

/// What is needed of a request once it has been passed on.
struct Asked {
    id: HeaderValue,
    accept: Option<HeaderValue>,
    is_head: bool,
    version: Version,
}

impl Asked {
    fn of(client: &Client, request: &Request<Incoming>) -> Asked {
        Asked {
            id: identity::request_id(request.headers(), client.trusted),
            accept: request.headers().get(ACCEPT).cloned(),
            is_head: request.method() == Method::HEAD,
            version: request.version(),
        }
    }

    fn form(&self) -> Form {
        Form::accepted(self.accept.as_ref())
    }

    /// An answer of our own; for HEAD with the length of the body that it leaves out.
    fn own(&self, response: Response<Bytes>) -> Response<ResponseBody> {
        let (mut parts, body) = response.into_parts();
        if self.is_head {
            parts.headers.insert(CONTENT_LENGTH, body.len().into());
            return Response::from_parts(parts, ResponseBody::own(Bytes::new()));
        }
        Response::from_parts(parts, ResponseBody::own(body))
    }
}

/// Accounts for one exchange: begun with the head, ended when dropped with the response's body.
pub(crate) struct Record {
    client: Rc<Client>,
    entry: Option<Arc<Entry>>,
    method: metric::MethodLabel,
    protocol: metric::ProtocolLabel,
    status: Option<StatusCode>,
    began: Instant,
    _exchanging: Exchanging,
}

impl Record {
    fn begin(client: Rc<Client>, request: &Request<Incoming>) -> Record {
        client.asked.set(true);
        client.worker.requests().fetch_add(1, Ordering::Relaxed);
        Record {
            entry: None,
            method: metric::MethodLabel::of(request.method()),
            protocol: metric::ProtocolLabel::of(request.version()),
            status: None,
            began: Instant::now(),
            _exchanging: client.activity.exchange(),
            client,
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let worker = &self.client.worker;
        worker.requests().fetch_sub(1, Ordering::Relaxed);
        if std::thread::panicking() {
            // A second panic, in a recorder say, would end the process.
            return;
        }
        worker.measures.exchange(&metric::Exchange {
            entry: self.entry.as_ref(),
            // The client went away before there was an answer.
            status: self.status.map_or(499, |status| status.as_u16()),
            method: self.method,
            protocol: self.protocol,
            duration: self.began.elapsed(),
        });
    }
}
