//! gRPC through the proxy, at the level of its frames (github.com/grpc/grpc: `PROTOCOL-HTTP2.md`).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::bench::{Bench, SOON};
use crate::client::{Body, streamed};
use crate::upstream::{Upstream, nobody};

/// A message with its prefix: not compressed, and how long it is.
fn message(text: &str) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(text.len() as u32);
    bytes.put_slice(text.as_bytes());
    bytes.freeze()
}

/// Messages as they come, however they are cut.
#[derive(Default)]
struct Messages(BytesMut);

impl Messages {
    fn next(&mut self) -> Option<String> {
        let length = self.0.get(1..5)?.try_into().map(u32::from_be_bytes).unwrap() as usize;
        let mut whole = (self.0.len() >= 5 + length).then(|| self.0.split_to(5 + length))?;
        assert_eq!(whole.get_u8(), 0);
        whole.advance(4);
        Some(String::from_utf8(whole.to_vec()).unwrap())
    }
}

fn call(method: &str) -> Request<Body> {
    Request::post(format!("https://grpc.test/shop.Basket/{method}"))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
        .header("grpc-timeout", "10S")
        .body(crate::client::full(""))
        .unwrap()
}

/// A service with one method of each kind.
async fn service() -> Upstream {
    Upstream::streams(100, |request: Request<RecvStream>, mut respond: SendResponse<Bytes>| async move {
        assert_eq!(request.headers()["te"], "trailers");
        assert_eq!(request.headers()["grpc-timeout"], "10S");
        assert_eq!(request.headers()["content-type"], "application/grpc+proto");
        let head = Response::builder().header("content-type", "application/grpc+proto");
        let method = request.uri().path().rsplit('/').next().unwrap().to_owned();
        if method == "Refuse" {
            // A head and nothing else.
            let head = head.header("grpc-status", "7").header("grpc-message", "no%20entry").body(()).unwrap();
            respond.send_response(head, true).unwrap();
            return;
        }
        let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
        let (mut body, mut messages, mut all) = (request.into_body(), Messages::default(), Vec::new());
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            messages.0.extend_from_slice(&data);
            while let Some(text) = messages.next() {
                if method == "Chat" {
                    stream.send_data(message(&format!("you said {text}")), false).unwrap();
                }
                all.push(text);
            }
        }
        match method.as_str() {
            "Sum" | "Ask" => stream.send_data(message(&all.join("+")), false).unwrap(),
            "List" => (0..3).for_each(|number| stream.send_data(message(&number.to_string()), false).unwrap()),
            _ => {}
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        trailers.insert("grpc-status-details-bin", "CAUSBG5vbmU".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
    })
    .await
}

/// The rest of an answer: its messages, and its status.
async fn rest(response: Response<Incoming>) -> (Vec<String>, HeaderMap) {
    let (mut messages, mut all, mut trailers) = (Messages::default(), Vec::new(), HeaderMap::new());
    let mut body = response.into_body();
    while let Some(frame) = tokio::time::timeout(SOON, body.frame()).await.unwrap() {
        match frame.unwrap().into_data() {
            Ok(data) => messages.0.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().unwrap(),
        }
        all.extend(std::iter::from_fn(|| messages.next()));
    }
    (all, trailers)
}

#[tokio::test]
async fn calls_of_every_kind_pass() {
    let (bench, upstream) = (Bench::start(), service().await);
    bench.routes(&[("grpc.test:https", upstream.h2c())]);
    let mut client = bench.https2("grpc.test").await;
    for (method, said, heard) in [
        ("Ask", &["one"][..], &["one"][..]),
        ("Sum", &["one", "two", "three"], &["one+two+three"]),
        ("List", &["all"], &["0", "1", "2"]),
        ("Chat", &["a", "b"], &["you said a", "you said b"]),
    ] {
        let (sender, body) = streamed();
        let mut request = call(method);
        *request.body_mut() = body;
        let saying = async {
            for text in said {
                sender.send(Frame::data(message(text))).await.unwrap();
            }
            drop(sender);
        };
        let (response, ()) = tokio::join!(client.send_request(request), saying);
        let response = response.unwrap();
        assert_eq!(response.headers()["content-type"], "application/grpc+proto");
        let (messages, trailers) = rest(response).await;
        assert_eq!(messages, heard, "{method}");
        assert_eq!(
            (&trailers["grpc-status"], &trailers["grpc-status-details-bin"]),
            (&"0".parse().unwrap(), &"CAUSBG5vbmU".parse().unwrap())
        );
    }
}

#[tokio::test]
async fn a_call_is_answered_while_it_is_made() {
    let (bench, upstream) = (Bench::start(), service().await);
    bench.routes(&[("grpc.test:https", upstream.h2c())]);
    let mut client = bench.https2("grpc.test").await;
    let (sender, body) = streamed();
    let mut request = call("Chat");
    *request.body_mut() = body;
    let mut response = client.send_request(request).await.unwrap().into_body();
    let mut messages = Messages::default();
    for text in ["one", "two", "three"] {
        sender.send(Frame::data(message(text))).await.unwrap();
        let heard = loop {
            if let Some(heard) = messages.next() {
                break heard;
            }
            let frame = tokio::time::timeout(SOON, response.frame()).await.unwrap().unwrap().unwrap();
            messages.0.extend_from_slice(&frame.into_data().unwrap());
        };
        assert_eq!(heard, format!("you said {text}"));
    }
    drop(sender);
    let last = tokio::time::timeout(SOON, response.frame()).await.unwrap().unwrap().unwrap();
    assert_eq!(last.into_trailers().unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn a_status_without_messages_stays_in_the_head() {
    let (bench, upstream) = (Bench::start(), service().await);
    bench.routes(&[("grpc.test:https", upstream.h2c())]);
    let response = bench.https2("grpc.test").await.send_request(call("Refuse")).await.unwrap();
    assert_eq!(
        (&response.headers()["grpc-status"], &response.headers()["grpc-message"]),
        (&"7".parse().unwrap(), &"no%20entry".parse().unwrap())
    );
    assert!(!response.headers().contains_key("content-length"));
    assert!(http_body::Body::is_end_stream(response.body()));
}

#[tokio::test]
async fn our_own_answers_have_a_status_of_grpc() {
    let bench = Bench::start();
    let refuses = format!("h2c://{}", nobody().await);
    bench.routes(&[("grpc.test:https", refuses.as_str()), ("empty.test:https", "http://none.service.roo")]);
    for (host, status, reason) in [("grpc.test", "14", "upstream-refused"), ("empty.test", "14", "no-upstream")] {
        let mut request = call("Ask");
        *request.uri_mut() = format!("https://{host}/shop.Basket/Ask").parse().unwrap();
        let response = bench.https2(host).await.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let fields = response.headers();
        assert_eq!(
            (&fields["content-type"], &fields["grpc-status"]),
            (&"application/grpc".parse().unwrap(), &status.parse().unwrap())
        );
        assert_eq!((&fields["roo-error"], fields["x-request-id"].len()), (&reason.parse().unwrap(), 32));
        assert!(!fields["grpc-message"].is_empty());
        assert!(http_body::Body::is_end_stream(response.body()));
    }
}
