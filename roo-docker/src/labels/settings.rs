//! Native labels that stand for a field of a route's document each.

use super::Fault;
use crate::snapshot::SettingValue;

/// A label and the field that it sets.
#[derive(Debug)]
pub(super) struct Kind {
    /// As the first route has it.
    pub(super) label: &'static str,
    pub(super) field: &'static str,
    form: Form,
}

/// How the text of a label becomes the field's value.
#[derive(Debug, Clone, Copy)]
enum Form {
    Text,
    Number,
    Flag,
    /// Separated by commas.
    List,
}

const fn kind(label: &'static str, field: &'static str, form: Form) -> Kind {
    Kind { label, field, form }
}

/// Every field of a route's document but `to` and `source`. What a field may hold is for the receiver to judge; one
/// that needs another comes behind it.
pub(super) const SETTINGS: &[Kind] = &[
    kind("roo.balance", "balance", Form::Text),
    kind("roo.ejection.failures", "ejection.failures", Form::Number),
    kind("roo.ejection.backoff", "ejection.backoff", Form::Text),
    kind("roo.ejection.backoff-max", "ejection.backoff_max", Form::Text),
    kind("roo.ejection.percent-max", "ejection.percent_max", Form::Number),
    kind("roo.timeout.connect", "connect_timeout", Form::Text),
    kind("roo.timeout.response", "response_timeout", Form::Text),
    kind("roo.allow-addresses", "allow_addresses", Form::List),
    kind("roo.send-proxy", "send_proxy", Form::Text),
    kind("roo.protocol", "protocol", Form::Text),
    kind("roo.tls.ca", "tls.ca", Form::Text),
    kind("roo.tls.server-name", "tls.server_name", Form::Text),
    kind("roo.tls.client-certificate", "tls.client_certificate", Form::Text),
    kind("roo.tls.insecure", "tls.insecure", Form::Flag),
    kind("roo.client-tls.min-version", "client_tls.min_version", Form::Text),
    kind("roo.client-tls.ca", "client_tls.ca", Form::Text),
    kind("roo.client-tls.optional", "client_tls.optional", Form::Flag),
];

/// Reads the text of a label.
pub(super) fn parse(kind: &Kind, text: &str) -> Result<SettingValue, Fault> {
    let value = || text.to_owned();
    match kind.form {
        Form::Text => Ok(SettingValue::Text(value())),
        Form::Number => text.parse().map(SettingValue::Number).map_err(|_| Fault::Number { value: value() }),
        Form::Flag => parse_flag(text).map(SettingValue::Flag).ok_or_else(|| Fault::Flag { value: value() }),
        Form::List => Ok(SettingValue::List(
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect(),
        )),
    }
}

/// Yes or no, as people write it.
pub(super) fn parse_flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}
