//! What can be wrong with a label, in the words the user reads.

use crate::snapshot::Severity;

/// A fault of one label. Its text names the value and the fix; the label's name stands beside it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("is empty: give it a value or remove it")]
    Empty,
    #[error("is missing, but '{because}' is set: add it, for example {example}")]
    Missing { because: String, example: String },
    #[error(
        "is '{value}' on the containers (labels) and '{winner}' on the service (deploy.labels): \
         the service's is used; remove one of the two"
    )]
    Differs { value: String, winner: String },
    #[error("is no label of Roo and is ignored: did you mean '{nearest}'?")]
    UnknownNear { nearest: String },
    #[error("is no label of Roo and is ignored: known are {known}")]
    Unknown { known: String },
    #[error("is not supported by this version of Roo and is ignored: remove it")]
    Unsupported,
    #[error("is '{value}': write true or false; until then the service gets no routes")]
    NotABoolean { value: String },
    #[error("is '{value}': write https or http")]
    Scheme { value: String },
    #[error("is '{value}': write a port from 1 to 65535")]
    Port { value: String },
    #[error("names '{value}': write the host alone, without scheme or path, such as shop.example")]
    HostIsUrl { value: String },
    #[error("names '{value}', which is no host: {reason}; write one such as shop.example or *.shop.example")]
    Host { value: String, reason: &'static str },
    #[error("names more than {max} hosts: the rest is ignored; spread them over several services")]
    TooManyHosts { max: usize },
    #[error("is '{value}': write the service's name alone, such as shop_web or tasks.shop_web")]
    DestinationHost { value: String },
    #[error("is '{value}': put the port into DestinationPort and only the name here")]
    DestinationHostHasPort { value: String },
    #[error("is '{value}': write true or false")]
    Flag { value: String },
    #[error("is '{value}': write a whole number")]
    Number { value: String },
    #[error(
        "holds '{value}': write URLs separated by commas, each with its weight from 0 to 100 behind a blank if it shall have one, such as http://tasks.shop_web:80 90, http://tasks.shop_next:80 10"
    )]
    Target { value: String },
    #[error("is '{value}': write https, http, or both with a comma between")]
    OriginScheme { value: String },
    #[error("is '{value}': write http, https or h2c")]
    ServiceScheme { value: String },
    #[error("is not looked at, since '{because}' says where requests go: remove one of the two")]
    Unused { because: String },
    #[error(
        "is missing, the service publishes {}, and {exposed}, so it can't be guessed: set it to the port that the \
         service listens on inside its container, for example {example}",
        ports(.published)
    )]
    PortUnknown { published: Vec<u16>, exposed: String, example: String },
    #[error(
        "is missing, and which port the image exposes can't be seen from here, so 80 stands in its place: if that \
         is not the only one, set it, for example {example}"
    )]
    PortUnseen { example: String },
    #[error(
        "is {port}, but the image exposes {} alone: correct it, unless the service really listens on {port}",
        ports(.exposed)
    )]
    PortNotExposed { port: u16, exposed: Vec<u16> },
    #[error(
        "is no origin ({reason}): write com.roo.host:<host>[:<port>]:<scheme>, such as com.roo.host:shop.example:https"
    )]
    KeyForm { reason: String },
    #[error("leads to '{value}', which is no destination ({reason}): write a URL such as http://shop_web:80")]
    Destination { value: String, reason: String },
    #[error(
        "asks for {origin} to go to {dropped}, but '{label}' sends it to {kept}, which is used: \
         remove one of the two"
    )]
    ClaimedTwice { origin: String, label: String, kept: String, dropped: String },
    #[error(
        "asks for {origin}, which service '{owner}' already has, so this one is ignored: take the host out of one of the two"
    )]
    Taken { origin: String, owner: String },
    #[error(
        "is '{value}', which the service is not in ({}): write the name of one that it shares with Roo",
        self::networks(.networks)
    )]
    NetworkNotJoined { value: String, networks: Vec<String> },
    #[error("is '{value}', which Roo is not in, so its tasks can't be reached: let Roo's service join it, too")]
    NetworkNotOurs { value: String },
    #[error(
        "is not set, and the service shares no network with Roo ({}), so its tasks can't be reached: let both join the \
         same one, such as forenet",
        self::networks(.networks)
    )]
    NoSharedNetwork { networks: Vec<String> },
}

impl Fault {
    /// Whether routes are missing because of it.
    pub(crate) fn severity(&self) -> Severity {
        match self {
            Self::Differs { .. }
            | Self::UnknownNear { .. }
            | Self::Unknown { .. }
            | Self::Unsupported
            | Self::Unused { .. }
            | Self::PortUnseen { .. }
            | Self::PortNotExposed { .. }
            | Self::NetworkNotJoined { .. }
            | Self::NetworkNotOurs { .. }
            | Self::NoSharedNetwork { .. } => Severity::Warning,
            _ => Severity::Error,
        }
    }
}

fn networks(names: &[String]) -> String {
    match names {
        [] => "it is in none".into(),
        names => format!("it is in {}", names.join(", ")),
    }
}

pub(crate) fn ports(published: &[u16]) -> String {
    match published {
        [] => "no port".into(),
        [only] => format!("the port {only}"),
        many => {
            let list: Vec<String> = many.iter().map(u16::to_string).collect();
            format!("the ports {}", list.join(", "))
        }
    }
}
