//! Traefik's `acme.json`: an object by resolver, with chain and key as base64 of PEM. In the form of version 1 there is no
//! resolver around it, and names are capitalized.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{Found, Looked, Skipped};

pub(super) fn find(path: &Path) -> Result<Vec<Looked>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("can't read {}: {error}", path.display()))?;
    // The parser's error is not passed on: it could quote a key.
    let root: Value = serde_json::from_str(&text).map_err(|_| format!("{} holds no JSON", path.display()))?;
    let object = root.as_object().ok_or_else(|| format!("{} is no acme.json of Traefik", path.display()))?;
    let mut looked = Vec::new();
    if field(&root, "certificates").is_some() {
        looked.extend(of_resolver("acme.json", &root));
    } else {
        for (name, resolver) in object {
            looked.extend(of_resolver(name, resolver));
        }
    }
    Ok(looked)
}

fn of_resolver(resolver: &str, store: &Value) -> Vec<Looked> {
    let account = field(store, "account").and_then(|account| field(account, "registration"));
    let account = account.and_then(|registration| field(registration, "uri")).and_then(Value::as_str);
    let source = account.and_then(directory);
    let certificates = field(store, "certificates").and_then(Value::as_array);
    certificates.into_iter().flatten().map(|entry| certificate(resolver, entry, source.clone())).collect()
}

fn certificate(resolver: &str, entry: &Value, source: Option<String>) -> Looked {
    let domain = field(entry, "domain").and_then(|domain| field(domain, "main")).and_then(Value::as_str);
    let place = format!("{resolver}: {}", domain.unwrap_or("a certificate without a name"));
    let pem = |name: &str| {
        let text = field(entry, name).and_then(Value::as_str);
        let bytes = text.and_then(|text| STANDARD.decode(text.trim()).ok());
        let pem = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        pem.ok_or_else(|| Skipped::new(place.clone(), format!("its `{name}` is no base64 of PEM")))
    };
    let (chain, key) = (pem("certificate")?, pem("key")?);
    Ok(Found { place, chain, key, source })
}

/// A field whatever the case of its name.
fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let (_, value) = value.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    Some(value)
}

/// The directory of the CA at which an account is, where that can be told from the account's URL.
fn directory(account: &str) -> Option<String> {
    let known = [roo_acme::LETS_ENCRYPT_PRODUCTION, roo_acme::LETS_ENCRYPT_STAGING];
    let host = |url: &str| url::Url::parse(url).ok()?.host_str().map(str::to_owned);
    known.into_iter().find(|directory| host(directory) == host(account)).map(str::to_owned)
}
