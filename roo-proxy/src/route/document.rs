//! The stored form of a route.

use serde::{Deserialize, Serialize};

use super::duration::{DurationText, duration_text, parse_duration};
use super::error::{RouteError, shortened};
use super::networks::parse_networks;
use super::{Route, UpstreamTls};
use crate::destination::Destination;
use crate::proxy_protocol::ProxyProtocol;
use crate::upstream::tls;

/// The stored form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    to: OneOrMany,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    response_timeout: Option<DurationText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connect_timeout: Option<DurationText>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    allow_addresses: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    send_proxy: Option<ProxyProtocol>,
    #[serde(default, skip_serializing_if = "is_default")]
    tls: UpstreamTls,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "\"to\" must be a URL or a list of URLs")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

fn is_default(tls: &UpstreamTls) -> bool {
    *tls == UpstreamTls::default()
}

impl TryFrom<Document> for Route {
    type Error = RouteError;

    fn try_from(document: Document) -> Result<Route, RouteError> {
        let urls = match document.to {
            OneOrMany::One(url) => vec![url],
            OneOrMany::Many(urls) => urls,
        };
        if urls.is_empty() {
            return Err(RouteError::NoDestination);
        }
        if urls.len() > DESTINATIONS_MAX {
            return Err(RouteError::TooManyDestinations { count: urls.len() });
        }
        let to = urls.iter().map(|url| parse_destination(url)).collect::<Result<_, _>>()?;
        check_tls(&document.tls)?;
        Ok(Route {
            to,
            response_timeout: parse_duration("response_timeout", document.response_timeout)?,
            connect_timeout: parse_duration("connect_timeout", document.connect_timeout)?,
            send_proxy: document.send_proxy,
            allow_addresses: parse_networks(&document.allow_addresses)?,
            tls: document.tls,
            source: document.source,
        })
    }
}

impl From<&Route> for Document {
    fn from(route: &Route) -> Document {
        Document {
            to: OneOrMany::Many(route.to.iter().map(Destination::to_string).collect()),
            response_timeout: route.response_timeout.map(duration_text),
            connect_timeout: route.connect_timeout.map(duration_text),
            send_proxy: route.send_proxy,
            allow_addresses: route.allow_addresses.iter().map(ToString::to_string).collect(),
            tls: route.tls.clone(),
            source: route.source.clone(),
        }
    }
}

pub(super) fn parse_destination(url: &str) -> Result<Destination, RouteError> {
    url.parse().map_err(|source| RouteError::Destination { url: shortened(url), source })
}

fn check_tls(settings: &UpstreamTls) -> Result<(), RouteError> {
    if let Some(pem) = &settings.ca {
        tls::parse_ca(pem).map_err(|fault| RouteError::Ca { fault })?;
    }
    match &settings.server_name {
        Some(name) if rustls_pki_types::ServerName::try_from(name.as_str()).is_err() => {
            Err(RouteError::ServerName { name: shortened(name) })
        }
        _ => Ok(()),
    }
}

const DESTINATIONS_MAX: usize = 64;
