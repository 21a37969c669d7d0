//! The origin side of a route: what clients ask for.

use std::net::Ipv4Addr;

use super::Fault;
use crate::snapshot::{LabelRoute, Setting, Target};

/// How clients speak to Roo, and how Roo speaks to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(super) fn parse(value: &str) -> Result<Self, Fault> {
        match value.to_ascii_lowercase().as_str() {
            "http" => Ok(Self::Http),
            "https" => Ok(Self::Https),
            _ => Err(Fault::Scheme { value: value.to_owned() }),
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A host as clients ask for it, with a port if it was given one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostPort {
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

impl HostPort {
    /// Reads `host` or `host:port`: lower-cases, turns names outside ASCII into their A-label form
    /// (RFC 5890 §2.3.2.1), drops the trailing dot, checks each part of the name.
    pub(super) fn parse(value: &str) -> Result<Self, Fault> {
        if value.contains('/') {
            return Err(Fault::HostIsUrl { value: value.to_owned() });
        }
        let (host, port) = match value.rsplit_once(':') {
            Some((host, port)) if !value.starts_with('[') => (host, Some(parse_port(port)?)),
            _ => (value, None),
        };
        let host = normal_host(host).map_err(|reason| Fault::Host { value: value.to_owned(), reason })?;
        Ok(Self { host, port })
    }

    /// The origin under `scheme`. A port of the host's own beats `port`; the scheme's default is dropped.
    pub(super) fn origin(self, port: Option<u16>, scheme: Scheme) -> Origin {
        let port = self.port.or(port).filter(|port| *port != scheme.default_port());
        Origin { host: self.host, port, scheme }
    }
}

/// What clients ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    host: String,
    port: Option<u16>,
    scheme: Scheme,
}

impl Origin {
    /// The route from here to one destination, asked for by `label`.
    pub(super) fn route(self, label: &str, url: String) -> LabelRoute {
        self.route_to(label, vec![Target { url, weight: None }], label, Vec::new())
    }

    /// The route from here to several, with settings.
    pub(super) fn route_to(self, label: &str, to: Vec<Target>, to_label: &str, settings: Vec<Setting>) -> LabelRoute {
        LabelRoute {
            host: self.host,
            port: self.port,
            scheme: self.scheme.as_str().to_owned(),
            to,
            settings,
            label: label.to_owned(),
            to_label: to_label.to_owned(),
        }
    }
}

impl LabelRoute {
    /// The origin as a URL without path.
    #[must_use]
    pub fn origin(&self) -> String {
        let port = self.port.map_or(String::new(), |port| format!(":{port}"));
        format!("{}://{}{port}", self.scheme, self.host)
    }

    /// The URLs of the destinations, a comma between.
    pub(crate) fn urls(&self) -> String {
        let urls: Vec<&str> = self.to.iter().map(|target| target.url.as_str()).collect();
        urls.join(", ")
    }

    /// Whether requests fare the same on both.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        let said = |route: &Self| route.settings.iter().map(|s| (s.field.clone(), s.value.clone())).collect::<Vec<_>>();
        self.to == other.to && said(self) == said(other)
    }
}

/// A port number, never 0.
pub(super) fn parse_port(value: &str) -> Result<u16, Fault> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    match value.parse() {
        Ok(port) if digits && port != 0 => Ok(port),
        _ => Err(Fault::Port { value: value.to_owned() }),
    }
}

fn normal_host(host: &str) -> Result<String, &'static str> {
    if host.starts_with('[') || host.contains(':') {
        return Err("an IPv6 address can't be asked for by name");
    }
    let (star, name) = host.strip_prefix("*.").map_or(("", host), |name| ("*.", name));
    if name.contains('*') {
        return Err("a star may only stand for the first part");
    }
    let name = ascii_name(name.strip_suffix('.').unwrap_or(name))?;
    check_name(&name)?;
    // A name whose last part is a number is meant as an address, and then must be one.
    let numeric = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if numeric && (!star.is_empty() || name.parse::<Ipv4Addr>().is_err()) {
        return Err("it ends in a number but is no address");
    }
    Ok(format!("{star}{name}"))
}

fn ascii_name(name: &str) -> Result<String, &'static str> {
    if name.is_ascii() {
        return Ok(name.to_ascii_lowercase());
    }
    match url::Host::parse(name) {
        Ok(url::Host::Domain(name)) => Ok(name),
        _ => Err("it can't be written as an internationalised name"),
    }
}

/// Checks a host name: labels of letters, digits, `-` and `_` within the lengths of RFC 1035 §2.3.4.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    if name.len() > NAME_BYTES_MAX {
        return Err("it is longer than 253 characters");
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Err("a part between the dots is empty");
        }
        if label.len() > LABEL_BYTES_MAX {
            return Err("a part between the dots is longer than 63 characters");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err("a part between the dots starts or ends with '-'");
        }
        if !label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
            return Err("it may hold letters, digits, '-', '_' and '.' only");
        }
    }
    Ok(())
}

const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;
