//! How names are proven to an ACME CA.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use roo_acme::{AcmeDns, Challenge, Challenges, DnsConfig, DnsHook, DnsUpdate, DnsWriter, ProbeConfig, TsigAlgorithm};

use super::source::Surroundings;
use super::{Reader, boolean, dns_name, duration, items, resolver};

/// Reads `--acme-challenge` and all that begins with `--acme-dns`; `server` answers questions unless another is given.
/// Names are looked at as `probes` says, unless that is said otherwise.
pub(super) fn read(
    reader: &mut Reader<'_>,
    surroundings: &dyn Surroundings,
    server: Option<SocketAddr>,
    probes: bool,
) -> Challenges {
    let preference = |text: &str| {
        let kinds = items(text).map(|item| item.parse::<Challenge>().map_err(|error| error.to_string()));
        kinds.collect::<Result<Vec<_>, _>>()
    };
    let preference = reader.read("acme-challenge", preference).unwrap_or_default();
    let needs_dns = preference.contains(&Challenge::Dns01);
    let uses_wildcards = reader.read("acme-wildcards", boolean).unwrap_or(true);
    let challenges = Challenges::new(preference);
    let challenges = if uses_wildcards { challenges } else { challenges.for_each_name() };
    let challenges = if reader.read("acme-probe", boolean).unwrap_or(probes) {
        let resolver = reader.read("acme-resolver", resolver).or(server);
        challenges.with_probe(ProbeConfig { resolver, http_port: 80 })
    } else {
        challenges
    };
    match dns(reader, surroundings, server) {
        Some(dns) => challenges.with_dns(dns),
        None => {
            if needs_dns && reader.mistakes.is_empty() {
                let mistake = "--acme-challenge dns-01 without --acme-dns: say by that how records are written";
                reader.mistakes.push(mistake.to_owned());
            }
            challenges
        }
    }
}

fn dns(reader: &mut Reader<'_>, surroundings: &dyn Surroundings, server: Option<SocketAddr>) -> Option<DnsConfig> {
    let resolver = reader.read("acme-resolver", resolver).or(server);
    let servers = reader.read("acme-dns-servers", |text| items(text).map(super::resolver).collect());
    let wait = reader.read("acme-dns-wait", wait).unwrap_or(WAIT);
    let key = reader.read("acme-dns-key", key);
    let secret = reader.read("acme-dns-secret", |text| Ok(text.to_owned()));
    let accounts = reader.read("acme-dns-accounts", |path| match surroundings.read(Path::new(path)) {
        Ok(Some(text)) => AcmeDns::read_accounts(&text).map_err(|mistake| format!("{path}: {mistake}")),
        Ok(None) => Err(format!("there is no file {path}")),
        Err(error) => Err(format!("can't read {path}: {error}")),
    });
    let writer = reader.read("acme-dns", |text| match text.split_once(':') {
        Some(("rfc2136", server)) => {
            let (host, port) = dns_server(server)?;
            let (Some((algorithm, key)), Some(secret)) = (key, secret) else {
                return Err("rfc2136 needs --acme-dns-key and --acme-dns-secret".to_owned());
            };
            let update = DnsUpdate { host, port, key, algorithm, secret };
            update.check().map(|()| DnsWriter::Update(update))
        }
        Some(("acme-dns", url)) => {
            let is_web =
                url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
            let url = url.trim_end_matches('/').to_owned();
            let accounts = accounts.unwrap_or_default();
            if is_web {
                Ok(DnsWriter::AcmeDns(AcmeDns { url, accounts }))
            } else {
                Err(format!("`{url}` is no http URL"))
            }
        }
        Some(("hook", program)) if Path::new(program).is_absolute() => {
            Ok(DnsWriter::Hook(DnsHook { program: PathBuf::from(program), timeout: HOOK_TIMEOUT }))
        }
        Some(("hook", program)) => Err(format!("`{program}` is no absolute path of a program")),
        _ => Err(format!("`{text}` is none of rfc2136:SERVER, acme-dns:URL and hook:PROGRAM")),
    });
    writer.map(|writer| DnsConfig { writer, resolver, servers: servers.unwrap_or_default(), wait })
}

/// `name`, `name:port`, or the same of an address.
fn dns_server(text: &str) -> Result<(String, u16), String> {
    match resolver(text) {
        Ok(address) => Ok((address.ip().to_string(), address.port())),
        Err(_) => dns_name(text, 53),
    }
}

/// `name` or `algorithm:name`.
fn key(text: &str) -> Result<(TsigAlgorithm, String), String> {
    match text.split_once(':') {
        Some((algorithm, name)) => Ok((algorithm.parse()?, name.to_owned())),
        None => Ok((TsigAlgorithm::default(), text.to_owned())),
    }
}

fn wait(text: &str) -> Result<Duration, String> {
    let wait = duration(text)?;
    if wait <= WAIT_MAX { Ok(wait) } else { Err(format!("`{text}` is longer than {} s", WAIT_MAX.as_secs())) }
}

/// How long the servers of a zone may take to show a record.
const WAIT: Duration = Duration::from_secs(60);
/// An order as a whole takes three minutes at most.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// How long a hook may take.
const HOOK_TIMEOUT: Duration = Duration::from_secs(60);
