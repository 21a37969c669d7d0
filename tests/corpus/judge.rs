//! What is wrong with an outcome.

use crate::case::{Case, End, Fault, Got, Kind, Protocol, Want};
use crate::run::Outcome;
use crate::seen::{Ended, Seen};
use crate::upstream::SENTINEL;
use crate::wire::Message;

/// Everything that is wrong with how a proxy took a case.
pub fn judge(case: &Case, outcome: &Outcome) -> Vec<Fault> {
    let mut faults = Faults::default();
    let refused = case.may_refuse && outcome.upstream.requests.is_empty();
    upstream(case, outcome, refused, &mut faults);
    client(case, outcome, refused, &mut faults);
    faults.0
}

#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, kind: Kind, what: impl Into<String>) {
        self.0.push(Fault { kind, what: what.into() });
    }
}

fn upstream(case: &Case, outcome: &Outcome, refused: bool, faults: &mut Faults) {
    let record = &outcome.upstream;
    for why in &record.malformed {
        faults.add(Kind::Framing, format!("the upstream got what is no request: {why}"));
    }
    let may_end_early = case.end == End::Cut || refused || has_vanished(case);
    if record.parts > 0 && !may_end_early {
        faults.add(Kind::Framing, "the upstream got a part of a request");
    }
    for request in record.requests.iter().chain(&record.sentinels) {
        header_rules(case, request, faults);
    }
    let (got, due) = (record.requests.len(), case.wants.len());
    if got > due {
        // One clear request out of what is to be refused is careless; more of them are smuggled.
        let kind = if got == due + 1 && is_refusal(case) { Kind::Lax } else { Kind::Framing };
        let lines: Vec<_> = record.requests.iter().map(|request| &request.start).collect();
        faults.add(kind, format!("the upstream got {got} requests, not {due}: {lines:?}"));
    }
    if got < due && !refused {
        faults.add(Kind::Lost, format!("the upstream got {got} requests, not {due}"));
    }
    for (want, request) in case.wants.iter().zip(&record.requests) {
        compare(want, request, faults);
    }
}

fn compare(want: &Want, request: &Message, faults: &mut Faults) {
    if want.line.is_some_and(|line| line != request.start) {
        faults.add(Kind::Header, format!("the request line is {:?}, not {:?}", request.start, want.line));
    }
    if want.body != request.body {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        faults.add(Kind::Framing, format!("the body is {:?}, not {:?}", text(&request.body), text(&want.body)));
    }
    let hosts = request.values("host");
    // A port that says nothing new may go.
    if hosts.iter().any(|host| !want.host.eq_ignore_ascii_case(host) && !want.host.starts_with(&format!("{host}:"))) {
        faults.add(Kind::Header, format!("Host is {hosts:?}, not {:?}", want.host));
    }
    for (name, value) in &want.kept {
        if request.values(name) != [*value] {
            faults.add(Kind::Header, format!("{name} is {:?}, not {value:?}", request.values(name)));
        }
    }
    for name in &want.gone {
        if !request.values(name).is_empty() {
            faults.add(Kind::Header, format!("{name} is {:?}, and should not be there", request.values(name)));
        }
    }
}

/// What holds for every request that a proxy passes on (RFC 9110 section 7.6.1, RFC 9112 sections 2.3 and 3.2.1, and
/// our own rules).
fn header_rules(case: &Case, request: &Message, faults: &mut Faults) {
    let is_origin_form =
        request.target() == "*" || request.target().starts_with('/') && !request.target().contains('#');
    if !is_origin_form || !request.start.ends_with(" HTTP/1.1") {
        faults.add(Kind::Header, format!("the request line is not written anew: {:?}", request.start));
    }
    for (name, value) in request.fields.iter().chain(&request.trailers) {
        let lower = format!("{name}: {value}").to_ascii_lowercase();
        if lower.contains("evil") {
            faults.add(Kind::Header, format!("the upstream got {lower:?}"));
        }
        let is_hop = match name.to_ascii_lowercase().as_str() {
            "keep-alive" | "proxy" | "http2-settings" => true,
            "connection" => value.split(',').any(|option| {
                !["close", "keep-alive", "te", "upgrade"].contains(&option.trim().to_ascii_lowercase().as_str())
            }),
            "te" => !value.eq_ignore_ascii_case("trailers"),
            "upgrade" => lower.contains("h2c") || !sends_upgrade(case),
            name => name.starts_with("proxy-"),
        };
        if is_hop {
            faults.add(Kind::Header, format!("the upstream got {name:?}: {value:?}, which is for one hop"));
        }
    }
    for (name, values) in [("x-forwarded-for", ["127.0.0.1"; 2]), ("x-real-ip", ["127.0.0.1"; 2]), PROTO] {
        // Over HTTP/2 a case may end with a request in the clear.
        let value = values[usize::from(case.protocol == Protocol::H2 && request.target() != SENTINEL)];
        let is_value = |own: &[&str]| own == [value] || request.target() == SENTINEL && own == [values[1]];
        if !is_value(&request.values(name)) {
            faults.add(Kind::Header, format!("{name} is {:?}, not {value:?}", request.values(name)));
        }
    }
    let ids = request.values("x-request-id");
    if ids.len() != 1 || ids[0].is_empty() {
        faults.add(Kind::Header, format!("x-request-id is {ids:?}"));
    }
}

