//! Stack files, as far as labels go.

use std::collections::BTreeMap;

use roo_docker::{Description, Exposed, Ports, Problem, Severity};
use serde::Deserialize;
use serde_json::Value;

use super::interpolate::interpolate;

/// What a file declares.
#[derive(Debug)]
pub(super) struct Declared {
    /// The project's name, if the file has one.
    pub(super) name: Option<String>,
    /// By their names in the file.
    pub(super) services: Vec<Description>,
    /// What is wrong with how labels are written, service by service.
    pub(super) problems: Vec<Problem>,
}

/// Reads a stack file. All but what labels need is passed over.
///
/// # Errors
/// If it is no YAML, or none that declares services, a sentence with the place.
pub(super) fn read(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Declared, String> {
    let file: File = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let mut reader = Reader { variable, service: String::new(), problems: Vec::new() };
    let name = file.name.and_then(|name| reader.text("name", &name));
    let services =
        file.services.into_iter().map(|(name, service)| reader.describe(name, service.unwrap_or_default())).collect();
    Ok(Declared { name, services, problems: reader.problems })
}

#[derive(Deserialize)]
struct File {
    name: Option<String>,
    services: BTreeMap<String, Option<Declaration>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Declaration {
    image: Option<String>,
    labels: Option<Value>,
    ports: Option<Vec<Value>>,
    deploy: Option<Deploy>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Deploy {
    labels: Option<Value>,
}

/// Reads one service after the other.
struct Reader<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    service: String,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn describe(&mut self, name: String, declared: Declaration) -> Description {
        self.service.clone_from(&name);
        let image = declared.image.and_then(|image| self.text("image", &image)).unwrap_or_default();
        let mut published: Vec<u16> = declared.ports.iter().flatten().flat_map(|port| self.ports(port)).collect();
        published.sort_unstable();
        published.dedup();
        Description {
            id: String::new(),
            name,
            service_labels: self.labels("deploy.labels", declared.deploy.and_then(|deploy| deploy.labels)),
            container_labels: self.labels("labels", declared.labels),
            image,
            ports: Ports { published, exposed: Exposed::Unseen },
            updating: false,
        }
    }

    /// Labels in either form: a mapping, or a list of `name=value`.
    fn labels(&mut self, place: &str, given: Option<Value>) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        match given {
            None | Some(Value::Null) => {}
            Some(Value::Object(map)) => {
                for (label, value) in map {
                    let value = self.scalar(&label, value);
                    labels.extend(value.map(|value| (label, value)));
                }
            }
            Some(Value::Array(list)) => {
                for line in list {
                    let Value::String(line) = line else {
                        self.problem(place, Severity::Error, format!("holds {line}: write \"label=value\""));
                        continue;
                    };
                    let label = line.split('=').next().unwrap_or_default().to_owned();
                    let line = self.text(&label, &line);
                    let parts = line.map(|line| line.split_once('=').map_or((line.clone(), String::new()), owned));
                    labels.extend(parts);
                }
            }
            Some(other) => {
                self.problem(
                    place,
                    Severity::Error,
                    format!("is {other}: write a mapping, or a list of \"label=value\""),
                );
            }
        }
        labels
    }

    /// The text of a label in a mapping.
    fn scalar(&mut self, label: &str, value: Value) -> Option<String> {
        match value {
            Value::String(text) => self.text(label, &text),
            Value::Null => Some(String::new()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => {
                self.problem(
                    label,
                    Severity::Warning,
                    format!("is {flag} without quotes, which `docker stack deploy` refuses: write \"{flag}\""),
                );
                Some(flag.to_string())
            }
            other => {
                self.problem(label, Severity::Error, format!("is {other}: write text"));
                None
            }
        }
    }

    /// A text with its variables put in.
    fn text(&mut self, place: &str, text: &str) -> Option<String> {
        let mut unset = Vec::new();
        let done = interpolate(text, self.variable, &mut |name| unset.push(name.to_owned()));
        for name in unset {
            let message = format!("names the variable {name}, which is not set: set it, or write ${{{name}:-default}}");
            self.problem(place, Severity::Warning, message);
        }
        done.map_err(|fault| self.problem(place, Severity::Error, format!("can't be read: {fault}"))).ok()
    }

    /// The TCP ports inside the container that an entry of `ports` publishes.
    fn ports(&mut self, entry: &Value) -> Vec<u16> {
        match entry {
            Value::Number(port) => range(&port.to_string()),
            Value::String(text) => {
                let text = self.text("ports", text).unwrap_or_default();
                let (text, protocol) = text.rsplit_once('/').unwrap_or((&text, "tcp"));
                let target = text.rsplit(':').next().unwrap_or_default();
                if protocol == "tcp" { range(target) } else { Vec::new() }
            }
            Value::Object(entry) if entry.get("protocol").is_none_or(|protocol| protocol == "tcp") => {
                match entry.get("target") {
                    Some(target @ (Value::Number(_) | Value::String(_))) => self.ports(target),
                    _ => Vec::new(),
                }
            }
            _ => Vec::new(),
        }
    }

    fn problem(&mut self, place: &str, severity: Severity, message: String) {
        // Of what is not ours nobody has to hear.
        let lower = place.to_ascii_lowercase();
        let ours = ["roo.", "com.roo.", "origin", "destination"].iter().any(|start| lower.starts_with(start));
        if ours || place == "labels" || place == "deploy.labels" {
            let message = format!("{place} {message}");
            self.problems.push(Problem { service: self.service.clone(), label: place.to_owned(), message, severity });
        }
    }
}

fn owned((label, value): (&str, &str)) -> (String, String) {
    (label.to_owned(), value.to_owned())
}

/// `80`, or both ends of `3000-3005`, which are enough to know that it is not one port.
fn range(text: &str) -> Vec<u16> {
    text.split('-').filter_map(|port| port.trim().parse().ok()).filter(|port| *port != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(text: &str) -> Declared {
        read(text, &|name| (name == "DOMAIN").then(|| "shop.example".to_owned())).expect("a stack file")
    }

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn labels_are_read_in_either_form_and_at_both_places() {
        let file = declared(
            r#"
version: "3.8"
name: shop
x-labels: &more
  roo.balance: latency
services:
  list:
    image: "shop:${TAG:-1}"
    labels:
      - roo.host=www.$DOMAIN
      - "roo.port=80"
      - flag
    deploy: {replicas: 2, labels: ["a=b=c"]}
    ports: ["8080:80", "127.0.0.1:53:53/udp", "9000-9002:9000-9002"]
  map:
    deploy:
      labels:
        <<: *more
        roo.port: 8080
        roo.client-tls.min-version: 1.3
        other.empty:
    ports:
      - {target: 443, published: 443, mode: host}
      - {target: 443, published: 443, protocol: udp}
  none:
volumes: {}
"#,
        );
        assert_eq!((file.name.as_deref(), &file.problems[..]), (Some("shop"), &[][..]));
        let [list, map, none] = &file.services[..] else { panic!("three services: {file:?}") };
        assert_eq!(list.image, "shop:1");
        assert_eq!(
            list.container_labels,
            labels(&[("roo.host", "www.shop.example"), ("roo.port", "80"), ("flag", "")])
        );
        assert_eq!(list.service_labels, labels(&[("a", "b=c")]));
        assert_eq!(list.ports.published, [80, 9000, 9002]);
        assert_eq!(
            map.service_labels,
            labels(&[
                ("roo.balance", "latency"),
                ("roo.port", "8080"),
                ("roo.client-tls.min-version", "1.3"),
                ("other.empty", "")
            ])
        );
        assert_eq!(map.ports.published, [443]);
        assert_eq!(none.name, "none");
    }

    #[test]
    fn what_is_written_wrongly_is_told_by_service_and_label() {
        let file = declared(
            r#"
services:
  web:
    labels:
      roo.enable: true
      roo.host: $NONE
      roo.port: [80]
      roo.to: "${NONE:?name it}"
      traefik.enable: true
    deploy:
      labels: 5
"#,
        );
        let told: Vec<(&str, Severity)> = file.problems.iter().map(|p| (p.label.as_str(), p.severity)).collect();
        assert_eq!(
            told,
            [
                ("deploy.labels", Severity::Error),
                ("roo.enable", Severity::Warning),
                ("roo.host", Severity::Warning),
                ("roo.port", Severity::Error),
                ("roo.to", Severity::Error)
            ]
        );
        assert!(file.problems.iter().all(|problem| problem.service == "web"));
    }

    #[test]
    fn what_is_no_stack_file_is_told() {
        for text in ["", "services: [a]", "a: b", "services: {a: {labels: {x: 1", "services:\n  a: {}\n  a: {}\n"] {
            assert!(read(text, &|_| None).is_err(), "{text}");
        }
    }
}
