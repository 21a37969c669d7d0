//! Every setting from every place, and every mistake.

use std::io;

use super::*;

/// A map instead of the process's surroundings.
#[derive(Default)]
struct Map {
    env: BTreeMap<String, String>,
    files: BTreeMap<PathBuf, String>,
}

impl Surroundings for Map {
    fn env(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }

    fn roo_names(&self) -> Vec<String> {
        self.env.keys().filter(|name| name.starts_with("ROO_")).cloned().collect()
    }

    fn read(&self, path: &Path) -> io::Result<Option<String>> {
        Ok(self.files.get(path).cloned())
    }
}

fn resolve(flags: &[(&str, &str)], env: &[(&str, &str)], files: &[(&str, &str)]) -> Result<Config, Mistakes> {
    let own = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let flags: BTreeMap<String, String> = own(flags);
    let map = Map { env: own(env), files: files.iter().map(|(k, v)| (k.into(), (*v).to_owned())).collect() };
    Config::resolve(Mode::Run, &flags, &map)
}

#[test]
fn flag_wins_over_environment_over_file_over_default() {
    let file = [("c.json", r#"{"http": 3, "https": 3, "api": 3, "config": "x"}"#)];
    let config = resolve(
        &[("http", "1"), ("config", "c.json")],
        &[("ROO_HTTP", "2"), ("ROO_HTTPS", "2"), ("ROO_RAFT", "")],
        &file,
    )
    .expect("valid");
    let ports = [config.http[0], config.https[0], config.api, config.raft].map(|address| address.port());
    assert_eq!(ports, [1, 2, 3, 6300]);
}

#[test]
fn a_secret_may_stand_in_a_file() {
    for (name, path) in [("ROO_SECRET_FILE", "/s"), ("ROO_X", "/run/secrets/roo_secret")] {
        let config = resolve(&[], &[(name, "/s")], &[(path, "sixteen characters\n")]).expect("valid");
        assert!(config.secret.is_some(), "{name}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_with_their_origin() {
    let mistakes = resolve(
        &[("http", "x"), ("workers", "0"), ("peers", "a:b"), ("dns", "n")],
        &[("ROO_SECRET", "short"), ("ROO_DEBUG", "maybe"), ("ROO_TOKEN_FILE", "/none")],
        &[],
    )
    .expect_err("refused")
    .to_string();
    for part in ["--http: ", "--workers: ", "--peers: ", "ROO_SECRET: ", "ROO_DEBUG: ", "ROO_TOKEN_FILE: "] {
        assert!(mistakes.contains(part), "{part} in\n{mistakes}");
    }
    assert_eq!(mistakes.lines().count(), 6, "{mistakes}");
}

#[test]
fn each_wrong_value_is_refused() {
    for (name, value) in [
        ("http", "70000"),
        ("connections", "0"),
        ("header-bytes", "100"),
        ("idle-timeout", "0"),
        ("tunnel-timeout", "30d"),
        ("body-timeout", "soon"),
        ("http", "80,[::]"),
        ("route-ports", "some"),
        ("https", "nowhere"),
        ("advertise", ":1"),
        ("proxy-protocol-from", "10.0.0.0/33"),
        ("trusted-proxies", "10.0.0.0/8,office"),
        ("unix-upstreams", "/run/app,app"),
        ("resolver", "dns.example"),
        ("start-delay", "soon"),
        ("expect", "0"),
        ("expect", "three"),
        ("dead-after", "never"),
        ("voters-max", "4"),
        ("token", "short"),
        ("access-log", "on"),
        ("access-log-format", "xml"),
        ("access-log-only", "101%"),
        ("access-log-only", "5"),
        ("trace", "some"),
        ("trace", "-1%"),
        ("acme-directory", "http://ca.example"),
        ("acme-directory", "https://a.example/d,off"),
        ("acme-directory", "https://a.example/d,https://a.example/d"),
        ("acme-limits", "orders=5"),
        ("acme-eab", "kid"),
        ("acme-eab", "https://other.example/d=kid:c2Vj"),
        ("acme-eab", "kid:c2Vj,kid:c2Vj"),
        ("acme-email", "nobody"),
        ("acme-ca-file", "/none"),
        ("acme-challenge", "http-01,http"),
        ("acme-challenge", "dns-01"),
        ("acme-dns", "bind"),
        ("acme-dns", "rfc2136:192.0.2.53"),
        ("acme-dns", "acme-dns:auth.shop.example"),
        ("acme-dns", "hook:dns.sh"),
        ("acme-dns-key", "hmac-md5:roo"),
        ("acme-dns-accounts", "/none"),
        ("acme-dns-servers", "ns1.shop.example"),
        ("acme-dns-wait", "5m"),
        ("acme-resolver", "dns.example"),
        ("config", "/none"),
    ] {
        let mistakes = resolve(&[(name, value)], &[], &[]).expect_err(name).to_string();
        assert!(mistakes.starts_with(&format!("--{name}")), "{mistakes}");
    }
}

#[test]
fn a_list_is_separated_by_commas() {
    let config =
        resolve(&[("trusted-proxies", "10.0.0.0/8, ::1")], &[("ROO_UNIX_UPSTREAMS", "/a,/b")], &[]).expect("valid");
    assert_eq!(config.trusted_proxies, ["10.0.0.0/8", "::1/128"].map(|text| text.parse().expect("a network")));
    assert_eq!(config.unix_upstreams, [Path::new("/a"), Path::new("/b")]);
    let config = resolve(&[("http", "127.0.0.1:80, [::1]:80,81"), ("https", ",")], &[], &[]).expect("valid");
    assert_eq!(config.http, ["127.0.0.1:80", "[::1]:80", "0.0.0.0:81"].map(|text| text.parse().expect("an address")));
    assert_eq!(config.https, ["0.0.0.0:443".parse().expect("an address")]);
}

#[test]
fn an_engine_on_the_network_needs_all_that_tls_takes() {
    for (flags, told) in [
        (&[("docker-cert", "a")][..], "--docker-cert without --docker-key"),
        (&[("docker-key", "a")], "--docker-key without --docker-cert"),
        (&[("docker-ca", "a")], "give --docker-host tcp://host:2376"),
    ] {
        let mistakes = resolve(flags, &[], &[]).expect_err(told).to_string();
        assert!(mistakes.contains(told), "{mistakes}");
    }
    let flags = [("docker-host", "tcp://a:2376"), ("docker-ca", "ca"), ("docker-cert", "cert"), ("docker-key", "key")];
    let config = resolve(&flags, &[], &[]).expect("fine");
    let certificate = Some(("cert".into(), "key".into()));
    assert_eq!(config.docker.tls, Some(roo_docker::Tls { ca: Some("ca".into()), certificate }));
    assert_eq!(resolve(&[], &[], &[]).expect("fine").docker, DockerAt::default());
}

#[test]
fn peers_and_dns_exclude_each_other() {
    let mistakes = resolve(&[("peers", "a"), ("dns", "b")], &[], &[]).expect_err("refused").to_string();
    assert!(mistakes.contains("--peers and --dns"), "{mistakes}");
}

#[test]
fn whoever_expects_others_must_look_for_them() {
    assert_eq!(resolve(&[], &[], &[]).expect("valid").expect, 0);
    for looking in [("peers", "a"), ("dns", "b")] {
        assert_eq!(resolve(&[looking], &[("ROO_EXPECT", "3")], &[]).expect("valid").expect, 3);
    }
    let mistakes = resolve(&[("workers", "0")], &[("ROO_EXPECT", "3")], &[]).expect_err("refused").to_string();
    assert!(mistakes.contains("--expect 3 without --peers or --dns"), "{mistakes}");
    assert_eq!(mistakes.lines().count(), 2, "{mistakes}");
    let mistakes = resolve(&[("peers", "a:b"), ("expect", "3")], &[], &[]).expect_err("refused").to_string();
    assert_eq!(mistakes.lines().count(), 1, "{mistakes}");
}

#[test]
fn the_directory_follows_mode_and_staging() {
    let of = |flags: &[(&str, &str)]| match resolve(flags, &[], &[]).expect("valid").authority {
        Authority::Acme(cas) => cas.iter().map(|config| config.directory.as_str()).collect::<Vec<_>>().join(" "),
        Authority::Internal => "internal".to_owned(),
        Authority::Off => "off".to_owned(),
    };
    assert_eq!(of(&[]), roo_acme::LETS_ENCRYPT_PRODUCTION);
    assert_eq!(of(&[("acme-staging", "true")]), roo_acme::LETS_ENCRYPT_STAGING);
    assert_eq!(of(&[("acme-directory", "off")]), "off");
    let dev = Config::resolve(Mode::Dev, &BTreeMap::new(), &Map::default()).expect("valid");
    assert!(matches!(dev.authority, Authority::Internal));
    assert!(dev.http.iter().all(|address| address.ip().is_loopback()));
}

#[test]
fn several_cas_may_differ_in_roots_accounts_and_profiles() {
    let (one, two) = ("https://one.example/d", "https://two.example/d?x=1");
    let eab = format!("{one}=kid-1:b25l\n{two}=kid-2:dHdv\n");
    let (roots, profile) = (format!("{two}=/two.pem"), format!("shortlived,{two}=classic"));
    let config = resolve(
        &[("acme-directory", &format!("{one}, {two}")), ("acme-ca-file", &roots), ("acme-profile", &profile)],
        &[("ROO_ACME_EAB_FILE", "/eab")],
        &[("/eab", &eab), ("/two.pem", "-----BEGIN CERTIFICATE-----")],
    );
    let Authority::Acme(cas) = config.expect("valid").authority else { panic!("no CAs") };
    let told = cas.iter().map(|ca| {
        let account = ca.external_account.as_ref().map(|account| account.key_id.as_str());
        (ca.directory.as_str(), account, ca.extra_roots_pem.is_some(), ca.profile.as_deref())
    });
    let expected = [(one, Some("kid-1"), false, Some("shortlived")), (two, Some("kid-2"), true, Some("classic"))];
    assert_eq!(told.collect::<Vec<_>>(), expected);
}

#[test]
fn dns_01_is_set_up_in_three_ways() {
    let challenges =
        |flags: &[(&str, &str)], env: &[(&str, &str)], files: &[(&str, &str)]| match resolve(flags, env, files)
            .expect("valid")
            .authority
        {
            Authority::Acme(cas) => format!("{:?}", cas.first().challenges),
            other => panic!("{other:?}"),
        };
    let update = challenges(
        &[
            ("acme-dns", "rfc2136:ns1.shop.example"),
            ("acme-dns-key", "hmac-sha512:roo.key"),
            ("acme-challenge", "dns-01"),
        ],
        &[("ROO_ACME_DNS_SECRET_FILE", "/s"), ("ROO_RESOLVER", "192.0.2.1")],
        &[("/s", "bm90LWEtc2VjcmV0IQ==\n")],
    );
    assert!(update.contains("ns1.shop.example:53, HmacSha512 roo.key") && !update.contains("bm90"), "{update}");
    assert!(update.contains("resolver: Some(192.0.2.1:53)") && update.contains("wait: 60s"), "{update}");
    let account = r#"{"shop.example":{"username":"u","password":"p","fulldomain":"f.example","subdomain":"f"}}"#;
    let api = challenges(
        &[
            ("acme-dns", "acme-dns:https://auth.example/"),
            ("acme-dns-accounts", "/a"),
            ("acme-resolver", "192.0.2.2:54"),
        ],
        &[("ROO_RESOLVER", "192.0.2.1")],
        &[("/a", account)],
    );
    assert!(api.contains("\"https://auth.example\"") && api.contains("f.example"), "{api}");
    assert!(api.contains("resolver: Some(192.0.2.2:54)"), "{api}");
    let hook = challenges(&[("acme-dns", "hook:/etc/roo/dns"), ("acme-dns-servers", "192.0.2.3,[::1]:54")], &[], &[]);
    assert!(hook.contains("/etc/roo/dns") && hook.contains("servers: [192.0.2.3:53, [::1]:54]"), "{hook}");
}

#[test]
fn unknown_names_in_the_environment_are_warned_about() {
    let config = resolve(&[], &[("ROO_ACME_EMIAL", "a@b"), ("ROO_LOG", "debug")], &[]).expect("valid");
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
    assert!(config.warnings[0].contains("ROO_ACME_EMAIL"), "{:?}", config.warnings);
}

#[test]
fn the_dead_are_removed_after_ten_minutes_unless_said_otherwise() {
    assert_eq!(resolve(&[], &[], &[]).expect("valid").dead_after, Duration::from_secs(600));
    let config = resolve(&[("dead-after", "0")], &[("ROO_DEAD_AFTER", "1h")], &[]).expect("valid");
    assert_eq!(config.dead_after, Duration::ZERO);
    assert_eq!(resolve(&[], &[("ROO_DEAD_AFTER", "1h")], &[]).expect("valid").dead_after, Duration::from_secs(3600));
}

#[test]
fn at_most_seven_nodes_vote_unless_said_otherwise() {
    assert_eq!(resolve(&[], &[], &[]).expect("valid").voters_max, VotersMax::Seven);
    assert_eq!(resolve(&[], &[("ROO_VOTERS_MAX", "3")], &[]).expect("valid").voters_max, VotersMax::Three);
}

#[test]
fn times_have_units() {
    for (text, expected) in
        [("30", 30_000), ("30s", 30_000), ("500ms", 500), ("2m", 120_000), ("2d", 172_800_000), ("1.5s", 1_500)]
    {
        assert_eq!(duration(text), Ok(Duration::from_millis(expected)), "{text}");
    }
    for text in ["", "s", "-1", "1w", "1e400"] {
        assert!(duration(text).is_err(), "{text}");
    }
}

#[test]
fn traces_are_sampled_or_left_alone() {
    use roo_proxy::TraceContext;
    let read = |flags: &[(&str, &str)]| resolve(flags, &[], &[]).expect("valid").trace;
    assert_eq!(read(&[]), TraceContext::TakePart { sampled: 1_000_000 });
    assert_eq!(read(&[("trace", "10%")]), TraceContext::TakePart { sampled: 100_000 });
    assert_eq!(read(&[("trace", "off")]), TraceContext::AsIs);
}

#[test]
fn the_access_log_has_place_form_and_choice() {
    use roo_proxy::{AccessFormat, AccessLog, AccessOnly, AccessTo};
    let read = |flags: &[(&str, &str)]| resolve(flags, &[], &[]).expect("valid").access_log;
    assert_eq!(read(&[]), None);
    assert_eq!(read(&[("access-log", "off"), ("access-log-format", "clf")]), None);
    let log = |to, format, only| Some(AccessLog { to, format, only, node: "".into() });
    assert_eq!(read(&[("access-log", "stdout")]), log(AccessTo::Stdout, AccessFormat::Json, AccessOnly::All));
    for (text, only) in [
        ("errors", AccessOnly::Errors),
        ("0.5%", AccessOnly::Sample(5_000)),
        ("0%", AccessOnly::Sample(0)),
        ("100%", AccessOnly::Sample(1_000_000)),
    ] {
        let flags = [("access-log", "/a.log"), ("access-log-format", "clf"), ("access-log-only", text)];
        assert_eq!(read(&flags), log(AccessTo::File("/a.log".into()), AccessFormat::Combined, only));
    }
}

#[test]
fn the_originals_bounds_are_understood() {
    let file = r#"{"MaximumConnections": 150000, "ReadHeaderTimeoutSeconds": 20, "IdleTimeoutSeconds": 30, "MaxHeaderBytes": 1048576}"#;
    let config = resolve(&[("config", "c.json"), ("idle-timeout", "40")], &[], &[("c.json", file)]).expect("valid");
    assert_eq!((config.limits.connections, config.limits.header_bytes), (150_000, 1_048_576));
    let timeouts = &config.timeouts;
    assert_eq!([timeouts.header, timeouts.idle, timeouts.body], [20, 40, 60].map(Duration::from_secs));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let file =
        r#"{"MaximumConnections": 0, "ReadHeaderTimeoutSeconds": 0, "IdleTimeoutSeconds": 0, "MaxHeaderBytes": 0}"#;
    let config = resolve(&[("config", "c.json")], &[], &[("c.json", file)]).expect("valid");
    assert_eq!((config.limits, config.timeouts), (Limits::default(), Timeouts::default()));
    assert!(resolve(&[("config", "c.json")], &[], &[("c.json", r#"{"connections": 0}"#)]).is_err());
}
