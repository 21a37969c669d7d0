//! What a name waits for, for people who ask.

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::attempts::Attempts;
use crate::authority::Authority;
use crate::books::correct;
use crate::certificate::{Certificate, Facts};
use crate::choice::{Choice, Seeker, choose};
use crate::ledger::{Ledger, Ledgers, SpentBy};
use crate::record::{self, RecordError};
use crate::renewal::Renewal;
use crate::schedule::{self, Need};
use crate::timestamp;
use crate::vault::{Item, Vault, VaultError};
use crate::wish::Wish;

/// Why no CA is asked for a name that needs a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// Not before this time.
    #[serde(with = "timestamp")]
    pub until: Timestamp,
    /// One sentence: which CA it is, and what it does or allows.
    pub why: String,
}

/// What keeps the CAs from being asked for `name` at `now`; `None` if nothing does, or if it needs no certificate now. Changes
/// nothing, so any node may ask. The future may be dropped.
///
/// # Errors
/// If the vault can't be read.
pub async fn waiting<V: Vault>(
    vault: &V,
    authority: &Authority,
    name: &str,
    now: Timestamp,
) -> Result<Option<Waiting>, VaultError> {
    let Authority::Acme(cas) = authority.for_name(name) else { return Ok(None) };
    let item = |item: fn(String) -> Item| item(name.to_owned());
    let certificate = read(vault, item(|name| Item::Certificate { name }), Certificate::decode).await?;
    let facts: Option<Facts> = certificate.as_ref().map(Certificate::facts);
    let attempts = read(vault, item(|name| Item::Attempts { name }), Attempts::decode).await?;
    let renewal = read(vault, item(|name| Item::Renewal { name }), Renewal::decode).await?;
    let wish = read(vault, item(|name| Item::Wish { name }), Wish::decode).await?;
    let (known, tried, asked) = (facts.as_ref(), attempts.as_ref(), wish.as_ref());
    let need = schedule::need(now, authority, name, known, tried, asked, renewal.as_ref());
    if !matches!(need, Need::Now(_)) {
        return Ok(None);
    }
    let mut spent: SpentBy = read(vault, item(|name| Item::Spent { name }), decode).await?.unwrap_or_default();
    correct(&mut spent, authority, now);
    let mut ledgers = Ledgers::new();
    for config in cas.iter() {
        let directory = config.directory.clone();
        let ledger = read(vault, Item::Ledger { directory: directory.clone() }, Ledger::decode).await?;
        let mut ledger = ledger.unwrap_or_default();
        ledger.correct(&config.limits, now);
        ledgers.insert(directory, ledger);
    }
    let seeker = Seeker { name, facts: known, renewal: renewal.as_ref(), attempts: tried, spent: &spent, begun: None };
    Ok(match choose(cas, &seeker, &ledgers, now) {
        Choice::Ask(..) => None,
        Choice::Wait(held) => Some(Waiting { until: held.until, why: held.why }),
    })
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RecordError> {
    record::decode(bytes)
}

/// What can't be decoded is reported by whoever has to go by it.
async fn read<V: Vault, T>(
    vault: &V,
    item: Item,
    decode: impl Fn(&[u8]) -> Result<T, RecordError>,
) -> Result<Option<T>, VaultError> {
    Ok(vault.load(&item).await?.and_then(|bytes| decode(&bytes).ok()))
}
