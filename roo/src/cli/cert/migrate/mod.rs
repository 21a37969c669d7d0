//! `roo cert import --from`: certificates and keys of other programs, found where those keep them.
//!
//! Nothing of theirs is changed. What is found is marked as ordered by Roo, which renews it in time.

mod caddy;
mod certbot;
mod traefik;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use jiff::Timestamp;
use roo_acme::Certificate;
use serde_json::{Value, json};

use super::files::put;
use super::{ClientArgs, Failure, output, path as path_of};

/// Whose certificates are taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Tool {
    /// Traefik: its acme.json
    Traefik,
    /// Caddy: its data directory, with certificates/ in it
    Caddy,
    /// Certbot: its configuration directory, with live/ and renewal/ in it
    Certbot,
}

/// A certificate with its key, as another program keeps it. No `Debug`: it holds the key.
struct Found {
    /// Where it stands.
    place: String,
    chain: String,
    key: String,
    /// The directory of the CA that it is from, if that is told.
    source: Option<String>,
}

/// What there is at a place: something to take, or why there is not.
type Looked = Result<Found, Skipped>;

/// What can't be taken.
#[derive(Debug)]
struct Skipped {
    place: String,
    why: String,
}

impl Skipped {
    fn new(place: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self { place: place.into(), why: why.to_string() }
    }
}

/// Takes over what is found at `path`, or only tells what would be.
pub(super) async fn run(client: &ClientArgs, tool: Tool, path: &Path, dry_run: bool) -> Result<(), Failure> {
    let looked = match tool {
        Tool::Traefik => traefik::find(path),
        Tool::Caddy => caddy::find(path),
        Tool::Certbot => certbot::find(path),
    }
    .map_err(Failure::Failed)?;
    let (mut outcomes, mut failed) = (Vec::new(), false);
    let mut fit = Vec::new();
    for looked in looked {
        match looked.and_then(check) {
            Ok(found) => fit.push(found),
            Err(Skipped { place, why }) => {
                outcomes.push(json!({ "place": place, "result": format!("skipped: {why}") }))
            }
        }
    }
    // Of two for one name the newer one is to stay.
    fit.sort_by_key(|(_, certificate)| certificate.not_before);
    for (found, certificate) in fit {
        let result = match dry_run {
            true => "would be imported".to_owned(),
            false => taken(client, &found, &certificate).await,
        };
        failed |= result.starts_with(FAILED);
        outcomes.push(json!({
            "place": found.place,
            "names": certificate.names,
            "not_after": certificate.not_after.to_string(),
            "source": found.source,
            "result": result,
        }));
    }
    tell(client, &outcomes);
    if failed {
        return Err(Failure::Failed(
            "not all could be imported; what was is there to stay, so run it again".to_owned(),
        ));
    }
    match outcomes.is_empty() {
        true => Err(Failure::Failed(format!("there is no certificate in {}", path.display()))),
        false => Ok(()),
    }
}

/// Gives it to the node, unless that has a newer one for each name already. What became of it.
async fn taken(client: &ClientArgs, found: &Found, certificate: &Certificate) -> String {
    let mut is_newer = false;
    for name in &certificate.names {
        let there = client.json::<Value>(&path_of(name)).await.unwrap_or_default();
        let there = there["not_before"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
        is_newer |= there.is_none_or(|there| there < certificate.not_before);
    }
    if !is_newer {
        return "skipped: there is one that is no older".to_owned();
    }
    match put(client, &pair(found)).await {
        Ok(_) => "imported".to_owned(),
        Err(error) => format!("{FAILED}: {error}"),
    }
}

const FAILED: &str = "failed";

fn pair(found: &Found) -> Value {
    json!({ "certificate": found.chain, "key": found.key, "managed": "automatic", "source": found.source })
}

/// What the node would say, known before it is asked.
fn check(found: Found) -> Result<(Found, Certificate), Skipped> {
    let certificate = Certificate::import(&found.chain, &found.key).and_then(|certificate| {
        certificate.check_life(Timestamp::now())?;
        Ok(certificate)
    });
    match certificate {
        Ok(certificate) => Ok((found, certificate)),
        Err(error) => Err(Skipped::new(found.place, error)),
    }
}

fn tell(client: &ClientArgs, outcomes: &[Value]) {
    if client.json {
        output::json(&json!(outcomes));
        return;
    }
    let fields = ["names", "not_after", "result", "place"];
    let row = |outcome: &Value| fields.iter().map(|field| output::cell(&outcome[*field])).collect();
    let rows: Vec<Vec<String>> = outcomes.iter().map(row).collect();
    output::table(&["NAMES", "NOT AFTER", "RESULT", "PLACE"], &rows);
}

/// The entries of a directory, in order.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let fault = |error| format!("can't read {}: {error}", dir.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(fault)? {
        found.push(entry.map_err(fault)?.path());
    }
    found.sort();
    Ok(found)
}

/// The pair in two files.
fn pair_in(chain: &Path, key: &Path, source: Option<String>) -> Looked {
    let place = chain.display().to_string();
    let read = |path: &Path| {
        let text = std::fs::read_to_string(path);
        text.map_err(|error| Skipped::new(place.clone(), format!("can't read {}: {error}", path.display())))
    };
    let (chain, key) = (read(chain)?, read(key)?);
    Ok(Found { place, chain, key, source })
}

#[cfg(test)]
#[path = "migrate_test.rs"]
mod tests;
