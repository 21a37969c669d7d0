//! Ten thousand new names at a CA that limits as Let's Encrypt does, while others fail, old ones are renewed, and all nodes
//! are killed again and again.

use std::time::Duration;

use roo_acme::{AcmeConfig, Authority, Certificate, LETS_ENCRYPT_PRODUCTION, Limits, Waiting, waiting};

use super::ca::{Ca, DIRECTORY, Limit, Rules, What};
use super::{DAY, HOUR, World};
use crate::vault::NodeVault;

const SECONDS_A_DAY: u64 = 86_400;

/// As published for production (<https://letsencrypt.org/docs/rate-limits/>).
const LIMITS: &[Limit] = &[
    Limit { what: What::Orders, count: 300, window: Duration::from_hours(3) },
    Limit { what: What::Domain, count: 50, window: Duration::from_secs(7 * SECONDS_A_DAY) },
    Limit { what: What::Set, count: 5, window: Duration::from_secs(7 * SECONDS_A_DAY) },
    Limit { what: What::Failures, count: 5, window: HOUR },
];

const NAMES: usize = 10_000;
const DOMAINS: usize = 40;
/// Names that have certificates, which are renewed meanwhile.
const RENEWED: usize = 20;

#[tokio::test(start_paused = true)]
async fn ten_thousand_new_names_never_reach_a_limit_of_the_ca() {
    let mut world = World::at_lets_encrypt(3);
    let names: Vec<String> = (0..NAMES).map(|number| format!("n{number}.shop{}.example", number % DOMAINS)).collect();
    let old: Vec<String> = (0..RENEWED).map(|number| format!("old{number}.shop{}.example", number % DOMAINS)).collect();
    for name in &old {
        world.cluster.put_certificate(name, &issued_before(name));
        world.ca.has_issued(name);
        world.cluster.want(&[name]);
    }
    // Every fiftieth fails some times before it can be proven; a few never can.
    for name in names.iter().step_by(50) {
        world.ca.fail(name, 3);
    }
    let hopeless: Vec<String> = (0..5).map(|number| format!("hopeless{number}.shop{number}.example")).collect();
    for name in &hopeless {
        world.ca.fail(name, usize::MAX);
    }
    let all: Vec<&str> = names.iter().chain(&hopeless).map(String::as_str).collect();
    world.cluster.want(&all);
    let mut days = 0;
    while names.iter().any(|name| world.cluster.issued(name) == 0) {
        tokio::time::sleep(DAY).await;
        days += 1;
        eprintln!(
            "day {days}: {} names have certificates",
            names.iter().filter(|name| world.cluster.issued(name) > 0).count()
        );
        assert!(days < 40, "{} names have none", names.iter().filter(|name| world.cluster.issued(name) == 0).count());
        assert_eq!(world.ca.refusals().first(), None, "on day {days}");
        // The small domains are not kept waiting by the others, nor renewals by new names.
        let now = world.now();
        for name in &old {
            assert!(world.cluster.certificate(name).unwrap().not_after > now, "{name} has expired on day {days}");
        }
        if days == 1 {
            let served = |domain: usize| {
                names.iter().skip(domain).step_by(DOMAINS).filter(|name| world.cluster.issued(name) > 0).count()
            };
            let served: Vec<usize> = (0..DOMAINS).map(served).collect();
            let (least, most) = (served.iter().min().unwrap(), served.iter().max().unwrap());
            assert!(*least > 40 && most - least < 12, "{served:?}");
            let waits = names.iter().find(|name| world.cluster.issued(name) == 0).unwrap();
            let why = world.waiting(waits).await.unwrap().why;
            assert!(why.contains("the limit `domain`"), "{why}");
        }
        for _ in 0..3 {
            world.kill_one().await;
        }
    }
    // As soon as the limit on domains allows: 50 at once, then one every 202 minutes.
    assert!((26..=31).contains(&days), "{days} days");
    for name in &old {
        assert!(world.ca.tally(name).issued > 5, "{name}: {:?}", world.ca.tally(name));
    }
    for name in &names {
        assert_eq!(world.ca.tally(name).issued, 1, "{name}");
    }
}

impl World {
    /// What a name waits for, as people are told.
    async fn waiting(&self, name: &str) -> Option<Waiting> {
        let config = AcmeConfig { limits: self.limits, ..AcmeConfig::at(DIRECTORY) };
        let vault = NodeVault::new(&self.cluster);
        waiting(vault.as_ref(), &Authority::Acme(config.into()), name, self.now()).await.unwrap()
    }

    fn at_lets_encrypt(nodes: usize) -> Self {
        let rules = Rules { life: 90 * DAY, latency: Duration::from_millis(400), gives_advice: false, limits: LIMITS };
        let mut world = Self::new(0, |clock| Ca::new(rules, clock));
        world.limits = Limits::known(LETS_ENCRYPT_PRODUCTION);
        for _ in 0..nodes {
            let node = world.node();
            world.nodes.push(node);
        }
        world
    }
}

/// A certificate that ends when the simulation has run for two days.
fn issued_before(name: &str) -> Certificate {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2025, 12, 28);
    params.not_after = rcgen::date_time_ymd(2026, 1, 3);
    let chain_pem = params.self_signed(&key).unwrap().pem();
    Certificate::from_pem(chain_pem, key.serialize_pem(), DIRECTORY).unwrap()
}
