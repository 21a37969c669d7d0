//! The document of a route that labels ask for.

use bytes::Bytes;
use roo_docker::{LabelRoute, Setting};
use roo_proxy::{Origin, Route};
use serde_json::{Map, Value, json};

use super::SOURCE_PREFIX;

/// A label that no route can be made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) label: String,
    pub(crate) message: String,
}

/// A route as it is to be stored.
#[derive(Debug)]
pub(crate) struct Drawn {
    pub(crate) origin: Origin,
    pub(crate) value: Bytes,
    pub(crate) route: Route,
}

/// Draws up the document that the labels of `service` ask for.
///
/// # Errors
/// Each label at fault, in the words of the proxy. One that is refused does not hide another.
pub(crate) fn draw(service: &str, asked: &LabelRoute) -> Result<Drawn, Vec<Refused>> {
    draw_for(SOURCE_PREFIX, service, asked)
}

/// The same for another kind of source.
pub(super) fn draw_for(source: &str, service: &str, asked: &LabelRoute) -> Result<Drawn, Vec<Refused>> {
    let refused = |label: &str, message: String| Refused { label: label.to_owned(), message };
    let origin = origin(asked)
        .parse()
        .map_err(|error: roo_proxy::OriginError| vec![refused(&asked.label, error.to_string())])?;
    let to: Vec<Value> = asked.to.iter().map(|target| destination(&target.url, target.weight)).collect();
    let mut document = json!({ "to": to, "source": format!("{source}{service}") });
    let mut route = parse(&document).map_err(|message| vec![refused(&asked.to_label, message)])?;
    let mut faults = Vec::new();
    for setting in &asked.settings {
        let before = document.clone();
        set(&mut document, setting);
        match parse(&document) {
            Ok(parsed) => route = parsed,
            Err(message) => {
                document = before;
                faults.push(refused(&setting.label, message));
            }
        }
    }
    if faults.is_empty() { Ok(Drawn { origin, value: document.to_string().into(), route }) } else { Err(faults) }
}

/// The origin as a key has it: `shop.example:8443:https`.
pub(super) fn origin(asked: &LabelRoute) -> String {
    match asked.port {
        Some(port) => format!("{}:{port}:{}", asked.host, asked.scheme),
        None => format!("{}:{}", asked.host, asked.scheme),
    }
}

fn destination(url: &str, weight: Option<u64>) -> Value {
    match weight {
        None => url.into(),
        Some(weight) => json!({ "url": url, "weight": weight }),
    }
}

fn parse(document: &Value) -> Result<Route, String> {
    Route::parse(document.to_string().as_bytes()).map_err(|error| error.to_string())
}

/// Puts a value where its field belongs.
fn set(document: &mut Value, setting: &Setting) {
    let mut place = document;
    for member in setting.field.split('.') {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        place = &mut place[member];
    }
    *place = json!(setting.value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use roo_docker::{Description, settle};

    fn drawn(labels: &[(&str, &str)]) -> Result<Drawn, Vec<Refused>> {
        let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect();
        let service = Description { name: "shop_web".to_owned(), service_labels: labels, ..Description::default() };
        let (services, problems) = settle(vec![service]);
        assert_eq!(problems, []);
        draw("shop_web", &services[0].routes[0])
    }

    #[test]
    fn every_label_of_a_route_reaches_its_document() {
        let drawn = drawn(&[
            ("roo.host", "shop.example:8443"),
            ("roo.to", "http://tasks.shop_web:80 90, https://tasks.shop_next:443/base 10"),
            ("roo.balance", "least-requests"),
            ("roo.ejection.failures", "3"),
            ("roo.ejection.backoff", "1s"),
            ("roo.ejection.backoff-max", "30s"),
            ("roo.ejection.percent-max", "100"),
            ("roo.timeout.connect", "500ms"),
            ("roo.timeout.response", "5m"),
            ("roo.allow-addresses", "169.254.0.0/16, fe80::1"),
            ("roo.send-proxy", "v2"),
            ("roo.protocol", "h2"),
            ("roo.tls.server-name", "inner.example"),
            ("roo.tls.client-certificate", "shop"),
            ("roo.tls.insecure", "true"),
            ("roo.client-tls.min-version", "1.3"),
        ])
        .expect("a route");
        let wanted = Route::parse(
            br#"{"to":[{"url":"http://tasks.shop_web:80","weight":90},{"url":"https://tasks.shop_next:443/base","weight":10}],
                 "balance":"least-requests","ejection":{"failures":3,"backoff":"1s","backoff_max":"30s","percent_max":100},
                 "connect_timeout":"500ms","response_timeout":"5m","allow_addresses":["169.254.0.0/16","fe80::1"],
                 "send_proxy":"v2","protocol":"h2",
                 "tls":{"server_name":"inner.example","client_certificate":"shop","insecure":true},
                 "client_tls":{"min_version":"1.3"},"source":"docker:shop_web"}"#,
        );
        assert_eq!(Ok(drawn.route), wanted);
        assert_eq!(Route::parse(&drawn.value), wanted);
        assert_eq!(drawn.origin.to_string(), "shop.example:8443:https");
    }

    #[test]
    fn each_label_that_the_proxy_refuses_is_named() {
        let faults = drawn(&[
            ("roo.host", "shop.example"),
            ("roo.port", "80"),
            ("roo.balance", "random"),
            ("roo.protocol", "h2"),
            ("roo.timeout.response", "soon"),
            ("roo.client-tls.optional", "true"),
            ("roo.client-tls.ca", "no PEM"),
        ])
        .expect_err("four labels are wrong");
        let labels: Vec<&str> = faults.iter().map(|fault| fault.label.as_str()).collect();
        assert_eq!(
            labels,
            ["roo.balance", "roo.timeout.response", "roo.client-tls.ca", "roo.client-tls.optional"],
            "{faults:?}"
        );
        assert!(faults[0].message.contains("least-requests") && faults[1].message.contains("500ms"), "{faults:?}");

        let faults = drawn(&[("roo.host", "shop.example"), ("roo.to", "ftp://x")]).expect_err("no destination");
        assert_eq!(faults[0].label, "roo.to");
    }
}
