//! A CA that speaks ACME (RFC 8555, 9773) without a network. It checks no signatures; everything else it does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair, SerialNumber,
};
use roo_acme::{Clock, Exchange, Transport};
use rustls_pki_types::CertificateSigningRequestDer;
use serde_json::{Value, json};

pub(crate) const DIRECTORY: &str = "https://ca.example/directory";
/// That of another one.
pub(crate) const SECOND: &str = "https://second.example/directory";

/// How it behaves.
#[derive(Clone)]
pub(crate) struct Rules {
    /// How long its certificates are valid.
    pub(crate) life: Duration,
    /// How long an answer takes.
    pub(crate) latency: Duration,
    /// Whether it tells when to renew.
    pub(crate) gives_advice: bool,
    /// Limits that it enforces.
    pub(crate) limits: &'static [Limit],
}

/// So many at once for each subject, and as many again after a window of time: a bucket that refills evenly.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    pub(crate) what: What,
    pub(crate) count: u32,
    pub(crate) window: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    Orders,
    Domain,
    Set,
    Failures,
}

/// What happened there, for each name.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) orders: usize,
    pub(crate) issued: usize,
    pub(crate) replacing: usize,
    pub(crate) asked: usize,
    pub(crate) failures: usize,
}

/// The CA; copies are the same one.
#[derive(Clone)]
pub(crate) struct Ca(Arc<Inner>);

struct Inner {
    /// The beginning of its URLs.
    base: &'static str,
    clock: Clock,
    rules: Rules,
    key: KeyPair,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    orders: Vec<Order>,
    certificates: BTreeMap<u64, Issued>,
    tallies: BTreeMap<String, Tally>,
    /// When each bucket is full again.
    buckets: BTreeMap<(What, String), Timestamp>,
    /// Names that fail validation so many times more.
    failing: BTreeMap<String, usize>,
    /// Names that get certificates for six days.
    short: BTreeSet<String>,
    /// Names whose CAA records allow another CA only.
    forbidden: BTreeSet<String>,
    down_until: Option<Timestamp>,
    revoked: BTreeSet<String>,
    /// Names whose certificates must always be replaced.
    recalled: BTreeSet<String>,
    /// Requests to revoke, granted or not.
    revocations: usize,
    /// So many more of them are answered with "later".
    busy: usize,
    /// How often a limit was reached.
    refusals: Vec<String>,
}

struct Order {
    name: String,
    status: &'static str,
    replaces: Option<String>,
    serial: u64,
}

struct Issued {
    name: String,
    not_before: Timestamp,
    not_after: Timestamp,
    pem: String,
    replaced: bool,
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ca")
    }
}

impl Ca {
    pub(crate) fn new(rules: Rules, clock: Clock) -> Self {
        Self::at(DIRECTORY, rules, clock)
    }

