//! What this node knows about certificates, as it is told to people.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::{SignedDuration, Timestamp};
use roo_acme::{Attempts, Facts, Inventory, Managed, Names, Renewal, Wish, Wishes, wildcard_above};
use roo_proxy::HostName;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Vault;

/// Every state that a name can have, as in the documentation.
const STATES: [&str; 6] = ["ready", "waiting", "failed", "expired", "revoked", "unused"];

/// Before its end a certificate that was brought in is told of.
const ENDING: SignedDuration = SignedDuration::from_hours(14 * 24);
const WARN_EVERY: SignedDuration = SignedDuration::from_hours(24);
const LOOK_FOR_ENDS_EVERY: Duration = Duration::from_secs(60);

/// What this node knows about certificates.
#[derive(Clone)]
pub(crate) struct CertificateBook {
    have: watch::Receiver<Inventory>,
    wanted: watch::Receiver<Names>,
    wishes: watch::Receiver<Wishes>,
}

impl CertificateBook {
    pub(super) fn new(
        have: watch::Receiver<Inventory>,
        wanted: watch::Receiver<Names>,
        wishes: watch::Receiver<Wishes>,
    ) -> Self {
        Self { have, wanted, wishes }
    }

    /// Whether the store's certificates were read at least once.
    pub(crate) fn is_loaded(&self) -> bool {
        // Nobody has looked at this receiver. An error means that the store has stopped.
        self.have.has_changed().unwrap_or(true)
    }

    /// How many certificates there are.
    pub(crate) fn len(&self) -> usize {
        self.have.borrow().size()
    }

    /// What is known of the certificate stored under `name`.
    pub(crate) fn facts(&self, name: &str) -> Option<Facts> {
        self.have.borrow().get(name).cloned()
    }

    /// Whether a route needs a certificate for `name`.
    pub(crate) fn is_wanted(&self, name: &str) -> bool {
        self.wanted.borrow().contains(name)
    }

    /// Names and the end of their certificates, in seconds since 1970.
    pub(crate) fn not_after(&self) -> Vec<(String, i64)> {
        self.have.borrow().iter().map(|(name, facts)| (name.clone(), facts.not_after.as_second())).collect()
    }

    /// How many names are in which state; each state is told.
    pub(crate) async fn states(&self, vault: &Vault) -> [(&'static str, usize); 6] {
        let mut counts = STATES.map(|state| (state, 0));
        for name in self.names() {
            let state = self.standing(&name, vault).await.state();
            if let Some((_, count)) = counts.iter_mut().find(|(known, _)| *known == state) {
                *count += 1;
            }
        }
        counts
    }

    /// One object per certificate and per name that waits for one.
    pub(crate) async fn rows(&self, vault: &Vault) -> Vec<Value> {
        let mut rows = Vec::new();
        for name in self.names() {
            rows.push(self.standing(&name, vault).await.row(&name));
        }
        rows
    }

    /// All that is known about `name`; `None` if it has no certificate and needs none.
    pub(crate) async fn show(&self, name: &str, vault: &Vault, routes: Vec<String>) -> Option<Value> {
        let standing = self.standing(name, vault).await;
        if standing.facts.is_none() && !standing.wanted {
            return None;
        }
        let mut shown = standing.row(name);
        shown["routes"] = json!(routes);
        shown["probe"] = json!(vault.probe(name).await);
        let Some(certificate) = vault.certificate(name).await else { return Some(shown) };
        if let Some(second) = certificate.beside()
            && let Ok(details) = second.details()
        {
            shown["second"] = json!({
                "key": details.key,
                "serial": second.serial,
                "not_after": second.not_after.to_string(),
                "fingerprint_sha256": fingerprint(&details.leaf),
            });
        }
        if let Ok(details) = certificate.details() {
            shown["key"] = json!(details.key);
            shown["fingerprint_sha256"] = json!(fingerprint(&details.leaf));
            shown["chain_length"] = json!(details.chain_len);
        }
        Some(shown)
    }

    /// Which certificate answers for a host, or why there is none.
    pub(crate) async fn explain(&self, host: &HostName, vault: &Vault) -> Value {
        let have = self.have.borrow().clone();
        let names = [Some(host.to_string()), wildcard_above(host.as_str())];
        let found = names.iter().flatten().find_map(|name| Some((name, have.get(name)?)));
        if let Some((name, facts)) = found {
            return json!({
                "name": name,
                "state": "ready",
                "issuer": facts.issuer,
                "not_after": facts.not_after.to_string(),
            });
        }
        let wanted = self.wanted.borrow().clone();
        let Some(name) = names.into_iter().flatten().find(|name| wanted.contains(name)) else {
            return json!({ "state": "missing", "note": "nobody has asked for one" });
        };
        let standing = self.standing(&name, vault).await;
        json!({ "state": standing.state(), "note": standing.note() })
    }

    /// How many certificates that people brought are about to end.
    pub(crate) fn ending(&self) -> usize {
        self.have.borrow().values().filter(|facts| is_ending(facts)).count()
    }

    /// Says once a day which certificates that people brought are about to end.
    pub(super) async fn warn_of_ends(self, shutdown: CancellationToken) {
        let mut said: BTreeMap<String, Timestamp> = BTreeMap::new();
        while !shutdown.is_cancelled() {
            let have = self.have.borrow().clone();
            let now = Timestamp::now();
            said.retain(|name, at| have.contains_key(name) && now.duration_since(*at) < WARN_EVERY);
            for (name, facts) in have.iter().filter(|(_, facts)| is_ending(facts)) {
                if said.insert(name.clone(), now).is_none() {
                    let not_after = facts.not_after;
                    tracing::warn!(name, %not_after, "a certificate that was brought in ends soon; bring in another");
                }
            }
            let _ = tokio::time::timeout(LOOK_FOR_ENDS_EVERY, shutdown.cancelled()).await;
        }
    }

    /// Waits until there is a certificate for `name`.
    pub(super) async fn wait_for(&self, name: &str) {
        let mut have = self.have.clone();
        // An error means that the store has stopped: then nobody waits any more.
        let _ = have.wait_for(|have| have.contains_key(name)).await;
    }

    /// The facts, to be followed.
    pub(super) fn inventory(&self) -> watch::Receiver<Inventory> {
        self.have.clone()
    }

    /// Names with a certificate, then those that wait for one.
    fn names(&self) -> Vec<String> {
        let (have, wanted) = (self.have.borrow().clone(), self.wanted.borrow().clone());
        let waiting = wanted.iter().filter(|name| !have.contains_key(*name));
        have.keys().chain(waiting).cloned().collect()
    }

    async fn standing(&self, name: &str, vault: &Vault) -> Standing {
        Standing {
            facts: self.facts(name),
            wanted: self.is_wanted(name),
            attempts: vault.attempts(name).await.filter(|attempts| attempts.failures > 0),
            renewal: vault.renewal(name).await,
            wish: self.wishes.borrow().get(name).cloned(),
            served_by: self.served_by(name),
        }
    }

    /// The wildcard whose certificate is served for `name`, for want of one of its own.
    fn served_by(&self, name: &str) -> Option<String> {
        let have = self.have.borrow().clone();
        if have.contains_key(name) {
            return None;
        }
        let good = |facts: &Facts| facts.revoked.is_none() && facts.not_after > Timestamp::now();
        wildcard_above(name).filter(|wildcard| have.get(wildcard).is_some_and(good))
    }
}

/// How things stand for one name.
struct Standing {
    facts: Option<Facts>,
    wanted: bool,
    /// Failures since the last success.
    attempts: Option<Attempts>,
    /// The CA's advice.
    renewal: Option<Renewal>,
    wish: Option<Wish>,
    served_by: Option<String>,
}

impl Standing {
    /// One of [`STATES`].
    fn state(&self) -> &'static str {
        match &self.facts {
            None if self.served_by.is_some() => "ready",
            None if self.attempts.is_some() => "failed",
            None => "waiting",
            Some(facts) if facts.revoked.is_some() => "revoked",
            Some(facts) if facts.not_after <= Timestamp::now() => "expired",
            Some(_) if self.wanted => "ready",
            Some(_) => "unused",
        }
    }

