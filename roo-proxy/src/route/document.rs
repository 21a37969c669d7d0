//! The stored form of a route.

use serde::{Deserialize, Serialize};

use super::duration::{DurationText, duration_text, parse_duration};
use super::error::{RouteError, shortened};
use super::networks::parse_networks;
use super::{Ejection, Route, UpstreamTls, Weighted};
use crate::destination::Destination;
use crate::protocol::Protocol;
use crate::proxy_protocol::ProxyProtocol;
use crate::tls::TlsPolicy;
use crate::upstream::balance::Balance;
use crate::upstream::tls;

/// The stored form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    to: OneOrMany,
    #[serde(default, skip_serializing_if = "is_default")]
    balance: Balance,
    #[serde(default, skip_serializing_if = "is_default")]
    ejection: EjectionDocument,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    response_timeout: Option<DurationText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connect_timeout: Option<DurationText>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    allow_addresses: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    send_proxy: Option<ProxyProtocol>,
    #[serde(default, skip_serializing_if = "Protocol::is_default")]
    protocol: Protocol,
    #[serde(default, skip_serializing_if = "is_default")]
    tls: UpstreamTls,
    #[serde(default, skip_serializing_if = "is_default")]
    client_tls: TlsPolicy,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "\"to\" must be a URL or a list of URLs, each alone or as {\"url\": …, \"weight\": …}")]
enum OneOrMany {
    One(DestinationText),
    Many(Vec<DestinationText>),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "\"to\" must be a URL or a list of URLs, each alone or as {\"url\": …, \"weight\": …}")]
enum DestinationText {
    Url(String),
    Weighted(WeightedUrl),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WeightedUrl {
    url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weight: Option<u64>,
}

/// [`Ejection`], what is left out taken from its defaults.
#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct EjectionDocument {
    #[serde(skip_serializing_if = "Option::is_none")]
    failures: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backoff: Option<DurationText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backoff_max: Option<DurationText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    percent_max: Option<u64>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl TryFrom<Document> for Route {
    type Error = RouteError;

    fn try_from(document: Document) -> Result<Route, RouteError> {
        let to = match document.to {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        };
        check_tls(&document.tls)?;
        document.client_tls.fault().map_or(Ok(()), |fault| Err(RouteError::ClientTls { fault }))?;
        Ok(Route {
            to: weighted(to)?,
            balance: document.balance,
            ejection: document.ejection.try_into()?,
            response_timeout: parse_duration("response_timeout", document.response_timeout)?,
            connect_timeout: parse_duration("connect_timeout", document.connect_timeout)?,
            send_proxy: document.send_proxy,
            allow_addresses: parse_networks(&document.allow_addresses)?,
            protocol: document.protocol,
            tls: document.tls,
            client_tls: document.client_tls,
            source: document.source,
        })
    }
}

impl From<&Route> for Document {
    fn from(route: &Route) -> Document {
        Document {
            to: OneOrMany::Many(route.to.iter().map(DestinationText::from).collect()),
            balance: route.balance,
            ejection: (&route.ejection).into(),
            response_timeout: route.response_timeout.map(duration_text),
            connect_timeout: route.connect_timeout.map(duration_text),
            send_proxy: route.send_proxy,
            allow_addresses: route.allow_addresses.iter().map(ToString::to_string).collect(),
            protocol: route.protocol,
            tls: route.tls.clone(),
            client_tls: route.client_tls.clone(),
            source: route.source.clone(),
        }
    }
}

impl From<&Weighted> for DestinationText {
    fn from(to: &Weighted) -> DestinationText {
        let url = to.destination.to_string();
        match to.weight {
            None => DestinationText::Url(url),
            weight => DestinationText::Weighted(WeightedUrl { url, weight: weight.map(u64::from) }),
        }
    }
}

impl TryFrom<EjectionDocument> for Ejection {
    type Error = RouteError;

    fn try_from(document: EjectionDocument) -> Result<Ejection, RouteError> {
        let default = Ejection::default();
        let backoff = parse_duration("ejection.backoff", document.backoff)?.unwrap_or(default.backoff);
        let backoff_max = parse_duration("ejection.backoff_max", document.backoff_max)?;
        let percent_max = match document.percent_max {
            None => default.percent_max,
            Some(percent) => percentage("ejection.percent_max", percent)?,
        };
        Ok(Ejection {
            failures: document.failures.unwrap_or(default.failures),
            backoff,
            backoff_max: backoff_max.unwrap_or(default.backoff_max.max(backoff)),
            percent_max,
        })
    }
}

impl From<&Ejection> for EjectionDocument {
    fn from(ejection: &Ejection) -> EjectionDocument {
        if *ejection == Ejection::default() {
            return EjectionDocument::default();
        }
        EjectionDocument {
            failures: Some(ejection.failures),
            backoff: Some(duration_text(ejection.backoff)),
            backoff_max: Some(duration_text(ejection.backoff_max)),
            percent_max: Some(ejection.percent_max.into()),
        }
    }
}

fn weighted(to: Vec<DestinationText>) -> Result<Vec<Weighted>, RouteError> {
    if to.is_empty() {
        return Err(RouteError::NoDestination);
    }
    if to.len() > DESTINATIONS_MAX {
        return Err(RouteError::TooManyDestinations { count: to.len() });
    }
    let parse = |to| match to {
        DestinationText::Url(url) => Ok(parse_destination(&url)?.into()),
        DestinationText::Weighted(WeightedUrl { url, weight }) => {
            let weight = weight.map(|weight| percentage("weight", weight)).transpose()?;
            Ok(Weighted { destination: parse_destination(&url)?, weight })
        }
    };
    let to = to.into_iter().map(parse).collect::<Result<Vec<Weighted>, RouteError>>()?;
    if to.iter().all(|to| to.weight == Some(0)) {
        return Err(RouteError::NoWeight);
    }
    Ok(to)
}

fn percentage(field: &'static str, number: u64) -> Result<u8, RouteError> {
    match u8::try_from(number) {
        Ok(percent @ 0..=100) => Ok(percent),
        _ => Err(RouteError::Percentage { field, number }),
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