    /// The one with this directory.
    pub(crate) fn at(directory: &'static str, rules: Rules, clock: Clock) -> Self {
        let key = KeyPair::generate().unwrap();
        let base = directory.strip_suffix("/directory").unwrap();
        Self(Arc::new(Inner { base, clock, rules, key, state: Mutex::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// Nobody answers for so long.
    pub(crate) fn go_down(&self, time: Duration) {
        self.state().down_until = self.0.clock.now().saturating_add(time).ok();
    }

    /// The next so many validations of `name` fail.
    pub(crate) fn fail(&self, name: &str, times: usize) {
        self.state().failing.insert(name.to_owned(), times);
    }

    /// Certificates of `name`, of which it has issued one before, are valid for six days.
    pub(crate) fn has_issued(&self, name: &str) {
        self.state().tallies.entry(name.to_owned()).or_default().issued = 1;
        self.state().short.insert(name.to_owned());
    }

    /// The CAA records of `name` forbid this CA to issue.
    pub(crate) fn forbid(&self, name: &str) {
        self.state().forbidden.insert(name.to_owned());
    }

    /// The present certificate of `name` must be replaced.
    pub(crate) fn revoke(&self, name: &str) {
        self.state().revoked.insert(name.to_owned());
    }

    /// Every certificate of `name` must be replaced, a new one as well.
    pub(crate) fn recall(&self, name: &str) {
        self.state().recalled.insert(name.to_owned());
    }

    /// The next so many requests to revoke a certificate are put off.
    pub(crate) fn put_off(&self, times: usize) {
        self.state().busy = times;
    }

    /// The limits that were reached.
    pub(crate) fn refusals(&self) -> Vec<String> {
        self.state().refusals.clone()
    }

    /// How often it was asked to revoke a certificate.
    pub(crate) fn revocations(&self) -> usize {
        self.state().revocations
    }

    pub(crate) fn tally(&self, name: &str) -> Tally {
        self.state().tallies.get(name).cloned().unwrap_or_default()
    }

    fn answer(&self, request: &Request<Bytes>) -> Result<Response<Bytes>, &'static str> {
        let now = self.0.clock.now();
        let mut state = self.state();
        if state.down_until.is_some_and(|until| until > now) {
            return Err("nobody is there");
        }
        let path: Vec<&str> = request.uri().path().trim_start_matches('/').split('/').collect();
        let payload = payload(request.body());
        let number = path.get(1).and_then(|text| text.parse::<usize>().ok()).unwrap_or_default();
        Ok(match path[0] {
            "directory" => self.directory(),
            "nonce" => reply(200, "", &json!({})),
            "account" => reply(201, &format!("{}/account/1", self.0.base), &json!({ "status": "valid" })),
            "order" if path.len() == 1 => self.new_order(&mut state, &payload, now),
            "order" => reply(200, "", &state.order(self.0.base, number)),
            "authorization" => reply(200, "", &state.authorization(self.0.base, number)),
            "challenge" => {
                self.validate(&mut state, number, now);
                reply(200, "", &state.challenge(self.0.base, number))
            }
            "finalize" => {
                let request = URL_SAFE_NO_PAD.decode(payload["csr"].as_str().unwrap()).unwrap();
                self.sign(&mut state, number, request, now);
                reply(200, "", &state.order(self.0.base, number))
            }
            "certificate" => {
                let serial = state.orders[number].serial;
                reply(200, "", &Value::Null).map(|_| Bytes::from(state.certificates[&serial].pem.clone()))
            }
            "revocation" => Self::revocation(&mut state),
            "advice" => Self::advice(&mut state, path[1], now),
            other => panic!("asked for {other}"),
        })
    }

    fn directory(&self) -> Response<Bytes> {
        let base = self.0.base;
        let mut directory = json!({
            "newNonce": format!("{base}/nonce"),
            "newAccount": format!("{base}/account"),
            "newOrder": format!("{base}/order"),
            "revokeCert": format!("{base}/revocation"),
            "meta": { "profiles": { "classic": "the usual", "shortlived": "six days" } },
        });
        if self.0.rules.gives_advice {
            directory["renewalInfo"] = json!(format!("{base}/advice"));
        }
        reply(200, "", &directory)
    }

    fn new_order(&self, state: &mut State, payload: &Value, now: Timestamp) -> Response<Bytes> {
        let name = payload["identifiers"][0]["value"].as_str().unwrap().to_owned();
        let replaces = payload["replaces"].as_str().map(str::to_owned);
        let replaced = replaces.as_deref().and_then(serial_of).and_then(|serial| state.certificates.get_mut(&serial));
        match replaced {
            Some(replaced) if replaced.name == name && !replaced.replaced => replaced.replaced = true,
            Some(_) => return problem(409, "alreadyReplaced", "it was replaced before", 0),
            None => {
                // Another one of the same names is a renewal.
                let renews = state.tallies.get(&name).is_some_and(|tally| tally.issued > 0);
                let exempt = |limit: &Limit| renews && matches!(limit.what, What::Orders | What::Domain);
                for limit in self.0.rules.limits.iter().filter(|limit| !exempt(limit)) {
                    if let Some(refusal) = state.limited(limit, &name, now) {
                        return refusal;
                    }
                }
                if !renews {
                    state.count(self.0.rules.limits, What::Orders, &name, now);
                }
            }
        }
        let tally = state.tallies.entry(name.clone()).or_default();
        tally.orders += 1;
        tally.replacing += usize::from(replaces.is_some());
        state.orders.push(Order { name, status: "pending", replaces, serial: 0 });
        let number = state.orders.len() - 1;
        reply(201, &format!("{}/order/{number}", self.0.base), &state.order(self.0.base, number))
    }

    fn revocation(state: &mut State) -> Response<Bytes> {
        state.revocations += 1;
        match state.busy.checked_sub(1) {
            Some(left) => {
                state.busy = left;
                problem(503, "rateLimited", "come back later", 60)
            }
            None => reply(200, "", &json!({})),
        }
    }

    fn validate(&self, state: &mut State, number: usize, now: Timestamp) {
        let name = state.orders[number].name.clone();
        let mut forbidden = state.forbidden.contains(&name).then_some(1);
        let failing = state.failing.get_mut(&name).filter(|left| **left > 0).or(forbidden.as_mut());
        state.orders[number].status = match failing {
            Some(left) => {
                *left -= 1;
                state.tallies.entry(name.clone()).or_default().failures += 1;
                state.count(self.0.rules.limits, What::Failures, &name, now);
                "invalid"
            }
            None => "ready",
        };
    }

    fn sign(&self, state: &mut State, number: usize, request: Vec<u8>, now: Timestamp) {
        let request = CertificateSigningRequestDer::from(request);
        let mut request = CertificateSigningRequestParams::from_der(&request).unwrap();
        // Two CAs never give out the same one.
        let first = 0x1000_0000 + ((self.0.base.len() as u64) << 20);
        let serial = first + state.certificates.len() as u64;
        let zero = rcgen::date_time_ymd(1970, 1, 1);
        let not_before = zero + Duration::from_secs(now.as_second().unsigned_abs());
        request.params.not_before = not_before;
        let name = state.orders[number].name.clone();
        let life = if state.short.contains(&name) { 6 * DAY } else { self.0.rules.life };
        request.params.not_after = not_before + life;
        request.params.serial_number = Some(SerialNumber::from(serial.to_be_bytes()[4..].to_vec()));
        request.params.use_authority_key_identifier_extension = true;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = request.signed_by(&Issuer::new(params, &self.0.key)).unwrap().pem();
        let limits = self.0.rules.limits;
        if state.tallies.get(&name).is_none_or(|tally| tally.issued == 0) {
            state.count(limits, What::Domain, &name, now);
        }
        state.count(limits, What::Set, &name, now);
        state.tallies.entry(name.clone()).or_default().issued += 1;
        state.revoked.remove(&name);
        state.orders[number].status = "valid";
        state.orders[number].serial = serial;
        let not_after = now.saturating_add(life).unwrap();
        state.certificates.insert(serial, Issued { name, not_before: now, not_after, pem, replaced: false });
    }

    fn advice(state: &mut State, id: &str, now: Timestamp) -> Response<Bytes> {
        let Some(issued) = serial_of(id).and_then(|serial| state.certificates.get(&serial)) else {
            return problem(404, "malformed", "no such certificate", 0);
        };
        let (start, end) = if state.revoked.contains(&issued.name) || state.recalled.contains(&issued.name) {
            (now.saturating_sub(DAY).unwrap(), now.saturating_sub(Duration::from_hours(1)).unwrap())
        } else {
            let life = Duration::try_from(issued.not_after.duration_since(issued.not_before)).unwrap();
            let start = issued.not_before.saturating_add(life / 3 * 2).unwrap();
            (start, start.saturating_add(life / 45).unwrap())
        };
        let name = issued.name.clone();
        state.tallies.entry(name).or_default().asked += 1;
        let window = json!({ "suggestedWindow": { "start": start.to_string(), "end": end.to_string() } });
        let mut answer = reply(200, "", &window);
        answer.headers_mut().insert("retry-after", "21600".parse().unwrap());
        answer
    }
}

/// Several CAs, each under its own host.
#[derive(Debug)]
pub(crate) struct Several(pub(crate) Vec<Ca>);

impl Transport for Several {
    fn exchange(&self, request: Request<Bytes>) -> Exchange {
        let asked = request.uri().to_string();
        let ca = self.0.iter().find(|ca| asked.starts_with(ca.0.base)).unwrap_or_else(|| panic!("asked for {asked}"));
        ca.exchange(request)
    }
}

impl Transport for Ca {
    fn exchange(&self, request: Request<Bytes>) -> Exchange {
        let ca = self.clone();
        Box::pin(async move {
            // Half of the time to get there, half to get back: a client may die in between.
            let way = ca.0.rules.latency / 2;
            if !way.is_zero() {
                tokio::time::sleep(way).await;
            }
            let answer = ca.answer(&request);
            if !way.is_zero() {
                tokio::time::sleep(way).await;
            }
            answer.map_err(Into::into)
        })
    }
}

impl State {
    fn order(&self, base: &str, number: usize) -> Value {
        let order = &self.orders[number];
        let mut body = json!({
            "status": order.status,
            "identifiers": [{ "type": "dns", "value": order.name }],
            "authorizations": [format!("{base}/authorization/{number}")],
            "finalize": format!("{base}/finalize/{number}"),
            "certificate": format!("{base}/certificate/{number}"),
        });
        if let Some(replaces) = &order.replaces {
            body["replaces"] = json!(replaces);
        }
        body
    }

    fn authorization(&self, base: &str, number: usize) -> Value {
        let order = &self.orders[number];
        let status = match order.status {
            "pending" | "invalid" => order.status,
            _ => "valid",
        };
        json!({
            "identifier": { "type": "dns", "value": order.name },
            "status": status,
            "challenges": [self.challenge(base, number)],
        })
    }

    fn challenge(&self, base: &str, number: usize) -> Value {
        let (status, error) = match self.orders[number].status {
            "pending" => ("pending", Value::Null),
            "invalid" if self.forbidden.contains(&self.orders[number].name) => {
                ("invalid", json!({ "type": "urn:ietf:params:acme:error:caa", "detail": "CAA forbids" }))
            }
            "invalid" => ("invalid", json!({ "type": "urn:ietf:params:acme:error:dns", "detail": "NXDOMAIN" })),
            _ => ("valid", Value::Null),
        };
        let url = format!("{base}/challenge/{number}");
        json!({ "type": "http-01", "url": url, "token": format!("token{number}"), "status": status, "error": error })
    }

    fn count(&mut self, limits: &[Limit], what: What, name: &str, now: Timestamp) {
        for limit in limits.iter().filter(|limit| limit.what == what) {
            let full_at = self.buckets.entry((what, subject(what, name))).or_insert(now);
            *full_at = (*full_at).max(now).saturating_add(limit.window / limit.count).unwrap();
        }
    }

    /// The refusal, if one more would be too many.
    fn limited(&mut self, limit: &Limit, name: &str, now: Timestamp) -> Option<Response<Bytes>> {
        let subject = subject(limit.what, name);
        let full_at = self.buckets.get(&(limit.what, subject.clone())).copied().unwrap_or(now).max(now);
        let next = full_at.saturating_add(limit.window / limit.count).unwrap();
        if next <= now.saturating_add(limit.window).unwrap() {
            return None;
        }
        let detail = format!("too many {:?} for {subject:?} at {now}", limit.what);
        self.refusals.push(detail.clone());
        Some(problem(429, "rateLimited", &detail, 3600))
    }
}

/// What a limit counts by.
fn subject(what: What, name: &str) -> String {
    match what {
        What::Orders => String::new(),
        What::Domain => name.rsplitn(3, '.').take(2).collect::<Vec<_>>().join(" "),
        What::Set | What::Failures => name.to_owned(),
    }
}

fn payload(body: &[u8]) -> Value {
    let envelope: Value = serde_json::from_slice(body).unwrap_or_default();
    let payload = envelope["payload"].as_str().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    payload.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// The number in a certificate's id (RFC 9773 section 4.1).
fn serial_of(id: &str) -> Option<u64> {
    let bytes = URL_SAFE_NO_PAD.decode(id.split_once('.')?.1).ok()?;
    Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn reply(status: u16, location: &str, body: &Value) -> Response<Bytes> {
    let response = Response::builder().status(StatusCode::from_u16(status).unwrap()).header("replay-nonce", "bm9uY2U");
    let response = if location.is_empty() { response } else { response.header("location", location) };
    response.body(Bytes::from(body.to_string())).unwrap()
}

fn problem(status: u16, kind: &str, detail: &str, retry_after: u32) -> Response<Bytes> {
    let body = json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail, "status": status });
    let mut response = reply(status, "", &body);
    if retry_after > 0 {
        response.headers_mut().insert("retry-after", retry_after.to_string().parse().unwrap());
    }
    response
}

const DAY: Duration = Duration::from_hours(24);
