//! One request of HTTP/2 and its response.

use std::convert::Infallible;
use std::rc::Rc;

use bytes::{Buf, Bytes};
use http::header::CONTENT_LENGTH;
use http::{Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;

use super::body::{RequestBody, ResponseBody};
use super::websocket::{Granted, Websocket};
use crate::answer;
use crate::codec::{self, FIELDS_MAX, Fields, Framing};
use crate::connection::Client;
use crate::exchange::{Verdict, form, judge};
use crate::failure::Failure;
use crate::forward::{Final, Unanswered, header_map, send};
use crate::grpc;
use crate::record::Record;
use crate::request_id::{NAME, RequestId};
use crate::websocket::{KEY, WEBSOCKET};

/// Answers one request. Dropping the future means that the client is gone; the upstream is let go.
pub(super) async fn handle(
    client: Rc<Client>,
    mut request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let mut websocket = Websocket::of(&mut request);
    let key = websocket.as_ref().map(|websocket| websocket.key.clone());
    let (parts, body) = request.into_parts();
    // One too many is enough to see that there are too many.
    let lines = parts.headers.iter().take(FIELDS_MAX + 1);
    let lines = lines.filter(|(name, _)| key.is_none() || *name != KEY);
    let lines = lines.map(|(name, value)| (name.as_str(), value.as_bytes()));
    let fields = Fields::of(lines.chain(key.as_ref().map(|key| (KEY, key.as_bytes()))));
    // What is an extended CONNECT here is a GET in HTTP/1 (RFC 8441 §5).
    let method = if websocket.is_some() { "GET" } else { parts.method.as_str() };
    let id = RequestId::of(&fields, client.peer.trusted);
    let request = codec::Request {
        method,
        version: parts.version,
        scheme: parts.uri.scheme_str(),
        authority: parts.uri.authority().map(http::uri::Authority::as_str),
        path: parts.uri.path_and_query().map_or("/", |path| path.as_str()).into(),
        framing: Framing::None,
        fields,
    };
    let mut record = Record::begin(client.clone(), Some(&request), &id);
    let response = match walk(&client, request, &id, &mut record, (body, &mut websocket)).await {
        Ok(response) => response,
        Err((failure, request)) => {
            record.failed(failure);
            match grpc::is_call(&request.fields) {
                true => own(grpc::failure(failure), false),
                false => own(answer::failure(failure, form(&request), &id), request.is_head()),
            }
        }
    };
    record.status = Some(response.status().as_u16());
    let record = match websocket {
        Some(websocket) => websocket.start(&client, record),
        None => Some(record),
    };
    let mut response = response.map(|body| body.recorded(record));
    if let Some(id) = id.value() {
        response.headers_mut().insert(NAME, id);
    }
    Ok(response)
}

/// The steps of [`judge`] and, if they lead there, an upstream.
async fn walk<'a>(
    client: &Rc<Client>,
    mut request: codec::Request<'a>,
    id: &RequestId,
    record: &mut Record,
    (body, websocket): (Incoming, &mut Option<Websocket>),
) -> Result<Response<ResponseBody>, (Failure, codec::Request<'a>)> {
    let judged = frame(&request, &body, websocket.is_some()).and_then(|framing| {
        request.framing = framing;
        judge(client, &request, id)
    });
    let (entry, target) = match judged {
        Ok(Verdict::Forward { entry, target }) => (entry, target),
        Ok(Verdict::Answer(response)) => return Ok(own(response, request.is_head())),
        Err(failure) => return Err((failure, request)),
    };
    record.routed(entry.clone());
    let mut body = RequestBody::new(body, request.framing);
    let upgrade = websocket.as_ref().map(|_| WEBSOCKET.as_bytes());
    let outgoing = client.outgoing(&request, &target, id, upgrade, record.trace.as_ref(), record.began);
    // Until the head is there, the upstream's timeouts are the client's as well.
    let waiting = client.activity.wait();
    let answered = send(&client.worker, &outgoing, &entry, &mut body, record.note.as_deref_mut()).await;
    drop(waiting);
    record.received = body.content();
    let forwarded = match answered {
        Ok(answered) => {
            record.answered();
            let blamed = answered.destination.clone();
            let passed = match websocket {
                None => passed_on(client, &request, answered, body),
                Some(websocket) => websocket.granted(answered).and_then(|granted| match granted {
                    Granted::Yes(response) => Ok(response),
                    Granted::No(answered) => passed_on(client, &request, answered, body),
                }),
            };
            passed.inspect_err(|failure| client.worker.tell(&entry, &blamed, *failure))
        }
        Err(Unanswered::Failed(failure)) => Err(failure),
        // A stream that is reset takes this future with it; there is nobody left to tell.
        Err(Unanswered::Gone) => Err(Failure::Reset),
    };
    forwarded.map_err(|failure| (failure, request))
}

/// Refuses more fields than HTTP/1 may have. The length that the client has given, none if there is no body, and otherwise
/// the end of the stream. What follows a request for a WebSocket is no body.
fn frame(request: &codec::Request<'_>, body: &Incoming, is_websocket: bool) -> Result<Framing, Failure> {
    if request.fields.len() > FIELDS_MAX {
        return Err(Failure::HeaderTooLarge);
    }
    Ok(match request.fields.content_length()? {
        Some(_) if is_websocket => {
            return Err(Failure::BadRequest { why: "a request to upgrade must not have a body" });
        }
        None if is_websocket => Framing::None,
        Some(length) => Framing::Length(length),
        None if body.is_end_stream() => Framing::None,
        None => Framing::Chunked,
    })
}

/// The upstream's response, its body still to come.
fn passed_on(
    client: &Client,
    request: &codec::Request<'_>,
    mut answered: crate::forward::Answered,
    body: RequestBody,
) -> Result<Response<ResponseBody>, Failure> {
    // What ends with its head is to end so here as well: for gRPC there is a difference.
    let length = answered.head;
    let connection = &mut answered.connection;
    let ends = connection.input.len() == length && connection.http2().is_some_and(|exchange| exchange.is_at_end());
    let Final { response: head, framing, reusable } = answered.read(request.is_head())?;
    let framing = if ends { Framing::None } else { framing };
    // To another protocol nobody can change here.
    let status = StatusCode::from_u16(head.status).ok().filter(|status| *status != StatusCode::SWITCHING_PROTOCOLS);
    let status = status.ok_or(Failure::Reset)?;
    let headers = header_map(&head, framing);
    answered.connection.input.advance(answered.head);
    let body = ResponseBody::upstream(client.worker.clone(), answered, framing, body, reusable);
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// An answer of our own; for HEAD with the length of the body that it leaves out.
fn own(response: Response<Bytes>, is_head: bool) -> Response<ResponseBody> {
    let (mut parts, body) = response.into_parts();
    if is_head {
        parts.headers.insert(CONTENT_LENGTH, body.len().into());
        return Response::from_parts(parts, ResponseBody::own(Bytes::new()));
    }
    Response::from_parts(parts, ResponseBody::own(body))
}
