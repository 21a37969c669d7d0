//! Who signs certificates: CAs in order of preference, Roo's own CA, or nobody.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use roo_acme::{AcmeConfig, Authority, Cas, ExternalAccount, LETS_ENCRYPT_PRODUCTION, LETS_ENCRYPT_STAGING, Limits};

use super::source::Surroundings;
use super::{Mode, Reader, boolean, challenge, items};

/// Reads all that begins with `--acme-`; `server` answers questions unless another is given.
pub(super) fn read(
    mode: Mode,
    reader: &mut Reader<'_>,
    surroundings: &dyn Surroundings,
    server: Option<SocketAddr>,
) -> Authority {
    let staging = reader.read("acme-staging", boolean).unwrap_or(false);
    let default = match (mode, staging) {
        (_, true) => LETS_ENCRYPT_STAGING,
        (Mode::Run, false) => LETS_ENCRYPT_PRODUCTION,
        (Mode::Dev, false) => "internal",
    };
    let given = reader.read("acme-directory", directories).filter(|given| !given.is_empty());
    let directories = given.unwrap_or_else(|| vec![default.to_owned()]);
    let email = reader.read("acme-email", email);
    let mut roots = reader
        .read("acme-ca-file", |text| for_each(text, &directories, |path| pem(path, surroundings)))
        .unwrap_or_default();
    let mut accounts =
        reader.read("acme-eab", |text| for_each(text, &directories, ExternalAccount::parse)).unwrap_or_default();
    let limits = reader.read("acme-limits", |text| limits(text, &directories)).unwrap_or_default();
    let mut profiles = reader.read("acme-profile", |text| for_each(text, &directories, profile)).unwrap_or_default();
    let rehearsal = reader.read("acme-rehearsal", rehearsal);
    // A CA of one's own sees other things than the DNS tells here.
    let is_public =
        directories.iter().any(|url| [LETS_ENCRYPT_PRODUCTION, LETS_ENCRYPT_STAGING].contains(&url.as_str()));
    let challenges = challenge::read(reader, surroundings, server, is_public);
    let mut cas = directories.iter().map(|url| {
        with_rehearsal(
            rehearsal.as_ref(),
            AcmeConfig {
                email: email.clone(),
                extra_roots_pem: roots.remove(url),
                external_account: accounts.remove(url),
                challenges: challenges.clone(),
                limits: limits.get(url).copied().unwrap_or_else(|| Limits::known(url)),
                profile: profiles.remove(url),
                ..AcmeConfig::at(url)
            },
        )
    });
    match (directories[0].as_str(), cas.next()) {
        ("internal", _) => Authority::Internal,
        ("off", _) | (_, None) => Authority::Off,
        (_, Some(first)) => Authority::Acme(Cas::new(first, cas)),
    }
}

/// A directory's URL, or `None` for no rehearsal.
fn rehearsal(text: &str) -> Result<Option<String>, String> {
    if text == "off" {
        return Ok(None);
    }
    let https = url::Url::parse(text).is_ok_and(|url| url.scheme() == "https" && url.has_host());
    if https { Ok(Some(text.to_owned())) } else { Err(format!("`{text}` is neither an https URL nor `off`")) }
}

/// The CA with the stage that is known for it, or that was given.
fn with_rehearsal(given: Option<&Option<String>>, config: AcmeConfig) -> AcmeConfig {
    let rehearsal = match given {
        None => config.known_rehearsal(),
        Some(url) => url.as_ref().filter(|url| **url != config.directory).map(|url| config.rehearsing(url)),
    };
    AcmeConfig { rehearsal: rehearsal.map(Box::new), ..config }
}

/// The directories of CAs, or `internal` or `off` alone.
fn directories(text: &str) -> Result<Vec<String>, String> {
    let given: Vec<String> = items(text).map(str::to_owned).collect();
    for item in &given {
        let https = url::Url::parse(item).is_ok_and(|url| url.scheme() == "https" && url.has_host());
        let alone = matches!(item.as_str(), "internal" | "off");
        if !https && !alone {
            return Err(format!("`{item}` is neither an https URL nor `internal` nor `off`"));
        }
        if alone && given.len() > 1 {
            return Err(format!("`{item}` stands alone: only CAs that speak ACME can be several"));
        }
        if given.iter().filter(|other| *other == item).count() > 1 {
            return Err(format!("{item} is there twice"));
        }
    }
    Ok(given)
}

/// What is said for each CA: one value for all, or `URL=VALUE` for one of the directories, separated by commas or line
/// ends. What is said for one comes before what is said for all.
fn for_each<T: Clone>(
    text: &str,
    directories: &[String],
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<BTreeMap<String, T>, String> {
    let (mut for_all, mut values) = (None, BTreeMap::new());
    for item in text.split(['\n', ',']).map(str::trim).filter(|item| !item.is_empty()) {
        let one = directories.iter().find_map(|url| Some((url, item.strip_prefix(url.as_str())?.strip_prefix('=')?)));
        let again = match one {
            Some((url, value)) => values.insert(url.clone(), parse(value.trim())?).map(|_| url.as_str()),
            None if item.starts_with("https://") => {
                // It may hold a key, so it is not quoted.
                return Err(format!(
                    "what begins with https:// must go on as URL=VALUE, with a URL of --acme-directory: {}",
                    directories.join(", ")
                ));
            }
            None => for_all.replace(parse(item)?).map(|_| "all CAs"),
        };
        if let Some(whom) = again {
            return Err(format!("two values for {whom}; write URL=VALUE for each, URL as in --acme-directory"));
        }
    }
    for url in directories {
        if let Some(value) = for_all.clone().filter(|_| !values.contains_key(url)) {
            values.insert(url.clone(), value);
        }
    }
    Ok(values)
}

/// Limits separated by commas; those behind `URL=` are that CA's, all before are for every CA.
fn limits(text: &str, directories: &[String]) -> Result<BTreeMap<String, Limits>, String> {
    let mut limits: BTreeMap<_, _> = directories.iter().map(|url| (url.clone(), Limits::known(url))).collect();
    let mut whose: Option<&String> = None;
    for item in items(text) {
        let one = directories.iter().find_map(|url| Some((url, item.strip_prefix(url.as_str())?.strip_prefix('=')?)));
        let item = one.map_or(item, |(url, item)| {
            whose = Some(url);
            item
        });
        for (url, limits) in &mut limits {
            if whose.is_none_or(|whose| whose == url) {
                limits.set(item, super::duration)?;
            }
        }
    }
    Ok(limits)
}

fn pem(path: &str, surroundings: &dyn Surroundings) -> Result<Vec<u8>, String> {
    match surroundings.read(Path::new(path)) {
        Ok(Some(text)) if text.contains("-----BEGIN CERTIFICATE-----") => Ok(text.into_bytes()),
        Ok(Some(_)) => Err(format!("{path} holds no certificate in PEM form")),
        Ok(None) => Err(format!("there is no file {path}")),
        Err(error) => Err(format!("can't read {path}: {error}")),
    }
}

fn profile(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|b| b.is_ascii_graphic());
    if plain { Ok(text.to_owned()) } else { Err(format!("`{text}` is no name of a profile")) }
}

fn email(text: &str) -> Result<String, String> {
    let config = AcmeConfig { email: Some(text.to_owned()), ..AcmeConfig::lets_encrypt() };
    config.check().map(|()| text.to_owned()).map_err(|error| error.to_string())
}