    /// What a person should know, in a line.
    fn note(&self) -> String {
        if let Some(attempts) = &self.attempts {
            let (failures, next, error) = (attempts.failures, attempts.next_at, &attempts.last_error);
            return format!("failed {failures} times, next try {next}: {error}");
        }
        match &self.wish {
            Some(Wish { revoke: Some(_), .. }) => "to be revoked".to_owned(),
            Some(_) => "to be renewed".to_owned(),
            None if self.facts.as_ref().is_some_and(is_ending) => "ends soon: bring in another".to_owned(),
            None => self.served_by.as_ref().map(|name| format!("served by {name}")).unwrap_or_default(),
        }
    }

    fn row(&self, name: &str) -> Value {
        let mut row = json!({ "name": name, "state": self.state(), "note": self.note() });
        if let Some(facts) = &self.facts {
            row["names"] = json!(facts.names);
            row["issuer"] = json!(facts.issuer);
            row["source"] = json!(facts.authority);
            row["managed"] = json!(facts.managed);
            row["not_before"] = json!(facts.not_before.to_string());
            row["not_after"] = json!(facts.not_after.to_string());
            row["serial"] = json!(facts.serial);
            row["renew_at"] = json!(self.renew_at(name, facts).map(|at| at.to_string()));
            row["revoked"] = json!(facts.revoked);
        }
        row["failures"] = json!(self.attempts.as_ref().map_or(0, |attempts| attempts.failures));
        row["next_try"] = json!(self.attempts.as_ref().map(|attempts| attempts.next_at.to_string()));
        row["last_error"] = json!(self.attempts.as_ref().map(|attempts| &attempts.last_error));
        row["last_error_at"] = json!(self.attempts.as_ref().map(|attempts| attempts.last_at.to_string()));
        row["asked"] = json!(self.wish.clone().map(Wish::told));
        row["served_by"] = json!(self.served_by);
        row
    }

    /// When another one is ordered, if nothing happens before.
    fn renew_at(&self, name: &str, facts: &Facts) -> Option<Timestamp> {
        let is_renewed = self.wanted && facts.revoked.is_none_or(|revoked| revoked.renew);
        is_renewed.then(|| roo_acme::renew_at(name, facts, self.renewal.as_ref()))
    }
}

/// The SHA-256 digest, as programs show it: upper-case hexadecimal, colons between.
fn fingerprint(leaf: &[u8]) -> String {
    let bytes = digest(&SHA256, leaf);
    bytes.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

/// Whether a certificate that was brought in is in its last two weeks, or the last third of a short life.
fn is_ending(facts: &Facts) -> bool {
    let life = facts.not_after.duration_since(facts.not_before);
    is_imported(facts) && facts.not_after.duration_since(Timestamp::now()) < ENDING.min(life / 3)
}

/// Whether a certificate was brought in by a person, who sees to its end.
pub(crate) fn is_imported(facts: &Facts) -> bool {
    facts.managed == Managed::Import
}
