//! Passing a request on to an upstream and its response back.

mod body;
mod hop;
pub(crate) mod identity;
mod send;
mod upgrade;

use std::rc::Rc;

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;

pub(crate) use body::{RequestBody, ResponseBody};
use identity::Identity;

use crate::connection::Client;
use crate::failure::Failure;
use crate::table::Entry;
use crate::target::Target;

/// Sends the request to one of the route's upstreams and gives back its response, both bodies still
/// streaming. Dropping the future closes the upstream connection.
pub(crate) async fn forward(
    client: &Rc<Client>,
    entry: &Entry,
    target: &Target,
    id: &HeaderValue,
    mut request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Failure> {
    let protocol = hop::upgrade_wanted(&request);
    let upgrade = protocol.is_some().then(|| hyper::upgrade::on(&mut request));
    let path = path_and_query(&request);
    let request = outgoing(client, target, id, request, protocol);
    let (response, lease) = send::send(client, entry, request, &path).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return match upgrade {
            Some(upgrade) => Ok(upgrade::accept(client, upgrade, response, lease)),
            // It changed to a protocol that nobody asked for: nothing more can be made of it.
            None => Err(Failure::Reset),
        };
    }
    let (mut parts, body) = response.into_parts();
    parts.version = Version::HTTP_11;
    hop::response_fields(&mut parts.headers);
    Ok(Response::from_parts(parts, ResponseBody::upstream(body, lease)))
}

/// The request as the upstream shall see it, but for what depends on the destination.
fn outgoing(
    client: &Client,
    target: &Target,
    id: &HeaderValue,
    request: Request<Incoming>,
    protocol: Option<HeaderValue>,
) -> Request<RequestBody> {
    let (mut parts, body) = request.into_parts();
    let body = RequestBody::new(body);
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    let headers = &mut parts.headers;
    hop::request_fields(headers, protocol);
    let identity = Identity { peer: client.peer, trusted: client.trusted, scheme: client.scheme, target, id };
    identity::apply(headers, &identity);
    headers.insert(HOST, target.field.clone());
    // Without it hyper takes a GET of unknown length for one without a body.
    if body.size_hint().exact().is_none() && !headers.contains_key(CONTENT_LENGTH) {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    Request::from_parts(parts, body)
}

fn path_and_query<B>(request: &Request<B>) -> PathAndQuery {
    request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}
