#![allow(clippy::unwrap_used)]

use std::fs::{create_dir_all, write};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair};

use super::*;

struct Made {
    chain: String,
    key: String,
}

/// A certificate that ended, or one that is good.
fn made(names: &[&str], good: bool) -> Made {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    let day = std::time::Duration::from_hours(24);
    params.not_before = (SystemTime::now() - day * 30).into();
    params.not_after = if good { SystemTime::now() + day * 30 } else { SystemTime::now() - day }.into();
    let key = KeyPair::generate().unwrap();
    Made { chain: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

/// What is taken, as names and source, and why the rest is not.
fn judged(looked: Vec<Looked>) -> (Vec<(String, Option<String>)>, Vec<String>) {
    let (mut taken, mut skipped) = (Vec::new(), Vec::new());
    for looked in looked {
        match looked.and_then(check) {
            Ok((found, certificate)) => taken.push((certificate.names.join(" "), found.source)),
            Err(Skipped { place, why }) => skipped.push(format!("{place}: {why}")),
        }
    }
    (taken, skipped)
}

#[test]
fn traefik_keeps_one_file_by_resolver() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("acme.json");
    let (good, old) = (made(&["a.example", "www.a.example"], true), made(&["old.example"], false));
    let entry = |name: &str, made: &Made| {
        json!({ "domain": { "main": name, "sans": ["www.a.example"] }, "Store": "default",
            "certificate": STANDARD.encode(&made.chain), "key": STANDARD.encode(&made.key) })
    };
    let account = json!({ "Email": "you@a.example", "PrivateKey": "AAAA", "KeyType": "4096",
        "Registration": { "body": { "status": "valid" }, "uri": "https://acme-v02.api.letsencrypt.org/acme/acct/1" } });
    let broken = json!({ "domain": { "main": "broken.example" }, "certificate": "?", "key": "?" });
    let store = json!({
        "le": { "Account": account, "Certificates": [entry("a.example", &good), entry("old.example", &old), broken] },
        "unused": { "Account": null, "Certificates": null },
    });
    write(&path, store.to_string()).unwrap();
    let (taken, skipped) = judged(traefik::find(&path).unwrap());
    let production = Some(roo_acme::LETS_ENCRYPT_PRODUCTION.to_owned());
    assert_eq!(taken, [("a.example www.a.example".to_owned(), production)]);
    assert!(skipped[0].starts_with("le: old.example: the certificate ended at "), "{skipped:?}");
    assert_eq!(skipped[1], "le: broken.example: its `certificate` is no base64 of PEM");

    let first = json!({ "Account": {}, "Certificates": [{ "Domain": { "Main": "a.example" },
        "Certificate": STANDARD.encode(&good.chain), "Key": STANDARD.encode(&good.key) }] });
    write(&path, first.to_string()).unwrap();
    assert_eq!(judged(traefik::find(&path).unwrap()).0, [("a.example www.a.example".to_owned(), None)]);
    for wrong in ["", "[]"] {
        write(&path, wrong).unwrap();
        assert!(traefik::find(&path).is_err());
    }
}

#[test]
fn caddy_keeps_a_directory_for_each_issuer_and_name() {
    let dir = tempfile::tempdir().unwrap();
    let site = |issuer: &str, name: &str, made: &Made, facts: Option<Value>| {
        let site = dir.path().join("certificates").join(issuer).join(name);
        create_dir_all(&site).unwrap();
        write(site.join(format!("{name}.crt")), &made.chain).unwrap();
        write(site.join(format!("{name}.key")), &made.key).unwrap();
        write(site.join(format!("{name}.json")), facts.unwrap_or_default().to_string()).unwrap();
        site
    };
    let ca = "https://acme.zerossl.com/v2/DV90";
    let facts = json!({ "sans": ["*.a.example"], "issuer_data": { "url": "https://x", "ca": ca } });
    site("acme.zerossl.com-v2-dv90", "wildcard_.a.example", &made(&["*.a.example"], true), Some(facts));
    site("local", "b.localhost", &made(&["b.localhost"], true), None);
    let keyless = site("local", "c.localhost", &made(&["c.localhost"], true), None);
    std::fs::remove_file(keyless.join("c.localhost.key")).unwrap();
    let (taken, skipped) = judged(caddy::find(dir.path()).unwrap());
    assert_eq!(taken, [("*.a.example".to_owned(), Some(ca.to_owned())), ("b.localhost".to_owned(), None)]);
    assert!(skipped[0].ends_with("c.localhost: it holds no .crt with a .key"), "{skipped:?}");
}

#[test]
fn certbot_keeps_what_is_live_beside_how_it_is_renewed() {
    let dir = tempfile::tempdir().unwrap();
    let lineage = |name: &str, made: &Made| {
        let (archive, live) = (dir.path().join("archive").join(name), dir.path().join("live").join(name));
        create_dir_all(&archive).unwrap();
        create_dir_all(&live).unwrap();
        for (file, text) in [("fullchain", &made.chain), ("privkey", &made.key)] {
            write(archive.join(format!("{file}1.pem")), text).unwrap();
            let target = format!("../../archive/{name}/{file}1.pem");
            std::os::unix::fs::symlink(target, live.join(format!("{file}.pem"))).unwrap();
        }
    };
    lineage("a.example", &made(&["a.example"], true));
    lineage("b.example", &made(&["b.example"], true));
    write(dir.path().join("live/README"), "words").unwrap();
    create_dir_all(dir.path().join("renewal")).unwrap();
    let conf = format!("version = 2.1.0\n[renewalparams]\naccount = 0a\nserver = {}\n", roo_acme::LETS_ENCRYPT_STAGING);
    write(dir.path().join("renewal/a.example.conf"), conf).unwrap();
    std::fs::remove_file(dir.path().join("archive/b.example/privkey1.pem")).unwrap();
    let (taken, skipped) = judged(certbot::find(dir.path()).unwrap());
    assert_eq!(taken, [("a.example".to_owned(), Some(roo_acme::LETS_ENCRYPT_STAGING.to_owned()))]);
    assert!(skipped[0].contains("b.example/fullchain.pem: can't read "), "{skipped:?}");
    assert!(certbot::find(&dir.path().join("live")).is_err());
}
