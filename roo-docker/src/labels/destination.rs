//! The destination side of a route: where requests go.

use std::net::Ipv6Addr;

use url::{Host, Url};

use super::{Fault, origin::check_name};

/// A destination from its parts. The parts are checked already.
pub(super) fn from_parts(scheme: &str, host: &str, port: u16) -> String {
    format!("{scheme}://{host}:{port}")
}

/// Checks a host given by itself: a service's name, `tasks.<service>`, any other name, or an address.
pub(super) fn parse_host(value: &str) -> Result<String, Fault> {
    let fault = || Fault::DestinationHost { value: value.to_owned() };
    if value.contains('/') {
        return Err(fault());
    }
    if let Some(inner) = value.strip_prefix('[') {
        let address = inner.strip_suffix(']').and_then(|text| text.parse::<Ipv6Addr>().ok());
        return address.map(|_| value.to_owned()).ok_or_else(fault);
    }
    if value.contains(':') {
        return Err(Fault::DestinationHostHasPort { value: value.to_owned() });
    }
    check_name(value.strip_suffix('.').unwrap_or(value)).map_err(|_| fault())?;
    Ok(value.to_owned())
}

/// Checks a destination given as a URL: `http` or `https`, a host, no user, query or fragment. A path is
/// fine. Returned as it was given.
pub(super) fn parse_url(value: &str) -> Result<String, Fault> {
    let fault = |reason: &str| Fault::Destination { value: value.to_owned(), reason: reason.to_owned() };
    let url = Url::parse(value).map_err(|error| fault(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(fault("the scheme must be http or https"));
    }
    // The parser mends `http:/host` and `http:host`; what is handed on must be right as written.
    let written = value.split_once("://").map(|(_, rest)| rest);
    if written.is_none_or(|rest| rest.starts_with(['/', '\\'])) {
        return Err(fault("'//' and a host must follow the scheme"));
    }
    if value.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
        return Err(fault("it holds a blank or a backslash"));
    }
    if let Some(Host::Domain(name)) = url.host()
        && let Err(reason) = check_name(name.strip_suffix('.').unwrap_or(name))
    {
        return Err(fault(reason));
    }
    if url.port() == Some(0) {
        return Err(fault("port 0 can't be dialled"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(fault("a user name or password does not belong here"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(fault("a query or fragment does not belong here"));
    }
    Ok(value.to_owned())
}
