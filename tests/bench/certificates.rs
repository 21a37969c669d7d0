//! What many certificates cost a handshake and the memory: the proxy's own lookup, in this process.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256};
use roo_proxy::{Certificates, HostName, certified_key};

use crate::options::Options;
use crate::table::Table;

const COUNT: usize = 100_000;

/// Lookups of each kind.
const LOOKUPS: usize = 1_000_000;

/// Fills a resolver and asks it; gives a section in Markdown.
///
/// # Errors
///
/// If a certificate can't be made or is not found.
pub fn run(options: &Options) -> Result<String> {
    let count = if options.quick { COUNT / 100 } else { COUNT };
    let made = make(count)?;
    let chains: usize = made.iter().map(|(_, _, der)| der).sum();
    let before = resident()?;
    let mut certificates = Certificates::default();
    let mut texts = 0;
    for (name, (chain, key), _) in &made {
        certificates.set(vec![name.parse()?], certified_key(chain, key)?);
        texts += name.len();
    }
    let bytes = resident()?.saturating_sub(before).saturating_sub(chains) / count;
    let mut table = Table::new(["a lookup", "ns"]);
    for (kind, name) in [
        ("exact", (|number| format!("shop{}.example", number & !1)) as fn(usize) -> String),
        ("by wildcard", |number| format!("any.wild{}.example", number | 1)),
        ("none", |number| format!("nobody{number}.example")),
    ] {
        table.row([kind.to_owned(), format!("{:.0}", lookups(&certificates, count, name))]);
    }
    ensure!(certificates.contains(&"shop0.example".parse()?) && certificates.contains(&"a.wild1.example".parse()?));
    let kib = |bytes: usize| format!("{:.1} KiB", f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / 1024.0);
    Ok(format!(
        "\n### {count} certificates in memory\n\nThe name is parsed as it comes from the client, then looked up. Every other certificate is a \
         wildcard.\n\n{table}\nMemory for each certificate beyond its chain of {}, names of {} bytes included: {}\n",
        kib(chains / count),
        texts / count,
        kib(bytes),
    ))
}

type Pems = (String, String);

/// Certificates with one authority above them, and how long each chain is in DER.
fn make(count: usize) -> Result<Vec<(String, Pems, usize)>> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let above = params.self_signed(&key)?;
    let issuer = Issuer::new(params, key);
    (0..count)
        .map(|number| {
            let name =
                if number % 2 == 0 { format!("shop{number}.example") } else { format!("*.wild{number}.example") };
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let leaf = CertificateParams::new([name.clone()])?.signed_by(&key, &issuer)?;
            let chain = format!("{}{}", leaf.pem(), above.pem());
            Ok((name, (chain, key.serialize_pem()), leaf.der().len() + above.der().len()))
        })
        .collect()
}

/// Nanoseconds for one lookup, in no order that a cache would like.
fn lookups(certificates: &Certificates, count: usize, name: fn(usize) -> String) -> f64 {
    let names: Vec<String> = (0..LOOKUPS / 10).map(|_| name(fastrand::usize(..count))).collect();
    let start = Instant::now();
    for _ in 0..10 {
        for name in &names {
            let found = name.parse::<HostName>().is_ok_and(|name| certificates.contains(&name));
            black_box(found);
        }
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(u32::try_from(names.len() * 10).unwrap_or(u32::MAX))
}

/// Bytes of this process in memory.
fn resident() -> Result<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: usize = statm.split(' ').nth(1).context("no figure in /proc/self/statm")?.parse()?;
    Ok(pages * 4096)
}
