//! W3C trace context.

use http::Request;
use roo_proxy::{Config, TraceContext};
use serde_json::Value;

use crate::bench::Bench;
use crate::client::{full, json};
use crate::upstream::Upstream;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// What the upstream saw of a request with these fields, and the id that the response had.
async fn seen(context: TraceContext, http2: bool, fields: &[(&str, &str)]) -> (Value, String) {
    let bench = Bench::with(Config { trace_context: context, ..Config::default() });
    let upstream = Upstream::echo("a").await;
    bench.routes(&[("a.test:https", upstream.url())]);
    let uri = if http2 { "https://a.test/" } else { "/" };
    let mut request = Request::builder().uri(uri);
    if !http2 {
        request = request.header("host", "a.test");
    }
    let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = request.body(full("")).unwrap();
    let response = if http2 {
        bench.https2("a.test").await.send_request(request).await.unwrap()
    } else {
        bench.https1("a.test").await.send_request(request).await.unwrap()
    };
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    (json(response).await["headers"].clone(), id)
}

#[tokio::test]
async fn a_trace_goes_on_and_a_new_one_begins() {
    let given = format!("00-{TRACE}-{PARENT}-00");
    for http2 in [false, true] {
        let fields = [("traceparent", given.as_str()), ("tracestate", "a=1,b=2")];
        let (headers, _) = seen(TraceContext::default(), http2, &fields).await;
        let parent = headers["traceparent"].as_str().unwrap();
        assert!(parent.starts_with(&format!("00-{TRACE}-")) && parent.ends_with("-00"), "{headers:#}");
        assert!(!parent.contains(PARENT) && parent.len() == 55, "{headers:#}");
        assert_eq!(headers["tracestate"], "a=1,b=2");

        let (headers, id) = seen(TraceContext::default(), http2, &[]).await;
        let parent = headers["traceparent"].as_str().unwrap();
        assert!(parent.starts_with(&format!("00-{id}-")) && parent.ends_with("-01"), "{headers:#}");

        // What is not valid is begun anew, and what belongs to it is dropped.
        let fields = [("traceparent", "00-nonsense"), ("tracestate", "a=1")];
        let (headers, id) = seen(TraceContext::TakePart { sampled: 0 }, http2, &fields).await;
        let parent = headers["traceparent"].as_str().unwrap();
        assert!(parent.starts_with(&format!("00-{id}-")) && parent.ends_with("-00"), "{headers:#}");
        assert_eq!(headers.get("tracestate"), None, "{headers:#}");
    }
}

#[tokio::test]
async fn where_it_is_off_it_passes_as_it_comes() {
    let given = format!("00-{TRACE}-{PARENT}-01");
    let fields = [("traceparent", given.as_str()), ("tracestate", "a=1")];
    let (headers, _) = seen(TraceContext::AsIs, false, &fields).await;
    assert_eq!((headers["traceparent"].as_str(), headers["tracestate"].as_str()), (Some(&*given), Some("a=1")));
    let (headers, _) = seen(TraceContext::AsIs, false, &[]).await;
    assert_eq!(headers.get("traceparent"), None, "{headers:#}");
}
