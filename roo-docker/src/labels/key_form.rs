//! The key form: a label named as the key in the store, `com.roo.host:<host>[:<port>]:<scheme>`, with the
//! destination's URL as its value.

use super::{
    Fault, destination,
    origin::{HostPort, Scheme},
    sheet::Sheet,
};
use crate::snapshot::LabelRoute;

/// What the names of all such labels start with.
pub(super) const PREFIX: &str = "com.roo.host:";

pub(super) fn read(sheet: &mut Sheet) -> Vec<LabelRoute> {
    let labels = sheet.names(PREFIX);
    labels.into_iter().filter_map(|label| read_one(sheet, label)).collect()
}

fn read_one(sheet: &mut Sheet, label: String) -> Option<LabelRoute> {
    let value = sheet.value(&label)?;
    let origin = sheet.parsed(&label, label.strip_prefix(PREFIX)?, parse_origin);
    let to = sheet.parsed(&label, &value, destination::parse_url);
    let (host, scheme) = origin?;
    Some(host.origin(None, scheme).route(&label, to?))
}

fn parse_origin(text: &str) -> Result<(HostPort, Scheme), Fault> {
    let fault = |fault: Fault| Fault::KeyForm { reason: fault.to_string() };
    let missing = || Fault::KeyForm { reason: "the scheme is missing".to_owned() };
    let (host, scheme) = text.rsplit_once(':').ok_or_else(missing)?;
    let scheme = Scheme::parse(scheme).map_err(fault)?;
    let host = HostPort::parse(host).map_err(fault)?;
    Ok((host, scheme))
}