/// In the clear, and over TLS.
const PROTO: (&str, [&str; 2]) = ("x-forwarded-proto", ["http", "https"]);

fn client(case: &Case, outcome: &Outcome, refused: bool, faults: &mut Faults) {
    let seen = &outcome.client;
    if let Some(why) = &seen.malformed {
        // A refusal in another form, as HTTP/0.9 has it, mixes nothing up.
        let kind = if is_refusal(case) && outcome.upstream.requests.is_empty() { Kind::Lax } else { Kind::Framing };
        faults.add(kind, format!("the client got what is no answer: {why}"));
    }
    for raw in [Some(&seen.raw), outcome.after.as_ref().map(|after| &after.raw)].into_iter().flatten() {
        if String::from_utf8_lossy(raw).to_ascii_lowercase().contains("evil") {
            faults.add(Kind::Header, "the client got something evil");
        }
    }
    if has_vanished(case) {
        return sentinel(outcome, faults);
    }
    if refused {
        return refusal(case, seen, 0, faults);
    }
    for (index, want) in case.wants.iter().enumerate() {
        answer(index, want, seen, faults);
    }
    let due = case.wants.len();
    match case.end {
        End::Refused | End::Cut | End::Answered => refusal(case, seen, due, faults),
        End::Closed if seen.ended != Ended::Closed => faults.add(Kind::Lax, "the connection stayed open"),
        End::Open | End::Closed | End::Any => {}
    }
    if outcome.after.is_some() {
        return sentinel(outcome, faults);
    }
    match seen.answers.get(due) {
        Some(answer) if seen.answers.len() == due + 1 && answer.body == b"sentinel" && answer.status == 200 => {}
        None if faults.0.is_empty() => faults.add(Kind::Lost, "the next request on the connection got no answer"),
        None => {}
        Some(_) => {
            faults.add(Kind::Framing, format!("after the {due} answers that were due came {:?}", &seen.answers[due..]));
        }
    }
}

/// What the request after the case has got, on a connection of its own.
fn sentinel(outcome: &Outcome, faults: &mut Faults) {
    let Some(after) = &outcome.after else { return };
    let good = matches!(&after.answers[..], [answer] if answer.status == 200 && answer.body == b"sentinel");
    if !good || after.malformed.is_some() {
        let raw = String::from_utf8_lossy(&after.raw);
        let kind = if after.answers.iter().any(|answer| answer.status == 200) { Kind::Framing } else { Kind::Lost };
        faults.add(kind, format!("the next request got {raw:?}"));
    }
}

fn answer(index: usize, want: &Want, seen: &Seen, faults: &mut Faults) {
    let got = seen.answers.get(index);
    let is = |status: u16, body: &[u8]| {
        got.is_some_and(|answer| answer.is_whole && answer.status == status && answer.body == body)
    };
    let failed = match got {
        // Broken off, or not even begun.
        None => seen.ended == Ended::Closed,
        Some(answer) => !answer.is_whole || answer.status >= 500,
    };
    let number = index + 1;
    match &want.got {
        Got::Answer { status, body } if is(*status, body) => {}
        Got::AnswerOrFailure { status, body } if failed || is(*status, body) => {}
        Got::Failure { .. } if failed => {}
        Got::Tunnel { bytes } if got.is_some_and(|answer| answer.status == 101) && seen.rest == *bytes => {}
        Got::Failure { kind } => faults.add(*kind, format!("answer {number} looks whole, or none came: {got:?}")),
        Got::Tunnel { .. } => {
            faults.add(Kind::Lost, format!("no tunnel, but {got:?} and {:?}", String::from_utf8_lossy(&seen.rest)))
        }
        Got::Answer { status, body } | Got::AnswerOrFailure { status, body } => {
            let kind = if got.is_some_and(|answer| answer.status == 200) { Kind::Framing } else { Kind::Lost };
            let body = String::from_utf8_lossy(body);
            faults.add(kind, format!("answer {number} is {got:?}, not {status} {body:?}"));
        }
    }
}

/// After `due` answers comes one error at most, and the connection ends.
fn refusal(case: &Case, seen: &Seen, due: usize, faults: &mut Faults) {
    let more = seen.answers.get(due..).unwrap_or_default();
    let is_error = |answer: &crate::seen::Answer| !answer.is_whole || (400..600).contains(&answer.status);
    if more.len() > 1 || !more.iter().all(is_error) {
        faults.add(Kind::Lax, format!("not refused: {more:?}"));
    }
    let is_over = match (case.protocol, case.end) {
        (Protocol::H2, _) | (_, End::Answered) => !more.is_empty() || seen.ended == Ended::Closed,
        (Protocol::H1, _) => seen.ended == Ended::Closed,
    };
    if !is_over && more.iter().all(is_error) {
        faults.add(Kind::Lax, "the connection stayed open");
    }
}

fn is_refusal(case: &Case) -> bool {
    matches!(case.end, End::Refused | End::Cut | End::Answered)
}

/// Whether another protocol is asked for: over HTTP/2 by a pseudo field (RFC 8441 section 4).
fn sends_upgrade(case: &Case) -> bool {
    let sent = String::from_utf8_lossy(&case.sent()).to_ascii_lowercase();
    ["upgrade:", ":protocol"].iter().any(|ask| sent.contains(ask))
}

fn has_vanished(case: &Case) -> bool {
    case.steps.iter().any(|step| matches!(step, crate::case::Step::Vanish))
}
