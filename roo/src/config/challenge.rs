//! How names are proven to an ACME CA.

use roo_acme::{Challenge, Challenges};

use super::{Reader, items};

/// Reads `--acme-challenge`.
pub(super) fn read(reader: &mut Reader<'_>) -> Challenges {
    let preference = |text: &str| {
        let kinds = items(text).map(|item| item.parse::<Challenge>().map_err(|error| error.to_string()));
        kinds.collect::<Result<Vec<_>, _>>()
    };
    Challenges::new(reader.read("acme-challenge", preference).unwrap_or_default())
}
